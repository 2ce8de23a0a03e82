//! Records of a session, borrowed from the stream or held back, and the window that puts them in order.

use std::collections::BTreeMap;

use crate::event::{CloseReason, Context, Dir, NameKind};

/// What a record of a session says; `B` is how its bytes are kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<B> {
    Data { dir: Dir, offset: u64, bytes: B },
    Close { reason: CloseReason, totals: [u64; 2] },
    Name { what: NameKind, bytes: B },
    Totals([u64; 2]),
}

impl<B> Body<B> {
    /// Whether the record has a number of its own. Totals only say before which number they stand.
    pub(super) fn is_numbered(&self) -> bool {
        !matches!(self, Self::Totals(_))
    }
}

/// A record as it passes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) context: &'a Context,
    pub(super) body: Body<&'a [u8]>,
    /// When it came, in stream time.
    pub(super) since: u64,
}

/// A record held back, with a copy of its bytes.
#[derive(Debug)]
pub(super) struct Held {
    context: Context,
    body: Body<Box<[u8]>>,
    pub(super) since: u64,
}

impl Held {
    pub(super) fn new(record: &Record<'_>) -> Self {
        let body = match record.body {
            Body::Data { dir, offset, bytes } => Body::Data { dir, offset, bytes: bytes.into() },
            Body::Close { reason, totals } => Body::Close { reason, totals },
            Body::Name { what, bytes } => Body::Name { what, bytes: bytes.into() },
            Body::Totals(totals) => Body::Totals(totals),
        };
        Self { context: *record.context, body, since: record.since }
    }

    pub(super) fn record(&self) -> Record<'_> {
        let body = match &self.body {
            Body::Data { dir, offset, bytes } => {
                Body::Data { dir: *dir, offset: *offset, bytes: bytes.as_ref() }
            }
            Body::Close { reason, totals } => Body::Close { reason: *reason, totals: *totals },
            Body::Name { what, bytes } => Body::Name { what: *what, bytes: bytes.as_ref() },
            Body::Totals(totals) => Body::Totals(*totals),
        };
        Record { context: &self.context, body, since: self.since }
    }

    /// Memory that it takes, bytes.
    pub(super) fn cost(&self) -> u64 {
        let bytes = match &self.body {
            Body::Data { bytes, .. } | Body::Name { bytes, .. } => bytes.len(),
            Body::Close { .. } | Body::Totals(_) => 0,
        };
        (size_of::<Self>() + bytes) as u64
    }
}

/// Records that came before their turn, by number; those with one number in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Window {
    held: BTreeMap<(i64, u64), Held>,
    arrivals: u64,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Keeps a record until its `number` (widened to 64 bits) is due.
    pub(super) fn insert(&mut self, number: i64, held: Held) {
        self.arrivals += 1;
        self.held.insert((number, self.arrivals), held);
    }

    /// The lowest number.
    pub(super) fn first(&self) -> Option<i64> {
        self.held.first_key_value().map(|(key, _)| key.0)
    }

    /// Takes out the first record if its number is not above `next`.
    pub(super) fn pop(&mut self, next: i64) -> Option<Held> {
        let first = self.held.first_entry()?;
        (first.key().0 <= next).then(|| first.remove())
    }

    /// The highest number that came at `cutoff` or before.
    pub(super) fn last_since(&self, cutoff: u64) -> Option<i64> {
        self.held.iter().rev().find(|(_, held)| held.since <= cutoff).map(|(key, _)| key.0)
    }

    /// The context of the first record that knows addresses.
    pub(super) fn first_known(&self) -> Option<&Context> {
        self.held.values().map(|held| &held.context).find(|context| context.conn.tuple.is_some())
    }
}
