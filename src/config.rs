//! What was typed, checked: every rule between options is here, and no string is left to be parsed later.
//!
//! Nothing is opened and no file is looked at: whoever gets a [`Config`] knows that the command line makes
//! sense, not that its files exist.

mod library;
mod parts;
mod task;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::Args;
use crate::event::Comm;
pub use crate::file::SNAPLEN_MAX;
use crate::frame::Envelope;
use crate::source::live::{Attach, Transport, Witness};
use crate::target::{MntNsSpec, parse_mntns};

pub use library::LibraryFile;
pub use parts::Parts;
pub use task::{Doctor, List, Open, Task};

/// Smallest kernel buffer. A power of two from here on is a power of two of pages, be they 4, 16 or 64 KiB.
pub const BUFFER_MIN: u32 = 64 << 10;

/// Largest kernel buffer.
pub const BUFFER_MAX: u32 = 1 << 30;

/// Size of the kernel buffer where none was asked for.
pub const BUFFER_DEFAULT: u32 = 16 << 20;

/// Longest command name that the kernel keeps (`TASK_COMM_LEN` less the NUL).
const COMM_MAX: usize = 15;

/// Everything that the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where records come from.
    pub input: Input,
    /// What becomes of the packets.
    pub output: Output,
    /// How much is said on standard error.
    pub verbosity: Verbosity,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// From the kernel, now.
    Live(Box<Live>),
    /// From a stream that `--record` wrote (`-r`).
    Replay(Place),
}

/// A capture from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What to capture.
    pub targets: Targets,
    /// Files to probe besides those that are found (`--lib`).
    pub libraries: Vec<LibraryFile>,
    /// Where to keep what the kernel emitted (`--record`).
    pub record: Option<PathBuf>,
    /// Whether the real packets of sessions are asked for (`--frames wire`).
    pub packets: bool,
    /// On which interface these are seen (`-i`); on all where there is none.
    pub interface: Option<String>,
    /// Whether the secrets of sessions are asked for: a capture, a recorded stream or a key log has them.
    pub secrets: bool,
    /// Bytes of kernel buffer, for all CPUs together: a power of two from [`BUFFER_MIN`] to [`BUFFER_MAX`].
    pub buffer_bytes: u32,
    /// How records leave the kernel.
    pub transport: Transport,
    /// Which programs look for the socket of a session.
    pub witness: Witness,
    /// How uprobes are attached.
    pub attach: Attach,
    /// Who to become once the probes are in place (`-Z`).
    pub user: Option<String>,
    /// The directory below which the machine's `/proc` and other files are looked for: `/`.
    pub root: PathBuf,
}

/// What to capture. A task is wanted when each list that is not empty has it; all empty means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Mount namespaces.
    pub mntns: Vec<MntNsSpec>,
    /// Process ids, as tlsdump's own PID namespace sees them; empty also for `--pid 0`.
    pub pids: Vec<u32>,
    /// Real user ids, as tlsdump's own user namespace sees them.
    pub uids: Vec<u32>,
    /// Command names of threads.
    pub comms: Vec<Comm>,
}

/// What becomes of the packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Where the pcapng goes (`-w`).
    pub write: Option<Place>,
    /// Whether a readable dump goes to standard output; never together with a pcapng there.
    pub text: bool,
    /// Stop after so many packets (`-c`); at least 1.
    pub count: Option<u64>,
    /// Bytes kept of each packet (`-s`): 1 to [`SNAPLEN_MAX`].
    pub snaplen: u32,
    /// How plaintext is wrapped in packets (`--frames`).
    pub envelope: Envelope,
    /// Where secrets go (`--keylog`), with [`Envelope::Sealed`] instead of into the pcapng.
    pub keylog: Option<PathBuf>,
    /// Whether the secrets of the captured sessions are in the pcapng.
    pub secrets: bool,
    /// Draw a connection from both its ends, where both are captured (`--both-ends`).
    pub both_ends: bool,
    /// Flush after each packet (`-U`).
    pub packet_buffered: bool,
    /// How the pcapng is written.
    pub parts: Parts,
}

/// A file or one of the standard streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `-`: standard output for `-w`, standard input for `-r`.
    Standard,
    /// A file.
    File(PathBuf),
}

impl Place {
    /// `-` or the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Standard => Path::new("-"),
            Self::File(path) => path,
        }
    }

    /// The file, or what the stream is called.
    #[must_use]
    pub fn name(&self, standard: &str) -> String {
        match self {
            Self::Standard => standard.to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// How much is said on standard error, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only (`-q`).
    Quiet,
    /// The lines at the beginning and the end, and warnings.
    #[default]
    Normal,
    /// What is probed, and how, too (`-v`).
    Verbose,
    /// Messages of libbpf too (`-vv`).
    Debug,
}

impl Config {
    /// Checks what was typed. `stdout_is_terminal` says whether standard output is one.
    ///
    /// # Errors
    /// The first rule that is broken: which option, and what to do.
    pub fn new(args: Args, stdout_is_terminal: bool) -> Result<Self> {
        let output = Output::new(&args, stdout_is_terminal)?;
        let verbosity = Verbosity::new(&args)?;
        let input = match &args.read {
            Some(file) => {
                refuse_live_options(&args)?;
                Input::Replay(place("-r", file)?)
            }
            None => Input::Live(Box::new(Live::new(&args)?)),
        };
        let config = Self { input, output, verbosity };
        config.refuse_one_file_twice()?;
        Ok(config)
    }

    /// By name only: a link to the same file isn't seen here.
    fn refuse_one_file_twice(&self) -> Result<()> {
        let (option, input) = match &self.input {
            Input::Replay(Place::File(file)) => ("-r", Some(file)),
            Input::Replay(Place::Standard) => ("-r", None),
            Input::Live(live) => ("--record", live.record.as_ref()),
        };
        let write = match &self.output.write {
            Some(Place::File(output)) => Some(output),
            _ => None,
        };
        let named = [("-w", write), (option, input), ("--keylog", self.output.keylog.as_ref())];
        for (number, (first, file)) in named.iter().enumerate() {
            for (second, other) in &named[number + 1..] {
                if let (Some(file), Some(other)) = (file, other) {
                    ensure!(file != other, "{first} and {second} name the same file, {}", file.display());
                }
            }
        }
        Ok(())
    }
}

/// A recorded stream is replayed as it is: nothing that steers the kernel side has a meaning then.
fn refuse_live_options(args: &Args) -> Result<()> {
    let live_only = [
        ("--mntns", !args.mntns.is_empty()),
        ("--pid", !args.pid.is_empty()),
        ("--uid", !args.uid.is_empty()),
        ("--comm", !args.comm.is_empty()),
        ("--lib", !args.lib.is_empty()),
        ("--record", args.record.is_some()),
        ("--buffer", args.buffer.is_some()),
        ("--transport", args.transport.is_some()),
        ("--witness", args.witness.is_some()),
        ("--attach", args.attach.is_some()),
        ("-Z", args.relinquish.is_some()),
    ];
    for (option, given) in live_only {
        ensure!(!given, "{option} is for capturing: it can't be used with -r, which replays all of a stream");
    }
    Ok(())
}

impl Live {
    fn new(args: &Args) -> Result<Self> {
        Ok(Self {
            targets: Targets::new(args)?,
            libraries: LibraryFile::all(&args.lib)?,
            record: args.record.as_deref().map(|file| path("--record", file)).transpose()?,
            packets: args.frames.as_deref() == Some(WIRE),
            interface: args.interface.clone().filter(|name| name != "any"),
            secrets: !args.no_secrets || args.keylog.is_some(),
            buffer_bytes: args.buffer.as_deref().map_or(Ok(BUFFER_DEFAULT), buffer_bytes)?,
            transport: choice("--transport", args.transport.as_deref(), TRANSPORTS)?,
            witness: choice("--witness", args.witness.as_deref(), WITNESSES)?,
            attach: choice("--attach", args.attach.as_deref(), ATTACHES)?,
            user: args.relinquish.clone(),
            root: PathBuf::from("/"),
        })
    }
}

impl Targets {
    fn new(args: &Args) -> Result<Self> {
        let targets = Self::of(&args.mntns, &args.pid, &args.uid, &args.comm)?;
        if args.pid.is_empty() && targets.is_everything() {
            bail!(
                "no target: name a container (--mntns), process (--pid), user (--uid) or command (--comm), \
                 or --pid 0 for everything (see tlsdump --help)"
            );
        }
        Ok(targets)
    }

    fn of(namespaces: &[String], pids: &[u32], uids: &[u32], comms: &[OsString]) -> Result<Self> {
        ensure!(!uids.contains(&u32::MAX), "--uid {}: there is no such user id", u32::MAX);
        Ok(Self {
            mntns: namespaces.iter().map(|spec| mntns(spec)).collect::<Result<_>>()?,
            // 0 stands for all, whatever other ids are named beside it.
            pids: if pids.contains(&0) { Vec::new() } else { pids.to_vec() },
            uids: uids.to_vec(),
            comms: comms.iter().map(|name| comm(name)).collect::<Result<_>>()?,
        })
    }

    fn is_everything(&self) -> bool {
        self.mntns.is_empty() && self.pids.is_empty() && self.uids.is_empty() && self.comms.is_empty()
    }
}

fn mntns(spec: &str) -> Result<MntNsSpec> {
    parse_mntns(spec).with_context(|| format!("--mntns {spec}"))
}

fn comm(name: &OsStr) -> Result<Comm> {
    let bytes = name.as_bytes();
    ensure!(!bytes.is_empty(), "--comm: the name is empty");
    ensure!(
        bytes.len() <= COMM_MAX,
        "--comm {}: the kernel keeps only {COMM_MAX} bytes of a command name; give the first {COMM_MAX}",
        name.display()
    );
    let mut comm = Comm::default();
    comm.0[..bytes.len()].copy_from_slice(bytes);
    Ok(comm)
}

impl Output {
    fn new(args: &Args, stdout_is_terminal: bool) -> Result<Self> {
        let write = args.write.as_deref().map(|file| place("-w", file)).transpose()?;
        if write == Some(Place::Standard) {
            ensure!(!args.text, "-w - and --text both want standard output; give -w a file");
            ensure!(
                !stdout_is_terminal,
                "-w - would write binary data to the terminal; pipe it on, as in: -w - | tshark -r -"
            );
        }
        ensure!(args.count != Some(0), "-c 0: give the number of packets after which to stop, at least 1");
        let snaplen = match args.snaplen {
            None | Some(0) => SNAPLEN_MAX,
            Some(bytes) => bytes,
        };
        ensure!(snaplen <= SNAPLEN_MAX, "-s {snaplen}: at most {SNAPLEN_MAX} bytes of a packet can be kept");
        let parts = Parts::new(args, write.as_ref())?;
        let envelope = choice("--frames", args.frames.as_deref(), ENVELOPES)?;
        let keylog = args.keylog.as_deref().map(|file| path("--keylog", file)).transpose()?;
        ensure!(
            args.interface.is_none() || envelope == Envelope::Wire,
            "-i chooses where real packets are seen: it needs --frames wire"
        );
        let apart = envelope == Envelope::Sealed && keylog.is_some();
        Ok(Self {
            text: args.text || write.is_none(),
            write,
            count: args.count,
            snaplen,
            envelope,
            keylog,
            secrets: !args.no_secrets && !apart,
            both_ends: args.both_ends,
            packet_buffered: args.packet_buffered,
            parts,
        })
    }
}

impl Verbosity {
    fn new(args: &Args) -> Result<Self> {
        ensure!(!(args.quiet && args.verbose > 0), "-q and -v contradict each other");
        Ok(match (args.quiet, args.verbose) {
            (true, _) => Self::Quiet,
            (false, 0) => Self::Normal,
            (false, 1) => Self::Verbose,
            (false, _) => Self::Debug,
        })
    }
}

const TRANSPORTS: &[(&str, Transport)] =
    &[("auto", Transport::Auto), ("ring", Transport::Ring), ("perf", Transport::Perf)];

const WITNESSES: &[(&str, Witness)] = &[
    ("auto", Witness::Auto),
    ("tracepoint", Witness::Tracepoint),
    ("fentry", Witness::Fentry),
    ("kprobe", Witness::Kprobe),
];

const ATTACHES: &[(&str, Attach)] =
    &[("auto", Attach::Auto), ("multi", Attach::Multi), ("perf", Attach::Perf)];

const WIRE: &str = "wire";

const ENVELOPES: &[(&str, Envelope)] = &[
    ("tls", Envelope::Tls),
    ("plain", Envelope::Plain),
    ("sealed", Envelope::Sealed),
    (WIRE, Envelope::Wire),
];

/// The value that `name` stands for in `choices`, the default where none was given.
fn choice<T: Copy + Default>(option: &str, name: Option<&str>, choices: &[(&str, T)]) -> Result<T> {
    let Some(name) = name else { return Ok(T::default()) };
    let found = choices.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    found.with_context(|| {
        let known: Vec<_> = choices.iter().map(|(known, _)| *known).collect();
        format!("{option} {name}: not one of {}", known.join(", "))
    })
}

/// `SIZE[k|M|G]` in bytes, rounded up to a power of two.
fn buffer_bytes(size: &str) -> Result<u32> {
    // A last byte that is ASCII is a whole character: the cut before it is right.
    let (number, shift) = match size.as_bytes().last() {
        Some(b'k' | b'K') => (&size[..size.len() - 1], 10),
        Some(b'm' | b'M') => (&size[..size.len() - 1], 20),
        Some(b'g' | b'G') => (&size[..size.len() - 1], 30),
        _ => (size, 0),
    };
    // 32 bits shifted by at most 30 fit 64.
    let bytes = decimal(number).map(|number| u64::from(number) << shift);
    let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
    let bytes = bytes.filter(|bytes| (BUFFER_MIN..=BUFFER_MAX).contains(bytes));
    let bytes = bytes.with_context(|| format!("--buffer {size}: give a size from 64k to 1G, such as 16M"))?;
    Ok(bytes.next_power_of_two())
}

/// Digits only: `str::parse` takes a plus sign as well.
fn decimal(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn place(option: &str, file: &OsStr) -> Result<Place> {
    if file == "-" { Ok(Place::Standard) } else { path(option, file).map(Place::File) }
}

fn path(option: &str, file: &OsStr) -> Result<PathBuf> {
    ensure!(!file.is_empty(), "{option}: the file name is empty");
    ensure!(file != "-", "{option} takes a file, not a standard stream; for a file of that name: ./-");
    Ok(PathBuf::from(OsString::from(file)))
}
