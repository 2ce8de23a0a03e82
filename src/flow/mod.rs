//! Events → segments: one TCP conversation for each TLS session, its bytes in order, every loss in its place.
//!
//! Everything here follows from the events alone: time is what they say, and no clock is read.
//!
//! - Records of a session are put in order by their numbers and held back, within [`Limits`], while one with
//!   a lower number is missing. Positions in the streams then show what was lost ([`What::Gap`]).
//! - Records are held back also while the addresses of their session are unknown. If that takes too long or
//!   the session ends, the conversation is drawn on made-up addresses.
//! - A session is drawn as more than one conversation if its socket is replaced, or if it goes on after its
//!   end; positions then go on from where they were.
//! - A connection of which both ends are captured is drawn from one of them, the one that is seen first.
//! - Names of a session are kept as soon as their turn comes, for what is drawn after that.
//! - The end of a process waits too, for records of it that are still in another CPU's buffer.

mod address;
mod limits;
mod order;
mod pairs;
mod record;
mod segment;
mod session;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};

use foldhash::fast::RandomState;

pub use self::limits::{FlowStats, Limits};
pub use self::segment::{Flow, FlowNames, Segment, What};

use self::order::Order;
use self::pairs::Pairs;
use self::record::{Body, Record};
use self::session::Session;
use self::shared::{Out, Shared};
use crate::event::{Clock, Context, Event, Exit};

/// Where segments go.
type Emit<'a, S> = &'a mut dyn FnMut(Segment<'_, S>);

/// Process id, start time of the process, session number.
type Key = (u32, u64, u64);

/// A session in the table.
#[derive(Debug)]
struct Seat<S> {
    session: Session<S>,
    /// Its place among the sessions by process.
    key: Key,
    /// When it was put in the queue of the waiting.
    since: u64,
    /// When something was last done with it.
    touched: u64,
}

/// Turns the events of a stream, in stream order, into segments. `S` is what the next stage keeps for each
/// conversation.
#[derive(Debug)]
pub struct FlowTable<S> {
    limits: Limits,
    shared: Shared,
    seats: Vec<Seat<S>>,
    /// Seats whose session is forgotten.
    free: Vec<u32>,
    /// Seats by session number. The hasher is a fast one with a seed: a made-up stream can't know it.
    seat_of: HashMap<u64, u32, RandomState>,
    /// Seats of sessions that are not closed, the one idle longest first.
    open: Order,
    /// Seats of closed sessions, the one closed longest first.
    closed: Order,
    /// Seats of sessions that hold something back, the one to look at next first.
    waiting: Order,
    /// Which sessions end with a process.
    processes: BTreeSet<Key>,
    /// Ends of processes that wait, with the time of their coming.
    exits: VecDeque<(u64, Exit)>,
}

impl<S: Default> FlowTable<S> {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let clock = Clock { mono: 0, wall: 0 };
        Self {
            limits,
            shared: Shared {
                clock,
                now: 0,
                held_bytes: 0,
                pairs: Pairs::default(),
                stats: FlowStats::default(),
            },
            seats: Vec::new(),
            free: Vec::new(),
            seat_of: HashMap::default(),
            open: Order::new(),
            closed: Order::new(),
            waiting: Order::new(),
            processes: BTreeSet::new(),
            exits: VecDeque::new(),
        }
    }

    /// The same table, which draws a connection from both its ends where both are captured, if `both`.
    #[must_use]
    pub fn both_ends(mut self, both: bool) -> Self {
        self.shared.pairs.draw_both(both);
        self
    }

    /// Takes the next event. What it shows goes to `emit`, with all that it releases.
    pub fn push(&mut self, event: &Event<'_>, emit: &mut dyn FnMut(Segment<'_, S>)) {
        match event {
            Event::Data(data) => {
                let body = Body::Data { dir: data.dir, offset: data.offset, bytes: data.bytes };
                self.record(&data.context, body, emit);
            }
            Event::Close(close) => {
                let body = Body::Close { reason: close.reason, totals: close.totals };
                self.record(&close.context, body, emit);
            }
            Event::Name(name) => {
                let body = Body::Name { what: name.what, bytes: name.bytes };
                self.record(&name.context, body, emit);
            }
            Event::Totals(totals) => self.record(&totals.context, Body::Totals(totals.totals), emit),
            Event::Exit(exit) => self.exit(exit, emit),
            Event::Clock(clock) => self.tick(clock, emit),
            // A secret is of the real packets, and those are not drawn.
            Event::Start(_)
            | Event::Library(_)
            | Event::Container(_)
            | Event::Secret(_)
            | Event::Packet(_)
            | Event::Counters(_) => {}
        }
    }

    /// The stream has ended: releases all that is held back, tells the losses that are known, and ends the
    /// conversations of processes that are gone. What is open stays open: only the capture has stopped.
    pub fn finish(&mut self, emit: &mut dyn FnMut(Segment<'_, S>)) {
        while let Some(seat) = self.waiting.front() {
            self.at(seat, emit, Session::release);
        }
        while let Some((_, exit)) = self.exits.pop_front() {
            self.leave(&exit, emit);
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> &FlowStats {
        &self.shared.stats
    }

    /// How many sessions are in the table; at most [`Limits::flows`].
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.seat_of.len()
    }

    /// Memory that the records held back take now, bytes; at most [`Limits::held_bytes`].
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.shared.held_bytes
    }

    fn record(&mut self, context: &Context, body: Body<&[u8]>, emit: Emit<'_, S>) {
        self.shared.now = self.shared.now.max(context.at);
        let seat = match self.seat_of.get(&context.session.id) {
            Some(&seat) => seat,
            None => self.admit(context, emit),
        };
        self.belong(seat, context);
        let record = Record { context, body, since: self.shared.now };
        self.at(seat, emit, |session, out| session.push(record, out));
        if self.shared.held_bytes > self.limits.held_bytes {
            self.relieve(emit);
        }
    }

    /// A session ends with the process that used it last: a forked child may go on with it.
    fn belong(&mut self, seat: u32, context: &Context) {
        let key = &mut self.seats[seat as usize].key;
        let process = (context.task.pid, context.task.start_ns);
        if (key.0, key.1) != process {
            self.processes.remove(key);
            (key.0, key.1) = process;
            self.processes.insert(*key);
        }
    }

    /// Does something with the session at `seat`, and puts the seat in the queues where it belongs then.
    fn at(&mut self, seat: u32, emit: Emit<'_, S>, act: impl FnOnce(&mut Session<S>, &mut Out<'_, S>)) {
        let Seat { session, since, touched, .. } = &mut self.seats[seat as usize];
        *touched = self.shared.now;
        let mut out = Out { shared: &mut self.shared, emit };
        act(session, &mut out);
        while session.is_over(&self.limits) {
            session.give_up(&mut out);
        }
        if !session.waits() {
            self.waiting.remove(seat);
        } else if !self.waiting.contains(seat) {
            *since = self.shared.now;
            self.waiting.touch(seat);
        }
        if !session.is_closed() {
            self.closed.remove(seat);
            self.open.touch(seat);
        } else if !self.closed.contains(seat) {
            self.open.remove(seat);
            self.closed.touch(seat);
        }
    }

    /// Holds less back in all, at the cost of those that wait longest.
    fn relieve(&mut self, emit: Emit<'_, S>) {
        while self.shared.held_bytes > self.limits.held_bytes {
            let Some(seat) = self.waiting.front() else { return };
            self.at(seat, emit, Session::release);
        }
    }

    /// Gives the session of `context` a seat.
    fn admit(&mut self, context: &Context, emit: Emit<'_, S>) -> u32 {
        while self.closed.len() > self.limits.closed || self.seat_of.len() >= self.limits.flows.max(1) {
            let Some(seat) = self.closed.front().or(self.open.front()) else { break };
            self.shared.stats.evicted += u64::from(!self.closed.contains(seat));
            self.forget(seat, emit);
        }
        let key = (context.task.pid, context.task.start_ns, context.session.id);
        let taken = Seat { session: Session::new(context), key, since: 0, touched: 0 };
        let seat = match self.free.pop() {
            Some(seat) => {
                self.seats[seat as usize] = taken;
                seat
            }
            None => {
                self.seats.push(taken);
                // Below `Limits::flows`; a table of 2³² sessions would not fit in memory.
                (self.seats.len() - 1) as u32
            }
        };
        self.seat_of.insert(context.session.id, seat);
        self.processes.insert(key);
        seat
    }

    fn forget(&mut self, seat: u32, emit: Emit<'_, S>) {
        let Seat { session, key, .. } = &mut self.seats[seat as usize];
        session.forget(&mut Out { shared: &mut self.shared, emit });
        self.seat_of.remove(&key.2);
        self.processes.remove(key);
        for queue in [&mut self.open, &mut self.closed, &mut self.waiting] {
            queue.remove(seat);
        }
        self.free.push(seat);
    }

    fn tick(&mut self, clock: &Clock, emit: Emit<'_, S>) {
        self.shared.clock = *clock;
        self.shared.now = self.shared.now.max(clock.mono);
        // Only here, and not with each record, because a clock event is put in the stream when the buffers
        // have been read. The times of records may run far ahead while other buffers are still to be read.
        self.forget_idle(emit);
        let Some(cutoff) = self.shared.now.checked_sub(self.limits.hold_ns) else { return };
        while let Some(seat) = self.waiting.front() {
            if self.seats[seat as usize].since > cutoff {
                break;
            }
            self.waiting.remove(seat);
            self.at(seat, emit, |session, out| session.expire(cutoff, out));
        }
        while self.exits.front().is_some_and(|(since, _)| *since <= cutoff) {
            self.exits.pop_front().iter().for_each(|(_, exit)| self.leave(exit, emit));
        }
    }

    /// The queue of open sessions is in order of their last use.
    fn forget_idle(&mut self, emit: Emit<'_, S>) {
        let Some(cutoff) = self.shared.now.checked_sub(self.limits.idle_ns) else { return };
        while let Some(seat) = self.open.front() {
            if self.seats[seat as usize].touched > cutoff {
                return;
            }
            self.shared.stats.idle += 1;
            self.forget(seat, emit);
        }
    }

    fn exit(&mut self, exit: &Exit, emit: Emit<'_, S>) {
        self.shared.now = self.shared.now.max(exit.at);
        self.exits.push_back((self.shared.now, *exit));
        if self.exits.len() > self.limits.exits {
            self.exits.pop_front().iter().for_each(|(_, exit)| self.leave(exit, emit));
        }
    }

    /// Ends all sessions of a process.
    fn leave(&mut self, exit: &Exit, emit: Emit<'_, S>) {
        let (pid, start) = (exit.task.pid, exit.task.start_ns);
        let all = self.processes.range((pid, start, 0)..=(pid, start, u64::MAX));
        let seats: Vec<u32> = all.filter_map(|(_, _, session)| self.seat_of.get(session).copied()).collect();
        for seat in seats {
            self.at(seat, emit, |session, out| session.exit(exit, out));
        }
    }
}
