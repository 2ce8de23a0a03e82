//! When it is looked at what libraries read from memory. That costs every program with the library two probes
//! at each record, so it is done for a while only, and again after pauses that become longer: the sessions
//! for which it was begun are found soon, or never.

use std::time::{Duration, Instant};

use libbpf_rs::Link;

/// How long it is looked.
const TURN: Duration = Duration::from_secs(5);
/// The first pause after that, and the longest; each is twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));

/// The links of a turn, and when the next may begin.
#[derive(Default)]
pub(super) struct Listening {
    links: Vec<Link>,
    ends: Option<Instant>,
    next: Option<Instant>,
    pause: Option<Duration>,
}

impl Listening {
    /// Whether a turn begins now, because something was read of which the socket isn't known.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        if self.ends.is_some() || self.next.is_some_and(|next| now < next) {
            return false;
        }
        let pause = self.pause.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1));
        self.ends = Some(now + TURN);
        self.next = Some(now + TURN + pause);
        self.pause = Some(pause);
        true
    }

    /// Keeps what was attached for the turn.
    pub(super) fn hold(&mut self, links: Vec<Link>) {
        self.links = links;
    }

    /// Ends the turn when its time is over.
    pub(super) fn look(&mut self, now: Instant) {
        if self.ends.is_some_and(|ends| ends <= now) {
            drop(self.end());
        }
    }

    /// Ends the turn, and gives its links to be given up.
    pub(super) fn end(&mut self) -> Vec<Link> {
        self.ends = None;
        std::mem::take(&mut self.links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_become_rare() {
        let begun = Instant::now();
        let mut listening = Listening::default();
        let mut turns = Vec::new();
        for second in 0..20_000 {
            let now = begun + Duration::from_secs(second);
            listening.look(now);
            if listening.begins(now) {
                turns.push(second);
            }
        }
        assert_eq!(turns[..6], [0, 15, 40, 85, 170, 335]);
        assert_eq!(turns[turns.len() - 1] - turns[turns.len() - 2], 3605);
    }
}
