//! Packets of everybody, held back until it is known whose they are: only those of captured sessions go on.
//!
//! A connection is a session's as soon as a record of the kernel side says so; what was held of it goes on
//! then, in order, and all that follows at once. The rest is forgotten after a while. A new connection
//! between the same ends may be somebody else's, so it is held again.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::event::{Dir, Packet, Tuple};
use crate::packet::Segment;

/// How long a packet is held.
const HOLD_NS: u64 = 10_000_000_000;
/// Most bytes of one connection that are held while nobody has said whose it is: more than comes in the time
/// that a record takes.
const HELD_BYTES_MAX: usize = 8 << 20;
/// Most bytes that are held of all.
const ALL_BYTES_MAX: usize = 128 << 20;
/// Most connections that are held, and most that are known to be a session's.
const CONNECTIONS_MAX: usize = 65_536;
/// What a held packet takes besides its bytes.
const PACKET_ADDS: usize = 64;

/// A connection by its two ends, the lesser first, in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    netns: u32,
    ends: (SocketAddr, SocketAddr),
}

impl Key {
    fn new(netns: u32, one: SocketAddr, other: SocketAddr) -> Self {
        Self { netns, ends: if one <= other { (one, other) } else { (other, one) } }
    }

    fn of(tuple: &Tuple) -> Self {
        let local = SocketAddr::new(tuple.local, tuple.local_port);
        Self::new(tuple.netns, local, SocketAddr::new(tuple.remote, tuple.remote_port))
    }
}

#[derive(Debug)]
struct Known {
    session: u64,
    local: SocketAddr,
    /// The interface that each direction was first seen on, by [`Dir::index`]: others show it again.
    interfaces: [Option<u32>; 2],
}

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<HeldPacket>,
    bytes: usize,
    /// Whether it will be a session's.
    expected: bool,
}

#[derive(Debug)]
struct HeldPacket {
    at: u64,
    interface: u32,
    from: SocketAddr,
    length: u32,
    bytes: Box<[u8]>,
}

impl HeldPacket {
    fn new(packet: &Unsorted<'_>) -> Self {
        let Unsorted { at, interface, from, length, bytes, .. } = *packet;
        Self { at, interface, from, length, bytes: bytes.into() }
    }

    fn unsorted(&self, netns: u32) -> Unsorted<'_> {
        let Self { at, interface, from, length, ref bytes } = *self;
        Unsorted { at, netns, interface, from, length, bytes }
    }
}

/// A packet before it is known whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Unsorted<'a> {
    /// Wall-clock time, nanoseconds since 1970.
    pub at: u64,
    /// Network namespace.
    pub netns: u32,
    /// Number of the interface in it.
    pub interface: u32,
    /// Who sends it.
    pub from: SocketAddr,
    /// How long it was.
    pub length: u32,
    /// Its bytes from the Ethernet header on, or the first of them.
    pub bytes: &'a [u8],
}

/// The connections of which something was seen lately.
#[derive(Debug, Default)]
pub struct Held {
    known: HashMap<Key, Known>,
    /// Keys of `known`, the oldest first.
    known_order: VecDeque<(Key, u64)>,
    waiting: HashMap<Key, Waiting>,
    /// When each of `waiting` began, the oldest first.
    waiting_order: VecDeque<(u64, Key)>,
    /// Connections of which more came than is held, and how many packets: without their beginning they are of
    /// no use.
    foreign: HashMap<Key, u64>,
    bytes: usize,
    lost: u64,
}

impl Held {
    /// The connection `tuple` will be [learnt](Self::learn).
    pub fn expect(&mut self, tuple: &Tuple) {
        if let Some(waiting) = self.waiting.get_mut(&Key::of(tuple)) {
            waiting.expected = true;
        }
    }

    /// The connection `tuple` is that of `session`: gives what was held of it.
    pub fn learn(&mut self, session: u64, tuple: &Tuple, give: &mut dyn FnMut(&Packet<'_>)) {
        let local = SocketAddr::new(tuple.local, tuple.local_port);
        let key = Key::of(tuple);
        // Both ends may be captured, and one is enough.
        if self.known.contains_key(&key) {
            return;
        }
        self.known.insert(key, Known { session, local, interfaces: [None; 2] });
        self.known_order.push_back((key, session));
        while self.known_order.len() > CONNECTIONS_MAX {
            let Some((oldest, session)) = self.known_order.pop_front() else { break };
            // The ends may be those of another session by now.
            if self.known.get(&oldest).is_some_and(|known| known.session == session) {
                self.known.remove(&oldest);
            }
        }
        self.lost += self.foreign.remove(&key).unwrap_or(0);
        let Some(waiting) = self.waiting.remove(&key) else { return };
        self.bytes -= waiting.bytes;
        let Some(known) = self.known.get_mut(&key) else { return };
        waiting.packets.iter().for_each(|packet| known.pass(&packet.unsorted(key.netns), give));
    }

    /// Takes the next packet, of which `segment` is what it says: gives it, holds it, or neither.
    pub fn packet(
        &mut self,
        packet: &Unsorted<'_>,
        segment: &Segment<'_>,
        give: &mut dyn FnMut(&Packet<'_>),
    ) {
        let key = Key::new(packet.netns, segment.from, segment.to);
        if segment.opens {
            // Another connection than before.
            self.known.remove(&key);
            self.foreign.remove(&key);
            self.drop_held(key);
        }
        match self.known.get_mut(&key) {
            Some(known) => known.pass(packet, give),
            None => self.hold(key, HeldPacket::new(packet)),
        }
        self.forget(packet.at);
    }

    /// How many packets of sessions were forgotten before these became known.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn hold(&mut self, key: Key, packet: HeldPacket) {
        if let Some(count) = self.foreign.get_mut(&key) {
            *count += 1;
            return;
        }
        let size = packet.bytes.len() + PACKET_ADDS;
        let at = packet.at;
        let order = &mut self.waiting_order;
        let waiting = self.waiting.entry(key).or_insert_with(|| {
            order.push_back((at, key));
            Waiting::default()
        });
        waiting.bytes += size;
        self.bytes += size;
        waiting.packets.push_back(packet);
        if waiting.bytes > HELD_BYTES_MAX && !waiting.expected {
            self.give_up(key);
        }
    }

    /// Gives how many packets there were.
    fn drop_held(&mut self, key: Key) -> Option<u64> {
        let waiting = self.waiting.remove(&key)?;
        self.bytes -= waiting.bytes;
        Some(waiting.packets.len() as u64)
    }

    /// Nothing is held of a connection any more, and not again until it begins anew.
    fn give_up(&mut self, key: Key) {
        if let Some(packets) = self.drop_held(key) {
            if self.foreign.len() >= CONNECTIONS_MAX {
                self.foreign.clear();
            }
            self.foreign.insert(key, packets);
        }
    }

    /// Forgets what was held for too long, or is too much.
    fn forget(&mut self, now: u64) {
        while let Some((since, key)) = self.waiting_order.front().copied() {
            let is_over = self.bytes > ALL_BYTES_MAX || self.waiting_order.len() > CONNECTIONS_MAX;
            if !is_over && since.saturating_add(HOLD_NS) > now {
                break;
            }
            self.waiting_order.pop_front();
            // One that began anew meanwhile has another entry.
            let first = self.waiting.get(&key).and_then(|waiting| waiting.packets.front());
            if first.is_some_and(|first| first.at == since) {
                self.give_up(key);
            }
        }
    }
}

impl Known {
    fn pass(&mut self, packet: &Unsorted<'_>, give: &mut dyn FnMut(&Packet<'_>)) {
        let Unsorted { at, netns, interface, from, length, bytes } = *packet;
        let dir = if from == self.local { Dir::Out } else { Dir::In };
        if *self.interfaces[dir.index()].get_or_insert(interface) == interface {
            give(&Packet { at, session: self.session, netns, interface, dir, length, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [([u8; 4], u16); 2] = [([10, 0, 0, 1], 40_000), ([10, 0, 0, 2], 443)];

    fn end(number: usize) -> SocketAddr {
        SocketAddr::from(ENDS[number])
    }

    fn tuple() -> Tuple {
        let (local, remote) = (end(0), end(1));
        Tuple {
            local: local.ip(),
            local_port: local.port(),
            remote: remote.ip(),
            remote_port: remote.port(),
            netns: 7,
        }
    }

    /// A stage and what it gave: session, direction, bytes.
    #[derive(Default)]
    struct Stage {
        held: Held,
        given: Vec<(u64, Dir, Vec<u8>)>,
    }

    impl Stage {
        fn see(&mut self, at: u64, from: usize, interface: u32, opens: bool, bytes: &[u8]) {
            let length = bytes.len() as u32;
            let packet = Unsorted { at, netns: 7, interface, from: end(from), length, bytes };
            let segment = Segment { from: end(from), to: end(1 - from), opens, payload: bytes };
            let given = &mut self.given;
            self.held.packet(&packet, &segment, &mut |p| given.push((p.session, p.dir, p.bytes.to_vec())));
        }

        fn learn(&mut self, session: u64) {
            let given = &mut self.given;
            self.held.learn(session, &tuple(), &mut |p| given.push((p.session, p.dir, p.bytes.to_vec())));
        }
    }

    #[test]
    fn packets_are_given_once_it_is_known_whose_they_are() {
        let mut stage = Stage::default();
        stage.see(1, 0, 2, true, b"syn");
        stage.see(2, 1, 2, false, b"ack");
        assert_eq!(stage.given, []);
        stage.learn(5);
        stage.learn(5);
        stage.see(3, 0, 2, false, b"data");
        stage.see(3, 0, 9, false, b"data on another interface");
        let expected =
            [(5, Dir::Out, b"syn".to_vec()), (5, Dir::In, b"ack".to_vec()), (5, Dir::Out, b"data".to_vec())];
        assert_eq!(stage.given, expected);
    }

    #[test]
    fn a_new_connection_between_the_same_ends_is_not_the_sessions() {
        let mut stage = Stage::default();
        stage.learn(5);
        stage.see(1, 0, 2, true, b"syn");
        stage.see(2, 0, 2, false, b"another's");
        assert_eq!(stage.given, []);
        stage.learn(6);
        assert_eq!(stage.given.iter().map(|(session, ..)| *session).collect::<Vec<_>>(), [6, 6]);
    }

    #[test]
    fn the_end_of_an_earlier_connection_is_not_the_sessions() {
        let mut stage = Stage::default();
        stage.see(1, 0, 2, false, b"another's end");
        stage.see(2, 0, 2, true, b"syn");
        stage.learn(5);
        assert_eq!(stage.given, [(5, Dir::Out, b"syn".to_vec())]);
        assert_eq!(stage.held.bytes, 0);
    }

    #[test]
    fn what_is_nobodys_is_forgotten() {
        let mut stage = Stage::default();
        stage.see(1, 0, 2, true, b"syn");
        stage.see(HOLD_NS + 1, 1, 2, false, b"late");
        assert!(stage.held.waiting.is_empty() && stage.held.bytes == 0);
        stage.learn(5);
        assert_eq!((stage.given.len(), stage.held.lost()), (0, 2));
        let large = vec![0; HELD_BYTES_MAX];
        stage.see(HOLD_NS + 2, 0, 2, true, &large);
        assert!(stage.held.waiting.is_empty() && stage.held.bytes == 0);
    }

    #[test]
    fn all_together_are_bounded() {
        let mut held = Held::default();
        let bytes = [0; 1000];
        for number in 0..200_000_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            let from = SocketAddr::from(([a.wrapping_add(11), b, c, d], 1));
            let packet = Unsorted { at: 1, netns: 7, interface: 1, from, length: 1000, bytes: &bytes };
            let segment = Segment { from, to: end(1), opens: true, payload: &bytes };
            held.packet(&packet, &segment, &mut |_| panic!("nobody asked for it"));
        }
        assert!(held.bytes <= ALL_BYTES_MAX && held.waiting_order.len() <= CONNECTIONS_MAX);
        assert!(held.waiting.len() <= CONNECTIONS_MAX && held.foreign.len() <= CONNECTIONS_MAX);
    }
}
