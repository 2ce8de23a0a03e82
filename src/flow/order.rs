//! A queue of slot numbers from whose middle a slot can be taken in constant time.

/// No slot: the end of the queue.
const NONE: u32 = u32::MAX;
/// In `prev`: the slot is not in the queue.
const ABSENT: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

/// A doubly linked list of slots of a table, each at most once. Takes 8 bytes for each slot of the table.
#[derive(Debug)]
pub(super) struct Order {
    links: Vec<Link>,
    front: u32,
    back: u32,
    len: usize,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), front: NONE, back: NONE, len: 0 }
    }

    /// How many slots are in the queue.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slot that has been in the queue longest.
    pub(super) fn front(&self) -> Option<u32> {
        (self.front != NONE).then_some(self.front)
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.prev != ABSENT)
    }

    /// Puts `slot` at the back, wherever it was before. Slots are small numbers: indices of a table.
    pub(super) fn touch(&mut self, slot: u32) {
        if self.back == slot {
            return;
        }
        self.remove(slot);
        let at = slot as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, Link { prev: ABSENT, next: NONE });
        }
        self.links[at] = Link { prev: self.back, next: NONE };
        match self.back {
            NONE => self.front = slot,
            back => self.links[back as usize].next = slot,
        }
        self.back = slot;
        self.len += 1;
    }

    /// Takes `slot` out, if it is in.
    pub(super) fn remove(&mut self, slot: u32) {
        if !self.contains(slot) {
            return;
        }
        let Link { prev, next } = self.links[slot as usize];
        match prev {
            NONE => self.front = next,
            prev => self.links[prev as usize].next = next,
        }
        match next {
            NONE => self.back = prev,
            next => self.links[next as usize].prev = prev,
        }
        self.links[slot as usize].prev = ABSENT;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    fn drain(order: &mut Order) -> Vec<u32> {
        let mut all = Vec::new();
        while let Some(slot) = order.front() {
            order.remove(slot);
            all.push(slot);
        }
        assert_eq!(order.len(), 0);
        all
    }

    #[test]
    fn keeps_the_order_of_the_last_touch() {
        let mut order = Order::new();
        for slot in [3, 0, 7, 0, 3, 3, 5] {
            order.touch(slot);
        }
        assert_eq!(order.len(), 4);
        assert_eq!(drain(&mut order), [7, 0, 3, 5]);
    }

    #[test]
    fn takes_from_front_middle_and_back_and_ignores_the_absent() {
        for (gone, left) in
            [(0, vec![1, 2, 3]), (2, vec![0, 1, 3]), (3, vec![0, 1, 2]), (9, vec![0, 1, 2, 3])]
        {
            let mut order = Order::new();
            (0..4).for_each(|slot| order.touch(slot));
            order.remove(gone);
            order.remove(gone);
            assert!(!order.contains(gone));
            assert_eq!(drain(&mut order), left, "without {gone}");
        }
    }

    #[test]
    fn a_slot_comes_back() {
        let mut order = Order::new();
        order.touch(1);
        order.remove(1);
        assert_eq!(order.front(), None);
        order.touch(1);
        assert_eq!((order.front(), order.len()), (Some(1), 1));
    }
}
