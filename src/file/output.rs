//! The way out of the program: chunks of whole blocks go through a bounded queue to a thread that writes them
//! ([`super::writing`]), so that nobody waits for a disk, a compressor or a slow reader.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use flume::{Receiver, Sender, TryRecvError, TrySendError};
use rustix::fs::{FileType, OFlags};

use super::directory::{Directory, Manners};
use super::sink::{Part, Sink};
use super::writing::{Goal, Writing};

/// Bytes of a chunk, and a block more.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Chunks in the queue: 32 MiB. When it is full, a capture from the kernel passes over what comes until there
/// is room again, and tells it; a replay waits.
pub const QUEUE_CHUNKS: usize = 128;
/// Empty chunks that are kept to be used again.
const EMPTY_CHUNKS: usize = 16;
/// How long the end of a capture waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// How a capture is written.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether there is more than one part.
    pub cut: bool,
    /// How files are made.
    pub manners: Manners,
    /// zstd's level, if parts are to be compressed.
    pub compress: Option<i32>,
    /// A program to run for each finished part, with its name.
    pub command: Option<OsString>,
    /// Wait when the queue is full. Else [`Sink::is_full`] says so, and who goes on all the same makes it
    /// longer.
    pub wait: bool,
}

/// What the writing thread is told.
#[derive(Debug)]
pub(super) enum Order {
    Begin(Part),
    /// Whole blocks, and whether a reader is to get them now.
    Blocks(Vec<u8>, bool),
    End,
}

/// Shown lines for the user.
pub type Say = Box<dyn Fn(&str) + Send>;

/// A sink for one file, for parts, for a FIFO, a device or standard output.
///
/// Errors name the file and keep their [`io::ErrorKind`]; they may come late, with a later call.
pub struct Output {
    orders: Option<Sender<Order>>,
    empty: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    progress: Arc<AtomicU64>,
    wait: bool,
    /// How long the end waits while nothing is taken.
    patience: Option<Duration>,
    chunk: Vec<u8>,
    /// Orders that the queue had no room for.
    backlog: VecDeque<Order>,
    /// Whether blocks were handed over with nobody told to flush them.
    pending: bool,
    /// Why the writing thread has ended, if nobody was told yet.
    failed: Option<io::Error>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("backlog", &self.backlog.len()).finish_non_exhaustive()
    }
}

impl Output {
    /// Opens `path`; `-` is standard output. A FIFO (which waits for its reader) or a character device is
    /// written to as it is. Anything else is a file, which is made under a temporary name and gets its own
    /// when it is whole. Troubles that end nothing are told to `say`.
    ///
    /// # Errors
    /// No file can be made there; one exists; it is a symbolic link, which may lead anywhere, or a directory,
    /// block device or socket; it is to be cut or compressed and can't.
    pub fn open(path: &Path, settings: Settings, say: Say) -> Result<Self> {
        let name = if is_stdout(path) { Path::new("standard output") } else { path };
        let told = || format!("cannot write to {}", name.display());
        let goal = match open_stream(path, &settings).with_context(told)? {
            Some(file) => {
                ensure!(!settings.cut, "{} is one stream: it has no parts", name.display());
                ensure!(settings.compress.is_none(), "{} is a stream: compress its file", name.display());
                Goal::Stream(file, name.to_owned())
            }
            None => {
                let directory = Directory::open(path, settings.cut, settings.manners).with_context(told)?;
                Goal::Parts(directory)
            }
        };
        Self::start(goal, settings, say).with_context(told)
    }

    fn start(goal: Goal, settings: Settings, say: Say) -> Result<Self> {
        let (orders, queue) = flume::bounded(QUEUE_CHUNKS);
        let (used, empty) = flume::bounded(EMPTY_CHUNKS);
        let progress = Arc::new(AtomicU64::new(0));
        let wait = settings.wait;
        let patience = (!wait && matches!(goal, Goal::Stream(..))).then_some(PATIENCE);
        let mut writing = Writing::new(goal, settings, say, Arc::clone(&progress))?;
        let thread = thread::Builder::new().name("write".to_owned());
        let thread = thread.spawn(move || writing.run(&queue, &used))?;
        Ok(Self {
            orders: Some(orders),
            empty,
            thread: Some(thread),
            progress,
            wait,
            patience,
            chunk: Vec::with_capacity(CHUNK_BYTES),
            backlog: VecDeque::new(),
            pending: false,
            failed: None,
        })
    }

    fn order(&mut self, order: Order) -> io::Result<()> {
        self.backlog.push_back(order);
        self.work_off()
    }

    /// Hands over as much of the backlog as there is room for; all of it where that is worth waiting for.
    fn work_off(&mut self) -> io::Result<()> {
        while let Some(order) = self.backlog.pop_front() {
            let Some(orders) = &self.orders else { return Err(self.closed()) };
            let sent = if self.wait {
                orders.send(order).map_err(|_| None)
            } else {
                orders.try_send(order).map_err(|error| match error {
                    TrySendError::Full(order) => Some(order),
                    TrySendError::Disconnected(_) => None,
                })
            };
            match sent {
                Ok(()) => {}
                Err(Some(order)) => {
                    self.backlog.push_front(order);
                    return Ok(());
                }
                Err(None) => return self.join(),
            }
        }
        Ok(())
    }

    /// The blocks that were collected, as an order of their own.
    fn hand_over(&mut self, flush: bool) -> io::Result<()> {
        if self.chunk.is_empty() && !(flush && self.pending) {
            return Ok(());
        }
        self.pending = !flush;
        // A small chunk would keep a large buffer busy in the queue.
        let chunk = if self.chunk.len() < CHUNK_BYTES / 2 {
            let chunk = self.chunk.clone();
            self.chunk.clear();
            chunk
        } else {
            let empty = match self.empty.try_recv() {
                Ok(chunk) => chunk,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => Vec::with_capacity(CHUNK_BYTES),
            };
            std::mem::replace(&mut self.chunk, empty)
        };
        self.order(Order::Blocks(chunk, flush))
    }

    /// Why the writing thread has ended.
    fn join(&mut self) -> io::Result<()> {
        self.orders = None;
        let Some(thread) = self.thread.take() else { return Err(self.closed()) };
        match thread.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the writing thread failed")),
        }
    }

    fn closed(&mut self) -> io::Error {
        self.failed.take().unwrap_or_else(|| io::Error::other("the output is closed"))
    }

    /// Waits for the writing thread, which has been told to end, as long as it gets on.
    fn wait_for_the_end(&mut self) -> io::Result<()> {
        let mut seen = (self.progress.load(Ordering::Relaxed), Instant::now());
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) || !self.backlog.is_empty() {
            self.work_off()?;
            if self.backlog.is_empty() {
                self.orders = None;
            }
            thread::sleep(LOOK.min(seen.1.elapsed() + Duration::from_millis(1)));
            let now = self.progress.load(Ordering::Relaxed);
            if now != seen.0 {
                seen = (now, Instant::now());
            } else if self.patience.is_some_and(|patience| seen.1.elapsed() > patience) {
                return Err(io::Error::other("the reader takes nothing: what was left for it is lost"));
            }
        }
        self.join()
    }
}

impl Sink for Output {
    fn begin(&mut self, part: Part) -> io::Result<()> {
        self.order(Order::Begin(part))
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.chunk
    }

    fn block(&mut self) -> io::Result<()> {
        if self.chunk.len() < CHUNK_BYTES { Ok(()) } else { self.hand_over(false) }
    }

    /// Where the writing thread is busy, what was collected goes with what follows.
    fn flush(&mut self) -> io::Result<()> {
        self.work_off()?;
        match &self.orders {
            None => Err(self.closed()),
            Some(orders) if orders.is_disconnected() => self.join(),
            Some(orders) if orders.is_empty() => self.hand_over(true),
            Some(_) => Ok(()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.hand_over(false)?;
        self.pending = false;
        self.order(Order::End)
    }

    fn close(&mut self) -> io::Result<()> {
        self.wait_for_the_end()
    }

    fn is_full(&mut self) -> bool {
        if !self.backlog.is_empty()
            && let Err(error) = self.work_off()
        {
            // Told by the next call that can.
            self.failed = Some(error);
            self.backlog.clear();
        }
        !self.backlog.is_empty()
    }
}

/// Opens what is written to as it is; none if it is, or will be, a file.
fn open_stream(path: &Path, settings: &Settings) -> Result<Option<File>> {
    if is_stdout(path) {
        return Ok(Some(File::from(io::stdout().as_fd().try_clone_to_owned()?)));
    }
    let own = is_own_fd(path);
    let found = if own { path.metadata() } else { path.symlink_metadata() };
    let kind = match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => FileType::from_raw_mode(std::os::unix::fs::MetadataExt::mode(&found?)),
    };
    match kind {
        FileType::Fifo | FileType::CharacterDevice => {}
        FileType::RegularFile if own => {}
        FileType::RegularFile => {
            let replaced = settings.cut || settings.manners.overwrite;
            ensure!(replaced, "it exists (--overwrite replaces it)");
            return Ok(None);
        }
        FileType::Directory => bail!("it is a directory"),
        FileType::Symlink => bail!("it is a symbolic link (name the file that it leads to)"),
        _ => bail!("it is neither a file nor a FIFO nor a character device"),
    }
    let nofollow = if own { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = (nofollow | OFlags::NOCTTY).bits().cast_signed();
    Ok(Some(OpenOptions::new().write(true).custom_flags(flags).open(path)?))
}

/// Makes the file of a recorded stream, with mode 0600 (or 0640). It is written as it comes, under its own
/// name. An old one is emptied, if that was allowed.
///
/// # Errors
/// As those of [`Output::open`].
pub fn create(path: &Path, manners: Manners) -> Result<File> {
    let settings = Settings { manners, ..Settings::default() };
    let told = || format!("cannot write to {}", path.display());
    let mode = if manners.group_readable { 0o640 } else { 0o600 };
    match open_stream(path, &settings).with_context(told)? {
        Some(stream) => Ok(stream),
        None => {
            let flags = (OFlags::NOFOLLOW | OFlags::NOCTTY).bits().cast_signed();
            let mut options = OpenOptions::new();
            options.write(true).mode(mode).custom_flags(flags);
            options.create_new(!manners.overwrite).create(true).truncate(true);
            let file = options.open(path).with_context(told)?;
            let owned = file.set_permissions(Permissions::from_mode(mode));
            owned.map_err(|error| anyhow!(error).context("it belongs to someone else")).with_context(told)?;
            Ok(file)
        }
    }
}

/// Whether `path` means the standard output that we already have: its own name is a link to a link.
fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// Whether `path` names an open file of this process, as a shell's `>(command)` does.
fn is_own_fd(path: &Path) -> bool {
    let number = path.strip_prefix("/dev/fd").or_else(|_| path.strip_prefix("/proc/self/fd"));
    number.is_ok_and(|n| n.to_str().is_some_and(|n| n.parse::<u32>().is_ok()))
}
