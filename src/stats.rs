//! The lines that tell what was done and what was lost.

use crate::event::Counters;
use crate::flow::FlowStats;

/// What was done, from the kernel to the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Packets written, or segments shown.
    pub packets: u64,
    /// Segments that the file had no room for, and bytes in them.
    pub unwritten: (u64, u64),
    /// Segments that the dump had no room for.
    pub unshown: u64,
    /// Connections whose packets were written without all of their secrets.
    pub unopened: u64,
    /// Real packets of sessions that were forgotten.
    pub strays: u64,
    /// Sessions whose secrets later parts don't have.
    pub unrepeated: u64,
    /// Records that could not be decoded.
    pub damaged: u64,
    /// Whether connections were to be shown from both ends.
    pub both_ends: bool,
    /// Of the flow stage.
    pub flows: FlowStats,
    /// Of the kernel side, as last told.
    pub counters: Counters,
}

impl Report {
    /// The closing line: `24 packets captured, 0 events lost`.
    #[must_use]
    pub fn closing(&self) -> String {
        let Self { packets, counters, .. } = self;
        let mut line = format!("{packets} packets captured, {} events lost", counters.lost_records);
        if counters.lost_bytes > 0 {
            line += &format!(" ({} of {} bytes)", counters.lost_bytes, counters.moved_bytes);
        }
        line
    }

    /// One line for each thing that went wrong besides.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let Self {
            unwritten,
            unshown,
            unopened,
            strays,
            unrepeated,
            damaged,
            flows,
            counters,
            both_ends,
            ..
        } = self;
        let not_written = format!(
            "events ({} bytes) were not written: the output took nothing while its queue was full",
            unwritten.1
        );
        let ends = if *both_ends {
            "connections were captured from both ends: each is there twice"
        } else {
            "connections were captured from both ends: they are shown from one (see --both-ends)"
        };
        let told = [
            (unwritten.0, not_written.as_str()),
            (*unshown, "events were not shown: the output took nothing while its queue was full"),
            (
                counters.lost_records,
                "events found the kernel's buffer full (use a larger --buffer) or were of a call longer than \
                 this kernel can follow (4 MiB before 5.17)",
            ),
            (counters.lost_secrets, "secrets were lost: real packets of their sessions can't be decrypted"),
            (
                counters.lost_packets,
                "packets were lost: a ring was full, or nobody said in time whose they are",
            ),
            (counters.lost_calls, "calls were not followed: more threads inside a call than are kept"),
            (counters.unreadable, "chunks were not in memory when they were to be read"),
            (
                counters.socket_conflicts,
                "uses of a socket inside a call did not fit the session's descriptor",
            ),
            (flows.unaddressed, "conversations have made-up addresses: their socket was not seen"),
            (flows.evicted, "sessions were forgotten because there were too many"),
            (*unopened, "connections are there without all of their secrets, and can't be decrypted"),
            (*strays, "packets were left out: their sessions were forgotten because there were too many"),
            (*unrepeated, "sessions had their secrets in their first part only: there were too many"),
            (*damaged, "records could not be decoded"),
            (flows.both_ends, ends),
        ];
        told.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_in_events_and_bytes() {
        let counters = Counters { moved_bytes: 1000, lost_bytes: 10, lost_records: 2, ..Counters::default() };
        let report = Report { packets: 7, counters, ..Report::default() };
        assert_eq!(report.closing(), "7 packets captured, 2 events lost (10 of 1000 bytes)");
        assert_eq!(report.warnings().len(), 1);
    }

    #[test]
    fn nothing_lost_needs_no_warning() {
        assert_eq!(Report::default().closing(), "0 packets captured, 0 events lost");
        assert!(Report::default().warnings().is_empty());
    }

    #[test]
    fn what_became_of_the_other_ends_is_told() {
        let flows = FlowStats { both_ends: 3, ..FlowStats::default() };
        for (both_ends, expected) in [
            (false, "3 connections were captured from both ends: they are shown from one (see --both-ends)"),
            (true, "3 connections were captured from both ends: each is there twice"),
        ] {
            assert_eq!(Report { both_ends, flows, ..Report::default() }.warnings(), [expected]);
        }
    }
}
