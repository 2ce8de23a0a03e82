//! The command that is run for each finished part (`-z`).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Most commands that run at one time.
const RUNNING_MAX: usize = 4;
/// Most parts that wait for their command; for any further one it isn't run, which is told.
const WAITING_MAX: usize = 1024;
/// How often it is looked whether commands have ended, at the end of a capture.
const LOOK: Duration = Duration::from_millis(10);

/// Runs a program, never through a shell, with the name of a part as its only argument.
#[derive(Debug)]
pub(super) struct Runner {
    program: OsString,
    running: Vec<(Child, PathBuf)>,
    waiting: VecDeque<PathBuf>,
    troubles: Vec<String>,
}

impl Runner {
    pub(super) fn new(program: OsString) -> Self {
        Self { program, running: Vec::new(), waiting: VecDeque::new(), troubles: Vec::new() }
    }

    /// A part is there.
    pub(super) fn add(&mut self, part: PathBuf) {
        if self.waiting.len() == WAITING_MAX {
            let program = self.program.display();
            let part = part.display();
            self.troubles.push(format!("{program} was not run for {part}: {WAITING_MAX} others wait for it"));
            return;
        }
        self.waiting.push_back(part);
        self.look();
    }

    /// Takes note of those that have ended and starts others. Does not wait.
    pub(super) fn look(&mut self) {
        let Self { program, running, troubles, .. } = self;
        running.retain_mut(|(child, part)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                if !status.success() {
                    troubles.push(format!("{} {}: {status}", program.display(), part.display()));
                }
                false
            }
            Err(error) => {
                troubles.push(format!("{} {}: {error}", program.display(), part.display()));
                false
            }
        });
        while self.running.len() < RUNNING_MAX {
            let Some(part) = self.waiting.pop_front() else { return };
            let mut command = Command::new(&self.program);
            // A Ctrl-C that ends the capture is not for it.
            command.arg(&part).stdin(Stdio::null()).process_group(0);
            match command.spawn() {
                Ok(child) => self.running.push((child, part)),
                Err(error) => {
                    self.troubles.push(format!("cannot run {}: {error}", self.program.display()));
                }
            }
        }
    }

    /// Waits until all have been run.
    pub(super) fn finish(&mut self) {
        loop {
            self.look();
            if self.running.is_empty() {
                return;
            }
            thread::sleep(LOOK);
        }
    }

    /// What went wrong since this was last asked.
    pub(super) fn troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }
}
