//! Child processes that end with the test that started them.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything: an emulated machine is slow.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a process may take to end when asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// A running child. Dropped, it is asked to end (SIGTERM) and then killed.
pub(crate) struct Process {
    command: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// What came of a child.
pub(crate) struct Ended {
    command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts `command`; what it prints is read in the background.
    #[track_caller]
    pub(crate) fn start(command: &Command) -> Self {
        Self::start_with(command, Stdio::piped(), Stdio::piped())
    }

    /// Starts `command` with these as its standard input and output.
    ///
    /// It gets a SIGTERM when the calling thread dies, however that comes about.
    #[track_caller]
    pub(crate) fn start_with(command: &Command, stdin: Stdio, stdout: Stdio) -> Self {
        let mut bound = Command::new("setpriv");
        bound.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
        bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let child = bound.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn();
        let command = format!("{command:?}");
        let mut child = child.unwrap_or_else(|error| panic!("{command}: {error}"));
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let mut readers = Vec::new();
        match child.stdout.take() {
            Some(pipe) => readers.push(stdout.read(pipe)),
            None => stdout.end(),
        }
        readers.extend(child.stderr.take().map(|pipe| stderr.read(pipe)));
        Self { command, child, stdout, stderr, readers }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line on standard output that `fits`, now or later.
    #[track_caller]
    pub(crate) fn stdout_line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.stdout_line_after(0, what, fits)
    }

    /// The first one after `skipped` such lines.
    #[track_caller]
    pub(crate) fn stdout_line_after(
        &self,
        skipped: usize,
        what: &str,
        fits: impl Fn(&str) -> bool,
    ) -> String {
        self.stdout.wait(skipped, fits).unwrap_or_else(|| panic!("waited in vain for {what}:\n{self}"))
    }

    /// The first line on standard error that `fits`, now or later.
    #[track_caller]
    pub(crate) fn stderr_line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.stderr.wait(0, fits).unwrap_or_else(|| panic!("waited in vain for {what}:\n{self}"))
    }

    /// Whether this very line is on standard output by now.
    pub(crate) fn has_printed(&self, line: &str) -> bool {
        self.stdout.0.0.lock().unwrap().lines.iter().any(|printed| printed == line)
    }

    /// Types a line on its standard input.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).and_then(|()| stdin.write_all(b"\n")).unwrap();
        stdin.flush().unwrap();
    }

    /// Whether it has ended, by itself or killed.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Closes its standard input and waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        let Some(status) = self.wait(WAIT_MAX) else { panic!("still running after {WAIT_MAX:?}:\n{self}") };
        // Its own children may hold the pipes open; nobody starts such here.
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        let command = std::mem::take(&mut self.command);
        Ended { command, status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if start.elapsed() > limit {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            if self.wait(GRACE).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (command, stdout, stderr) = (&self.command, self.stdout.text(), self.stderr.text());
        write!(f, "command: {command}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}

impl Ended {
    /// It did what it should.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert!(self.status.success(), "should succeed:\n{self}");
        self
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        let signal = status.signal().map_or(String::new(), |signal| format!(" (signal {signal})"));
        write!(f, "command: {command}\nstatus:  {status}{signal}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}

/// Runs `command` to its end.
#[track_caller]
pub(crate) fn run(command: &Command) -> Ended {
    Process::start(command).end()
}

/// Waits until `found` gives something.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < WAIT_MAX, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Lines that a process has printed, shared with the thread that reads them.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Printed>, Condvar)>);

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read(&self, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let shared = self.clone();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                shared.0.0.lock().unwrap().lines.push(text);
                shared.0.1.notify_all();
                line.clear();
            }
            shared.end();
        })
    }

    fn end(&self) {
        self.0.0.lock().unwrap().ended = true;
        self.0.1.notify_all();
    }

    fn wait(&self, skipped: usize, fits: impl Fn(&str) -> bool) -> Option<String> {
        let start = Instant::now();
        let (printed, changed) = &*self.0;
        let mut printed = printed.lock().unwrap();
        loop {
            if let Some(line) = printed.lines.iter().filter(|line| fits(line)).nth(skipped) {
                return Some(line.clone());
            }
            if printed.ended || start.elapsed() > WAIT_MAX {
                return None;
            }
            printed = changed.wait_timeout(printed, Duration::from_millis(100)).unwrap().0;
        }
    }

    fn text(&self) -> String {
        self.0.0.lock().unwrap().lines.join("\n")
    }
}
