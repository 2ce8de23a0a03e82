//! `kill -9` at any moment.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::fed::{Fed, replay};
use crate::support::made_stream::{MILLI, SESSIONS};
use crate::support::parts::{Part, capinfos, drafts, files, finished, in_order, tshark_opens};
use crate::times;

/// What was fed so long before the kill must be in the files.
const SAFE_AFTER: Duration = Duration::from_millis(400);

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    kills: u64,
    finished: usize,
    drafts: usize,
    /// Parts that were killed before anything was in them.
    empty: usize,
    packets: usize,
    bytes: u64,
    /// Of the oldest bytes that were fed and are not there.
    lag_max: Duration,
}

/// A number that looks random, of a seed.
fn random(seed: u64) -> u64 {
    u64::from_be_bytes(crate::support::made_stream::pattern(seed, 0, 8).try_into().unwrap())
}

/// Feeds slowly or as fast as it is taken, kills after `life`, and looks at what is left.
fn kill_once(seed: u64, name: &str, pause: Option<Duration>, life: Duration, seen: &mut Seen) {
    let dir = TempDir::new().unwrap();
    let size = if pause.is_some() { "100k" } else { "1M" };
    let mut fed = Fed::start(replay(dir.path(), ["-w", name, "-C", size]));
    let begun = Instant::now();
    // What was moved in all when.
    let mut log = Vec::new();
    while begun.elapsed() < life {
        for _ in 0..4 {
            fed.made.call(1 + random(seed + fed.made.calls) as usize % 4000);
            fed.made.wait(10 * MILLI);
        }
        if fed.made.calls.is_multiple_of(100) {
            fed.made.clock();
        }
        let given = fed.give();
        assert!(given, "{}", fed.stderr());
        log.push((Instant::now(), fed.made.moved));
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    }
    let killed = Instant::now();
    fed.kill();
    fed.end();
    let there = look(dir.path(), seen);

    let missing = |moved: &[[u64; 2]; SESSIONS as usize]| {
        moved.iter().flatten().zip(there.iter().flatten()).any(|(moved, there)| there < moved)
    };
    seen.kills += 1;
    if pause.is_some() {
        let oldest = log.iter().find(|(_, moved)| missing(moved));
        let lag = oldest.map_or(Duration::ZERO, |(at, _)| killed.duration_since(*at));
        assert!(lag < SAFE_AFTER, "seed {seed}: bytes fed {lag:?} before the kill are missing");
        seen.lag_max = seen.lag_max.max(lag);
    }
}

/// All that is left opens, and is what was fed.
fn look(directory: &Path, seen: &mut Seen) -> [[u64; 2]; SESSIONS as usize] {
    let (whole, begun) = (finished(directory), drafts(directory));
    assert_eq!(files(directory, |_| true).len(), whole.len() + begun.len());
    assert!(begun.len() <= 1, "{begun:?}");
    capinfos(&whole);
    let mut parts: Vec<_> = whole.iter().map(|path| Part::whole(path)).collect();
    match begun.first().map(|path| Part::begun(path)) {
        None => {}
        Some(None) => seen.empty += 1,
        Some(Some(part)) => {
            // Wireshark reads the first blocks of it too.
            tshark_opens(&part);
            seen.drafts += 1;
            parts.push(part);
        }
    }
    let moved = in_order(&parts);
    seen.finished += whole.len();
    seen.packets += parts.iter().map(|part| part.capture.packets.len()).sum::<usize>();
    seen.bytes += moved.iter().flatten().sum::<u64>();
    moved
}

fn kill(what: &str, name: &str, pause: Option<Duration>, regular: u64) {
    let mut seen = Seen::default();
    let most = if pause.is_some() { 600 } else { 200 };
    for seed in 0..times(regular) {
        let life = Duration::from_millis(20 + random(seed << 20 | u64::from(pause.is_some())) % most);
        kill_once(seed << 32, name, pause, life, &mut seen);
    }
    println!("kill -9, {what}: {seen:?}");
    assert!(seen.finished > 0 && seen.packets > 0, "{seen:?}");
}

const SLOWLY: Option<Duration> = Some(Duration::from_millis(2));

#[test]
fn what_was_fed_slowly_is_there() {
    kill("fed slowly", "out.pcapng", SLOWLY, 13);
}

#[test]
fn what_was_fed_slowly_is_there_compressed() {
    kill("fed slowly, zstd", "out.pcapng.zst", SLOWLY, 13);
}

#[test]
fn parts_written_at_full_speed_are_whole() {
    kill("full speed", "out.pcapng", None, 12);
}

#[test]
fn parts_written_at_full_speed_are_whole_compressed() {
    kill("full speed, zstd", "out.pcapng.zst", None, 12);
}
