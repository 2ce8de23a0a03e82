//! Connections of which both ends are captured.

use super::{Bench, SECOND, With, clock, exit, free, process, read, shutdown, tuple, write};
use crate::event::{Conn, Event, How, Role, Tuple};
use crate::flow::{FlowTable, Limits};

/// The addresses as the peer sees them.
fn swapped() -> Tuple {
    let Some(Tuple { local, local_port, remote, remote_port, netns }) = tuple(2) else { panic!("no tuple") };
    Tuple { local: remote, local_port: remote_port, remote: local, remote_port: local_port, netns }
}

/// The same of session 8, which is at the other end of the connection, in process 200.
fn server(event: Event<'_>) -> Event<'_> {
    event.with(|c| {
        c.session.id = 8;
        c.task = process(200, 5);
        c.conn = Conn { tuple: Some(swapped()), how: How::Nested, role: Role::Server, place: 0 };
    })
}

/// The server's answers `at` a second.
fn answer(number: u32, offset: u64, at: u64) -> Event<'static> {
    server(write(number, offset, "S")).at(at * SECOND)
}

#[track_caller]
fn check(cases: &[(&str, &[Event<'_>], &str, u64)]) {
    for (name, events, expected, both_ends) in cases {
        let mut bench = Bench::new(Limits::default());
        events.iter().for_each(|event| bench.push(event));
        bench.finish();
        assert_eq!(bench.look(), *expected, "{name}");
        assert_eq!(bench.table.stats().both_ends, *both_ends, "{name}");
        assert_eq!(bench.table.stats().segments as usize, expected.split(' ').count(), "{name}");
    }
}

#[test]
fn a_connection_is_drawn_from_the_end_that_is_seen_first() {
    let other = |change: fn(&mut Conn)| server(read(0, 0, "a")).with(|c| change(&mut c.conn));
    let twice = "1>open 1>a 2>open 2<a";
    check(&[
        ("the client", &[write(0, 0, "a"), server(read(0, 0, "a")), read(1, 0, "S")], "1>open 1>a 1<S", 1),
        ("the server", &[answer(0, 0, 1), write(0, 0, "a"), answer(1, 1, 1)], "1<open 1>S 1>S", 1),
        ("losses of the other", &[write(0, 0, "a"), server(read(0, 9, "a"))], "1>open 1>a", 1),
        ("closed by the other", &[write(0, 0, "a"), server(free(0, [0, 1]))], "1>open 1>a", 1),
        (
            "another network",
            &[write(0, 0, "a"), other(|c| c.tuple = c.tuple.map(|t| Tuple { netns: 4, ..t }))],
            "1>open 1>a",
            1,
        ),
        (
            "another port",
            &[write(0, 0, "a"), other(|c| c.tuple = c.tuple.map(|t| Tuple { remote_port: 4, ..t }))],
            "1>open 1>a 2<open 2<a",
            0,
        ),
        ("the same side", &[write(0, 0, "a"), other(|c| c.role = Role::Client)], twice, 0),
        ("sides unknown", &[write(0, 0, "a"), other(|c| c.role = Role::Unknown)], "1>open 1>a", 1),
        ("made-up addresses", &[write(0, 0, "a"), server(read(0, 0, "a")).nowhere(), clock(3)], twice, 0),
    ]);
}

#[test]
fn loopbacks_of_two_networks_are_two() {
    let here = |event: Event<'static>, netns: u32| {
        event.with(|c| {
            let tuple = c.conn.tuple.map(|t| Tuple {
                local: [127, 0, 0, 1].into(),
                remote: [127, 0, 0, 1].into(),
                netns,
                ..t
            });
            c.conn.tuple = tuple;
        })
    };
    let client = || here(write(0, 0, "a"), 1);
    check(&[
        ("of one", &[client(), here(server(read(0, 0, "a")), 1)], "1>open 1>a", 1),
        ("of two", &[client(), here(server(read(0, 0, "a")), 2)], "1>open 1>a 2<open 2<a", 0),
    ]);
}

#[test]
fn the_other_end_is_that_to_its_end() {
    let all = [
        write(0, 0, "a"),
        server(read(0, 0, "a")),
        free(1, [1, 0]),
        answer(1, 0, 9),
        server(free(2, [1, 1])),
        answer(3, 1, 9),
    ];
    check(&[("outlives it", &all, "1>open 1>a 1>fin 1<fin", 1)]);
}

#[test]
fn one_that_comes_late_is_known_for_a_while() {
    let soon = [write(0, 0, "a"), free(1, [1, 0]), answer(0, 0, 2)];
    let late = [write(0, 0, "a"), free(1, [1, 0]), answer(0, 0, 3)];
    let gone = [write(0, 0, "a"), exit(100, 5), clock(4), answer(0, 0, 3)];
    check(&[
        ("soon", &soon, "1>open 1>a 1>fin 1<fin", 1),
        ("late", &late, "1>open 1>a 1>fin 1<fin 2<open 2>S", 0),
        ("after the process", &gone, "1>open 1>a 1>fin 1<fin", 1),
    ]);
}

#[test]
fn ports_that_are_used_again_are_a_new_connection() {
    let again = |event: Event<'static>| event.of(17).at(2 * SECOND);
    let all = [
        write(0, 0, "a"),
        server(read(0, 0, "a")),
        free(1, [1, 0]),
        server(free(1, [0, 1])),
        again(write(0, 0, "b")),
        server(read(0, 0, "b")).of(18),
    ];
    check(&[
        ("by the client", &all, "1>open 1>a 1>fin 1<fin 2>open 2>b", 2),
        (
            "by a peer elsewhere",
            &[&all[..4], &[all[5].clone()]].concat(),
            "1>open 1>a 1>fin 1<fin 2<open 2<b",
            1,
        ),
        (
            "by a client elsewhere",
            &[&all[..4], &[all[4].clone()]].concat(),
            "1>open 1>a 1>fin 1<fin 2>open 2>b",
            1,
        ),
    ]);
}

#[test]
fn one_end_hides_one_other() {
    // TLS inside TLS: two sessions over one connection.
    let all = [
        write(0, 0, "outer"),
        server(read(0, 0, "outer")),
        write(0, 0, "inner").of(17),
        server(read(0, 0, "inner")).of(18),
        server(read(0, 0, "third")).of(19),
    ];
    check(&[("pairs", &all, "1>open 1>outer 2>open 2>inner 3<open 3<third", 2)]);
}

#[test]
fn a_connection_that_replaces_another_is_looked_at_anew() {
    let all = [
        write(0, 0, "a"),
        server(read(0, 0, "a")),
        write(1, 1, "b").to(3),
        server(read(1, 1, "b")),
        server(read(2, 2, "c")).to(4),
    ];
    check(&[("each", &all, "1>open 1>a 1>reset 2>open 2>b 3<open 3<c", 1)]);
}

#[test]
fn the_other_end_is_told_once() {
    let all = [
        write(0, 0, "a"),
        server(read(0, 0, "a")),
        write(1, 1, "b"),
        server(read(1, 1, "b")),
        shutdown(2, [2, 0]),
    ];
    for (both, expected) in [
        (false, "1 None, 1 None, 1 Some(200), 1 None"),
        (true, "1 None, 1 None, 2 Some(100), 2 None, 1 Some(200), 2 None, 1 None"),
    ] {
        let mut table = FlowTable::<u32>::new(Limits::default()).both_ends(both);
        let mut seen = Vec::new();
        for event in &all {
            table.push(event, &mut |s| {
                seen.push(format!("{} {:?}", s.flow.id, s.flow.other_end.map(|t| t.pid)))
            });
        }
        assert_eq!(seen.join(", "), expected);
    }
}

#[test]
fn the_index_forgets_with_the_table() {
    let mut bench = Bench::new(Limits { flows: 2, ..Limits::default() });
    for session in 1..50 {
        bench.push(&write(0, 0, "a").of(10 * session));
        bench.push(&server(read(0, 0, "a")).of(10 * session + 1));
        assert!(bench.table.shared.pairs.len() <= 2);
    }
}
