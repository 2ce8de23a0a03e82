//! From processes and paths to the files that are to be probed.
//!
//! The root of a target is hostile: a library directory may hold a FIFO or a device called `libssl.so`, links
//! that lead to the host's files, and any number of anything. So each file is first only named (`O_PATH`),
//! from within the root, looked at, and then opened if it is a regular file. What is probed is the open file.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::fs::{FileType, OFlags, Stat};

use super::elf::BYTES_READ_MAX;
use super::layers::{FileId, Layers, mounts};
use super::maps::{Mapping, code_mappings};
use super::recognise::{Recognised, Unfit, recognise};
use super::table::{self, Hook, Library};
use super::walk::{Kind, walk};
use crate::sys;

/// Most files in a plan: each is held open.
const FOUND_MAX: usize = 4096;
/// Most skipped files that are told one by one.
const SKIPPED_MAX: usize = 1024;
/// Largest file that is looked into.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Most bytes that are read in one pass of the files of one mount namespace.
const NAMESPACE_BYTES_MAX: u64 = 8 << 30;
/// Most files that are remembered as being no library, so that they needn't be read again.
const REFUSED_MAX: usize = 1 << 20;
/// Most roots that are gone through in one pass, and most mapped files that are looked at.
const ROOTS_MAX: usize = 4096;
const MAPPED_MAX: usize = 1 << 20;

/// A library to be probed.
#[derive(Debug)]
pub struct Found {
    /// The file, open for reading. Attach to [`sys::fd_path`] of it: the path may lead elsewhere by now. It
    /// is to be kept open while the [`Scanner`] lives, lest the inode number go to another file.
    pub file: File,
    /// The path in its container, for people.
    pub path: PathBuf,
    /// The inode.
    pub id: FileId,
    /// The first row of the table that fits.
    pub library: &'static Library,
    /// File offsets to be probed, each once for each call shape, in order.
    pub hooks: Vec<(Hook, u64)>,
    /// GNU build id, or empty.
    pub build_id: Vec<u8>,
    /// Kind and version as far as the file tells: `OpenSSL 3.0.19`, `OpenSSL 3`.
    pub version: String,
    /// Whether the library is part of a program.
    pub program: bool,
}

impl Found {
    /// Whether plaintext passes through it, and not only records.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.hooks.iter().any(|(hook, _)| *hook != Hook::Record)
    }

    /// Where records are written in it, if they are.
    ///
    /// # Errors
    /// No further file can be open.
    pub fn record_writer(&self) -> io::Result<Option<RecordWriter>> {
        let places = self.hooks.iter().filter(|(hook, _)| *hook == Hook::Record);
        let offsets: Vec<_> = places.map(|(_, offset)| *offset).collect();
        if offsets.is_empty() {
            return Ok(None);
        }
        Ok(Some(RecordWriter { file: self.file.try_clone()?, offsets }))
    }
}

/// A file by which libraries write records.
#[derive(Debug)]
pub struct RecordWriter {
    /// As [`Found::file`].
    pub file: File,
    /// File offsets to be probed for [`Hook::Record`].
    pub offsets: Vec<u64>,
}

/// A file that looked like a library, or a place, and why it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The path in its container.
    pub path: PathBuf,
    /// The reason.
    pub why: String,
}

/// What a scan found since the last time it was asked.
#[derive(Debug, Default)]
pub struct Plan {
    /// Each inode once in the life of the [`Scanner`].
    pub found: Vec<Found>,
    /// Whether programs may be there that send the records of their library by themselves.
    pub sends_records: bool,
    /// For `-v`.
    pub skipped: Vec<Skipped>,
    /// How many more were skipped than are in the list.
    pub skipped_more: u64,
}

/// Why a file that the user named can't be probed.
#[derive(Debug)]
pub struct LibraryError {
    path: PathBuf,
    why: Refusal,
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for LibraryError {}

#[derive(Debug)]
enum Refusal {
    Io(io::Error),
    NotRegular,
    TooLarge,
    PlanFull,
    BudgetSpent,
    Ahead,
    Unfit(Unfit),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotRegular => f.write_str("not a regular file"),
            Self::TooLarge => write!(f, "larger than {} GiB", FILE_BYTES_MAX >> 30),
            Self::PlanFull => write!(f, "more than {FOUND_MAX} libraries"),
            Self::BudgetSpent => {
                write!(f, "more than {} GiB of files of its namespace were read", NAMESPACE_BYTES_MAX >> 30)
            }
            Self::Ahead => f.write_str(
                "nobody runs it, and more such programs would take long to probe (name it by --lib)",
            ),
            Self::Unfit(unfit) => unfit.fmt(f),
        }
    }
}

/// Finds libraries, and remembers what it has found: a later scan gives only what is new.
#[derive(Debug)]
pub struct Scanner {
    proc: PathBuf,
    found: HashSet<FileId>,
    /// Files that are no library, with the time of their last change.
    refused: HashMap<FileId, (i64, u64)>,
    /// How many programs that nobody runs may still be found.
    ahead_left: usize,
    plan: Plan,
}

/// How a file was come upon.
#[derive(Clone, Copy)]
enum Sight<'a> {
    /// A process has it mapped.
    Mapped,
    /// Its name, at this path, is that of a library: then it is told why it isn't one.
    Named(&'a Path),
    /// It is a program that may be run later.
    Ahead,
}

/// What is remembered during one pass only, since its numbers are used again.
struct Pass {
    layers: Layers,
    mapped: HashSet<(u32, u32, u64)>,
    roots: HashSet<(u64, u64, u64)>,
    /// Bytes that may still be read in each mount namespace.
    budgets: HashMap<PathBuf, u64>,
}

/// A process and the directory that it takes for its root.
struct View {
    pid: u32,
    process: PathBuf,
    root: OwnedFd,
    /// [`sys::shown_path`] of the root.
    root_shown: PathBuf,
    /// `mnt:[NUMBER]`.
    namespace: PathBuf,
}

impl Scanner {
    /// A scanner that sees processes through `proc`, usually `/proc`.
    #[must_use]
    pub fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            found: HashSet::new(),
            refused: HashMap::new(),
            ahead_left: usize::MAX,
            plan: Plan::default(),
        }
    }

    /// Looks at what these processes have mapped, and at the library directories of their roots. A process
    /// that is gone is no error; what may not be seen is among the skipped.
    pub fn scan(&mut self, pids: &[u32]) {
        self.pass(pids, true);
    }

    /// Looks only at what these processes have mapped: for those that began after their root was gone
    /// through.
    pub fn scan_mapped(&mut self, pids: &[u32]) {
        self.pass(pids, false);
    }

    /// Takes in a file that the user named, in this process's own root. It is probed whatever its name.
    ///
    /// # Errors
    /// When it can't be opened, or holds no library of the table.
    pub fn library(&mut self, path: &Path) -> Result<(), LibraryError> {
        let refused = |why| LibraryError { path: path.to_owned(), why };
        let name = sys::open_name(path).map_err(|error| refused(Refusal::Io(error)))?;
        let stat = check(&name).map_err(refused)?;
        let shown = sys::shown_path(&name).unwrap_or_else(|_| path.to_owned());
        let pid = std::process::id();
        let id = Layers::new(&self.proc).inode(&name, &stat, pid, &shown, &shown);
        if self.found.contains(&id) {
            return Ok(());
        }
        let mut budget = BYTES_READ_MAX;
        self.open(&name, path.to_owned(), id, &mut budget, Sight::Named(path)).map_err(refused)
    }

    /// Finds at most so many programs that nobody runs yet; without this, all.
    pub fn programs_ahead(&mut self, most: usize) {
        self.ahead_left = most;
    }

    /// What was found since the last call.
    pub fn take(&mut self) -> Plan {
        std::mem::take(&mut self.plan)
    }

    fn pass(&mut self, pids: &[u32], roots: bool) {
        let mut pass = Pass {
            layers: Layers::new(&self.proc),
            mapped: HashSet::new(),
            roots: HashSet::new(),
            budgets: HashMap::new(),
        };
        for &pid in pids {
            let process = self.proc.join(pid.to_string());
            match View::open(pid, &process) {
                Ok(view) => {
                    self.process(&view, &mut pass);
                    if roots {
                        self.root(&view, &mut pass);
                    }
                }
                Err(error) => self.skip_unless_gone(process.join("root"), &error),
            }
        }
    }

    fn process(&mut self, view: &View, pass: &mut Pass) {
        // The program of a process that hasn't begun to run may not be mapped yet. Kernel threads have none.
        if let Ok(name) = sys::open_name(&view.process.join("exe")) {
            self.candidate(view, pass, name, Sight::Mapped);
        }
        let mappings = match code_mappings(&view.process) {
            Ok(mappings) => mappings,
            Err(error) => return self.skip_unless_gone(view.process.join("maps"), &error),
        };
        for mapping in mappings {
            if pass.mapped.contains(&mapping.file) {
                continue;
            }
            if pass.mapped.len() >= MAPPED_MAX {
                return self.skip(view.process.join("maps"), format!("more than {MAPPED_MAX} mapped files"));
            }
            if let Some(name) = open_mapping(view, &mapping) {
                pass.mapped.insert(mapping.file);
                self.candidate(view, pass, name, Sight::Mapped);
            }
        }
    }

    fn root(&mut self, view: &View, pass: &mut Pass) {
        let Ok(stat) = rustix::fs::fstat(&view.root) else { return };
        let mount = sys::mount_id(&view.root).unwrap_or_default();
        let key = (stat.st_dev, stat.st_ino, mount);
        if pass.roots.contains(&key) {
            return;
        }
        if pass.roots.len() >= ROOTS_MAX {
            return self.skip(view.process.join("root"), format!("more than {ROOTS_MAX} roots"));
        }
        pass.roots.insert(key);
        let mounts = mounts(&view.process);
        let left_out = walk(&view.root, &mounts, &mut |path, name, kind| {
            let sight = if kind == Kind::Named { Sight::Named(path) } else { Sight::Ahead };
            self.candidate(view, pass, name, sight);
        });
        for (path, why) in left_out {
            self.skip(path, why);
        }
    }

    /// Decides about one file.
    fn candidate(&mut self, view: &View, pass: &mut Pass, name: OwnedFd, sight: Sight<'_>) {
        let named = if let Sight::Named(path) = sight { Some(path) } else { None };
        let shown = sys::shown_path(&name).unwrap_or_default();
        let path = view.path_of(&shown);
        let file_name = path.file_name().unwrap_or_default();
        self.plan.sends_records |= table::may_send_records(file_name.as_bytes());
        let stat = match check(&name) {
            Ok(stat) => stat,
            Err(why) => return self.refuse(named.unwrap_or(&path), &why, named.is_some()),
        };
        let id = pass.layers.inode(&name, &stat, view.pid, &shown, &path);
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        if self.found.contains(&id) || self.refused.get(&id) == Some(&changed) {
            return;
        }
        let budget = pass.budgets.entry(view.namespace.clone()).or_insert(NAMESPACE_BYTES_MAX);
        if let Err(why) = self.open(&name, path.clone(), id, budget, sight) {
            if matches!(why, Refusal::Unfit(_)) && self.refused.len() < REFUSED_MAX {
                self.refused.insert(id, changed);
            }
            self.refuse(&path, &why, named.is_some());
        }
    }

    fn open(
        &mut self,
        name: &OwnedFd,
        path: PathBuf,
        id: FileId,
        budget: &mut u64,
        sight: Sight<'_>,
    ) -> Result<(), Refusal> {
        if *budget == 0 {
            return Err(Refusal::BudgetSpent);
        }
        if self.plan.found.len() >= FOUND_MAX {
            return Err(Refusal::PlanFull);
        }
        let file = sys::reopen(name).map_err(Refusal::Io)?;
        let Recognised { library, hooks, build_id, version, program } =
            recognise(&file, budget).map_err(Refusal::Unfit)?;
        if matches!(sight, Sight::Ahead) {
            self.ahead_left = self.ahead_left.checked_sub(1).ok_or(Refusal::Ahead)?;
        }
        self.found.insert(id);
        self.plan.found.push(Found { file, path, id, library, hooks, build_id, version, program });
        Ok(())
    }

    /// Most mapped files are no TLS libraries; only of those that seem to be it is worth telling.
    fn refuse(&mut self, path: &Path, why: &Refusal, named: bool) {
        let ordinary = matches!(why, Refusal::NotRegular | Refusal::Unfit(Unfit::Unknown | Unfit::Elf(_)));
        if named || !ordinary {
            self.skip(path.to_owned(), why.to_string());
        }
    }

    fn skip_unless_gone(&mut self, path: PathBuf, error: &io::Error) {
        let gone =
            [rustix::io::Errno::NOENT, rustix::io::Errno::SRCH].map(|errno| Some(errno.raw_os_error()));
        if !gone.contains(&error.raw_os_error()) {
            self.skip(path, error.to_string());
        }
    }

    fn skip(&mut self, path: PathBuf, why: String) {
        if self.plan.skipped.len() < SKIPPED_MAX {
            self.plan.skipped.push(Skipped { path, why });
        } else {
            self.plan.skipped_more += 1;
        }
    }
}

impl View {
    fn open(pid: u32, process: &Path) -> io::Result<Self> {
        let root = sys::open_root(&process.join("root"))?;
        let root_shown = sys::shown_path(&root)?;
        let namespace = std::fs::read_link(process.join("ns/mnt")).unwrap_or_default();
        Ok(Self { pid, process: process.to_owned(), root, root_shown, namespace })
    }

    /// A path as the kernel shows it, seen from the root of the process. A root within our own mount
    /// namespace is shown from our root, and so are the files in it; those of another namespace are shown
    /// from its own.
    fn path_of(&self, shown: &Path) -> PathBuf {
        shown
            .strip_prefix(&self.root_shown)
            .map_or_else(|_| shown.to_owned(), |rest| Path::new("/").join(rest))
    }
}

/// Names a mapped file, if possible the very one that is mapped, even if it is deleted by now. That needs
/// CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; else its path must do.
fn open_mapping(view: &View, mapping: &Mapping) -> Option<OwnedFd> {
    if let Ok(name) = sys::open_name(&view.process.join("map_files").join(&mapping.link)) {
        return Some(name);
    }
    let name = sys::open_in_root(&view.root, &mapping.path, OFlags::PATH).ok()?;
    let inode = rustix::fs::fstat(&name).ok()?.st_ino;
    (inode == mapping.file.2).then_some(name)
}

fn check(name: &OwnedFd) -> Result<Stat, Refusal> {
    let stat = rustix::fs::fstat(name).map_err(|error| Refusal::Io(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::NotRegular);
    }
    match u64::try_from(stat.st_size) {
        Ok(bytes) if bytes <= FILE_BYTES_MAX => Ok(stat),
        _ => Err(Refusal::TooLarge),
    }
}
