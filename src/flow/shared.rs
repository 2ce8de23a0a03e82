//! What the sessions of a table share, and where what they draw goes.

use super::limits::FlowStats;
use super::pairs::Pairs;
use super::segment::Segment;
use crate::event::Clock;

/// What all sessions of a table have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// The latest reading of the clocks.
    pub(super) clock: Clock,
    /// Stream time: the latest monotonic time that was seen.
    pub(super) now: u64,
    /// Memory taken by records held back in all sessions, bytes.
    pub(super) held_bytes: u64,
    /// The ends of connections that are drawn.
    pub(super) pairs: Pairs,
    pub(super) stats: FlowStats,
}

impl Shared {
    /// The wall-clock time at monotonic time `at`.
    pub(super) fn wall(&self, at: u64) -> u64 {
        let Clock { mono, wall } = self.clock;
        if at >= mono { wall.saturating_add(at - mono) } else { wall.saturating_sub(mono - at) }
    }
}

/// Where a session's segments go.
pub(super) struct Out<'a, S> {
    pub(super) shared: &'a mut Shared,
    pub(super) emit: &'a mut dyn FnMut(Segment<'_, S>),
}
