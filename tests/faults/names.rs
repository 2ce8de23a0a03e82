//! Many parts, names with `%`, and two captures of one name.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::fed::{Fed, eventually, replay};
use crate::support::made_stream::{MILLI, SESSIONS};
use crate::support::parts::{Part, capinfos, files, finished, in_order};
use crate::times;

/// Replays so many calls, each of them a part, as is the beginning of each session.
fn a_part_for_each_of(directory: &Path, calls: u64, arguments: &[&str], mut look: impl FnMut()) -> Fed {
    let mut fed = Fed::start(replay(directory, [&["-b", "packets:1"], arguments].concat()));
    for call in 0..calls {
        fed.made.call(40);
        fed.made.wait(10 * MILLI);
        if call % 100 == 0 {
            fed.made.clock();
            fed.give();
            look();
        }
    }
    fed.give();
    fed
}

#[test]
fn ten_thousand_parts_are_all_there() {
    let dir = TempDir::new().unwrap();
    let calls = times(10_000);
    let count = calls + SESSIONS;
    for name in ["out.pcapng", "%H.pcapng"] {
        let fed = a_part_for_each_of(dir.path(), calls, &["-w", name], || {});
        let moved = fed.made.moved;
        fed.end().succeeds();
        let found = finished(dir.path());
        assert_eq!(found.len() as u64, count);
        assert_eq!(files(dir.path(), |_| true).len() as u64, count);
        capinfos(&found);
        let parts: Vec<_> = found.iter().map(|path| Part::whole(path)).collect();
        assert_eq!(in_order(&parts), moved);
        let packets: usize = parts.iter().map(|part| part.capture.packets.len()).sum();
        println!("-b packets:1 -w {name}: {count} parts, {packets} packets");
        found.iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}

#[test]
fn ten_thousand_parts_of_which_some_are_kept() {
    let dir = TempDir::new().unwrap();
    let calls = times(10_000);
    let count = calls + SESSIONS;
    fs::write(dir.path().join("out_00000_20260101000000.pcapng"), "precious").unwrap();
    let mut most = 0;
    let ours = |name: &str| name.starts_with("out_") && !name.starts_with("out_00000");
    let look = || most = most.max(files(dir.path(), ours).len());
    let fed = a_part_for_each_of(dir.path(), calls, &["-w", "out.pcapng", "-W", "7"], look);
    fed.end().succeeds();
    assert!((1..=7).contains(&most), "{most} parts at one time");
    let found = finished(dir.path());
    assert_eq!(found.len(), 8);
    assert_eq!(fs::read_to_string(&found[0]).unwrap(), "precious");
    for (path, number) in found[1..].iter().zip(count - 6..) {
        assert!(path.to_str().unwrap().contains(&format!("/out_{number:05}_")), "{}", path.display());
        Part::whole(path);
    }
    println!(
        "-b packets:1 -W 7: {count} parts were made, at most {most} seen at one time, the last 7 are there"
    );
}

#[test]
fn percent_signs() {
    for (name, cut, expected) in [
        ("50%.pcapng", &[][..], "50%.pcapng"),
        ("50%%.pcapng", &[], "50%%.pcapng"),
        ("c-%H%M.pcapng", &[], "c-%H%M.pcapng"),
        ("50%%.pcapng", &["-G", "3600"], "50%.pcapng"),
        ("%%H.pcapng.zst", &["-G", "3600"], "%H.pcapng.zst"),
        ("c-%H%M%S.pcapng", &["-G", "3600"], "c-000001.pcapng"),
        ("%F %T.pcapng", &["-C", "1G"], "2026-01-01 00:00:01.pcapng"),
        ("%s.pcapng", &["-b", "packets:100000"], "1767225601.pcapng"),
    ] {
        let dir = TempDir::new().unwrap();
        let mut fed = Fed::start(replay(dir.path(), [&["-w", name], cut].concat()));
        fed.give_calls(5, 100);
        fed.end().succeeds();
        assert_eq!(files(dir.path(), |_| true), [dir.path().join(expected)], "{name} {cut:?}");
    }
    for name in ["50%", "%Q.pcapng", "%D.pcapng"] {
        let dir = TempDir::new().unwrap();
        let mut fed = Fed::start(replay(dir.path(), ["-w", name, "-G", "5"]));
        fed.give();
        let over = fed.end();
        assert_eq!(over.status.code(), Some(2), "{over:?}");
        assert!(over.stderr.contains(name), "{over:?}");
        assert_eq!(files(dir.path(), |_| true).len(), 0);
    }
}

#[test]
fn two_captures_of_one_name() {
    let dir = TempDir::new().unwrap();
    let mut first = Fed::start(replay(dir.path(), ["-w", "out.pcapng"]));
    first.give_calls(20, 1000);
    eventually(|| dir.path().join("out.pcapng.part").exists());
    let mut second = Fed::start(replay(dir.path(), ["-w", "out.pcapng"]));
    second.give();
    second.end().fails(&["cannot write to out.pcapng: another capture is writing it"]);
    first.give_calls(20, 1000);
    let moved = first.made.moved;
    first.end().succeeds();
    assert_eq!(in_order(&[Part::whole(&dir.path().join("out.pcapng"))]), moved);
    assert_eq!(files(dir.path(), |_| true).len(), 1);
}

/// Both have all their parts, whichever was first.
#[test]
fn two_captures_that_cut_parts_of_one_name() {
    for (name, keep) in [("out.pcapng", None), ("%H%M%S.pcapng.zst", None), ("%H.pcapng", Some(5))] {
        let dir = TempDir::new().unwrap();
        let kept = keep.map_or(String::new(), |keep: usize| keep.to_string());
        let mut arguments = vec!["-w", name, "-G", "2"];
        if keep.is_some() {
            arguments.extend(["-W", &kept]);
        }
        let mut both = [0, 1].map(|_| Fed::start(replay(dir.path(), &arguments)));
        for _ in 0..50 {
            both.iter_mut().for_each(|fed| fed.give_calls(2, 300));
        }
        let calls = both[0].made.calls as usize;
        both.into_iter().for_each(|fed| drop(fed.end().succeeds()));
        let found = finished(dir.path());
        assert_eq!(files(dir.path(), |_| true).len(), found.len());
        capinfos(&found);
        let parts: Vec<_> = found.iter().map(|path| Part::whole(path)).collect();
        match keep {
            Some(keep) => assert_eq!(parts.len(), 2 * keep, "{name}"),
            None => {
                // Each byte is there twice.
                let bytes: usize =
                    parts.iter().flat_map(|part| part.moved.iter().flatten()).map(Vec::len).sum();
                assert_eq!(bytes, 2 * calls * 300, "{name}");
                let begin = parts.iter().map(|part| part.span().0).collect::<HashSet<_>>();
                assert_eq!(begin.len() * 2, parts.len(), "{name}: each part has one like it");
            }
        }
        println!("two captures to {name}, keeping {keep:?}: {} parts", parts.len());
    }
}

/// What an earlier capture has left is passed over, however much it is.
#[test]
fn a_capture_begins_among_thousands_of_parts_of_one_name() {
    let dir = TempDir::new().unwrap();
    for number in 1..=3000 {
        let name = if number == 1 { "00.pcapng".to_owned() } else { format!("00_{number:05}.pcapng") };
        fs::write(dir.path().join(name), "precious").unwrap();
    }
    let mut fed = Fed::start(replay(dir.path(), ["-w", "%H.pcapng", "-G", "2"]));
    fed.give_calls(10, 100);
    let moved = fed.made.moved;
    fed.end().succeeds();
    let new = files(dir.path(), |name| fs::metadata(dir.path().join(name)).unwrap().len() > 8);
    assert_eq!(in_order(&new.iter().map(|path| Part::whole(path)).collect::<Vec<_>>()), moved);
    assert_eq!(finished(dir.path()).len(), 3000 + new.len());
}
