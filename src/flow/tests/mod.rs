//! Streams written by hand, and the segments that they must give.

mod bounds;
mod ends;
mod names;

use std::net::IpAddr;

use super::{FlowTable, Limits, Segment, What};
use crate::event::{
    Clock, Close, CloseReason, Comm, Conn, Context, Data, Dir, Event, Exit, How, Role, Session, Task, Totals,
    Tuple,
};

const SECOND: u64 = 1_000_000_000;

fn tuple(host: u8) -> Option<Tuple> {
    let [local, remote] = [1, host].map(|last| IpAddr::from([10, 0, 0, last]));
    Some(Tuple { local, local_port: 40_000, remote, remote_port: 443, netns: 9 })
}

/// A process of which nothing but its id and start time matters.
fn process(pid: u32, start_ns: u64) -> Task {
    Task { pid, tid: pid, start_ns, comm: Comm(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0"), ..Task::default() }
}

/// Record `number` of session 7 of process 100, at second 1, from 10.0.0.1:40000 to 10.0.0.2:443.
fn context(number: u32) -> Context {
    Context {
        at: SECOND,
        session: Session { id: 7, number, library: 3 },
        task: process(100, 5),
        conn: Conn { tuple: tuple(2), how: How::Nested, role: Role::Client, place: 0 },
    }
}

/// Changes what a record says of its surroundings.
trait With: Sized {
    fn with(self, change: impl FnOnce(&mut Context)) -> Self;
    fn nowhere(self) -> Self {
        self.with(|c| c.conn = Conn::default())
    }
    fn to(self, host: u8) -> Self {
        self.with(|c| c.conn.tuple = tuple(host))
    }
    fn place(self, place: u8) -> Self {
        self.with(|c| c.conn.place = place)
    }
    fn of(self, session: u64) -> Self {
        self.with(|c| c.session.id = session)
    }
    fn at(self, at: u64) -> Self {
        self.with(|c| c.at = at)
    }
}

impl With for Event<'_> {
    fn with(mut self, change: impl FnOnce(&mut Context)) -> Self {
        match &mut self {
            Event::Data(data) => change(&mut data.context),
            Event::Close(close) => change(&mut close.context),
            Event::Name(name) => change(&mut name.context),
            Event::Totals(totals) => change(&mut totals.context),
            _ => {}
        }
        self
    }
}

fn write(number: u32, offset: u64, text: &str) -> Event<'_> {
    Event::Data(Data { context: context(number), dir: Dir::Out, offset, bytes: text.as_bytes() })
}

fn read(number: u32, offset: u64, text: &str) -> Event<'_> {
    Event::Data(Data { context: context(number), dir: Dir::In, offset, bytes: text.as_bytes() })
}

fn shutdown(number: u32, totals: [u64; 2]) -> Event<'static> {
    Event::Close(Close { context: context(number), reason: CloseReason::Shutdown, totals })
}

fn free(number: u32, totals: [u64; 2]) -> Event<'static> {
    Event::Close(Close { context: context(number), reason: CloseReason::Free, totals })
}

fn totals(number: u32, totals: [u64; 2]) -> Event<'static> {
    Event::Totals(Totals { context: context(number), totals })
}

fn exit(pid: u32, start_ns: u64) -> Event<'static> {
    Event::Exit(Exit { at: 2 * SECOND, task: process(pid, start_ns) })
}

/// A clock event; the wall clock is 100 s ahead.
fn clock(second: u64) -> Event<'static> {
    Event::Clock(Clock { mono: second * SECOND, wall: (second + 100) * SECOND })
}

/// A segment in few letters: flow, direction, what.
fn brief(segment: &Segment<'_, u32>) -> String {
    let way = match segment.dir {
        Dir::Out => '>',
        Dir::In => '<',
    };
    let what = match segment.what {
        What::Open => "open".to_owned(),
        What::Data(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        What::Gap(lost) => format!("-{lost}"),
        What::Fin => "fin".to_owned(),
        What::Reset => "reset".to_owned(),
    };
    format!("{}{way}{what}", segment.flow.id)
}

/// A table with what it gave since it was last looked at.
struct Bench {
    table: FlowTable<u32>,
    seen: Vec<String>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self { table: FlowTable::new(limits), seen: Vec::new() }
    }

    fn push(&mut self, event: &Event<'_>) {
        let seen = &mut self.seen;
        self.table.push(event, &mut |segment| seen.push(brief(&segment)));
    }

    fn finish(&mut self) {
        let seen = &mut self.seen;
        self.table.finish(&mut |segment| seen.push(brief(&segment)));
    }

    fn look(&mut self) -> String {
        std::mem::take(&mut self.seen).join(" ")
    }
}

/// What the stream gives, `|` being the place where it ends and only [`FlowTable::finish`] follows.
fn told(events: &[Event<'_>]) -> String {
    let mut bench = Bench::new(Limits::default());
    events.iter().for_each(|event| bench.push(event));
    let before = bench.look();
    bench.finish();
    assert_eq!(bench.table.held_bytes(), 0);
    format!("{before} | {}", bench.look()).trim().to_owned()
}

#[track_caller]
fn check(cases: &[(&str, &[Event<'_>], &str)]) {
    for (name, events, expected) in cases {
        assert_eq!(told(events), *expected, "{name}");
    }
}

#[test]
fn bytes_and_gaps() {
    check(&[
        ("both ways", &[write(0, 0, "ab"), read(1, 0, "xyz"), write(2, 2, "c")], "1>open 1>ab 1<xyz 1>c |"),
        ("lost at the beginning", &[write(0, 5, "ab")], "1>open 1>-5 1>ab |"),
        ("lost between", &[write(0, 0, "ab"), write(1, 9, "c")], "1>open 1>ab 1>-7 1>c |"),
        ("twice", &[write(0, 0, "ab"), write(0, 0, "ab")], "1>open 1>ab |"),
        ("overlap", &[write(0, 0, "abc"), write(1, 1, "bcde")], "1>open 1>abc 1>de |"),
        (
            "one number twice",
            &[write(0, 0, "ab"), read(0, 0, "x"), write(0, 2, "c")],
            "1>open 1>ab 1<x 1>c |",
        ),
        ("no bytes", &[write(0, 0, "")], "|"),
        ("impossible", &[write(0, 0, "a"), write(1, u64::MAX, "bc"), write(2, 1, "b")], "1>open 1>a 1>b |"),
        ("the last place", &[write(0, u64::MAX - 1, "b")], &format!("1>open 1>-{} 1>b |", u64::MAX - 1)),
    ]);
}

#[test]
fn order() {
    check(&[
        ("swapped", &[write(0, 0, "a"), write(2, 2, "c"), write(1, 1, "b")], "1>open 1>a 1>b 1>c |"),
        ("backwards", &[write(2, 2, "c"), write(1, 1, "b"), write(0, 0, "a")], "1>open 1>a 1>b 1>c |"),
        ("never comes", &[write(0, 0, "a"), write(2, 2, "c")], "1>open 1>a | 1>-1 1>c"),
        (
            "comes too late",
            &[write(0, 0, "a"), write(2, 2, "c"), clock(5), write(1, 1, "b"), write(3, 3, "d")],
            "1>open 1>a 1>-1 1>c 1>d |",
        ),
        ("joined in the middle", &[write(8, 50, "a"), read(9, 70, "x")], "| 1>open 1>a 1<x"),
        ("joined, in time", &[write(8, 50, "a"), clock(5), write(9, 52, "b")], "1>open 1>a 1>-1 1>b |"),
        ("held copies", &[write(1, 1, "b"), write(1, 1, "b"), write(0, 0, "a")], "1>open 1>a 1>b |"),
        ("a close waits", &[free(1, [1, 0]), write(0, 0, "a")], "1>open 1>a 1>fin 1<fin |"),
        (
            "numbers begin again after the largest",
            &[write(u32::MAX, 50, "a"), clock(5), write(1, 52, "c"), write(0, 51, "b"), write(2, 53, "d")],
            "1>open 1>a 1>b 1>c 1>d |",
        ),
        ("far numbers", &[write(u32::MAX, 50, "a"), clock(5), write(0, 51, "b")], "1>open 1>a 1>b |"),
    ]);
}

#[test]
fn a_hole_is_waited_for_as_long_as_the_limit() {
    let mut bench = Bench::new(Limits::default());
    bench.push(&write(0, 0, "a"));
    bench.push(&write(2, 2, "c"));
    bench.push(&Event::Clock(Clock { mono: 2 * SECOND - 1, wall: 0 }));
    assert_eq!(bench.look(), "1>open 1>a");
    bench.push(&write(5, 5, "f").at(2 * SECOND - 1));
    bench.push(&clock(2));
    assert_eq!(bench.look(), "1>-1 1>c", "what came later still waits");
    bench.push(&clock(3));
    assert_eq!(bench.look(), "1>-2 1>f");
    let stats = bench.table.stats();
    assert_eq!((stats.reordered, stats.given_up, stats.joined, stats.lost_bytes), (2, 2, 0, 3));
}

#[test]
fn closes() {
    let two = || [write(0, 0, "ab"), read(1, 0, "xyz")];
    let after = |rest: &[Event<'static>]| {
        let text = told(&two().into_iter().chain(rest.iter().cloned()).collect::<Vec<_>>());
        text.strip_prefix("1>open 1>ab 1<xyz ").map(str::to_owned)
    };
    for (name, rest, expected) in [
        ("shutdown", &[shutdown(2, [2, 3])][..], "1>fin |"),
        ("shutdown, the rest lost", &[shutdown(2, [5, 9])], "1>-3 1>fin |"),
        ("shutdown twice", &[shutdown(2, [2, 3]), shutdown(3, [2, 3])], "1>fin |"),
        ("the peer goes on", &[shutdown(2, [2, 3]), read(3, 3, "!")], "1>fin 1<! |"),
        ("free", &[free(2, [2, 3])], "1>fin 1<fin |"),
        ("free, the rest lost", &[free(2, [3, 5])], "1>-1 1<-2 1>fin 1<fin |"),
        ("shutdown, free", &[shutdown(2, [2, 3]), free(3, [2, 4])], "1>fin 1<-1 1<fin |"),
        ("free twice", &[free(2, [2, 3]), free(3, [2, 3])], "1>fin 1<fin |"),
        ("free copied", &[free(2, [4, 3]), free(2, [4, 3])], "1>-2 1>fin 1<fin |"),
        (
            "a copy does not end what lives on",
            &[free(2, [2, 3]), totals(3, [2, 6]), read(3, 3, "!"), free(2, [2, 3]), read(4, 4, "??")],
            "1>fin 1<fin 2>open 2<! 2<?? |",
        ),
        ("lives on", &[free(2, [2, 3]), read(3, 4, "!")], "1>fin 1<fin 2>open 2<-1 2<! |"),
        ("written after shutdown", &[shutdown(2, [2, 3]), write(3, 2, "c")], "1>fin 1>reset 2>open 2>c |"),
        ("totals below", &[free(2, [0, 0])], "1>fin 1<fin |"),
    ] {
        assert_eq!(after(rest).as_deref(), Some(expected), "{name}");
    }
    check(&[
        ("only a close", &[free(0, [0, 0])], "1>open 1>fin 1<fin |"),
        ("a close, no addresses", &[free(0, [0, 0]).nowhere()], "|"),
        ("a close, the rest lost", &[free(0, [0, 4])], "1>open 1<-4 1>fin 1<fin |"),
        ("a close of a forgotten session", &[free(6, [30, 4])], "|"),
    ]);
}

#[test]
fn totals_tell_what_no_record_can() {
    check(&[
        ("all lost", &[totals(0, [7, 9])], "| 1>open 1>-7 1<-9"),
        ("nothing lost", &[write(0, 0, "ab"), totals(1, [2, 0])], "1>open 1>ab |"),
        ("the end lost", &[write(0, 0, "ab"), totals(1, [5, 0])], "1>open 1>ab | 1>-3"),
        ("in time", &[write(0, 0, "ab"), totals(1, [5, 0]), clock(2)], "1>open 1>ab 1>-3 |"),
        ("told once", &[totals(0, [5, 0]), clock(2), totals(0, [5, 0]), totals(0, [4, 0])], "1>open 1>-5 |"),
        ("records still to come", &[totals(1, [5, 0]), write(0, 0, "ab")], "1>open 1>ab | 1>-3"),
        (
            "looked at too early",
            &[read(1, 9, "x"), totals(0, [5, 0]).at(SECOND + 1), clock(2)],
            "1>open 1<-9 1<x | 1>-5",
        ),
        ("the next record tells", &[totals(0, [5, 0]), write(0, 4, "ab")], "1>open 1>-4 1>ab |"),
        ("a record was on its way", &[totals(0, [5, 0]), write(0, 0, "abcde")], "1>open 1>abcde |"),
        ("then the close", &[totals(0, [5, 0]), free(0, [6, 1])], "1>open 1>-6 1<-1 1>fin 1<fin |"),
        (
            "more than the close",
            &[totals(0, [6, 0]), free(0, [5, 1])],
            "1>open 1>-5 1<-1 1>fin 1<fin | 2>open 2>-1 2>fin 2<fin",
        ),
        (
            "what waits for addresses is not lost",
            &[
                totals(0, [2, 0]).nowhere(),
                write(0, 0, "ab").nowhere().at(SECOND + 1),
                clock(2),
                write(1, 2, "c"),
            ],
            "1>open 1>ab 1>c |",
        ),
        ("of a forgotten session", &[totals(9, [50, 60])], "|"),
        ("forgotten, goes on", &[totals(9, [50, 60]), clock(9), write(9, 51, "a")], "1>open 1>-1 1>a |"),
        (
            "after the end",
            &[write(0, 0, "ab"), free(1, [2, 0]), totals(2, [2, 0])],
            "1>open 1>ab 1>fin 1<fin |",
        ),
    ]);
}

#[test]
fn addresses() {
    check(&[
        ("known later", &[write(0, 0, "a").nowhere(), read(1, 0, "x").to(2)], "1>open 1>a 1<x |"),
        ("known by totals", &[write(0, 0, "a").nowhere(), totals(1, [1, 0])], "1>open 1>a |"),
        ("never known", &[write(0, 0, "a").nowhere(), write(1, 1, "b").nowhere()], "| 1>open 1>a 1>b"),
        (
            "known too late",
            &[write(0, 0, "a").nowhere(), clock(2), write(1, 2, "b")],
            "1>open 1>a 1>reset 2>open 2>-1 2>b |",
        ),
        (
            "never known, closed",
            &[write(0, 0, "a").nowhere(), free(1, [1, 0]).nowhere()],
            "1>open 1>a 1>fin 1<fin |",
        ),
        ("not known again", &[write(0, 0, "a"), write(1, 1, "b").nowhere()], "1>open 1>a 1>b |"),
        (
            "given up",
            &[write(0, 0, "a"), write(1, 1, "b").nowhere().place(1)],
            "1>open 1>a 1>reset | 2>open 2>b",
        ),
        (
            "given up, known again",
            &[write(0, 0, "a"), write(1, 1, "b").nowhere().place(1), read(2, 0, "x").to(3).place(1)],
            "1>open 1>a 1>reset 2>open 2>b 2<x |",
        ),
        (
            "given up after both ends, nothing follows",
            &[write(0, 0, "a"), shutdown(1, [1, 0]), free(2, [1, 0]).nowhere().place(1)],
            "1>open 1>a 1>fin 1>reset |",
        ),
        ("the same again", &[write(0, 0, "a"), write(1, 1, "b").place(1)], "1>open 1>a 1>b |"),
        ("replaced", &[write(0, 0, "a"), read(1, 0, "x").to(3)], "1>open 1>a 1>reset 2>open 2<x |"),
        ("replaced, nothing follows", &[write(0, 0, "a"), free(1, [1, 0]).to(3)], "1>open 1>a 1>fin 1<fin |"),
        (
            "a late record does not move the flow",
            &[write(0, 0, "a").to(3), write(1, 1, "b"), write(0, 0, "a").to(3), write(2, 2, "c").nowhere()],
            "1>open 1>a 1>reset 2>open 2>b 2>c |",
        ),
        (
            "moved by one of two with one number",
            &[write(0, 0, "a"), write(0, 1, "b").to(3), write(1, 2, "c").nowhere()],
            "1>open 1>a 1>reset 2>open 2>b 2>c |",
        ),
        (
            "known by one that waits when the stream ends",
            &[write(0, 0, "a").nowhere(), write(2, 2, "c").to(2)],
            "| 1>open 1>a 1>-1 1>c",
        ),
        (
            "known by one that waits",
            &[write(0, 0, "a").nowhere(), write(2, 2, "c").to(2), clock(2), write(3, 3, "d").to(2)],
            "1>open 1>a 1>-1 1>c 1>d |",
        ),
    ]);
}

#[test]
fn who_and_where() {
    let server = |c: &mut Context| c.conn = Conn { role: Role::Server, ..Conn::default() };
    for (event, expected) in [
        (write(0, 0, "a"), "10.0.0.1:40000 10.0.0.2:443 true Nested 9"),
        (write(0, 0, "a").with(|c| c.conn.role = Role::Server), "10.0.0.1:40000 10.0.0.2:443 false Nested 9"),
        (write(0, 0, "a").nowhere(), "198.18.0.1:40000 198.19.0.1:443 true Unknown 0"),
        (write(0, 0, "a").with(server), "198.18.0.1:443 198.19.0.1:40000 false Unknown 0"),
    ] {
        let mut table = FlowTable::<u32>::new(Limits::default());
        let mut seen = Vec::new();
        let mut emit = |s: Segment<'_, u32>| {
            let flow = s.flow;
            let client = if flow.local_is_client { Dir::Out } else { Dir::In };
            assert!(s.what != What::Open || s.dir == client);
            assert_eq!((flow.session, flow.library, flow.task), (7, 3, process(100, 5)));
            seen.push(format!(
                "{} {} {} {:?} {}",
                flow.local, flow.remote, flow.local_is_client, flow.how, flow.netns
            ));
        };
        table.push(&event, &mut emit);
        table.finish(&mut emit);
        assert_eq!(seen, [expected, expected]);
    }
}

#[test]
fn the_end_of_a_process() {
    let other = |event: Event<'static>, session: u64, start: u64| {
        event.of(session).with(|c| c.task = process(100, start))
    };
    let mut bench = Bench::new(Limits::default());
    for event in [
        write(0, 0, "a"),
        shutdown(1, [1, 0]),
        other(write(0, 0, "b"), 8, 6),
        other(write(0, 0, "c"), 9, 5).nowhere(),
        exit(100, 5),
        exit(200, 5),
        write(2, 1, "late").of(10),
    ] {
        bench.push(&event);
    }
    assert_eq!(bench.look(), "1>open 1>a 1>fin 2>open 2>b", "the end waits for what is on its way");
    bench.push(&read(2, 0, "x"));
    bench.push(&clock(3));
    assert_eq!(bench.look(), "1<x 3>open 3>c 4>open 4>late 1<fin 3>fin 3<fin 4>fin 4<fin");
    bench.push(&exit(100, 5));
    bench.push(&exit(100, 6));
    bench.finish();
    assert_eq!(bench.look(), "2>fin 2<fin", "at the end of the stream it waits no longer");
}

#[test]
fn the_end_of_a_process_tells_its_losses() {
    let events = [write(0, 0, "a"), write(2, 2, "c"), totals(3, [9, 4]), exit(100, 5)];
    assert_eq!(told(&events), "1>open 1>a | 1>-1 1>c 1>-6 1<-4 1>fin 1<fin");
    assert_eq!(told(&[totals(0, [0, 4]), exit(100, 5), clock(9)]), "1>open 1<-4 1>fin 1<fin |");
}

#[test]
fn times_follow_the_latest_clock() {
    let mut table = FlowTable::<u32>::new(Limits::default());
    let mut seen = Vec::new();
    for event in [
        write(0, 0, "a").at(5),
        Event::Clock(Clock { mono: 10, wall: 1000 }),
        write(1, 1, "b").at(12),
        write(2, 2, "c").at(7),
        Event::Clock(Clock { mono: 20, wall: 3 }),
        write(3, 3, "d").at(1),
        write(4, 4, "e").at(u64::MAX),
    ] {
        table.push(&event, &mut |s| {
            if let What::Data(_) = s.what {
                seen.push(s.at);
            }
        });
    }
    assert_eq!(seen, [5, 1002, 997, 0, u64::MAX - 17]);
}

#[test]
fn state_lives_as_long_as_the_flow() {
    let mut table = FlowTable::<u32>::new(Limits::default());
    let mut seen = Vec::new();
    for event in [write(0, 0, "a"), read(1, 0, "x"), write(2, 1, "b").to(3), write(3, 2, "c").to(3)] {
        table.push(&event, &mut |s| {
            seen.push((s.flow.id, *s.state));
            *s.state += 1;
        });
    }
    assert_eq!(seen, [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2)]);
}

#[test]
fn everything_is_counted() {
    let mut bench = Bench::new(Limits::default());
    for event in [
        write(0, 0, "ab"),
        write(1, 5, "cd"),
        write(1, 5, "cd"),
        write(3, 7, "e").to(3),
        write(2, u64::MAX, "zz"),
        free(4, [10, 3]).to(3),
    ] {
        bench.push(&event);
    }
    assert_eq!(bench.look(), "1>open 1>ab 1>-3 1>cd 1>reset 2>open 2>e 2>-2 2<-3 2>fin 2<fin");
    let stats = bench.table.stats();
    assert_eq!((stats.flows, stats.resets, stats.segments, stats.data_bytes), (2, 1, 11, 5));
    assert_eq!((stats.gaps, stats.lost_bytes, stats.duplicate_bytes), (3, 8, 2));
    assert_eq!((stats.reordered, stats.invalid, stats.evicted, stats.unaddressed), (1, 1, 0, 0));
}
