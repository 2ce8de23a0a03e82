//! Seeded simulation of the flow stage: what a small world did, through bad weather, against an independent
//! reading of the segments. A failure names its seed; `SIM_SEED=N cargo test --test sim` runs that one alone,
//! `SIM_RUNS=N` more of them.

mod support {
    pub(crate) mod mirror;
    pub(crate) mod sim;
}

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use support::mirror::{OTHER_END, at_other_end};
use support::sim::{Emission, Lane, Random, Run, Truth, WALL_AHEAD, plaintext, run};
use tlsdump::event::{
    Clock, Close, CloseReason, Conn, Context, Dir, Event, Exit, How, Role, Session, Task, Totals, Tuple,
};
use tlsdump::flow::{Flow, FlowStats, FlowTable, Limits, Segment, What};

/// What a next stage would keep of a flow.
#[derive(Debug, Default)]
struct Memory {
    flow: u64,
}

/// Checks the order of segments that every stream must give, damaged ones too.
#[derive(Debug, Default)]
struct Grammar {
    /// Open flow of each session, and which directions have ended.
    open: BTreeMap<u64, (u64, [bool; 2])>,
    flows: u64,
}

impl Grammar {
    fn check(&mut self, segment: &mut Segment<'_, Memory>) -> Result<(), String> {
        let Segment { flow, state, dir, what, .. } = segment;
        if *what == What::Open {
            let client = if flow.local_is_client { Dir::Out } else { Dir::In };
            self.flows += 1;
            ensure(flow.id == self.flows, || format!("flow {} is number {}", flow.id, self.flows))?;
            ensure(state.flow == 0 && *dir == client, || format!("open: {state:?} {dir:?}"))?;
            state.flow = flow.id;
            let before = self.open.insert(flow.session, (flow.id, [false; 2]));
            return ensure(before.is_none(), || format!("{before:?} is open when {flow:?} opens"));
        }
        let Some((id, finished)) = self.open.get_mut(&flow.session) else {
            return Err(format!("{what:?} of {flow:?}, which is not open"));
        };
        ensure(*id == flow.id && state.flow == flow.id, || format!("{flow:?} {state:?}, open is {id}"))?;
        match what {
            What::Data(bytes) => ensure(!bytes.is_empty(), || "no bytes".to_owned())?,
            What::Gap(lost) => ensure(*lost > 0, || "nothing lost".to_owned())?,
            What::Reset => {
                self.open.remove(&flow.session);
                return Ok(());
            }
            What::Open | What::Fin => {}
        }
        let ended = &mut finished[dir.index()];
        ensure(!*ended, || format!("{what:?} after the end of {dir:?} of {flow:?}"))?;
        *ended = *what == What::Fin;
        if *finished == [true; 2] {
            self.open.remove(&flow.session);
        }
        Ok(())
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Ranges of positions: beginning and end.
type Ranges = Vec<(u64, u64)>;

/// Joins ranges that touch; two that overlap are an error.
fn join(mut ranges: Ranges) -> Result<Ranges, String> {
    ranges.sort_unstable();
    let mut joined = Ranges::new();
    for (from, to) in ranges {
        match joined.last_mut() {
            Some(last) if last.1 > from => return Err(format!("{from}..{to} overlaps {last:?}")),
            Some(last) if last.1 == from => last.1 = to,
            _ => joined.push((from, to)),
        }
    }
    Ok(joined)
}

/// What the segments showed of one direction of a session.
#[derive(Clone, Debug, Default)]
struct Shown {
    position: u64,
    data: Ranges,
    gaps: Ranges,
}

/// Reads the segments of a run and compares them with the truth.
struct Reader<'a> {
    run: &'a Run,
    grammar: Grammar,
    shown: BTreeMap<(u64, Dir), Shown>,
    /// Conversations that each session was drawn as.
    flows: BTreeMap<u64, u32>,
}

impl<'a> Reader<'a> {
    fn new(run: &'a Run) -> Self {
        Self { run, grammar: Grammar::default(), shown: first_positions(run), flows: BTreeMap::new() }
    }

    fn read(&mut self, mut segment: Segment<'_, Memory>) -> Result<(), String> {
        self.grammar.check(&mut segment)?;
        let Segment { at, flow, dir, what, .. } = segment;
        let truth = &self.run.truth[&flow.session];
        let process = (truth.process.pid, truth.process.start_ns);
        ensure((flow.task.pid, flow.task.start_ns) == process, || format!("{process:?} moved {flow:?}"))?;
        let shown = self.shown.entry((flow.session, dir)).or_default();
        let from = shown.position;
        match what {
            What::Open => *self.flows.entry(flow.session).or_default() += 1,
            What::Data(bytes) => {
                let right = plaintext(flow.session, dir, from, bytes.len() as u64);
                ensure(bytes == right, || format!("wrong bytes at {from} {dir:?} of {flow:?}"))?;
                let during = truth.during.0 + WALL_AHEAD..=truth.during.1 + WALL_AHEAD;
                ensure(during.contains(&at), || format!("{at} is not in {during:?}"))?;
                check_address(truth, flow, dir, from)?;
                shown.position += bytes.len() as u64;
                shown.data.push((from, shown.position));
            }
            What::Gap(lost) => {
                shown.position += lost;
                shown.gaps.push((from, shown.position));
            }
            What::Fin | What::Reset => {}
        }
        Ok(())
    }

    /// All that came is shown, all that is known to be lost is a gap, and each end is drawn.
    fn verdict(mut self, is_whole: bool) -> Result<(), String> {
        let mut came = BTreeMap::<_, Ranges>::new();
        for emission in &self.run.stream {
            if let Emission::Data { context, dir, offset, bytes } = emission {
                let ranges = came.entry((context.session.id, *dir)).or_default();
                ranges.push((*offset, offset + bytes.len() as u64));
            }
        }
        for (&session, truth) in &self.run.truth {
            for dir in [Dir::Out, Dir::In] {
                let mut expected = came.remove(&(session, dir)).unwrap_or_default();
                expected.sort_unstable();
                expected.dedup();
                let Shown { position, data, gaps } = self.shown.remove(&(session, dir)).unwrap_or_default();
                let (data, expected) = (join(data)?, join(expected)?);
                let name = || format!("{dir:?} of session {session}: ");
                ensure(data == expected, || name() + &format!("shown {data:?}, came {expected:?}"))?;
                if is_whole {
                    check_losses(&truth.lanes[dir.index()], truth.told, position, &gaps)
                        .map_err(|e| name() + &e)?;
                }
            }
            if is_whole {
                let flows = self.flows.get(&session).copied().unwrap_or_default();
                let is_open = self.grammar.open.contains_key(&session);
                ensure(!truth.ended || !is_open, || format!("session {session} is left open"))?;
                ensure(!truth.plain || flows <= 1, || format!("session {session} drawn {flows} times"))?;
            }
        }
        Ok(())
    }
}

fn check_losses(lane: &Lane, is_told: bool, position: u64, gaps: &Ranges) -> Result<(), String> {
    ensure(position <= lane.moved, || format!("{position} of {} bytes", lane.moved))?;
    ensure(!is_told || position == lane.moved, || format!("only {position} of {} bytes", lane.moved))?;
    let lost = lane.lost.iter().filter(|(from, _)| *from < position);
    let lost: Ranges = lost.map(|(from, to)| (*from, (*to).min(position))).collect();
    ensure(join(gaps.clone())? == lost, || format!("gaps {gaps:?}, lost {lost:?}"))
}

/// Where each direction must begin: at its first byte, or, if the first record of the session is missing, at
/// the first position that a record told.
fn first_positions(run: &Run) -> BTreeMap<(u64, Dir), Shown> {
    let mut firsts = BTreeMap::<u64, u32>::new();
    let mut begins = BTreeMap::<(u64, Dir), Shown>::new();
    for emission in &run.stream {
        let Some(session) = emission.context().map(|context| context.session) else { continue };
        let first = firsts.entry(session.id).or_insert(u32::MAX);
        *first = session.number.min(*first);
        let positions = match emission {
            Emission::Data { dir, offset, .. } => vec![(*dir, *offset)],
            Emission::Close(Close { reason, totals: [out, read], .. }) => match reason {
                CloseReason::Shutdown => vec![(Dir::Out, *out)],
                CloseReason::Free => vec![(Dir::Out, *out), (Dir::In, *read)],
            },
            _ => vec![],
        };
        for (dir, position) in positions {
            let begin = begins.entry((session.id, dir)).or_insert(Shown { position, ..Shown::default() });
            begin.position = begin.position.min(position);
        }
    }
    begins.retain(|(session, _), _| firsts[session] > 0);
    begins
}

/// True addresses where any were told in time, made-up ones elsewhere.
fn check_address(truth: &Truth, flow: &Flow, dir: Dir, position: u64) -> Result<(), String> {
    let is_made_up =
        |address: IpAddr| matches!(address, IpAddr::V4(v4) if matches!(v4.octets(), [198, 18 | 19, ..]));
    if flow.how == How::Unknown {
        let is_late = truth.addressed != Some(0);
        return ensure(is_late && is_made_up(flow.local.ip()) && is_made_up(flow.remote.ip()), || {
            format!("{flow:?} should be on {:?}", truth.lanes[dir.index()].tuples)
        });
    }
    let tuples = &truth.lanes[dir.index()].tuples;
    let (_, tuple) = tuples.iter().rev().find(|(from, _)| *from <= position).ok_or("no addresses")?;
    let right =
        ((tuple.local, tuple.local_port).into(), (tuple.remote, tuple.remote_port).into(), tuple.netns);
    ensure((flow.local, flow.remote, flow.netns) == right, || format!("{flow:?} should be on {tuple:?}"))
}

/// Sends the stream of a run through a table, and says what is wrong with the outcome.
fn replay(run: &Run, is_whole: bool) -> Result<FlowStats, String> {
    let mut table = FlowTable::<Memory>::new(Limits::default());
    let mut reader = Reader::new(run);
    let mut outcome = Ok(());
    let mut emit = |segment: Segment<'_, Memory>| {
        if outcome.is_ok() {
            outcome = reader.read(segment);
        }
    };
    run.stream.iter().for_each(|emission| table.push(&emission.event(), &mut emit));
    table.finish(&mut emit);
    outcome?;
    let stats = *table.stats();
    ensure(table.held_bytes() == 0, || "something is held after the end".to_owned())?;
    ensure(!is_whole || stats.given_up + stats.joined == 0, || format!("gave up waiting: {stats:?}"))?;
    let sum = |of: fn(&Shown) -> &Ranges| -> u64 {
        reader.shown.values().flat_map(of).map(|(from, to)| to - from).sum()
    };
    ensure(stats.data_bytes == sum(|s| &s.data) && stats.lost_bytes == sum(|s| &s.gaps), || {
        format!("{stats:?}")
    })?;
    reader.verdict(is_whole)?;
    Ok(stats)
}

/// The seeds to run: the one in `SIM_SEED`, or as many as in `SIM_RUNS`, else the first `count`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match (number("SIM_SEED"), number("SIM_RUNS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, runs) => 0..runs.unwrap_or(count),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Whether one seed alone is looked at, which need not show everything.
fn is_single() -> bool {
    number("SIM_SEED").is_some()
}

#[test]
fn bytes_losses_addresses_and_ends_are_right_in_any_weather() {
    let mut bad_weather = [0; 5];
    for seed in seeds(300) {
        let run = run(seed);
        match replay(&run, true) {
            Ok(FlowStats { reordered, gaps, duplicate_bytes, unaddressed, resets, .. }) => {
                let counts = [reordered, gaps, duplicate_bytes, unaddressed, resets];
                bad_weather.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            Err(error) => panic!("SIM_SEED={seed} {:?}: {error}", run.weather),
        }
    }
    assert!(is_single() || bad_weather.iter().all(|&count| count > 200), "{bad_weather:?}");
}

#[test]
fn a_cut_stream_shows_all_that_came() {
    for seed in seeds(300) {
        let mut run = run(seed);
        let cut = Random(seed).below(run.stream.len() as u64) as usize;
        run.stream.truncate(cut);
        if let Err(error) = replay(&run, false) {
            panic!("SIM_SEED={seed} {:?} cut after {cut}: {error}", run.weather);
        }
    }
}

/// Pushes events into a table and checks its bounds and the order of its segments at each step.
fn stay_within<'a>(limits: Limits, events: impl Iterator<Item = Event<'a>>) -> Result<FlowStats, String> {
    let mut table = FlowTable::<Memory>::new(limits);
    let mut grammar = Grammar::default();
    let mut outcome = Ok(());
    let mut emit = |mut segment: Segment<'_, Memory>| {
        if outcome.is_ok() {
            outcome = grammar.check(&mut segment);
        }
    };
    let mut came = 0;
    for event in events {
        if let Event::Data(data) = &event {
            came += data.bytes.len() as u64;
        }
        table.push(&event, &mut emit);
        ensure(table.sessions() <= limits.flows, || format!("{} sessions", table.sessions()))?;
        ensure(table.held_bytes() <= limits.held_bytes, || format!("{} bytes held", table.held_bytes()))?;
    }
    table.finish(&mut emit);
    outcome?;
    ensure(table.held_bytes() == 0, || "something is held after the end".to_owned())?;
    ensure(table.stats().data_bytes <= came, || "bytes out of nowhere".to_owned())?;
    Ok(*table.stats())
}

#[test]
fn tight_limits_hold() {
    let (mut evicted, mut given_up) = (0, 0);
    for seed in seeds(150) {
        let run = run(seed);
        let mut random = Random(seed);
        let limits = Limits {
            flows: 1 + random.below(6) as usize,
            closed: random.below(3) as usize,
            exits: random.below(2) as usize,
            flow_records: random.below(6) as usize,
            flow_bytes: random.below(2000),
            held_bytes: random.below(4000),
            hold_ns: random.below(1_000_000_000),
            idle_ns: random.below(1_000_000_000),
        };
        match stay_within(limits, run.stream.iter().map(Emission::event)) {
            Ok(stats) => (evicted, given_up) = (evicted + stats.evicted, given_up + stats.given_up),
            Err(error) => panic!("SIM_SEED={seed} {limits:?}: {error}"),
        }
    }
    assert!(is_single() || (evicted > 1000 && given_up > 1000), "{evicted} {given_up}");
}

/// Sends a run through a table as both ends see it, one of them somewhat later. Gives, for each session that
/// has one address, known from the beginning, how many bytes were drawn from each of its ends.
fn replay_both_ends(run: &Run, random: &mut Random) -> Result<BTreeMap<u64, [u64; 2]>, String> {
    let mut table = FlowTable::<Memory>::new(Limits::default());
    let mut grammar = Grammar::default();
    let mut drawn: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
    let mut outcome = Ok(());
    let mut emit = |mut segment: Segment<'_, Memory>| {
        let session = segment.flow.session;
        if let What::Data(bytes) = segment.what {
            let of_ends = drawn.entry(session % OTHER_END).or_default();
            of_ends[usize::from(session > OTHER_END)] += bytes.len() as u64;
        }
        if outcome.is_ok() {
            outcome = grammar.check(&mut segment);
        }
    };
    let is_swapped = random.percent(50);
    let mut late = std::collections::VecDeque::new();
    for emission in &run.stream {
        let other = at_other_end(emission);
        let (first, second) = if is_swapped { (&other, emission) } else { (emission, &other) };
        late.push_back(second.clone());
        // A clock stands after what it was read after.
        let room = if matches!(emission, Emission::Clock(_)) { 0 } else { random.below(4) };
        while late.len() as u64 > room {
            late.pop_front().iter().for_each(|emission| table.push(&emission.event(), &mut emit));
        }
        table.push(&first.event(), &mut emit);
    }
    late.iter().for_each(|emission| table.push(&emission.event(), &mut emit));
    table.finish(&mut emit);
    outcome?;
    let is_simple = |session: &u64| run.truth[session].plain && run.truth[session].addressed == Some(0);
    drawn.retain(|session, _| is_simple(session));
    Ok(drawn)
}

#[test]
fn a_connection_is_drawn_from_one_of_its_ends() {
    let mut from_ends = [0; 2];
    for seed in seeds(300) {
        let run = run(seed);
        let drawn = replay_both_ends(&run, &mut Random(seed))
            .unwrap_or_else(|error| panic!("SIM_SEED={seed} {:?}: {error}", run.weather));
        let alone = replay_alone(&run);
        for (session, bytes) in drawn {
            let index = usize::from(bytes[0] == 0);
            from_ends[index] += 1;
            let is_one = bytes[1 - index] == 0 && bytes[index] == alone[&session];
            assert!(is_one, "SIM_SEED={seed} {:?}: {bytes:?} of session {session}", run.weather);
        }
    }
    assert!(is_single() || from_ends.iter().all(|&count| count > 200), "{from_ends:?}");
}

/// How many bytes of each session are drawn if only its own end is captured.
fn replay_alone(run: &Run) -> BTreeMap<u64, u64> {
    let mut table = FlowTable::<Memory>::new(Limits::default());
    let mut drawn = BTreeMap::new();
    let mut emit = |segment: Segment<'_, Memory>| {
        if let What::Data(bytes) = segment.what {
            *drawn.entry(segment.flow.session).or_default() += bytes.len() as u64;
        }
    };
    run.stream.iter().for_each(|emission| table.push(&emission.event(), &mut emit));
    table.finish(&mut emit);
    drawn
}

/// Small numbers mostly, and the largest.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..40_u64, 1 => Just(u64::MAX), 1 => u64::MAX - 20..=u64::MAX, 1 => any::<u64>()]
}

fn any_context() -> impl Strategy<Value = Context> {
    let number = prop_oneof![6 => 0..12_u32, 1 => u32::MAX - 3..=u32::MAX, 1 => any::<u32>()];
    let role = prop_oneof![Just(Role::Unknown), Just(Role::Client), Just(Role::Server)];
    let host = prop_oneof![2 => Just(None), 3 => (1..3_u8).prop_map(Some)];
    (position(), 0..5_u64, number, 0..3_u32, host, role).prop_map(|(at, id, number, pid, host, role)| {
        let tuple = host.map(|host| {
            // Sessions with an odd number are at the other end.
            let ends = [(IpAddr::from([10, 0, 0, host]), 40_000), (IpAddr::from([10, 0, 0, 9]), 443)];
            let [(local, local_port), (remote, remote_port)] =
                if id % 2 == 0 { ends } else { [ends[1], ends[0]] };
            Tuple { local, local_port, remote, remote_port, netns: 1 }
        });
        Context {
            at,
            session: Session { id, number, library: 0 },
            task: Task { pid, ..Task::default() },
            conn: Conn { tuple, how: if host.is_some() { How::Fd } else { How::Unknown }, role, place: 0 },
        }
    })
}

fn any_emission() -> impl Strategy<Value = Emission> {
    let dir = || prop_oneof![Just(Dir::Out), Just(Dir::In)];
    let reason = prop_oneof![Just(CloseReason::Shutdown), Just(CloseReason::Free)];
    let totals = || [position(), position()];
    prop_oneof![
        6 => (any_context(), dir(), position(), 0..30_usize).prop_map(|(context, dir, offset, len)| {
            Emission::Data { context, dir, offset, bytes: vec![7; len] }
        }),
        2 => (any_context(), reason, totals()).prop_map(|(context, reason, totals)| {
            Emission::Close(Close { context, reason, totals })
        }),
        1 => (any_context(), totals())
            .prop_map(|(context, totals)| Emission::Totals(Totals { context, totals })),
        1 => (position(), 0..3_u32).prop_map(|(at, pid)| {
            Emission::Exit(Exit { at, task: Task { pid, ..Task::default() } })
        }),
        1 => (position(), position()).prop_map(|(mono, wall)| Emission::Clock(Clock { mono, wall })),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let tables = (1..5_usize, 0..3_usize, 0..3_usize, 0..6_usize);
    (tables, 0..1500_u64, 0..3000_u64, 0..30_u64, 0..60_u64).prop_map(
        |((flows, closed, exits, flow_records), flow_bytes, held_bytes, hold_ns, idle_ns)| Limits {
            flows,
            closed,
            exits,
            flow_records,
            flow_bytes,
            held_bytes,
            hold_ns,
            idle_ns,
        },
    )
}

proptest! {
    #[test]
    fn no_stream_breaks_the_bounds(
        limits in any_limits(),
        stream in prop::collection::vec(any_emission(), 0..60),
    ) {
        let outcome = stay_within(limits, stream.iter().map(Emission::event));
        prop_assert!(outcome.is_ok(), "{outcome:?}");
    }
}
