//! The wall clock jumps while parts are cut by it.

use tempfile::TempDir;

use crate::support::fed::{Fed, Over, replay};
use crate::support::made_stream::{MILLI, Made, SECOND, SESSIONS, WALL};
use crate::support::parts::{Part, finished, in_order};

const HOUR: u64 = 3600 * SECOND;

/// A replay of what `feed` makes, in parts, and these parts in the order in which they were written.
fn parts(cut: &[&str], feed: impl FnOnce(&mut Made)) -> (Vec<Part>, Over, [[u64; 2]; SESSIONS as usize]) {
    let dir = TempDir::new().unwrap();
    // Each part has its number in its name.
    let arguments = [&["-w", "out.pcapng"], cut].concat();
    let mut fed = Fed::start(replay(dir.path(), arguments));
    feed(&mut fed.made);
    fed.give();
    let moved = fed.made.moved;
    let over = fed.end().succeeds();
    let parts: Vec<_> = finished(dir.path()).iter().map(|path| Part::whole(path)).collect();
    assert_eq!(in_order(&parts), moved, "nothing is lost");
    (parts, over, moved)
}

/// A minute of calls, ten a second, with the clock told each second.
fn a_minute(made: &mut Made) {
    for _ in 0..60 {
        made.clock();
        for _ in 0..10 {
            made.call(100);
            made.wait(100 * MILLI);
        }
    }
}

/// Jumps by `jump` after a minute, and back after another.
fn jumping(jump: i64) -> impl FnOnce(&mut Made) {
    move |made| {
        a_minute(made);
        made.wall = made.wall.wrapping_add_signed(jump);
        a_minute(made);
        made.wall = made.wall.wrapping_sub(jump as u64);
        a_minute(made);
    }
}

#[test]
fn jumps_cost_a_part_each_and_none_spans_one() {
    // The stream begins a second after a multiple of all these.
    for jump in [HOUR as i64, -(HOUR as i64), 20 * HOUR as i64, -(7 * SECOND as i64)] {
        for (cut, seconds) in [("-G", 5), ("-G", 10), ("-bduration:10", 10)] {
            let value = seconds.to_string();
            let cut = if cut == "-G" { vec!["-G", &value] } else { vec![cut] };
            let (parts, ..) = parts(&cut, jumping(jump));
            let usual = 3 * 60 / seconds + 1;
            let count = parts.len() as u64;
            println!("jump of {} s and back, {cut:?}: {count} parts, usually {usual}", jump / SECOND as i64);
            assert!((usual - 1..=usual + 5).contains(&count), "{jump} {cut:?}: {count} parts");
            for part in &parts {
                let (first, last) = part.span();
                // Records of before a small step back stay in their part.
                assert!(last - first < (seconds + 5) * SECOND, "{jump} {cut:?}: {:?}", part.path);
            }
        }
    }
}

/// A step back that is not larger than what records are late by begins nothing.
#[test]
fn small_steps_back_and_forth_are_no_flood() {
    let (parts, ..) = parts(&["-G", "10"], |made| {
        for turn in 0..60 {
            made.wall = if turn % 2 == 0 { WALL } else { WALL - 3 * SECOND };
            made.clock();
            for _ in 0..10 {
                made.call(100);
                made.wait(100 * MILLI);
            }
        }
    });
    println!("60 steps of 3 s back and forth in a minute, -G 10: {} parts", parts.len());
    assert!(parts.len() <= 14, "{} parts", parts.len());
}

/// After a step back of an hour a quiet part has its name at once, not an hour later.
#[test]
fn a_part_is_not_kept_open_by_a_clock_that_was_set_back() {
    let dir = TempDir::new().unwrap();
    let mut fed = Fed::start(replay(dir.path(), ["-w", "out.pcapng", "-G", "10"]));
    fed.made.call(100);
    fed.made.wait(SECOND);
    fed.made.wall -= HOUR;
    fed.made.clock();
    fed.give();
    crate::support::fed::eventually(|| finished(dir.path()).len() == 1);
    fed.end().succeeds();
}

#[test]
fn clocks_at_the_ends_of_64_bits() {
    let edges = [0, 1, SECOND, u64::MAX / 2, u64::MAX - 30 * SECOND, u64::MAX - 1, u64::MAX, WALL];
    for (cut, seconds) in [("-G1", 1), ("-G10", 10), ("-G86400", 86400), ("-G4294967295", 4_294_967_295u64)] {
        for from in edges {
            for to in edges {
                let (parts, ..) = parts(&[cut], |made| {
                    // Told as it is, whatever the monotonic clock says.
                    made.wall = from.wrapping_sub(made.mono);
                    a_minute(made);
                    made.wall = to.wrapping_sub(made.mono);
                    a_minute(made);
                });
                // Where the clock goes round, time begins anew: one part more, and one at the end of time.
                let most = 2 * (60 / seconds + 2) + 4;
                let count = parts.len() as u64;
                assert!(count <= most, "{cut} from {from} to {to}: {count} parts, at most {most}");
            }
        }
    }
}

/// A clock record that is nonsense: monotonic time at the ends too.
#[test]
fn monotonic_time_at_the_ends_of_64_bits() {
    for mono in [0, 1, u64::MAX / 2, u64::MAX - 10 * SECOND, u64::MAX - 61 * SECOND] {
        for wall in [0, WALL, u64::MAX] {
            let (parts, ..) = parts(&["-G5"], |made| {
                made.mono = mono;
                made.wall = wall.wrapping_sub(mono);
                for _ in 0..100 {
                    made.call(100);
                    made.mono = made.mono.saturating_add(100 * MILLI);
                }
                made.clock();
                made.call(100);
            });
            assert!(parts.len() <= 7, "{mono} {wall}: {} parts", parts.len());
        }
    }
}
