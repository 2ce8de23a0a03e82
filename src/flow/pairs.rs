//! Connections of which both ends are captured: which session they are drawn from.
//!
//! Two sessions are the two ends of one connection if the addresses of one are those of the other swapped,
//! and nothing speaks against it ([`End::fits`]). The end that was drawn first is kept. It has one other end
//! at most, so that TLS inside TLS, with two sessions at each end, gives two pairs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::event::{Role, Task, Tuple};

/// How long after its end a session that had no other end yet may still get one, nanoseconds. The peer reads
/// the last bytes after they were written, and by then the writer may have freed its session. A system does
/// not give the ports of a connection to another so soon.
const LATE_NS: u64 = 1_000_000_000;

/// The two addresses, as the session's process sees them, and the session's number.
type Key = (SocketAddr, SocketAddr, u64);

/// A session's end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) session: u64,
    pub(super) tuple: Tuple,
    pub(super) role: Role,
    pub(super) task: Task,
}

impl End {
    fn key(&self) -> Key {
        let Tuple { local, local_port, remote, remote_port, .. } = self.tuple;
        ((local, local_port).into(), (remote, remote_port).into(), self.session)
    }

    /// Whether two ends with swapped addresses can be ends of one connection: one is not the same side as the
    /// other, and addresses that mean something else in each network namespace are of one.
    fn fits(&self, other: &Self) -> bool {
        let is_same_side = self.role != Role::Unknown && self.role == other.role;
        let is_loopback = self.tuple.local.is_loopback() || self.tuple.remote.is_loopback();
        !is_same_side && (self.tuple.netns == other.tuple.netns || !is_loopback)
    }
}

/// An end that is drawn.
#[derive(Debug)]
struct Drawn {
    end: End,
    /// The session at the other end, once it is known.
    other: Option<u64>,
    /// The process there, until it was told.
    news: Option<Task>,
    /// When the session ended.
    ended: Option<u64>,
}

impl Drawn {
    fn takes(&self, other: &End, at: u64) -> bool {
        let is_too_late = self.ended.is_some_and(|ended| at.saturating_sub(ended) > LATE_NS);
        match self.other {
            Some(session) => session == other.session,
            None => !is_too_late && self.end.fits(other),
        }
    }
}

/// The ends that are drawn; at most one of each session in the table.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    drawn: BTreeMap<Key, Drawn>,
    /// How many of them have news.
    news: usize,
    /// Connections of which both ends were seen.
    found: u64,
    /// Whether both ends of a connection are drawn.
    both: bool,
}

impl Pairs {
    /// From here on both ends of a connection are drawn, if `both`.
    pub(super) fn draw_both(&mut self, both: bool) {
        self.both = both;
    }

    /// Connections of which both ends were seen.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// How many ends are drawn.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.drawn.len()
    }

    /// What is drawn of which `end`, first heard of at `at`, is the other end.
    fn find(&mut self, end: &End, at: u64) -> Option<&End> {
        let (local, remote, session) = end.key();
        let mut swapped = self.drawn.range_mut((remote, local, 0)..=(remote, local, u64::MAX));
        let (_, first) = swapped.find(|(_, drawn)| drawn.takes(end, at))?;
        if first.other.is_none() {
            first.other = Some(session);
            first.news = Some(end.task);
            self.news += 1;
            self.found += 1;
        }
        Some(&first.end)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(drawn) = self.drawn.remove(key) {
            self.news -= usize::from(drawn.news.is_some());
        }
    }
}

/// On which connection a session is, and whether that is drawn from it.
#[derive(Debug, Default)]
pub(super) struct Place {
    tuple: Option<Tuple>,
    /// Its place among the ends that are drawn.
    key: Option<Key>,
    /// The other end is drawn instead.
    hidden: bool,
}

impl Place {
    /// Whether the session is at these addresses.
    pub(super) fn is_at(&self, tuple: Option<Tuple>) -> bool {
        self.tuple == tuple
    }

    /// Whether the other end of the connection is drawn instead.
    pub(super) fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// The session is at addresses that are not known, or at none.
    pub(super) fn leave(&mut self, pairs: &mut Pairs) {
        self.key.iter().for_each(|key| pairs.remove(key));
        *self = Self::default();
    }

    /// The session is, from `at` on, at this end of a connection. Gives the process at the other end, if that
    /// is drawn already.
    pub(super) fn take(&mut self, end: End, at: u64, pairs: &mut Pairs) -> Option<Task> {
        // What was the other end stays that to its end, also when the session that is drawn has ended.
        if self.hidden && self.is_at(Some(end.tuple)) {
            return None;
        }
        self.leave(pairs);
        let other = pairs.find(&end, at).copied();
        self.tuple = Some(end.tuple);
        self.hidden = other.is_some() && !pairs.both;
        if !self.hidden {
            let key = *self.key.insert(end.key());
            let other = other.map(|other| other.session);
            pairs.drawn.insert(key, Drawn { end, other, news: None, ended: None });
        }
        other.map(|other| other.task)
    }

    /// The session has ended at `at`, and keeps its place for a while.
    pub(super) fn end(&self, at: u64, pairs: &mut Pairs) {
        if let Some(drawn) = self.key.and_then(|key| pairs.drawn.get_mut(&key)) {
            drawn.ended.get_or_insert(at);
        }
    }

    /// The process at the other end, if it became known and was not told yet.
    pub(super) fn news(&self, pairs: &mut Pairs) -> Option<Task> {
        if pairs.news == 0 {
            return None;
        }
        let news = pairs.drawn.get_mut(&self.key?)?.news.take();
        pairs.news -= usize::from(news.is_some());
        news
    }
}
