//! Somebody removes, renames, takes or forbids what is being written to.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::fed::{Fed, Over, eventually, open_directory, replay, replay_without_rights};
use crate::support::made_stream::{MILLI, SECOND, SESSIONS};
use crate::support::parts::{Part, capinfos, drafts, finished, in_order};

/// Calls of one part, and their size: a part ends by its size.
const CALLS: u64 = 20;
const BYTES: usize = 5_000;

/// A capture that is in the middle of its second part.
struct Midway {
    dir: TempDir,
    fed: Fed,
}

impl Midway {
    fn new(name: &str) -> Self {
        Self::with(name, |captures, arguments| replay(captures, arguments))
    }

    fn with(name: &str, command: impl FnOnce(&Path, [&str; 4]) -> std::process::Command) -> Self {
        let dir = TempDir::new().unwrap();
        let captures = open_directory(dir.path());
        let fed = Fed::start(command(&captures, ["-w", name, "-C", "150k"]));
        let mut this = Self { dir, fed };
        this.feed(CALLS + CALLS / 2 + 10);
        eventually(|| finished(&captures).len() == 1 && drafts(&captures).len() == 1);
        // So that the part that is begun has something in it.
        eventually(|| fs::metadata(&drafts(&captures)[0]).is_ok_and(|found| found.len() > 0));
        this
    }

    fn captures(&self) -> PathBuf {
        self.dir.path().join("captures")
    }

    /// The part that is being written.
    fn draft(&self) -> PathBuf {
        drafts(&self.captures()).remove(0)
    }

    fn feed(&mut self, calls: u64) {
        for _ in 0..calls {
            self.fed.made.call(BYTES);
            self.fed.made.wait(100 * MILLI);
        }
        self.fed.made.clock();
        self.fed.give();
    }

    /// Feeds several parts more, and ends.
    fn go_on(mut self) -> (TempDir, Over, [[u64; 2]; SESSIONS as usize]) {
        self.feed(4 * CALLS);
        let moved = self.fed.made.moved;
        (self.dir, self.fed.end(), moved)
    }
}

/// What the finished parts of a directory hold, one after another; as `in_order` they must have no hole.
#[track_caller]
fn all_of(directory: &Path) -> [[u64; 2]; SESSIONS as usize] {
    let files = finished(directory);
    capinfos(&files);
    in_order(&files.iter().map(|path| Part::whole(path)).collect::<Vec<_>>())
}

/// All but the second part is there.
#[track_caller]
fn all_but_the_second(directory: &Path, calls: u64) {
    let files = finished(directory);
    capinfos(&files);
    assert!(files.len() > 3 && files[0].to_str().unwrap().contains("out_00001"), "{files:?}");
    assert!(files.iter().all(|path| !path.to_str().unwrap().contains("out_00002")), "{files:?}");
    let parts: Vec<_> = files.iter().map(|path| Part::whole(path)).collect();
    in_order(&parts[..1]);
    let there: usize = parts.iter().flat_map(|part| part.moved.iter().flatten()).map(Vec::len).sum();
    let second = calls as usize * BYTES - there;
    assert!((100_000..150_000).contains(&second), "{second} bytes are missing, a part has at most 150k");
}

/// Calls that are fed in all.
const ALL: u64 = CALLS + CALLS / 2 + 10 + 4 * CALLS;

#[test]
fn a_part_is_removed_while_it_is_written() {
    for suffix in [".pcapng", ".pcapng.zst"] {
        let midway = Midway::new(&format!("out{suffix}"));
        let draft = midway.draft();
        fs::remove_file(&draft).unwrap();
        let (dir, over, _) = midway.go_on();
        let lost = draft.file_name().unwrap().to_str().unwrap();
        over.fails(&[lost, "is lost: somebody has removed"]);
        assert!(drafts(&dir.path().join("captures")).is_empty());
        all_but_the_second(&dir.path().join("captures"), ALL);
    }
}

#[test]
fn something_else_is_put_in_the_place_of_a_part() {
    for link in [false, true] {
        let midway = Midway::new("out.pcapng");
        let draft = midway.draft();
        fs::remove_file(&draft).unwrap();
        let stranger = midway.dir.path().join("stranger");
        fs::write(&stranger, "precious").unwrap();
        if link {
            symlink(&stranger, &draft).unwrap()
        } else {
            fs::write(&draft, "precious").unwrap()
        }
        let (dir, over, _) = midway.go_on();
        over.fails(&["is lost: somebody has removed"]);
        assert_eq!(fs::read_to_string(&draft).unwrap(), "precious");
        all_but_the_second(&dir.path().join("captures"), ALL);
    }
}

#[test]
fn the_directory_is_renamed() {
    let midway = Midway::new("out.pcapng");
    let elsewhere = midway.dir.path().join("elsewhere");
    fs::rename(midway.captures(), &elsewhere).unwrap();
    // Another of the old name is not for us.
    fs::create_dir(midway.captures()).unwrap();
    let (dir, over, moved) = midway.go_on();
    over.succeeds();
    assert_eq!(all_of(&elsewhere), moved);
    assert_eq!(drafts(&elsewhere).len(), 0);
    assert_eq!(fs::read_dir(dir.path().join("captures")).unwrap().count(), 0);
}

#[test]
fn the_directory_is_removed() {
    let midway = Midway::new("out.pcapng");
    fs::remove_dir_all(midway.captures()).unwrap();
    let (dir, over, _) = midway.go_on();
    assert!(over.stderr.contains("out_00002") && over.stderr.contains("is lost"), "{over:?}");
    over.fails(&["cannot make the next part: out_00003", "No such file or directory"]);
    assert!(!dir.path().join("captures").exists());
}

#[test]
fn the_name_of_a_part_is_taken_meanwhile() {
    let midway = Midway::new("out.pcapng");
    let draft = midway.draft();
    let name = draft.to_str().unwrap().strip_suffix(".part").unwrap();
    fs::write(name, "precious").unwrap();
    let (dir, over, moved) = midway.go_on();
    over.succeeds();
    assert_eq!(fs::read_to_string(name).unwrap(), "precious");
    fs::remove_file(name).unwrap();
    let files = finished(&dir.path().join("captures"));
    let other = name.replace(".pcapng", "_00002.pcapng");
    assert!(files.iter().any(|path| path.to_str() == Some(&other)), "{files:?}");
    assert_eq!(all_of(&dir.path().join("captures")), moved);
}

#[test]
fn the_name_of_a_capture_is_taken_meanwhile() {
    let dir = TempDir::new().unwrap();
    let mut fed = Fed::start(replay(dir.path(), ["-w", "out.pcapng"]));
    fed.give_calls(100, 3000);
    let draft = dir.path().join("out.pcapng.part");
    eventually(|| draft.exists());
    fs::write(dir.path().join("out.pcapng"), "precious").unwrap();
    let moved = fed.made.moved;
    fed.end().fails(&["out.pcapng was made meanwhile; the capture is whole in out.pcapng.part"]);
    assert_eq!(fs::read_to_string(dir.path().join("out.pcapng")).unwrap(), "precious");
    assert_eq!(in_order(&[Part::whole(&draft)]), moved);
}

#[test]
fn the_directory_is_made_read_only() {
    let midway = Midway::with("out.pcapng", |captures, arguments| replay_without_rights(captures, arguments));
    let captures = midway.captures();
    let draft = midway.draft();
    fs::set_permissions(&captures, Permissions::from_mode(0o555)).unwrap();
    let (dir, over, _) = midway.go_on();
    let name = draft.file_name().unwrap().to_str().unwrap().strip_suffix(".part").unwrap();
    let told =
        format!("cannot give {name} its name: Permission denied (os error 13); it is whole in {name}.part");
    assert!(over.stderr.contains(&told), "{over:?}");
    over.fails(&["cannot make the next part: out_00003", "Permission denied"]);
    fs::set_permissions(&captures, Permissions::from_mode(0o755)).unwrap();
    let parts = [Part::whole(&finished(&captures)[0]), Part::whole(&draft)];
    assert!(in_order(&parts).iter().flatten().sum::<u64>() > 150_000);
    drop(dir);
}

#[test]
fn a_directory_where_nothing_can_be_made_is_told_at_once() {
    let dir = TempDir::new().unwrap();
    let captures = open_directory(dir.path());
    let command = replay_without_rights(&captures, ["-w", "out.pcapng", "-G", "5"]);
    fs::set_permissions(&captures, Permissions::from_mode(0o555)).unwrap();
    let mut fed = Fed::start(command);
    fed.made.wait(SECOND);
    fed.give();
    fed.end().fails(&["cannot write to out.pcapng: no file can be made there: Permission denied"]);
    assert_eq!(finished(&captures).len() + drafts(&captures).len(), 0);
}

/// What stands in place of a part that was kept is no part, and -W leaves it alone.
#[test]
fn a_stranger_takes_the_name_of_a_part_that_was_removed() {
    let dir = TempDir::new().unwrap();
    let mut fed = Fed::start(replay(dir.path(), ["-w", "%H%M%S.pcapng", "-G", "5", "-W", "3"]));
    fed.give_calls(7, 100);
    eventually(|| finished(dir.path()).len() == 1);
    let first = finished(dir.path()).remove(0);
    fs::remove_file(&first).unwrap();
    fs::write(&first, "precious").unwrap();
    fed.give_calls(60, 100);
    fed.end().succeeds();
    assert_eq!(fs::read_to_string(&first).unwrap(), "precious");
    assert_eq!(finished(dir.path()).len(), 3 + 1);
}
