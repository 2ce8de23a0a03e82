//! The disk is full or fails: each system call on a part's file fails once, wherever in a capture it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::fed::{Fed, Over, replay};
use crate::support::made_stream::{SECOND, SESSIONS};
use crate::support::parts::{Part, capinfos, drafts, files, finished, in_order, tshark_opens};

/// What a stranger has in the directory, by a name that might be a part's.
const PRECIOUS: &str = "out_00009_20260101000000.pcapng";

/// A directory with a capture in parts, and what was fed.
struct Failed {
    dir: TempDir,
    over: Over,
    moved: [[u64; 2]; SESSIONS as usize],
}

/// Captures five parts or so; `before` stands before the program, the directory is the working one.
fn capture(arguments: &[&str], before: impl FnOnce(&Path) -> Vec<String>) -> Failed {
    let dir = TempDir::new().unwrap();
    let captures = dir.path().join("captures");
    fs::create_dir(&captures).unwrap();
    fs::write(captures.join(PRECIOUS), "precious").unwrap();
    let command = replay(&captures, arguments);
    let before = before(&captures);
    let command = match before.split_first() {
        None => command,
        Some((wrapper, options)) => {
            let mut wrapped = Command::new(wrapper);
            wrapped.args(options).arg(command.get_program()).args(command.get_args());
            wrapped.current_dir(&captures).env("TZ", "UTC");
            wrapped
        }
    };
    let mut fed = Fed::start(command);
    for _ in 0..80 {
        fed.made.call(16_000);
        fed.made.wait(SECOND / 10);
    }
    fed.made.clock();
    // It may have ended by now.
    fed.give();
    let moved = fed.made.moved;
    Failed { over: fed.end(), dir, moved }
}

impl Failed {
    fn captures(&self) -> PathBuf {
        self.dir.path().join("captures")
    }

    /// All that is left is whole as far as it goes, one after another; the stranger's file is as it was.
    /// Gives what is there of each session, and how many parts have no name.
    #[track_caller]
    fn look(&self) -> ([[u64; 2]; SESSIONS as usize], usize) {
        let captures = self.captures();
        assert_eq!(fs::read_to_string(captures.join(PRECIOUS)).unwrap(), "precious");
        fs::remove_file(captures.join(PRECIOUS)).unwrap();
        capinfos(&finished(&captures));
        let unnamed = drafts(&captures);
        let all = files(&captures, |_| true).into_iter();
        let parts = all.filter_map(|path| {
            if unnamed.contains(&path) { Part::begun(&path) } else { Some(Part::whole(&path)) }
        });
        (in_order(&parts.collect::<Vec<_>>()), unnamed.len())
    }

    /// One error was told, in words that name a file that is there, or that can't be made, and the reason.
    #[track_caller]
    fn tells(&self, reason: &str) {
        assert_eq!(self.over.status.code(), Some(1), "{:?}", self.over);
        let last = self.over.stderr.lines().last().unwrap();
        assert!(last.contains(reason) && last.contains("out"), "{reason}: {:?}", self.over);
        let words = last.split([' ', ';', ':']);
        for name in words.filter(|word| word.ends_with(".part")) {
            assert!(self.captures().join(name).exists(), "no {name}: {:?}", self.over);
        }
        assert!(!self.over.stderr.contains("panicked"), "{:?}", self.over);
    }
}

/// What a failing system call does to a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It ends there; what was written before is there.
    Ends,
    /// It goes on, and all is there, but one part under its temporary name.
    Unnamed,
    /// Nothing: there is another way, or it does not matter.
    Unharmed,
}

/// Has system call `call` on files of the capture fail with `error`, the first time, the second time, … and
/// gives how often that was.
#[track_caller]
fn fails_each_time(arguments: &[&str], call: &str, error: &str, then: Then) -> usize {
    let usual = capture(arguments, |_| Vec::new());
    assert_eq!(usual.over.status.code(), Some(0), "{:?}", usual.over);
    let names: Vec<String> = finished(&usual.captures())
        .iter()
        .map(|path| format!("{}.part", path.file_name().unwrap().to_str().unwrap()))
        .collect();
    for when in 1.. {
        let log = TempDir::new().unwrap();
        let log = log.path().join("log");
        let failed = capture(arguments, |captures| {
            let mut strace =
                ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e"].map(str::to_owned).to_vec();
            // Not the program's other files.
            let only = ["openat", "write", "close"].contains(&call);
            for name in names.iter().filter(|_| only) {
                // The path as it is given, and as the descriptor has it.
                strace.extend(["-P".to_owned(), name.clone()]);
                strace.extend(["-P".to_owned(), captures.join(name).display().to_string()]);
            }
            let at = strace.iter().position(|word| word == "-e").unwrap() + 1;
            strace.insert(at, format!("trace={call}"));
            strace.extend(["-e".to_owned(), format!("inject={call}:error={error}:when={when}")]);
            strace
        });
        if !fs::read_to_string(&log).unwrap().contains("INJECTED") {
            assert_eq!(failed.over.status.code(), Some(0), "{:?}", failed.over);
            return when - 1;
        }
        let place = format!("{call} {when}: {:?}", failed.over);
        match (error, then) {
            (_, Then::Unharmed) => assert_eq!(failed.over.status.code(), Some(0), "{place}"),
            ("EIO", _) => failed.tells("Input/output error"),
            ("ENOSPC", _) => failed.tells("No space left on device"),
            (_, _) => failed.tells(""),
        }
        let (moved, unnamed) = failed.look();
        if then != Then::Ends {
            assert_eq!(moved, failed.moved, "{place}");
        }
        assert_eq!(
            unnamed,
            usize::from(then == Then::Unnamed || then == Then::Ends && call != "openat"),
            "{place}"
        );
    }
    unreachable!("the numbers end");
}

const PLAIN: &[&str] = &["-w", "out.pcapng", "-C", "300k", "--sync"];
const ZSTD: &[&str] = &["-w", "out.pcapng.zst", "-C", "300k", "--sync"];

#[track_caller]
fn each(call: &str, error: &str, then: Then) {
    for (what, arguments) in [("plain", PLAIN), ("zstd", ZSTD)] {
        let times = fails_each_time(arguments, call, error, then);
        println!("{call} fails with {error}, {what}: {times} places, each: {then:?}");
        assert!(times > 0, "{call} is never called");
    }
}

#[test]
fn no_room_for_a_block() {
    each("write", "ENOSPC", Then::Ends);
    each("write", "EIO", Then::Ends);
}

#[test]
fn the_file_of_a_part_cannot_be_made() {
    each("openat", "ENOSPC", Then::Ends);
}

#[test]
fn a_part_may_not_be_on_the_disk() {
    each("close", "EIO", Then::Unnamed);
}

#[test]
fn a_part_does_not_get_its_name() {
    each("renameat2", "EIO", Then::Unnamed);
}

#[test]
fn what_not_every_file_system_can_is_not_needed() {
    each("renameat2", "EINVAL", Then::Unharmed);
    each("fchmod", "EPERM", Then::Unharmed);
    each("flock", "EOPNOTSUPP", Then::Unharmed);
    // Nor links.
    let failed = capture(PLAIN, |_| {
        let options = "strace -f -qq -o /dev/null -e trace=renameat2,linkat -e inject=renameat2:error=EINVAL \
                       -e inject=linkat:error=EPERM";
        options.split_whitespace().map(str::to_owned).collect()
    });
    assert_eq!(failed.over.status.code(), Some(0), "{:?}", failed.over);
    assert_eq!(failed.look(), (failed.moved, 0));
}

/// With `--sync` the file and then the directory: each has its own consequence.
#[test]
fn a_disk_that_fails_to_keep_what_it_has() {
    for arguments in [PLAIN, ZSTD] {
        let parts = finished(&capture(arguments, |_| Vec::new()).captures()).len() - 1;
        for when in 1..=2 * parts {
            let failed = capture(arguments, |_| {
                let options = "strace -f -qq -o /dev/null -e trace=fsync -e inject=fsync:error=EIO:when=";
                format!("{options}{when}").split(' ').map(str::to_owned).collect()
            });
            failed.tells("Input/output error");
            assert_eq!(failed.look(), (failed.moved, when % 2), "{when}: {:?}", failed.over);
        }
        println!("fsync fails with EIO, {arguments:?}: {} places", 2 * parts);
    }
}

#[test]
fn an_old_part_that_cannot_be_removed_is_told() {
    let failed = capture(&[PLAIN, &["-W", "2"]].concat(), |_| {
        let options = "strace -f -qq -o /dev/null -e trace=unlinkat -e inject=unlinkat:error=EIO:when=1";
        options.split(' ').map(str::to_owned).collect()
    });
    assert_eq!(failed.over.status.code(), Some(0), "{:?}", failed.over);
    let told = "tlsdump: cannot remove out_00001_20260101000001.pcapng: Input/output error";
    assert!(failed.over.stderr.contains(told), "{:?}", failed.over);
    // The one that could not be removed, those that are kept, and the stranger's.
    assert_eq!(files(&failed.captures(), |_| true).len(), 1 + 2 + 1);
}

/// A part that does not fit is cut where its last whole block ends.
#[test]
fn a_disk_that_is_full_in_the_middle_of_a_block() {
    for arguments in [PLAIN, ZSTD] {
        let arguments = [&arguments[..2], &["-C", "600k"]].concat();
        for kilobytes in [3, 11, 100, 417] {
            // Of a file: blocks of 512 bytes, as POSIX has it.
            let failed = capture(&arguments, |_| {
                let limit = format!("ulimit -f {}; exec \"$@\"", kilobytes * 2);
                ["sh", "-c", &limit, "sh"].map(str::to_owned).to_vec()
            });
            full(&failed, "File too large", kilobytes);
        }
        for kilobytes in [8, 100, 417, 1000] {
            let Some(disk) = small_disk(kilobytes) else { continue };
            full(&capture(&arguments, |_| disk), "No space left on device", kilobytes);
        }
    }
}

#[track_caller]
fn full(failed: &Failed, reason: &str, kilobytes: u64) {
    failed.tells(reason);
    let (moved, unnamed) = failed.look();
    let left = drafts(&failed.captures());
    left.iter().filter_map(|path| Part::begun(path)).for_each(|part| tshark_opens(&part));
    let bytes: u64 = moved.iter().flatten().sum();
    println!("{reason} at {kilobytes} KiB: {bytes} bytes of plaintext are there");
    // Not the last call, and of a compressed part not the last block of up to 128 KiB and what is collected
    // for the next.
    let room = kilobytes * 1024;
    assert!(unnamed == 1 && bytes < room && bytes + 300_000 > room, "{:?}", failed.over);
}

/// Runs the program with a file system of that size in its directory, and copies what is left out of it; none
/// where nobody may mount one.
fn small_disk(kilobytes: u64) -> Option<Vec<String>> {
    const SCRIPT: &str = "
        out=$PWD
        mkdir ../disk
        mount -t tmpfs -o size=$0k none ../disk
        cd ../disk
        cp \"$out\"/* .
        \"$@\" && status=0 || status=$?
        cp ./* \"$out\"
        exit $status";
    let unshare = if rustix::process::geteuid().is_root() {
        vec!["unshare", "--mount"]
    } else {
        vec!["unshare", "--user", "--map-root-user", "--mount"]
    };
    let may = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    if !may.is_ok_and(|output| output.status.success()) {
        println!("no small file system can be mounted here");
        return None;
    }
    let script = ["sh", "-ec", SCRIPT, &kilobytes.to_string()].map(str::to_owned);
    Some(unshare.into_iter().map(str::to_owned).chain(script).collect())
}
