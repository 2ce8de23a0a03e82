//! What the table keeps when there is too much of it.

use super::{Bench, SECOND, With, clock, exit, free, write};
use crate::flow::Limits;

#[test]
fn a_full_table_forgets_closed_sessions_then_the_longest_idle() {
    let mut bench = Bench::new(Limits { flows: 3, ..Limits::default() });
    for session in 1..=3 {
        bench.push(&write(0, 0, "a").of(session));
    }
    bench.push(&free(1, [1, 0]).of(2));
    bench.push(&write(1, 1, "b").of(1));
    bench.look();
    bench.push(&write(0, 0, "a").of(4));
    assert_eq!(bench.look(), "4>open 4>a", "session 2 was closed");
    bench.push(&write(2, 9, "c").of(3));
    bench.push(&write(0, 0, "a").of(5));
    assert_eq!(bench.look(), "1>reset 5>open 5>a", "session 1 was idle longest");
    bench.push(&write(0, 0, "a").of(6));
    bench.push(&write(0, 0, "a").of(7));
    assert_eq!(bench.look(), "4>reset 6>open 6>a 3>-8 3>c 3>reset 7>open 7>a", "what it held is not dropped");
    assert_eq!((bench.table.sessions(), bench.table.stats().evicted), (3, 3));
    bench.push(&write(1, 1, "b").of(1));
    bench.finish();
    assert_eq!(bench.look(), "5>reset 8>open 8>b", "the rest of a forgotten session is not a loss");
    assert_eq!(bench.table.stats().joined, 1);
}

#[test]
fn silent_sessions_are_forgotten() {
    let mut bench = Bench::new(Limits { idle_ns: 10 * SECOND, ..Limits::default() });
    bench.push(&write(0, 0, "a").of(1));
    bench.push(&write(0, 0, "a").of(2));
    bench.push(&clock(9));
    bench.push(&write(1, 1, "b").of(1).at(9 * SECOND));
    bench.look();
    bench.push(&clock(12));
    assert_eq!(bench.look(), "2>reset");
    bench.push(&clock(19));
    assert_eq!(bench.look(), "1>reset");
    assert_eq!((bench.table.sessions(), bench.table.stats().idle, bench.table.stats().evicted), (0, 2, 0));
    bench.push(&write(1, 1, "b").of(2));
    bench.finish();
    assert_eq!(bench.look(), "3>open 3>b", "what goes on is no loss");
}

#[test]
fn closed_sessions_have_a_bound_of_their_own() {
    let mut bench = Bench::new(Limits { closed: 2, ..Limits::default() });
    for session in 1..100 {
        bench.push(&write(0, 0, "a").of(session));
        bench.push(&free(1, [1, 0]).of(session));
    }
    assert_eq!((bench.table.sessions(), bench.table.stats().evicted), (3, 0));
    assert_eq!(bench.table.processes.len(), 3, "the index forgets with the table");
}

#[test]
fn what_is_held_has_bounds() {
    let few = Limits { flow_records: 2, ..Limits::default() };
    let small = Limits { flow_bytes: 1500, ..Limits::default() };
    let tight = Limits { held_bytes: 1500, ..Limits::default() };
    let none = Limits { flow_records: 0, ..Limits::default() };
    let text = "x".repeat(700);
    for (limits, text, expected) in [
        (few, "b", "1>open 1>a 1>-2 1>b 1>b"),
        (small, &text, "1>open 1>a 1>-2 1>x"),
        (tight, &text, "1>open 1>a 1>-2 1>x"),
        (none, "b", "1>open 1>a 1>-2 1>b"),
    ] {
        let mut bench = Bench::new(limits);
        let events = [write(0, 0, "a"), write(2, 3, text), write(3, 3 + text.len() as u64, text)];
        let last = write(5, 9 + 2 * text.len() as u64, text);
        events.iter().chain([&last]).for_each(|event| bench.push(event));
        assert!(bench.look().starts_with(expected), "{limits:?}");
        assert!(bench.table.held_bytes() <= limits.held_bytes);
        assert!(bench.table.stats().given_up >= 1);
    }
}

#[test]
fn records_without_addresses_have_the_same_bounds() {
    let mut bench = Bench::new(Limits { flow_records: 2, ..Limits::default() });
    bench.push(&write(0, 0, "a").nowhere());
    bench.push(&write(1, 1, "b").nowhere());
    assert_eq!(bench.look(), "");
    bench.push(&write(2, 2, "c").nowhere());
    assert_eq!(bench.look(), "1>open 1>a 1>b 1>c");
    assert_eq!((bench.table.stats().unaddressed, bench.table.held_bytes()), (1, 0));
}

#[test]
fn many_ends_of_processes_wait_in_a_bounded_queue() {
    let mut bench = Bench::new(Limits { exits: 1, ..Limits::default() });
    bench.push(&write(0, 0, "a"));
    bench.push(&exit(100, 5));
    assert_eq!(bench.look(), "1>open 1>a");
    bench.push(&exit(300, 5));
    assert_eq!(bench.look(), "1>fin 1<fin");
}
