//! One TLS session: its records put in order, and drawn as a conversation.
//!
//! A record passes two stations. It waits in `window` until the records with lower numbers have passed, and
//! then in `parked` until the session's addresses are known. Usually it waits in neither.

use std::collections::VecDeque;

use super::address::{self, Ends};
use super::limits::Limits;
use super::pairs::{End, Place};
use super::record::{Body, Held, Record, Window};
use super::segment::{Flow, FlowNames, Segment, What};
use super::shared::{Out, Shared};
use crate::event::{CloseReason, Conn, Context, Dir, Exit, How, NameKind, Role};

const DIRS: [Dir; 2] = [Dir::Out, Dir::In];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is drawn yet.
    Fresh,
    /// A conversation is drawn and not at its end; or it would be, were it not drawn from its other end.
    Drawn,
    /// The session, and its conversation if there was one, is at its end.
    Closed,
}

/// Byte counts that were told while records may be on their way.
#[derive(Debug)]
struct Told {
    totals: [u64; 2],
    at: u64,
    since: u64,
}

#[derive(Debug)]
pub(super) struct Session<S> {
    /// The conversation that is drawn; only `session` and `task` mean something before.
    flow: Flow,
    state: S,
    phase: Phase,
    /// What the records told of the connection.
    conn: Conn,
    /// The addresses that `flow` is drawn on, if they are true ones, and whether it is drawn at all.
    place: Place,
    /// No longer waits for addresses.
    unaddressed: bool,
    /// Number of the record whose turn it is, widened to 64 bits.
    next: i64,
    /// Whether `next` is more than the assumption that a session begins with number 0.
    begun: bool,
    /// How far each direction has come; `None` where it was joined in the middle and nothing is known yet.
    position: [Option<u64>; 2],
    /// Directions of `flow` that have ended.
    finished: [bool; 2],
    /// Records before whose turn others are missing.
    window: Window,
    /// Records, in order, that wait for addresses.
    parked: VecDeque<Held>,
    told: Option<Told>,
    /// Memory taken by the records in `window` and `parked`, bytes.
    held_bytes: u64,
}

impl<S: Default> Session<S> {
    /// The session that `context` speaks of. It has nothing to show yet.
    pub(super) fn new(context: &Context) -> Self {
        let Ends { local, remote, local_is_client } = address::made_up(0, Role::Unknown);
        Self {
            flow: Flow {
                id: 0,
                session: context.session.id,
                local,
                remote,
                local_is_client,
                how: How::Unknown,
                netns: 0,
                library: 0,
                task: context.task,
                names: FlowNames::default(),
                other_end: None,
            },
            state: S::default(),
            phase: Phase::Fresh,
            conn: Conn::default(),
            place: Place::default(),
            unaddressed: false,
            next: 0,
            begun: false,
            position: [Some(0); 2],
            finished: [false; 2],
            window: Window::default(),
            parked: VecDeque::new(),
            told: None,
            held_bytes: 0,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether something is held back that time must release.
    pub(super) fn waits(&self) -> bool {
        !self.window.is_empty() || !self.parked.is_empty() || self.told.is_some()
    }

    /// Whether more is held back than one session may.
    pub(super) fn is_over(&self, limits: &Limits) -> bool {
        self.window.len() + self.parked.len() > limits.flow_records || self.held_bytes > limits.flow_bytes
    }

    /// Takes a record as it comes.
    pub(super) fn push(&mut self, record: Record<'_>, out: &mut Out<'_, S>) {
        let number = self.widen(record.context.session.number);
        if number > self.next {
            out.shared.stats.reordered += 1;
            let held = self.hold(&record, out.shared);
            self.window.insert(number, held);
            return;
        }
        self.take(number, record, out);
        if !self.window.is_empty() {
            self.drain(out);
        }
    }

    /// Stops waiting for what is first in order: the addresses, else the missing record. Less is held
    /// afterwards, or after the next call.
    pub(super) fn give_up(&mut self, out: &mut Out<'_, S>) {
        if self.parked.is_empty() {
            self.skip(out);
        } else {
            self.settle(out);
        }
    }

    /// Releases what has been held since `cutoff` or longer.
    pub(super) fn expire(&mut self, cutoff: u64, out: &mut Out<'_, S>) {
        if let Some(last) = self.window.last_since(cutoff) {
            while self.window.first().is_some_and(|first| first <= last) {
                self.skip(out);
            }
        }
        if self.parked.front().is_some_and(|held| held.since <= cutoff) {
            self.settle(out);
        }
        // What is parked is not lost.
        if self.parked.is_empty() && self.told.as_ref().is_some_and(|told| told.since <= cutoff) {
            self.tell(out);
        }
    }

    /// Releases everything that is held, and tells what is known to be lost.
    pub(super) fn release(&mut self, out: &mut Out<'_, S>) {
        if self.waits() {
            self.settle(out);
        }
        while !self.window.is_empty() {
            self.skip(out);
        }
        self.tell(out);
    }

    /// The process is gone.
    pub(super) fn exit(&mut self, exit: &Exit, out: &mut Out<'_, S>) {
        self.release(out);
        self.flow.task = exit.task;
        self.end(exit.at, out);
    }

    /// The table forgets the session. What goes on will be another conversation.
    pub(super) fn forget(&mut self, out: &mut Out<'_, S>) {
        self.release(out);
        if self.phase == Phase::Drawn {
            self.emit(out.shared.now, self.flow.client(), What::Reset, out);
            self.phase = Phase::Closed;
        }
        self.place.leave(&mut out.shared.pairs);
    }

    /// `number` with the upper half that puts it nearest to the number whose turn it is.
    fn widen(&self, number: u32) -> i64 {
        if self.begun {
            // The difference of two numbers on a circle of 2³²; both casts only reinterpret.
            let ahead = number.wrapping_sub(self.next as u32) as i32;
            self.next.wrapping_add(i64::from(ahead))
        } else {
            i64::from(number)
        }
    }

    fn hold(&mut self, record: &Record<'_>, shared: &mut Shared) -> Held {
        let held = Held::new(record);
        self.held_bytes += held.cost();
        shared.held_bytes += held.cost();
        held
    }

    fn unhold(&mut self, held: &Held, shared: &mut Shared) {
        self.held_bytes -= held.cost();
        shared.held_bytes -= held.cost();
    }

    /// Goes on with the lowest number held, though lower ones are missing.
    fn skip(&mut self, out: &mut Out<'_, S>) {
        let Some(first) = self.window.first() else { return };
        if first > self.next {
            self.next = first;
            if self.begun {
                out.shared.stats.given_up += 1;
            } else {
                out.shared.stats.joined += 1;
                self.position = [None; 2];
            }
        }
        self.drain(out);
    }

    /// Takes the records whose turn has come.
    fn drain(&mut self, out: &mut Out<'_, S>) {
        while let Some(held) = self.window.pop(self.next) {
            self.unhold(&held, out.shared);
            let record = held.record();
            self.take(self.widen(record.context.session.number), record, out);
        }
    }

    /// Takes a record whose turn has come or passed.
    fn take(&mut self, number: i64, record: Record<'_>, out: &mut Out<'_, S>) {
        let in_turn = number == self.next;
        if let Body::Name { what, bytes } = record.body {
            // Known from here on, also to what waits for addresses.
            self.flow.names.learn(what, bytes, !in_turn);
        }
        if !in_turn && self.is_stale(&record.body) {
            if let Body::Data { bytes, .. } = record.body {
                out.shared.stats.duplicate_bytes += bytes.len() as u64;
            }
            return;
        }
        self.begun = true;
        if in_turn && record.body.is_numbered() {
            self.next = self.next.wrapping_add(1);
        }
        if in_turn && record.context.conn.place != self.conn.place {
            self.change_place(record.context, out);
        }
        self.learn(record.context, in_turn || record.body.is_numbered());
        if self.lacks_address() {
            match record.body {
                // It is not TCP, so no addresses will come. Records that were seen going to another process,
                // or to a thread, may still leave by TCP.
                Body::Name { what: NameKind::Socket, .. } if record.context.conn.how != How::Record => {
                    self.settle(out);
                }
                Body::Totals(_) | Body::Name { .. } => {}
                Body::Close { reason: CloseReason::Free, .. } => self.settle(out),
                Body::Close { .. } | Body::Data { .. } => {
                    let held = self.hold(&record, out.shared);
                    self.parked.push_back(held);
                    return;
                }
            }
        } else if !self.parked.is_empty() {
            self.unpark(out);
        }
        self.show(record, out);
    }

    /// Whether a record out of turn is from before what was shown: a copy, or one no longer waited for.
    fn is_stale(&self, body: &Body<&[u8]>) -> bool {
        // An unknown position (`None`) is below all others: nothing is stale then.
        let [out, read] = self.position;
        match body {
            Body::Data { dir, offset, bytes } => {
                Some(offset.saturating_add(bytes.len() as u64)) <= self.position[dir.index()]
            }
            Body::Close { reason: CloseReason::Shutdown, totals } => Some(totals[0]) < out,
            Body::Close { reason: CloseReason::Free, totals } => {
                Some(totals[0]) < out || Some(totals[1]) < read
            }
            Body::Name { .. } => true,
            Body::Totals(_) => false,
        }
    }

    fn learn(&mut self, context: &Context, is_latest: bool) {
        let Conn { tuple, how, role, .. } = context.conn;
        // A late record may tell a connection that has been replaced since.
        if tuple.is_some() && (is_latest || self.conn.tuple.is_none()) {
            (self.conn.tuple, self.conn.how) = (tuple, how);
        }
        if role != Role::Unknown {
            self.conn.role = role;
        }
    }

    fn lacks_address(&self) -> bool {
        self.conn.tuple.is_none() && !self.unaddressed && self.phase == Phase::Fresh
    }

    /// Stops waiting for addresses: those of a record that waits for its turn, else made-up ones.
    fn settle(&mut self, out: &mut Out<'_, S>) {
        if self.lacks_address() {
            match self.window.first_known().copied() {
                Some(context) => self.learn(&context, true),
                None => self.unaddressed = true,
            }
        }
        self.unpark(out);
    }

    fn unpark(&mut self, out: &mut Out<'_, S>) {
        // Taken whole, so that an empty queue keeps no memory.
        for held in std::mem::take(&mut self.parked) {
            self.unhold(&held, out.shared);
            self.show(held.record(), out);
        }
    }

    fn show(&mut self, record: Record<'_>, out: &mut Out<'_, S>) {
        let Record { context, body, since } = record;
        self.flow.task = context.task;
        if context.session.library != 0 {
            self.flow.library = context.session.library;
        }
        match body {
            Body::Data { dir, offset, bytes } => self.data(context.at, dir, offset, bytes, out),
            Body::Close { reason, totals } => self.close(context.at, reason, totals, out),
            Body::Totals(totals) => self.hear(totals, context.at, since),
            Body::Name { .. } => {}
        }
    }

    fn data(&mut self, at: u64, dir: Dir, offset: u64, bytes: &[u8], out: &mut Out<'_, S>) {
        let Some(end) = offset.checked_add(bytes.len() as u64) else {
            out.shared.stats.invalid += 1;
            return;
        };
        self.lose(at, dir, offset, out);
        let position = self.position[dir.index()].unwrap_or(offset);
        // At most the length of a slice, by the minimum.
        let seen = position.saturating_sub(offset).min(bytes.len() as u64) as usize;
        out.shared.stats.duplicate_bytes += seen as u64;
        let fresh = &bytes[seen..];
        if !fresh.is_empty() {
            self.position[dir.index()] = Some(end);
            self.draw(at, dir, out);
            self.emit(at, dir, What::Data(fresh), out);
        }
    }

    fn close(&mut self, at: u64, reason: CloseReason, totals: [u64; 2], out: &mut Out<'_, S>) {
        // A connection over which no plaintext went is drawn too, if it is known to be one.
        let is_empty = self.position == [Some(0); 2] && totals == [0; 2];
        if is_empty && self.phase == Phase::Fresh && self.conn.tuple.is_some() {
            self.draw(at, Dir::Out, out);
        }
        self.lose(at, Dir::Out, totals[Dir::Out.index()], out);
        match reason {
            CloseReason::Shutdown => self.finish(Dir::Out, at, out),
            CloseReason::Free => {
                self.lose(at, Dir::In, totals[Dir::In.index()], out);
                self.end(at, out);
            }
        }
    }

    /// Notes byte counts. They are told as lost only later: a record may have been on its way to the buffer
    /// when the kernel's table was read, its bytes counted and its number not.
    fn hear(&mut self, totals: [u64; 2], at: u64, since: u64) {
        let mut told = Told { totals, at, since };
        if let Some(before) = self.told.take() {
            [0, 1].into_iter().for_each(|i| told.totals[i] = totals[i].max(before.totals[i]));
        }
        let is_news = [0, 1].into_iter().any(|i| self.position[i].is_none_or(|p| p < told.totals[i]));
        self.told = is_news.then_some(told);
    }

    /// Tells the losses that byte counts have shown. A session at its end does not go on for that.
    fn tell(&mut self, out: &mut Out<'_, S>) {
        let Some(Told { totals, at, .. }) = self.told.take() else { return };
        let was_closed = self.is_closed();
        DIRS.into_iter().for_each(|dir| self.lose(at, dir, totals[dir.index()], out));
        if was_closed {
            self.end(at, out);
        }
    }

    /// Ends what is open of the conversation, and the session.
    fn end(&mut self, at: u64, out: &mut Out<'_, S>) {
        DIRS.into_iter().for_each(|dir| self.finish(dir, at, out));
        self.phase = Phase::Closed;
        self.place.end(at, &mut out.shared.pairs);
    }

    /// The stream of this direction goes on at `to`: what lies between is lost. What was before the session
    /// was joined is not.
    fn lose(&mut self, at: u64, dir: Dir, to: u64, out: &mut Out<'_, S>) {
        let position = self.position[dir.index()].get_or_insert(to);
        if *position < to {
            let lost = to - *position;
            *position = to;
            self.draw(at, dir, out);
            self.emit(at, dir, What::Gap(lost), out);
        }
    }

    /// Makes sure that a conversation is drawn, on the right addresses, in which `dir` is open.
    fn draw(&mut self, at: u64, dir: Dir, out: &mut Out<'_, S>) {
        if self.phase == Phase::Drawn {
            let moved = self.conn.tuple.is_some() && !self.place.is_at(self.conn.tuple);
            if !moved && !self.finished[dir.index()] {
                self.flow.how = self.conn.how;
                return;
            }
            self.emit(at, self.flow.client(), What::Reset, out);
        }
        self.open(at, out);
    }

    fn open(&mut self, at: u64, out: &mut Out<'_, S>) {
        let Conn { tuple, how, role, .. } = self.conn;
        self.phase = Phase::Drawn;
        self.finished = [false; 2];
        self.move_in(at, out.shared);
        if self.place.is_hidden() {
            return;
        }
        let id = out.shared.stats.flows + 1;
        let ends = match &tuple {
            Some(tuple) => address::known(tuple, role),
            None => address::made_up(id, role),
        };
        let Ends { local, remote, local_is_client } = ends;
        let netns = tuple.map_or(0, |tuple| tuple.netns);
        let names = std::mem::take(&mut self.flow.names);
        self.flow = Flow { id, local, remote, local_is_client, how, netns, names, ..self.flow };
        self.state = S::default();
        out.shared.stats.unaddressed += u64::from(tuple.is_none());
        self.emit(at, self.flow.client(), What::Open, out);
    }

    /// The session is on another connection than it was, which may not be known yet.
    fn change_place(&mut self, context: &Context, out: &mut Out<'_, S>) {
        self.conn.place = context.conn.place;
        if context.conn.tuple.is_some() || self.conn.tuple.is_none() {
            return;
        }
        if self.phase == Phase::Drawn {
            if self.finished != [true; 2] {
                self.emit(context.at, self.flow.client(), What::Reset, out);
            }
            self.phase = Phase::Fresh;
        }
        self.conn = Conn { tuple: None, how: How::Unknown, ..self.conn };
        self.unaddressed = false;
        self.place.leave(&mut out.shared.pairs);
    }

    /// Finds out whether the connection is drawn from its other end, else draws it from this one.
    fn move_in(&mut self, at: u64, Shared { pairs, stats, .. }: &mut Shared) {
        let Flow { session, task, .. } = self.flow;
        let Conn { tuple, role, .. } = self.conn;
        match tuple {
            None => self.place.leave(pairs),
            Some(tuple) => {
                self.flow.other_end = self.place.take(End { session, tuple, role, task }, at, pairs);
            }
        }
        stats.both_ends = pairs.found();
    }

    /// Ends one direction of the conversation, if there is one and it is open.
    fn finish(&mut self, dir: Dir, at: u64, out: &mut Out<'_, S>) {
        let finished = &mut self.finished[dir.index()];
        if self.phase == Phase::Drawn && !*finished {
            *finished = true;
            self.emit(at, dir, What::Fin, out);
        }
    }

    fn emit(&mut self, at: u64, dir: Dir, what: What<'_>, out: &mut Out<'_, S>) {
        if self.place.is_hidden() {
            return;
        }
        if let Some(task) = self.place.news(&mut out.shared.pairs) {
            self.flow.other_end = Some(task);
        }
        out.shared.stats.count(&what);
        let at = out.shared.wall(at);
        (out.emit)(Segment { at, flow: &self.flow, state: &mut self.state, dir, what });
        self.flow.other_end = None;
    }
}
