//! Runs the built program and says everything about it when an assertion fails.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest run; whoever takes longer hangs.
const RUN_MAX: Duration = Duration::from_secs(20);

/// A user and group id without rights, as most systems have it.
const NOBODY: u32 = 65_534;

/// A run of the program in a directory of its own.
pub(crate) struct TestCommand {
    command: Command,
    directory: TempDir,
    stdin: Vec<u8>,
}

/// What came of a run.
pub(crate) struct Outcome {
    /// The files of the run live as long as this.
    pub(crate) directory: TempDir,
    /// Standard output.
    pub(crate) stdout: Vec<u8>,
    /// Standard error, where it is text.
    pub(crate) stderr: String,
    command: String,
    status: ExitStatus,
}

impl TestCommand {
    /// The program with these arguments. Backtraces are switched on: none may be seen.
    pub(crate) fn new<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::of(Path::new(env!("CARGO_BIN_EXE_tlsdump")), arguments, tempfile::tempdir().unwrap())
    }

    /// The program, run by a user who isn't root: a copy where that user gets at it.
    pub(crate) fn without_rights<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let program = directory.path().join("tlsdump");
        // By another process: a file that a thread here has just written can't be run while another forks.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_tlsdump")).arg(&program).status().unwrap();
        assert!(copied.success());
        let mut this = Self::of(&program, arguments, directory);
        if rustix::process::geteuid().is_root() {
            this.command.uid(NOBODY).gid(NOBODY);
        }
        this
    }

    fn of<S: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        directory: TempDir,
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory.path()).env("RUST_BACKTRACE", "1");
        Self { command, directory, stdin: Vec::new() }
    }

    /// Puts a file into the directory of the run.
    pub(crate) fn file(self, name: &str, bytes: &[u8], mode: u32) -> Self {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        self
    }

    /// What the program finds on its standard input.
    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// Runs the program to its end.
    pub(crate) fn run(mut self) -> Outcome {
        let (mut stdin, stdout, stderr) =
            (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        stdin.write_all(&self.stdin).unwrap();
        stdin.rewind().unwrap();
        self.command
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout.try_clone().unwrap()))
            .stderr(Stdio::from(stderr.try_clone().unwrap()));
        let command = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{command}: {error}"));
        let status = wait(&mut child, &command);
        let stderr = String::from_utf8_lossy(&contents(stderr)).into_owned();
        Outcome { directory: self.directory, stdout: contents(stdout), stderr, command, status }
    }
}

impl Outcome {
    /// The program succeeded and complained about nothing.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert!(self.status.success(), "should succeed:\n{self}");
        assert!(!self.stderr.contains("error"), "should not complain:\n{self}");
        self
    }

    /// Its answer is no: status 1, and nothing on standard error.
    pub(crate) fn says_no(self) -> Self {
        assert_eq!((self.status.code(), self.stderr.as_str()), (Some(1), ""), "should say no:\n{self}");
        self
    }

    /// The program failed with exit status `code` and one clear line that says each of `words`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(code), "should fail with {code}:\n{self}");
        assert_eq!(self.stderr.matches('\n').count(), 1, "should say one line:\n{self}");
        assert!(self.stderr.starts_with("tlsdump: "), "should say who complains:\n{self}");
        for internal in ["panicked", "backtrace", "thread '", "unwrap", "src/"] {
            assert!(!self.stderr.contains(internal), "should keep {internal:?} to itself:\n{self}");
        }
        for word in words {
            assert!(self.stderr.contains(word), "should say {word:?}:\n{self}");
        }
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "command: {}\nstatus:  {}", self.command, self.status)?;
        writeln!(f, "stdout:  {}", self.stdout.escape_ascii())?;
        writeln!(f, "stderr:  {}", self.stderr)
    }
}

fn wait(child: &mut Child, command: &str) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > RUN_MAX {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command}: still running after {RUN_MAX:?}");
        }
        sleep(Duration::from_millis(2));
    }
}

fn contents(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    bytes
}
