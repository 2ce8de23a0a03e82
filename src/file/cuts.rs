//! Where one part of a capture ends and the next begins. By what the packets tell alone: no clock is read.

use chrono::{DateTime, Local, Offset as _};

/// How far before its part a packet may be before the clock must have been set back: records of several
/// sessions are not in order of time, by no more than they are held back.
const SET_BACK_NS: u64 = 5 * SECOND_NS;
/// How long after the end of its time a part waits for packets that are late, if no other packet ends it.
const LATE_NS: u64 = SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;

/// How large a part may get. Nothing is asked: it never ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Bytes, before compression. A part is larger only if what a single call moved is.
    pub bytes: Option<u64>,
    /// Packets.
    pub packets: Option<u64>,
    /// From the first packet on.
    pub seconds: Option<u32>,
    /// Parts end where the local time of day is a multiple of so many seconds.
    pub every: Option<u32>,
}

impl Cuts {
    /// Whether a capture can have more than one part.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// How long a part that begins at `at` lasts.
    pub(super) fn span(&self, at: u64) -> Span {
        // Where time has no room for its end it has none: else each packet there would begin a part.
        let lasting = self.seconds.and_then(|seconds| at.checked_add(u64::from(seconds) * SECOND_NS));
        let aligned = self.every.and_then(|seconds| next_multiple(at, seconds, local_offset(at)));
        let by_time = self.seconds.is_some() || self.every.is_some();
        Span { begin: at, end: lasting.into_iter().chain(aligned).min(), by_time }
    }

    /// Whether a part that has so many bytes and packets has no room for so many bytes more.
    pub(super) fn is_full(&self, bytes: u64, packets: u64, more: u64) -> bool {
        self.bytes.is_some_and(|most| bytes.saturating_add(more) > most)
            || self.packets.is_some_and(|most| packets >= most)
    }
}

/// The time of a part, nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    begin: u64,
    /// None: it does not end by time, or time ends before it.
    end: Option<u64>,
    by_time: bool,
}

impl Span {
    /// Whether a packet of this time belongs to another part.
    pub(super) fn excludes(&self, at: u64) -> bool {
        self.end.is_some_and(|end| at >= end) || self.is_long_before(at)
    }

    /// Whether at this time no packet of the part is to be expected any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.end.is_some_and(|end| now >= end.saturating_add(LATE_NS)) || self.is_long_before(now)
    }

    fn is_long_before(&self, at: u64) -> bool {
        self.by_time && at.saturating_add(SET_BACK_NS) < self.begin
    }
}

/// The first multiple of `seconds` after `at`, in a zone that is `offset` seconds east of UTC.
fn next_multiple(at: u64, seconds: u32, offset: i64) -> Option<u64> {
    let step = u64::from(seconds.max(1)) * SECOND_NS;
    // Shifted by whole days, so that it is not negative.
    let shift = (offset + 24 * 60 * 60).unsigned_abs() * SECOND_NS;
    let day = 24 * 60 * 60 * SECOND_NS;
    // Their sum may be more than 64 bits hold.
    let since = if day.is_multiple_of(step) { (at % step + shift % step) % step } else { at % step };
    at.checked_add(step - since)
}

/// Seconds east of UTC at that time, by the local zone (`TZ`).
fn local_offset(at: u64) -> i64 {
    let utc = DateTime::from_timestamp_nanos(0) + std::time::Duration::from_nanos(at);
    i64::from(utc.with_timezone(&Local).offset().fix().local_minus_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = SECOND_NS;

    #[test]
    fn nothing_asked_is_one_part() {
        let none = Cuts::default();
        assert!(!none.any());
        assert!(!none.is_full(u64::MAX, u64::MAX, u64::MAX));
        let span = none.span(5);
        assert!(!span.excludes(u64::MAX) && !span.excludes(0) && !span.is_over(u64::MAX));
    }

    #[test]
    fn a_part_is_full_by_bytes_or_by_packets() {
        let cuts = Cuts { bytes: Some(100), packets: Some(3), ..Cuts::default() };
        assert!(cuts.any());
        for (bytes, packets, more, full) in
            [(90, 1, 10, false), (90, 1, 11, true), (0, 2, 0, false), (0, 3, 0, true)]
        {
            assert_eq!(cuts.is_full(bytes, packets, more), full, "{bytes} {packets} {more}");
        }
    }

    #[test]
    fn the_wall_clock_cuts_at_multiples() {
        let hour = 3600;
        for (at, seconds, offset, end) in [
            (0, 5, 0, 5 * S),
            (7 * S + 1, 5, 0, 10 * S),
            (10 * S, 5, 0, 15 * S),
            // Local midnight, an hour and a half west and a day's part east of Greenwich.
            (10 * S, 86_400, 2 * hour, 22 * 3600 * S),
            (10 * S, 86_400, -hour, 3600 * S),
            // A step that does not divide the day counts from 1970 on.
            (15 * S, 7, hour, 21 * S),
        ] {
            assert_eq!(next_multiple(at, seconds, offset), Some(end), "{at} {seconds} {offset}");
        }
        assert_eq!(next_multiple(u64::MAX, u32::MAX, 0), None);
        // 2554-07-21 23:34:33.709551615 UTC.
        let late = u64::MAX - 10 * S;
        assert_eq!(next_multiple(late, 5, 0), Some(u64::MAX - 8_709_551_615));
    }

    #[test]
    fn a_part_lasts_as_long_as_was_asked() {
        let span = Cuts { seconds: Some(10), ..Cuts::default() }.span(100 * S);
        for (at, excluded) in [(100 * S, false), (110 * S - 1, false), (110 * S, true), (96 * S, false)] {
            assert_eq!(span.excludes(at), excluded, "{at}");
        }
        assert!(!span.is_over(110 * S));
        assert!(span.is_over(111 * S));
    }

    #[test]
    fn a_clock_set_back_begins_a_part() {
        let span = Cuts { seconds: Some(10), ..Cuts::default() }.span(100 * S);
        assert!(span.excludes(94 * S));
        assert!(span.excludes(0));
        assert!(span.is_over(94 * S) && !span.is_over(95 * S));
    }

    #[test]
    fn at_the_end_of_time_one_part_takes_all() {
        let cuts = Cuts { seconds: Some(10), every: Some(60), ..Cuts::default() };
        let span = cuts.span(u64::MAX - 5);
        assert!(!span.excludes(u64::MAX) && !span.is_over(u64::MAX));
        assert!(span.excludes(0) && span.is_over(0));
    }

    #[test]
    fn the_sooner_of_two_ends_counts() {
        let cuts = Cuts { seconds: Some(10), every: Some(60), ..Cuts::default() };
        assert_eq!(cuts.span(0).end, Some(10 * S));
        assert_eq!(cuts.span(55 * S).end, Some(60 * S));
    }
}
