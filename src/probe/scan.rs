//! From processes and paths to the files that are to be probed.
//!
//! The root of a target is hostile: a library directory may hold a FIFO or a device called `libssl.so`, links
//! that lead to the host's files, and any number of anything. So each file is first only named (`O_PATH`),
//! from within the root, looked at, and then opened if it is a regular file. What is probed is the open file.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};

use super::elf::{BYTES_READ_MAX, Elf};
use super::given;
use super::layers::{FileId, Layers, mounts};
use super::maps::{Mapping, code_mappings};
use super::plan::{Found, Plan, Skipped};
use super::recognise::{Recognised, Unfit, recognise};
use super::refusal::{FILE_BYTES_MAX, FOUND_MAX, LibraryError, NAMESPACE_BYTES_MAX, Refusal};
use super::signs;
use super::table::{self, Hook};
use super::walk::{Kind, walk};
use crate::sys;

/// Most skipped files that are told one by one.
const SKIPPED_MAX: usize = 1024;
/// Most files that are remembered as being no library, so that they needn't be read again.
const REFUSED_MAX: usize = 1 << 20;
/// Most roots that are gone through in one pass, and most mapped files that are looked at.
const ROOTS_MAX: usize = 4096;
const MAPPED_MAX: usize = 1 << 20;
/// Most pairs of a process and a file that are remembered for an inquiry.
const USERS_MAX: usize = 1 << 20;
/// The library that is a Java virtual machine, and what there is to say of one.
const JVM: &str = "libjvm.so";
const JAVA: &str = "a Java virtual machine: Java's own TLS (JSSE) is compiled as it runs, and can't be \
                    probed; netty-tcnative and Conscrypt can, where they are loaded already";

/// Finds libraries, and remembers what it has found: a later scan gives only what is new.
#[derive(Debug)]
pub struct Scanner {
    proc: PathBuf,
    /// The machine's root directory, which may have symbols that were taken out of files.
    root: Option<OwnedFd>,
    found: HashSet<FileId>,
    /// Files that are no library, and whether signs of TLS were looked for in them, with the time of their
    /// last change.
    refused: HashMap<(FileId, bool), (i64, u64)>,
    /// How many programs that nobody runs may still be found.
    ahead_left: usize,
    plan: Plan,
    inquires: bool,
    users: usize,
}

/// Why a file is looked at.
#[derive(Clone, Copy)]
enum Seen<'a> {
    /// A process has it mapped.
    Mapped,
    /// It is a large program.
    Program,
    /// Its name, at that path, is that of a library: then it is told why it isn't one.
    Named(&'a Path),
}

/// How a file was come by.
struct Origin<'a> {
    seen: Seen<'a>,
    mntns: u32,
    /// The root directory in which it was found, if not the machine's own.
    root: Option<&'a OwnedFd>,
    /// Where the user says that its functions are, if so.
    places: &'a [(String, u64)],
}

/// What is remembered during one pass only, since its numbers are used again.
struct Pass {
    layers: Layers,
    mapped: HashMap<(u32, u32, u64), Option<FileId>>,
    roots: HashSet<(u64, u64, u64)>,
    /// Bytes that may still be read in each mount namespace.
    budgets: HashMap<u32, u64>,
}

/// A process and the directory that it takes for its root.
struct View {
    pid: u32,
    process: PathBuf,
    root: OwnedFd,
    /// [`sys::shown_path`] of the root.
    root_shown: PathBuf,
    /// The number of its mount namespace; 0 where that can't be told.
    mntns: u32,
}

impl Scanner {
    /// A scanner that sees processes through `proc`, usually `/proc`.
    #[must_use]
    pub fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            root: sys::open_root(Path::new("/")).ok(),
            found: HashSet::new(),
            refused: HashMap::new(),
            ahead_left: usize::MAX,
            plan: Plan::default(),
            inquires: false,
            users: 0,
        }
    }

    /// Makes it also remember who has what mapped, and look for signs of TLS in mapped files without any
    /// known function: these are then among the skipped.
    #[must_use]
    pub fn inquiring(mut self) -> Self {
        self.inquires = true;
        self
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
    /// When it can't be opened, or holds no library of the table; in an inquiry such a one is skipped.
    pub fn library(&mut self, path: &Path) -> Result<(), LibraryError> {
        self.library_at(path, &[])
    }

    /// The same, with names of functions and their virtual addresses in the file, if these are known.
    ///
    /// # Errors
    /// As [`Self::library`]; and when that can't be true.
    pub fn library_at(&mut self, path: &Path, places: &[(String, u64)]) -> Result<(), LibraryError> {
        let refused = |why| LibraryError { path: path.to_owned(), why };
        let name = sys::open_name(path).map_err(|error| refused(Refusal::Io(error)))?;
        let stat = check(&name).map_err(refused)?;
        let shown = sys::shown_path(&name).unwrap_or_else(|_| path.to_owned());
        let pid = std::process::id();
        let id = Layers::new(&self.proc).inode(&name, &stat, pid, &shown, &shown);
        if self.found.contains(&id) {
            return if places.is_empty() { Ok(()) } else { Err(refused(Refusal::Twice)) };
        }
        let mut budget = BYTES_READ_MAX;
        let origin = Origin { seen: Seen::Named(path), mntns: 0, root: None, places };
        match self.open(&name, path.to_owned(), id, &mut budget, &origin) {
            Err(why) if self.inquires && places.is_empty() => {
                let told = within(&name, path, &why, Seen::Mapped, &mut budget);
                self.skip(path.to_owned(), told.unwrap_or_else(|| why.to_string()), 0, Some(id));
                Ok(())
            }
            opened => opened.map_err(refused),
        }
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
            mapped: HashMap::new(),
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
                Err(error) => self.skip_unless_gone(process.join("root"), 0, &error),
            }
        }
    }

    fn process(&mut self, view: &View, pass: &mut Pass) {
        // The program of a process that hasn't begun to run may not be mapped yet. Kernel threads have none.
        if let Ok(name) = sys::open_name(&view.process.join("exe")) {
            let id = self.candidate(view, pass, name, Seen::Mapped);
            self.note_user(id, view.pid);
        }
        let mappings = match code_mappings(&view.process) {
            Ok(mappings) => mappings,
            Err(error) => return self.skip_unless_gone(view.process.join("maps"), view.mntns, &error),
        };
        for mapping in mappings {
            if let Some(&id) = pass.mapped.get(&mapping.file) {
                self.note_user(id, view.pid);
                continue;
            }
            if pass.mapped.len() >= MAPPED_MAX {
                let why = format!("more than {MAPPED_MAX} mapped files");
                return self.skip(view.process.join("maps"), why, view.mntns, None);
            }
            if let Some(name) = open_mapping(view, &mapping) {
                let id = self.candidate(view, pass, name, Seen::Mapped);
                pass.mapped.insert(mapping.file, id);
                self.note_user(id, view.pid);
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
            let why = format!("more than {ROOTS_MAX} roots");
            return self.skip(view.process.join("root"), why, view.mntns, None);
        }
        pass.roots.insert(key);
        let mounts = mounts(&view.process);
        let left_out = walk(&view.root, &mounts, &mut |path, name, kind| {
            let seen = if kind == Kind::Named { Seen::Named(path) } else { Seen::Program };
            self.candidate(view, pass, name, seen);
        });
        for (path, why) in left_out {
            self.skip(path, why, view.mntns, None);
        }
    }

    /// Decides about one file. Gives the inode of any that could be one.
    fn candidate(&mut self, view: &View, pass: &mut Pass, name: OwnedFd, seen: Seen<'_>) -> Option<FileId> {
        let shown = sys::shown_path(&name).unwrap_or_default();
        let path = view.path_of(&shown);
        let file_name = path.file_name().unwrap_or_default();
        self.plan.sends_records |= table::may_send_records(file_name.as_bytes());
        let stat = match check(&name) {
            Ok(stat) => stat,
            Err(why) => {
                if let Seen::Named(path) = seen {
                    self.skip(path.to_owned(), why.to_string(), view.mntns, None);
                } else if !why.is_ordinary() {
                    self.skip(path, why.to_string(), view.mntns, None);
                }
                return None;
            }
        };
        let id = pass.layers.inode(&name, &stat, view.pid, &shown, &path);
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        // A program that was only found in its directory may be one that a process runs.
        let inquired = self.inquires && matches!(seen, Seen::Mapped);
        let refused = |inquired| self.refused.get(&(id, inquired)) == Some(&changed);
        if self.found.contains(&id) || refused(true) || refused(false) && !inquired {
            return Some(id);
        }
        let budget = pass.budgets.entry(view.mntns).or_insert(NAMESPACE_BYTES_MAX);
        let origin = Origin { seen, mntns: view.mntns, root: Some(&view.root), places: &[] };
        if let Err(why) = self.open(&name, path.clone(), id, budget, &origin) {
            if matches!(why, Refusal::Unfit(_)) && self.refused.len() < REFUSED_MAX {
                self.refused.insert((id, inquired), changed);
            }
            let within = if self.inquires {
                within(&name, &path, &why, seen, budget)
            } else {
                (file_name == JVM).then(|| JAVA.to_owned())
            };
            // Most mapped files are no TLS libraries; only of those that seem to be it is worth telling.
            if let Some(told) = within {
                self.skip(path, told, view.mntns, Some(id));
            } else if matches!(seen, Seen::Named(_)) || !why.is_ordinary() {
                self.skip(path, why.to_string(), view.mntns, Some(id));
            }
        }
        Some(id)
    }

    fn open(
        &mut self,
        name: &OwnedFd,
        path: PathBuf,
        id: FileId,
        budget: &mut u64,
        origin: &Origin<'_>,
    ) -> Result<(), Refusal> {
        if *budget == 0 {
            return Err(Refusal::BudgetSpent);
        }
        if self.plan.found.len() >= FOUND_MAX {
            return Err(Refusal::PlanFull);
        }
        let file = sys::reopen(name).map_err(Refusal::Io)?;
        let recognised = if origin.places.is_empty() {
            let roots: Vec<_> = origin.root.into_iter().chain(&self.root).collect();
            recognise(&file, &roots, budget)
        } else {
            given::recognise(&file, origin.places, budget)
        };
        let Recognised { library, hooks, functions, random, build_id, version, program, doubts } =
            recognised.map_err(Refusal::Unfit)?;
        let mntns = origin.mntns;
        if matches!(origin.seen, Seen::Program) {
            self.ahead_left = self.ahead_left.checked_sub(1).ok_or(Refusal::Ahead)?;
        }
        self.found.insert(id);
        // rustls has no socket.
        self.plan.sends_records |= hooks.iter().any(|(hook, _)| matches!(hook, Hook::Rustls(_)));
        self.plan.found.push(Found {
            file,
            path,
            id,
            library,
            hooks,
            functions,
            random,
            build_id,
            version,
            program,
            doubts,
            mntns,
        });
        Ok(())
    }

    fn note_user(&mut self, id: Option<FileId>, pid: u32) {
        let Some(id) = id.filter(|_| self.inquires && self.users < USERS_MAX) else { return };
        let users = self.plan.users.entry(id).or_default();
        if users.last() != Some(&pid) {
            users.push(pid);
            self.users += 1;
        }
    }

    fn skip_unless_gone(&mut self, path: PathBuf, mntns: u32, error: &io::Error) {
        let gone =
            [rustix::io::Errno::NOENT, rustix::io::Errno::SRCH].map(|errno| Some(errno.raw_os_error()));
        if !gone.contains(&error.raw_os_error()) {
            self.skip(path, error.to_string(), mntns, None);
        }
    }

    fn skip(&mut self, path: PathBuf, why: String, mntns: u32, id: Option<FileId>) {
        if self.plan.skipped.len() < SKIPPED_MAX {
            self.plan.skipped.push(Skipped { path, why, mntns, id });
        } else {
            self.plan.skipped_more += 1;
        }
    }
}

impl View {
    fn open(pid: u32, process: &Path) -> io::Result<Self> {
        let root = sys::open_root(&process.join("root"))?;
        let root_shown = sys::shown_path(&root)?;
        // `mnt:[NUMBER]`
        let link = std::fs::read_link(process.join("ns/mnt")).unwrap_or_default();
        let number = link.to_str().and_then(|link| link.strip_prefix("mnt:[")?.strip_suffix(']'));
        let mntns = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        Ok(Self { pid, process: process.to_owned(), root, root_shown, mntns })
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

/// What a mapped file that holds no known function has to do with TLS, if anything.
fn within(name: &OwnedFd, path: &Path, why: &Refusal, seen: Seen<'_>, budget: &mut u64) -> Option<String> {
    let Refusal::Unfit(unfit) = why else { return None };
    let file_name = path.file_name()?;
    if file_name == JVM {
        return Some(JAVA.to_owned());
    }
    // Of files that nobody uses only names are told, as reading them all would take long.
    let Seen::Mapped = seen else { return None };
    if let Unfit::Doubtful(..) = unfit {
        return Some(unfit.to_string());
    }
    if let Unfit::Unknown = unfit
        && !is_own_program(name)
    {
        let file = sys::reopen(name).ok()?;
        let mut elf = Elf::open(&file, *budget).ok()?;
        let told = signs::explain(&mut elf);
        *budget = budget.saturating_sub(elf.bytes_read());
        if let Ok(Some(told)) = told {
            return Some(told);
        }
    }
    table::may_hold_library(file_name.as_encoded_bytes()).then(|| unfit.to_string())
}

/// tlsdump derives secrets itself, for what it writes, and would be taken for a TLS library.
fn is_own_program(name: &OwnedFd) -> bool {
    match (std::fs::metadata("/proc/self/exe"), rustix::fs::fstat(name)) {
        (Ok(own), Ok(stat)) => (own.dev(), own.ino()) == (stat.st_dev, stat.st_ino),
        _ => false,
    }
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
