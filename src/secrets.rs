//! The secrets of the captured sessions, as lines of a key log: each is given once, and those of sessions
//! that go on again for each further part of the capture.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::event::{Secret, Task};
use crate::frame::keylog;

/// Most sessions whose secrets are kept for further parts; then those of the one that is known longest are
/// not there any more.
const SESSIONS_MAX: usize = 16_384;
/// Most lines of a session: one has up to seven, and some for each further handshake in it.
const LINES_MAX: usize = 32;

/// What is kept of a session.
#[derive(Debug)]
struct Kept {
    /// Its place in the order of first secrets.
    place: u64,
    process: (u32, u64),
    lines: Vec<String>,
    /// Whether some of the lines are in no part yet.
    untold: bool,
    ended: bool,
}

/// The secrets of the sessions that go on.
#[derive(Debug, Default)]
pub struct Secrets {
    /// How many sessions have a line: both ends of a connection have the same.
    owners: HashMap<String, u32>,
    sessions: HashMap<u64, Kept>,
    order: BTreeMap<u64, u64>,
    processes: BTreeSet<(u32, u64, u64)>,
    places: u64,
    dropped: u64,
}

impl Secrets {
    /// The line of a secret, with its end; None for one that was told before, or that must never be told.
    pub fn learn(&mut self, secret: &Secret<'_>) -> Option<String> {
        if keylog::is_made_up(&secret.client_random) {
            return None;
        }
        let mut line = String::with_capacity(keylog::LINE_BYTES_MAX);
        keylog::push_line(&mut line, secret.what, &secret.client_random, secret.bytes);
        let session = secret.context.session.id;
        let kept = match self.sessions.entry(session) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => {
                self.places += 1;
                self.order.insert(self.places, session);
                let process = process_of(&secret.context.task);
                self.processes.insert((process.0, process.1, session));
                free.insert(Kept {
                    place: self.places,
                    process,
                    lines: Vec::new(),
                    untold: true,
                    ended: false,
                })
            }
        };
        if kept.lines.contains(&line) {
            return None;
        }
        if kept.lines.len() == LINES_MAX {
            let oldest = kept.lines.remove(0);
            disown(&mut self.owners, &oldest);
        }
        kept.lines.push(line.clone());
        let owners = self.owners.entry(line.clone()).or_default();
        *owners += 1;
        let is_new = *owners == 1;
        kept.untold |= is_new;
        if self.sessions.len() > SESSIONS_MAX {
            self.dropped += 1;
            let oldest = self.order.first_key_value().map(|(_, session)| *session);
            oldest.iter().for_each(|oldest| self.forget(*oldest));
        }
        is_new.then_some(line)
    }

    /// Sessions that go on, but of which later parts don't have the secrets.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// All lines of this session are where they belong.
    pub fn told(&mut self, session: u64) {
        if let Some(kept) = self.sessions.get_mut(&session) {
            kept.untold = false;
        }
    }

    /// What a part begins with: the lines of all sessions that go on, and of those that have ended before any
    /// part could tell theirs.
    pub fn head(&mut self) -> String {
        let kept = self.order.values().filter_map(|session| self.sessions.get(session));
        let mut told = HashSet::new();
        let lines = kept.flat_map(|kept| kept.lines.iter().map(String::as_str));
        let head = lines.filter(|line| told.insert(*line)).collect();
        let ended: Vec<_> = self.sessions.iter().filter(|(_, kept)| kept.ended).map(|(id, _)| *id).collect();
        ended.into_iter().for_each(|session| self.forget(session));
        self.sessions.values_mut().for_each(|kept| kept.untold = false);
        head
    }

    /// A session has ended.
    pub fn end(&mut self, session: u64) {
        match self.sessions.get_mut(&session) {
            Some(kept) if kept.untold => kept.ended = true,
            Some(_) => self.forget(session),
            None => {}
        }
    }

    /// A process has ended.
    pub fn exit(&mut self, task: &Task) {
        let (pid, start) = process_of(task);
        let all = self.processes.range((pid, start, 0)..=(pid, start, u64::MAX));
        let sessions: Vec<_> = all.map(|(.., session)| *session).collect();
        sessions.into_iter().for_each(|session| self.end(session));
    }

    fn forget(&mut self, session: u64) {
        if let Some(kept) = self.sessions.remove(&session) {
            self.order.remove(&kept.place);
            self.processes.remove(&(kept.process.0, kept.process.1, session));
            kept.lines.iter().for_each(|line| disown(&mut self.owners, line));
        }
    }
}

/// One session less has the line.
fn disown(owners: &mut HashMap<String, u32>, line: &str) {
    if let Some(count) = owners.get_mut(line) {
        *count -= 1;
        if *count == 0 {
            owners.remove(line);
        }
    }
}

/// What a process is known by.
fn process_of(task: &Task) -> (u32, u64) {
    (task.pid, task.start_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Conn, Context, RANDOM_BYTES, SecretKind, Session};

    fn secret(session: u64, pid: u32, random: u8) -> Secret<'static> {
        let session = Session { id: session, number: 0, library: 1 };
        let task = Task { pid, ..Task::default() };
        let context = Context { at: 1, session, task, conn: Conn::default() };
        let client_random = [random; RANDOM_BYTES];
        Secret { context, what: SecretKind::Master, client_random, bytes: &[7; 48] }
    }

    #[test]
    fn each_line_is_given_once_and_again_for_each_part() {
        let mut secrets = Secrets::default();
        let first = secrets.learn(&secret(1, 10, 1)).unwrap_or_default();
        let second = secrets.learn(&secret(1, 10, 2)).unwrap_or_default();
        assert!(first.starts_with("CLIENT_RANDOM 0101") && second.starts_with("CLIENT_RANDOM 0202"));
        assert_eq!(secrets.learn(&secret(1, 10, 1)), None);
        assert_eq!(secrets.learn(&secret(2, 20, 1)), None, "the other end");
        for _ in 0..2 {
            assert_eq!(secrets.head(), [first.as_str(), &second].concat());
        }
    }

    #[test]
    fn what_no_part_has_told_outlives_its_session() {
        let mut secrets = Secrets::default();
        let lines = [1, 2, 3].map(|i| secrets.learn(&secret(u64::from(i), 10, i)).unwrap_or_default());
        secrets.told(1);
        secrets.end(1);
        secrets.exit(&secret(0, 10, 0).context.task);
        assert_eq!(secrets.head(), lines[1..].concat());
        assert_eq!(secrets.head(), "");
        assert!(secrets.order.is_empty() && secrets.processes.is_empty() && secrets.owners.is_empty());
    }

    #[test]
    fn the_random_number_of_the_envelope_is_never_told() {
        let mut made_up = secret(1, 10, 0);
        made_up.client_random = *b"tlsdump: synthetic TLS, no key!!";
        assert_eq!(Secrets::default().learn(&made_up), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut secrets = Secrets::default();
        for session in 0..SESSIONS_MAX as u64 + 10 {
            secrets.learn(&secret(session, 10, 1));
        }
        assert_eq!((secrets.sessions.len(), secrets.order.len()), (SESSIONS_MAX, SESSIONS_MAX));
        assert_eq!(secrets.dropped(), 10);
        assert!(!secrets.sessions.contains_key(&9) && secrets.sessions.contains_key(&10));
        for random in 0..=LINES_MAX as u8 {
            secrets.learn(&secret(20, 10, random));
        }
        assert_eq!(secrets.sessions.get(&20).map(|kept| kept.lines.len()), Some(LINES_MAX));
    }
}
