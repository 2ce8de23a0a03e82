//! tlsdump that replays a stream while it is made.

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::made_stream::Made;

/// Longest wait for anything.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A user and group without rights, as most systems have it.
const NOBODY: u32 = 65_534;

/// A running replay.
#[derive(Debug)]
pub struct Fed {
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: File,
    pub made: Made,
}

/// What came of it.
#[derive(Debug)]
pub struct Over {
    pub status: ExitStatus,
    pub stderr: String,
}

/// The program with these arguments, in `directory`, that reads the stream from its standard input.
pub fn replay<S: AsRef<OsStr>>(directory: &Path, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tlsdump"));
    command.args(["-r", "-"]).args(arguments).current_dir(directory).env("TZ", "UTC");
    command
}

/// The same, run by a user who isn't root; `directory` is made that user's.
pub fn replay_without_rights<S: AsRef<OsStr>>(
    directory: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = replay(directory, arguments);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
        let program = directory.parent().unwrap().join("tlsdump");
        // By another process: a file that a thread here has just written can't be run while another forks.
        let copied = Command::new("cp").arg(command.get_program()).arg(&program).status().unwrap();
        assert!(copied.success());
        let mut copy = Command::new(program);
        copy.args(command.get_args()).current_dir(directory).env("TZ", "UTC").uid(NOBODY).gid(NOBODY);
        command = copy;
    }
    command
}

/// A directory for [`replay_without_rights`], in a directory that everybody may enter.
pub fn open_directory(parent: &Path) -> PathBuf {
    fs::set_permissions(parent, Permissions::from_mode(0o755)).unwrap();
    let directory = parent.join("captures");
    fs::create_dir(&directory).unwrap();
    directory
}

impl Fed {
    pub fn start(mut command: Command) -> Self {
        let stderr = tempfile::tempfile().unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr.try_clone().unwrap());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { stdin: child.stdin.take(), child, stderr, made: Made::new() }
    }

    /// Gives it what was made since; says whether it was taken.
    pub fn give(&mut self) -> bool {
        let bytes = self.made.take();
        self.stdin.as_mut().is_some_and(|stdin| stdin.write_all(&bytes).is_ok())
    }

    /// So many calls, a second of the stream apart from each other.
    pub fn give_calls(&mut self, calls: u64, bytes: usize) {
        for _ in 0..calls {
            self.made.call(bytes);
            self.made.wait(super::made_stream::SECOND);
            self.made.clock();
        }
        self.give();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Ends the stream, and waits for the end of the replay.
    #[track_caller]
    pub fn end(mut self) -> Over {
        drop(self.stdin.take());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > WAIT_MAX {
                self.kill();
                panic!("it does not end: {}", self.stderr());
            }
            thread::sleep(Duration::from_millis(1));
        };
        Over { status, stderr: self.stderr() }
    }

    /// What it said so far.
    pub fn stderr(&mut self) -> String {
        let mut text = Vec::new();
        self.stderr.rewind().unwrap();
        self.stderr.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Over {
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.status.success() && !self.stderr.contains("panicked"), "{self:?}");
        self
    }

    /// It failed, and its last line says all of these.
    #[track_caller]
    pub fn fails(self, said: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(said.iter().all(|words| last.contains(words)), "{said:?} not in {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

/// Waits until `is` is so.
#[track_caller]
pub fn eventually(mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < WAIT_MAX, "it never came about");
        thread::sleep(Duration::from_millis(2));
    }
}
