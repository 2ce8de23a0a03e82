//! What is to be done: to capture or replay, or what a subcommand says.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use super::{Config, LibraryFile, Place, Targets, path, place};
use crate::cli::{Args, Command, DoctorArgs, ListArgs, OpenArgs};
use crate::file::directory::Manners;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Packets: no subcommand was given.
    Capture(Box<Config>),
    /// `tlsdump list`.
    List(List),
    /// `tlsdump doctor`.
    Doctor(Doctor),
    /// `tlsdump open`.
    Open(Open),
}

/// `tlsdump list`: which libraries there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Of what. `uids` and `comms` only choose the processes that are shown.
    pub targets: Targets,
    /// Whether any target was named: then its library directories are gone through as for a capture.
    pub named: bool,
    /// Files to look into besides (`--lib`).
    pub libraries: Vec<LibraryFile>,
    /// JSON rather than a table.
    pub json: bool,
    /// Names of functions, and all processes.
    pub verbose: bool,
    /// The directory below which the machine's `/proc` is looked for: `/`.
    pub root: PathBuf,
}

/// `tlsdump doctor`: whether capturing works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doctor {
    /// Check.
    Examine {
        /// JSON rather than lines.
        json: bool,
    },
    /// Be the program that the check captures.
    Patient {
        /// Under a seccomp filter that kills for a system call that it doesn't know.
        confined: bool,
    },
}

/// `tlsdump open`: a capture of a capture, with other secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// What is read.
    pub capture: Place,
    /// Where it goes.
    pub write: Place,
    /// A key log whose lines are put in (`--keylog`).
    pub keylog: Option<PathBuf>,
    /// Whether the secrets that are there are left out (`--no-secrets`).
    pub strip: bool,
    /// How the file is made.
    pub manners: Manners,
}

impl Task {
    /// Checks what was typed. `stdout_is_terminal` says whether standard output is one.
    ///
    /// # Errors
    /// The first rule that is broken: which option, and what to do.
    pub fn new(mut args: Args, stdout_is_terminal: bool) -> Result<Self> {
        Ok(match args.command.take() {
            None => Self::Capture(Box::new(Config::new(args, stdout_is_terminal)?)),
            Some(Command::List(list)) => Self::List(List::new(&list)?),
            Some(Command::Doctor(doctor)) => Self::Doctor(Doctor::new(&doctor)?),
            Some(Command::Open(open)) => Self::Open(Open::new(&open, stdout_is_terminal)?),
        })
    }
}

impl List {
    fn new(args: &ListArgs) -> Result<Self> {
        let targets = Targets::of(&args.mntns, &args.pid, &args.uid, &args.comm)?;
        Ok(Self {
            named: !(args.pid.is_empty() && targets.is_everything()),
            targets,
            libraries: LibraryFile::all(&args.lib)?,
            json: args.json,
            verbose: args.verbose,
            root: PathBuf::from("/"),
        })
    }
}

impl Open {
    fn new(args: &OpenArgs, stdout_is_terminal: bool) -> Result<Self> {
        let write = place("-w", &args.write)?;
        ensure!(
            write != Place::Standard || !stdout_is_terminal,
            "-w - would write binary data to the terminal; pipe it on, as in: -w - | tshark -r -"
        );
        ensure!(
            args.keylog.is_some() || args.no_secrets,
            "nothing to change: give --keylog FILE to put secrets in, or --no-secrets to leave them out"
        );
        Ok(Self {
            capture: place("CAPTURE", &args.capture)?,
            write,
            keylog: args.keylog.as_deref().map(|file| path("--keylog", file)).transpose()?,
            strip: args.no_secrets,
            manners: Manners { overwrite: args.overwrite, ..Manners::default() },
        })
    }
}

impl Doctor {
    fn new(args: &DoctorArgs) -> Result<Self> {
        Ok(match args.self_test_child.as_deref() {
            None => Self::Examine { json: args.json },
            Some("free") => Self::Patient { confined: false },
            Some("confined") => Self::Patient { confined: true },
            Some(other) => bail!("--self-test-child {other}: not one of free, confined"),
        })
    }
}
