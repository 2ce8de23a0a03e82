//! Which processes the packets are of.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::event::{Comm, Task};

/// Most processes that are described in a file; one with threads of several names counts once for each.
/// Packets of any further one do not say whose they are; the comments of their conversations do.
pub const PROCESSES_MAX: usize = 65_536;

/// The processes of a file, numbered in order of first appearance.
#[derive(Debug, Default)]
pub(super) struct Processes {
    numbers: HashMap<(u32, Comm), u32, RandomState>,
}

impl Processes {
    /// Number of the task's process under its present name, and whether it is new; `None` if there are too
    /// many.
    pub(super) fn number(&mut self, task: &Task) -> Option<(u32, bool)> {
        let who = (task.pid, task.comm);
        if let Some(&number) = self.numbers.get(&who) {
            return Some((number, false));
        }
        if self.numbers.len() == PROCESSES_MAX {
            return None;
        }
        // Below PROCESSES_MAX.
        let number = self.numbers.len() as u32;
        self.numbers.insert(who, number);
        Some((number, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pid: u32, comm: [u8; 16]) -> Task {
        Task { pid, comm: Comm(comm), ..Task::default() }
    }

    #[test]
    fn a_process_is_new_once_under_each_name() {
        let mut processes = Processes::default();
        let [sh, curl] = [*b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0", *b"curl\0\0\0\0\0\0\0\0\0\0\0\0"];
        for (pid, comm, expected) in
            [(7, sh, (0, true)), (8, sh, (1, true)), (7, sh, (0, false)), (7, curl, (2, true))]
        {
            assert_eq!(processes.number(&task(pid, comm)), Some(expected));
        }
    }

    #[test]
    fn processes_are_bounded() {
        let mut processes = Processes::default();
        for pid in 0..PROCESSES_MAX as u32 {
            assert_eq!(processes.number(&task(pid, [0; 16])), Some((pid, true)));
        }
        assert_eq!(processes.number(&task(u32::MAX, [0; 16])), None);
        assert_eq!(processes.number(&task(5, [0; 16])), Some((5, false)));
    }
}
