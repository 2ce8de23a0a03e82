//! A small world of processes and TLS sessions, the kernel side that watches them, and the buffers through
//! which its records come: seeded, so that one number gives one stream. It keeps the truth beside.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use tlsdump::event::{
    Clock, Close, CloseReason, Conn, Context, Data, Dir, Event, Exit, How, Role, Session, Task, Totals, Tuple,
};

/// The wall clock is ahead of the monotonic one by this, nanoseconds.
pub(crate) const WALL_AHEAD: u64 = 1_700_000_000_000_000_000;
/// Most bytes in one data record.
const CHUNK_MAX: u64 = 64;
/// Longest call, bytes.
const CALL_MAX: u64 = 600;
/// How many things happen in one run.
const STEPS: u32 = 250;
const PIDS: u64 = 4;
const POINTERS: u64 = 4;

/// Pseudo-random numbers (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `len` plaintext bytes of a session's stream from `position` on; different everywhere.
pub(crate) fn plaintext(session: u64, dir: Dir, position: u64, len: u64) -> Vec<u8> {
    let stream = mix(session.wrapping_mul(2) + dir.index() as u64);
    let words = position / 8..(position + len).div_ceil(8);
    let bytes: Vec<u8> = words.flat_map(|word| mix(stream.wrapping_add(word)).to_le_bytes()).collect();
    let skip = (position % 8) as usize;
    bytes[skip..skip + len as usize].to_vec()
}

/// What goes wrong on the way.
#[derive(Debug)]
pub(crate) struct Weather {
    /// Buffers, one for each CPU; with one, nothing is reordered.
    pub(crate) cpus: u64,
    /// Chance that a record finds its buffer full, percent.
    pub(crate) drop: u64,
    /// Chance that a record comes twice, percent.
    pub(crate) duplicate: u64,
    /// Chance that two records get one number, percent.
    pub(crate) twin: u64,
}

impl Weather {
    pub(crate) fn of(random: &mut Random) -> Self {
        let cpus = random.pick(&[1, 1, 2, 4]);
        Self {
            cpus,
            drop: random.pick(&[0, 2, 10, 50]),
            duplicate: random.pick(&[0, 5]),
            // Which of the two is first can't be told if they come in disorder.
            twin: if cpus == 1 { random.pick(&[0, 5]) } else { 0 },
        }
    }
}

/// An event that owns its bytes.
#[derive(Clone, Debug)]
pub(crate) enum Emission {
    Data { context: Context, dir: Dir, offset: u64, bytes: Vec<u8> },
    Close(Close),
    Totals(Totals),
    Exit(Exit),
    Clock(Clock),
}

impl Emission {
    pub(crate) fn event(&self) -> Event<'_> {
        match self {
            Self::Data { context, dir, offset, bytes } => {
                Event::Data(Data { context: *context, dir: *dir, offset: *offset, bytes })
            }
            Self::Close(close) => Event::Close(*close),
            Self::Totals(totals) => Event::Totals(*totals),
            Self::Exit(exit) => Event::Exit(*exit),
            Self::Clock(clock) => Event::Clock(*clock),
        }
    }

    /// The session that it speaks of.
    pub(crate) fn context(&self) -> Option<&Context> {
        match self {
            Self::Data { context, .. } => Some(context),
            Self::Close(close) => Some(&close.context),
            Self::Totals(totals) => Some(&totals.context),
            Self::Exit(_) | Self::Clock(_) => None,
        }
    }
}

/// What really happened in one direction of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    pub(crate) moved: u64,
    /// Positions of lost bytes: beginning and end, in order, not touching each other.
    pub(crate) lost: Vec<(u64, u64)>,
    /// From which position on which connection carried it.
    pub(crate) tuples: Vec<(u64, Tuple)>,
}

/// What really happened in a session.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    pub(crate) process: Task,
    pub(crate) lanes: [Lane; 2],
    /// Monotonic times of its first and last call.
    pub(crate) during: (u64, u64),
    /// Number of the first record that tells the addresses; `None`: none does.
    pub(crate) addressed: Option<u32>,
    /// The final byte counts are in the stream.
    pub(crate) told: bool,
    /// The stream tells that it ended, and nothing came after.
    pub(crate) ended: bool,
    /// Nothing happened for which it must be drawn more than once.
    pub(crate) plain: bool,
}

/// A run: what the program gets, and the truth.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) weather: Weather,
    pub(crate) stream: Vec<Emission>,
    pub(crate) truth: BTreeMap<u64, Truth>,
}

/// The run with that number.
pub(crate) fn run(seed: u64) -> Run {
    let mut random = Random(seed);
    let weather = Weather::of(&mut random);
    let mut world = World::new(random, weather);
    world.clock();
    for _ in 0..STEPS {
        world.step();
    }
    world.stop();
    Run { weather: world.weather, stream: world.stream, truth: world.truth }
}

/// The kernel's entry of a session.
#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    task: Task,
    number: u32,
    tuple: Tuple,
    role: Role,
    shut: bool,
    freed: bool,
    /// A record of it found room.
    heard: bool,
}

#[derive(Debug)]
struct World {
    random: Random,
    weather: Weather,
    now: u64,
    ids: u64,
    alive: Vec<Task>,
    /// Sessions by process and pointer.
    table: BTreeMap<(u64, u64), Entry>,
    /// Entries of dead processes; the kernel does not clear them at once.
    stale: Vec<Entry>,
    buffers: Vec<VecDeque<Emission>>,
    last_clock: u64,
    stream: Vec<Emission>,
    truth: BTreeMap<u64, Truth>,
}

impl World {
    fn new(random: Random, weather: Weather) -> Self {
        let buffers = (0..weather.cpus).map(|_| VecDeque::new()).collect();
        Self {
            random,
            weather,
            now: 5_000_000_000,
            ids: 0,
            alive: Vec::new(),
            table: BTreeMap::new(),
            stale: Vec::new(),
            buffers,
            last_clock: 0,
            stream: Vec::new(),
            truth: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        self.now += self.random.pick(&[100, 50_000, 3_000_000, 3_000_000, 40_000_000, 700_000_000]);
        match self.random.below(100) {
            0..8 => self.spawn(),
            8..20 => self.connect(),
            20..80 => self.with_session(Self::call),
            80..84 => self.with_session(Self::shutdown),
            84..89 => self.with_session(Self::free),
            89..91 => self.with_session(Self::replace_socket),
            91..93 => self.exit(),
            _ => self.drain(),
        }
    }

    fn spawn(&mut self) {
        let pid = 100 + self.random.below(PIDS) as u32;
        if self.alive.iter().all(|task| task.pid != pid) {
            self.alive.push(Task { pid, tid: pid, start_ns: self.now, ..Task::default() });
        }
    }

    fn connect(&mut self) {
        if self.alive.is_empty() {
            return;
        }
        let task = self.random.pick(&self.alive);
        let key = (task.start_ns, self.random.below(POINTERS));
        if let Some(mut old) = self.table.remove(&key) {
            self.close(&mut old, CloseReason::Free);
        }
        self.ids += 1;
        let (id, role) = (self.ids, self.random.pick(&[Role::Unknown, Role::Client, Role::Server]));
        let entry =
            Entry { id, task, number: 0, tuple: tuple(id, 0), role, shut: false, freed: false, heard: false };
        let lane = Lane { tuples: vec![(0, entry.tuple)], ..Lane::default() };
        let later = 1 + self.random.below(5) as u32;
        let addressed = self.random.pick(&[Some(0), Some(0), Some(later), None]);
        let truth = Truth {
            process: task,
            lanes: [lane.clone(), lane],
            during: (self.now, self.now),
            addressed,
            told: false,
            ended: false,
            // Addresses may come too late.
            plain: addressed.is_none_or(|from| from == 0),
        };
        self.truth.insert(id, truth);
        self.table.insert(key, entry);
    }

    /// Something happens in a session.
    fn with_session(&mut self, act: fn(&mut Self, &mut Entry) -> bool) {
        if self.table.is_empty() {
            return;
        }
        let nth = self.random.below(self.table.len() as u64) as usize;
        let Some((key, mut entry)) = self.table.iter().nth(nth).map(|(k, e)| (*k, e.clone())) else { return };
        if act(self, &mut entry) {
            self.table.insert(key, entry);
        } else {
            self.table.remove(&key);
        }
    }

    fn call(&mut self, entry: &mut Entry) -> bool {
        let dir = if entry.shut || self.random.percent(50) { Dir::In } else { Dir::Out };
        let context = self.context(entry);
        let mut left = 1 + self.random.below(CALL_MAX);
        while left > 0 {
            let len = left.min(CHUNK_MAX);
            left -= len;
            let truth = self.truth_of(entry);
            truth.during.1 = context.at;
            // Bytes of an object that was freed already, but lives on.
            truth.plain &= !entry.freed;
            truth.ended = false;
            truth.told = false;
            let lane = &mut truth.lanes[dir.index()];
            let offset = lane.moved;
            lane.moved += len;
            if self.random.percent(1) {
                self.read_table(entry);
            }
            let context = Context { session: self.context(entry).session, ..self.context(entry) };
            let bytes = plaintext(entry.id, dir, offset, len);
            if !self.emit(entry, Emission::Data { context, dir, offset, bytes }) {
                lose(&mut self.truth_of(entry).lanes[dir.index()].lost, offset, offset + len);
            }
        }
        true
    }

    fn shutdown(&mut self, entry: &mut Entry) -> bool {
        entry.shut = true;
        self.close(entry, CloseReason::Shutdown);
        true
    }

    /// Returns whether another reference keeps the object alive.
    fn free(&mut self, entry: &mut Entry) -> bool {
        self.close(entry, CloseReason::Free);
        entry.freed = true;
        self.random.percent(20)
    }

    fn close(&mut self, entry: &mut Entry, reason: CloseReason) {
        let context = self.context(entry);
        let totals = self.truth_of(entry).lanes.each_ref().map(|lane| lane.moved);
        let is_kept = self.emit(entry, Emission::Close(Close { context, reason, totals }));
        if reason == CloseReason::Free && is_kept {
            let truth = self.truth_of(entry);
            (truth.told, truth.ended) = (true, true);
        }
    }

    fn replace_socket(&mut self, entry: &mut Entry) -> bool {
        // While no record has told the first addresses, they can't be told apart from the next.
        if self.truth_of(entry).addressed == Some(0) {
            entry.tuple = tuple(entry.id, entry.tuple.netns + 1);
            let moved_to = entry.tuple;
            let truth = self.truth_of(entry);
            truth.plain = false;
            truth.lanes.iter_mut().for_each(|lane| lane.tuples.push((lane.moved, moved_to)));
        }
        true
    }

    fn exit(&mut self) {
        if self.alive.is_empty() {
            return;
        }
        let nth = self.random.below(self.alive.len() as u64) as usize;
        let task = self.alive.swap_remove(nth);
        let keys = (task.start_ns, 0)..=(task.start_ns, u64::MAX);
        let keys: Vec<_> = self.table.range(keys).map(|(key, _)| *key).collect();
        let gone: Vec<_> = keys.iter().filter_map(|key| self.table.remove(key)).collect();
        if self.buffer(Emission::Exit(Exit { at: self.now, task })) {
            // One of which nothing came can't be known to end with the process.
            gone.iter().for_each(|entry| self.truth_of(entry).ended |= entry.heard);
        }
        self.stale.extend(gone);
    }

    /// User space reads what is in the buffers, one after the other.
    fn drain(&mut self) {
        let mut order: Vec<usize> = (0..self.buffers.len()).collect();
        while !order.is_empty() {
            let cpu = order.swap_remove(self.random.below(order.len() as u64) as usize);
            while let Some(emission) = self.buffers[cpu].pop_front() {
                if self.random.percent(self.weather.duplicate) && emission.context().is_some() {
                    self.stream.push(emission.clone());
                }
                self.stream.push(emission);
            }
        }
        if self.now - self.last_clock > 500_000_000 {
            self.clock();
        }
    }

    fn clock(&mut self) {
        self.last_clock = self.now;
        self.stream.push(Emission::Clock(Clock { mono: self.now, wall: self.now + WALL_AHEAD }));
    }

    /// User space reads the kernel's entry of a session, past the buffers.
    fn read_table(&mut self, entry: &Entry) {
        let context = self.context(entry);
        let totals = self.truth_of(entry).lanes.each_ref().map(|lane| lane.moved);
        self.stream.push(Emission::Totals(Totals { context, totals }));
    }

    /// The capture ends.
    fn stop(&mut self) {
        let left: Vec<Entry> = self.table.values().chain(&self.stale).cloned().collect();
        let is_early = self.random.percent(50);
        if !is_early {
            self.drain();
        }
        for entry in &left {
            self.read_table(entry);
            let truth = self.truth_of(entry);
            truth.told = true;
            // Bytes that were the last before the end, and lost, are heard of after it.
            let is_cut = |lane: &Lane| lane.lost.last().is_some_and(|lost| lost.1 == lane.moved);
            truth.plain &= !(truth.ended && truth.lanes.iter().any(is_cut));
        }
        self.drain();
    }

    /// Emits a record of a session; gives its number only if it finds room.
    fn emit(&mut self, entry: &mut Entry, emission: Emission) -> bool {
        let is_kept = self.buffer(emission);
        entry.heard |= is_kept;
        if is_kept && !self.random.percent(self.weather.twin) {
            entry.number += 1;
        }
        is_kept
    }

    /// The thread may run on another CPU at each record.
    fn buffer(&mut self, emission: Emission) -> bool {
        let is_kept = !self.random.percent(self.weather.drop);
        if is_kept {
            let cpu = self.random.below(self.weather.cpus) as usize;
            self.buffers[cpu].push_back(emission);
        }
        is_kept
    }

    fn context(&self, entry: &Entry) -> Context {
        let addressed = self.truth[&entry.id].addressed.is_some_and(|from| entry.number >= from);
        let (tuple, how) = if addressed { (Some(entry.tuple), How::Nested) } else { (None, How::Unknown) };
        Context {
            at: self.now,
            session: Session { id: entry.id, number: entry.number, library: 1 },
            task: entry.task,
            conn: Conn { tuple, how, role: entry.role, place: 0 },
        }
    }

    fn truth_of(&mut self, entry: &Entry) -> &mut Truth {
        let Some(truth) = self.truth.get_mut(&entry.id) else { panic!("connect() did not make {entry:?}") };
        truth
    }
}

/// The addresses of a session after its socket was replaced `times` times.
fn tuple(session: u64, times: u32) -> Tuple {
    let local = IpAddr::from([10, 1, (session >> 8) as u8, session as u8]);
    let remote = IpAddr::from([10, 2, 0, times as u8]);
    Tuple { local, local_port: 40_000, remote, remote_port: 443, netns: times }
}

/// Adds the range to a list of ranges that ends at or before it.
fn lose(ranges: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    match ranges.last_mut() {
        Some(last) if last.1 == from => last.1 = to,
        _ => ranges.push((from, to)),
    }
}
