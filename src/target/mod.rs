//! What the user asked to capture → mount namespaces and processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use crate::event::{Comm, MountNs};

pub mod cgroup;
mod namespace;

pub use namespace::{MntNsSpec, learn_in_namespace, namespace_of, parse_mntns};

/// Most processes that are looked at: as many as there can be pids on a 64-bit machine.
const PROCESSES_MAX: usize = 4 << 20;
/// Most bytes that are read of /proc/PID/status.
const STATUS_BYTES_MAX: u64 = 64 << 10;

/// What to capture. Mount namespaces and pids must both fit; of several of a kind, any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `--mntns`; none means any.
    pub mntns: Vec<MntNsSpec>,
    /// `--pid`; none means any, and so does 0.
    pub pids: Vec<u32>,
}

/// What a [`Selector`] means on this machine at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The chosen namespaces or, where only processes were chosen, those that these are in; by number.
    pub namespaces: Vec<MountNs>,
    /// The chosen processes that are there now, by pid: where to look for libraries.
    pub processes: Vec<Process>,
}

/// A process, as far as /proc tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Number of its mount namespace.
    pub mntns: u32,
    /// Real user id.
    pub uid: u32,
    /// Command name.
    pub comm: Comm,
}

/// Why a target can't be captured.
#[derive(Debug)]
pub enum TargetError {
    /// Neither number nor path.
    BadNamespace(String),
    /// The file can't be opened or is no namespace.
    Namespace(PathBuf, io::Error),
    /// A namespace of another kind.
    OtherNamespace(PathBuf),
    /// Nobody lives there.
    EmptyNamespace(u32),
    /// No process has this id.
    NoProcess(u32),
    /// The process is in none of the chosen namespaces but in the second.
    Elsewhere(u32, u32),
    /// /proc can't be read.
    Proc(PathBuf, io::Error),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadNamespace(text) => {
                write!(f, "{text:?} is not a mount namespace: give a number, mnt:[NUMBER], or a path")?;
                f.write_str(" such as /proc/PID/ns/mnt (see: lsns -t mnt)")
            }
            Self::Namespace(path, error) => write!(f, "{}: {error}", path.display()),
            Self::OtherNamespace(path) => {
                write!(f, "{} is a namespace of another kind than mnt", path.display())
            }
            Self::EmptyNamespace(number) => {
                write!(f, "no process is in mount namespace {number} (see: lsns -t mnt)")
            }
            Self::NoProcess(pid) => write!(f, "no process {pid}"),
            Self::Elsewhere(pid, number) => {
                write!(f, "process {pid} is in mount namespace {number}, which is not among the chosen")
            }
            Self::Proc(path, error) => write!(f, "can't list processes in {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for TargetError {}

impl Selector {
    /// Finds the namespaces and processes.
    ///
    /// # Errors
    /// When something chosen isn't there.
    pub fn resolve(&self, proc: &Path) -> Result<Target, TargetError> {
        let all = processes(proc)?;
        let numbers = self.mntns.iter().map(MntNsSpec::number).collect::<Result<Vec<_>, _>>()?;
        for &number in &numbers {
            if in_namespace(&all, number).next().is_none() {
                return Err(TargetError::EmptyNamespace(number));
            }
        }
        let any_pid = self.pids.is_empty() || self.pids.contains(&0);
        for &pid in self.pids.iter().filter(|&&pid| pid != 0) {
            let process = all.iter().find(|process| process.pid == pid).ok_or(TargetError::NoProcess(pid))?;
            if !numbers.is_empty() && !numbers.contains(&process.mntns) {
                return Err(TargetError::Elsewhere(pid, process.mntns));
            }
        }
        let wanted = |process: &Process| {
            (numbers.is_empty() || numbers.contains(&process.mntns))
                && (any_pid || self.pids.contains(&process.pid))
        };
        let processes: Vec<_> = all.into_iter().filter(wanted).collect();
        Ok(Target { namespaces: namespaces(proc, &processes), processes })
    }
}

/// All processes in order of pid. Those that end meanwhile are left out.
///
/// # Errors
/// When `proc` can't be listed.
pub fn processes(proc: &Path) -> Result<Vec<Process>, TargetError> {
    let entries = fs::read_dir(proc).map_err(|error| TargetError::Proc(proc.to_owned(), error))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut all: Vec<_> = pids.take(PROCESSES_MAX).filter_map(|pid| process(proc, pid)).collect();
    all.sort_unstable_by_key(|process| process.pid);
    Ok(all)
}

/// How many processes this one may not look at. Those that are gone don't count.
#[must_use]
pub fn unseen(proc: &Path) -> usize {
    let Ok(entries) = fs::read_dir(proc) else { return 0 };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let denied = |pid: &u32| {
        let link = fs::read_link(proc.join(pid.to_string()).join("ns/mnt"));
        link.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    pids.take(PROCESSES_MAX).filter(denied).count()
}

/// One process; none when it is gone, or not ours to see.
#[must_use]
pub fn process(proc: &Path, pid: u32) -> Option<Process> {
    let mntns = namespace::number_by_link(proc, pid)?;
    let dir = proc.join(pid.to_string());
    let uid = uid_in(&read(&dir.join("status")).ok()?)?;
    let name = read(&dir.join("comm")).ok()?;
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    let mut comm = Comm::default();
    // The kernel's own names are cut to leave room for a NUL; those of kernel threads are shown longer here.
    let room = comm.0.len() - 1;
    for (to, from) in comm.0.iter_mut().take(room).zip(name) {
        *to = *from;
    }
    Some(Process { pid, mntns, uid, comm })
}

/// Those of the processes that are in the mount namespace with that number.
pub fn in_namespace(processes: &[Process], number: u32) -> impl Iterator<Item = &Process> {
    processes.iter().filter(move |process| process.mntns == number)
}

/// The namespaces of these processes by number, each once. With id where one of its processes is still there.
fn namespaces(proc: &Path, processes: &[Process]) -> Vec<MountNs> {
    let mut known: Vec<MountNs> = Vec::new();
    for process in processes {
        let ask = || namespace_of(proc, process.pid).ok().filter(|n| n.number == process.mntns);
        match known.binary_search_by_key(&process.mntns, |n| n.number) {
            Ok(at) if known[at].id != 0 => {}
            Ok(at) => known[at].id = ask().map_or(0, |n| n.id),
            Err(at) => known.insert(at, ask().unwrap_or(MountNs { number: process.mntns, id: 0 })),
        }
    }
    known
}

/// A name and a description of a mount namespace for people, by what its process `pid` tells: the container's
/// short id and `runtime=docker id=…`, else `mnt:[NUMBER]` and nothing.
#[must_use]
pub fn describe(proc: &Path, pid: u32, number: u32) -> (String, String) {
    match cgroup::container_of(proc, pid) {
        Some(container) if container.runtime.is_empty() => {
            (container.short().to_owned(), format!("id={}", container.id))
        }
        Some(container) => {
            let description = format!("runtime={} id={}", container.runtime, container.id);
            (container.short().to_owned(), description)
        }
        None => (format!("mnt:[{number}]"), String::new()),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(STATUS_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `Uid: real effective saved filesystem`
fn uid_in(status: &[u8]) -> Option<u32> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// Opens the network namespaces of some processes, each once. A process that is gone is passed over.
///
/// # Errors
/// Those of opening /proc/PID/ns/net.
pub fn network_namespaces(proc: &Path, processes: &[Process]) -> io::Result<Vec<File>> {
    let mut found = BTreeMap::new();
    for process in processes {
        match File::open(proc.join(process.pid.to_string()).join("ns/net")) {
            Ok(file) => {
                let number = std::os::unix::fs::MetadataExt::ino(&file.metadata()?);
                found.entry(number).or_insert(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const A: u32 = 4_026_532_001;
    const B: u32 = 4_026_532_002;

    /// A /proc with processes (pid, namespace, uid, comm).
    fn fake(all: &[(u32, u32, u32, &str)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (pid, mntns, uid, comm) in all {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir_all(dir.join("ns")).unwrap();
            symlink(format!("mnt:[{mntns}]"), dir.join("ns/mnt")).unwrap();
            fs::write(dir.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(dir.join("status"), format!("Name:\t{comm}\nUid:\t{uid}\t9\t9\t9\n")).unwrap();
        }
        fs::create_dir(proc.path().join("sys")).unwrap();
        fs::create_dir(proc.path().join("99")).unwrap();
        proc
    }

    fn some() -> tempfile::TempDir {
        fake(&[(1, A, 0, "init"), (20, B, 1000, "nginx"), (3, B, 0, "a name of 15 and more")])
    }

    fn select(mntns: &[u32], pids: &[u32]) -> Selector {
        Selector { mntns: mntns.iter().map(|&n| MntNsSpec::Number(n)).collect(), pids: pids.to_vec() }
    }

    #[test]
    fn processes_are_read_in_order_and_the_dead_are_left_out() {
        let all = processes(some().path()).unwrap();
        let short: Vec<_> = all.iter().map(|p| (p.pid, p.mntns, p.uid, p.comm.text())).collect();
        let expected = [(1, A, 0, "init"), (3, B, 0, "a name of 15 an"), (20, B, 1000, "nginx")];
        assert_eq!(short, expected.map(|(pid, mntns, uid, comm)| (pid, mntns, uid, comm.to_owned())));
        assert_eq!(in_namespace(&all, B).map(|p| p.pid).collect::<Vec<_>>(), [3, 20]);
    }

    #[test]
    fn kinds_narrow_and_values_widen() {
        let proc = some();
        for (mntns, pids, expected, namespaces) in [
            (&[B][..], &[][..], &[3, 20][..], &[B][..]),
            (&[B, A], &[], &[1, 3, 20], &[A, B]),
            (&[B], &[20], &[20], &[B]),
            (&[B], &[20, 0], &[3, 20], &[B]),
            (&[], &[20, 1], &[1, 20], &[A, B]),
            (&[], &[0], &[1, 3, 20], &[A, B]),
            (&[], &[], &[1, 3, 20], &[A, B]),
        ] {
            let target = select(mntns, pids).resolve(proc.path()).unwrap();
            assert_eq!(target.processes.iter().map(|p| p.pid).collect::<Vec<_>>(), expected);
            assert_eq!(target.namespaces.iter().map(|n| n.number).collect::<Vec<_>>(), namespaces);
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let proc = some();
        for (mntns, pids, message) in [
            (&[B, 7][..], &[][..], "no process is in mount namespace 7 (see: lsns -t mnt)"),
            (&[], &[1234], "no process 1234"),
            (&[], &[99], "no process 99"),
            (&[B], &[1], "process 1 is in mount namespace 4026532001, which is not among the chosen"),
        ] {
            assert_eq!(select(mntns, pids).resolve(proc.path()).unwrap_err().to_string(), message);
        }
        let nowhere = select(&[], &[]).resolve(Path::new("/no/such")).unwrap_err().to_string();
        assert_eq!(nowhere, "can't list processes in /no/such: No such file or directory (os error 2)");
    }

    #[test]
    fn a_namespace_is_named_by_its_container() {
        let proc = some();
        assert_eq!(describe(proc.path(), 20, B), (format!("mnt:[{B}]"), String::new()));
        let id = "0123456789abcdef".repeat(4);
        fs::write(proc.path().join("20/cgroup"), format!("0::/system.slice/docker-{id}.scope\n")).unwrap();
        let (name, description) = describe(proc.path(), 20, B);
        assert_eq!((name.as_str(), description), ("0123456789ab", format!("runtime=docker id={id}")));
        fs::write(proc.path().join("3/cgroup"), format!("0::/{id}\n")).unwrap();
        assert_eq!(describe(proc.path(), 3, B), ("0123456789ab".to_owned(), format!("id={id}")));
    }
}
