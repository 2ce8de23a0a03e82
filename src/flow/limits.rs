//! Bounds of the flow table, and what it counts.

use super::segment::What;

/// Default of [`Limits::flows`].
const FLOWS_MAX: usize = 65_536;
/// Default of [`Limits::closed`].
const CLOSED_MAX: usize = 4_096;
/// Default of [`Limits::exits`].
const EXITS_MAX: usize = 4_096;
/// Default of [`Limits::flow_records`]: what one full per-CPU buffer of 8 MiB holds of small records.
const FLOW_RECORDS_MAX: usize = 32_768;
/// Default of [`Limits::flow_bytes`].
const FLOW_BYTES_MAX: u64 = 16 << 20;
/// Default of [`Limits::held_bytes`].
const HELD_BYTES_MAX: u64 = 64 << 20;
/// Default of [`Limits::hold_ns`].
const HOLD_NS: u64 = 1_000_000_000;

/// Default of [`Limits::idle_ns`]: two hours, after which TCP itself asks whether the peer is still there.
const IDLE_NS: u64 = 7200 * 1_000_000_000;

/// How much a [`super::FlowTable`] may remember and how long it may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most sessions in the table (at least 1). Then the one idle longest is forgotten, closed ones first.
    pub flows: usize,
    /// Most closed sessions among them; they are kept because an object may live on after its `SSL_free`.
    pub closed: usize,
    /// Most process ends that wait for records of the process that are still on their way.
    pub exits: usize,
    /// Most records held back for one session.
    pub flow_records: usize,
    /// Most memory for the records held back for one session, bytes.
    pub flow_bytes: u64,
    /// Most memory for all records held back, bytes.
    pub held_bytes: u64,
    /// How long a record, or the end of a process, is held back, nanoseconds of stream time. It is looked at
    /// with each clock event, and can take up to twice as long and the distance of two clock events.
    pub hold_ns: u64,
    /// How long a session may be silent before it is forgotten, nanoseconds of stream time.
    pub idle_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: FLOWS_MAX,
            closed: CLOSED_MAX,
            exits: EXITS_MAX,
            flow_records: FLOW_RECORDS_MAX,
            flow_bytes: FLOW_BYTES_MAX,
            held_bytes: HELD_BYTES_MAX,
            hold_ns: HOLD_NS,
            idle_ns: IDLE_NS,
        }
    }
}

/// What the flow stage did since it began; all cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Conversations drawn; also the number of the latest ([`super::Flow::id`]).
    pub flows: u64,
    /// Of them, those on made-up addresses.
    pub unaddressed: u64,
    /// Of them, those that broke off: redrawn on other addresses, or forgotten while open.
    pub resets: u64,
    /// Connections of which both ends were seen.
    pub both_ends: u64,
    /// Segments given out.
    pub segments: u64,
    /// Bytes in [`What::Data`].
    pub data_bytes: u64,
    /// Gaps told.
    pub gaps: u64,
    /// Bytes in [`What::Gap`].
    pub lost_bytes: u64,
    /// Bytes that came when their place in the stream had passed: there already, or told as a gap.
    pub duplicate_bytes: u64,
    /// Records that came before their turn.
    pub reordered: u64,
    /// Times that the table stopped waiting for a missing record of a session.
    pub given_up: u64,
    /// Sessions that were taken up in the middle, without knowing what went before.
    pub joined: u64,
    /// Sessions forgotten before their end because the table was full.
    pub evicted: u64,
    /// Sessions forgotten before their end because they were silent for long.
    pub idle: u64,
    /// Records whose position can't be (it ends beyond 2⁶⁴).
    pub invalid: u64,
}

impl FlowStats {
    /// Counts one segment.
    pub(super) fn count(&mut self, what: &What<'_>) {
        self.segments += 1;
        match what {
            What::Data(bytes) => self.data_bytes += bytes.len() as u64,
            What::Gap(lost) => {
                self.gaps += 1;
                // Positions of a damaged stream can add up to anything.
                self.lost_bytes = self.lost_bytes.saturating_add(*lost);
            }
            What::Open => self.flows += 1,
            What::Reset => self.resets += 1,
            What::Fin => {}
        }
    }
}
