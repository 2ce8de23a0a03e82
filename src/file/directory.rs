//! The directory of a capture: parts are made in it under a temporary name and renamed when they are whole.
//!
//! Everything goes through one open directory, so that a capture goes on in it when it is renamed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::naming::Naming;
use super::sink;

/// What is appended to the name of a part while it is written.
const TEMPORARY: &str = ".part";
/// How many names are tried for a part, and temporary ones for each, where others are taken.
const TRIES: u32 = 1000;
/// Most parts that can be kept, with `-W`.
pub const KEPT_MAX: u32 = 100_000;

/// How files are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// Replace a file that has the name of a part; else it is an error for the first part, and later parts
    /// get another name.
    pub overwrite: bool,
    /// Let the group read: mode 0640, else 0600. Plaintext of other people's connections is in them.
    pub group_readable: bool,
    /// Have a part on the disk, not only in the page cache, before its name shows that it is whole.
    pub sync: bool,
    /// How many parts are kept: the oldest goes before another is made.
    pub keep: Option<u32>,
}

/// Where parts are made.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    naming: Naming,
    manners: Manners,
    /// Whether there is more than one part, so that a part may have another name than was meant.
    cut: bool,
    /// Names of finished parts, the oldest first; as many as are kept.
    kept: VecDeque<OsString>,
}

/// A part that is being written.
#[derive(Debug)]
pub(super) struct Draft {
    temporary: OsString,
    name: OsString,
}

impl Directory {
    /// The directory in which `path` is.
    pub(super) fn open(path: &Path, cut: bool, manners: Manners) -> anyhow::Result<Self> {
        let Some(name) = path.file_name() else { bail!("that is a directory") };
        let naming = Naming::new(name, cut).map_err(anyhow::Error::msg)?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, parent, flags, Mode::empty()).context("its directory")?;
        let rights = Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&fd, ".", rights, AtFlags::EACCESS).context("no file can be made there")?;
        let path = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { fd, path, naming, manners, cut, kept: VecDeque::new() })
    }

    /// Makes the file of a part; before it, removes the oldest if there would be too many. Whether that
    /// failed is told to `warn`.
    pub(super) fn create(&mut self, part: sink::Part, warn: &dyn Fn(&str)) -> anyhow::Result<(File, Draft)> {
        self.make_room(warn);
        let mut name = self.naming.next(part);
        for _ in 0..TRIES {
            match self.draft(&name) {
                Ok(Some(made)) => return Ok(made),
                Ok(None) if self.cut => name = self.naming.another(),
                Ok(None) => bail!("it exists (--overwrite replaces it)"),
                Err(error) if self.cut && error.is::<Busy>() => name = self.naming.another(),
                Err(error) => return Err(error),
            }
        }
        bail!("all names for it are taken")
    }

    /// The path of a file here, for people and for commands.
    pub(super) fn shown(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Gives a part that is whole its name.
    pub(super) fn publish(&mut self, file: &File, mut draft: Draft) -> anyhow::Result<PathBuf> {
        if self.manners.sync {
            rustix::fs::fsync(file).context("it may not be on the disk")?;
        }
        let mut tries = 0;
        while let Err(error) = self.rename(&draft) {
            tries += 1;
            match error {
                Errno::EXIST if self.cut && tries < TRIES => draft.name = self.naming.another(),
                Errno::EXIST => bail!("a file of that name was made meanwhile"),
                Errno::NOENT => bail!("somebody has removed it while it was written"),
                error => return Err(error.into()),
            }
        }
        if self.manners.sync {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
            directory.and_then(rustix::fs::fsync).context("its name may not be on the disk")?;
        }
        let path = self.shown(&draft.name);
        if self.manners.keep.is_some() {
            self.kept.retain(|kept| *kept != draft.name);
            self.kept.push_back(draft.name);
        }
        Ok(path)
    }

    /// Makes a file under a temporary name; none if the name itself is taken.
    fn draft(&self, name: &OsStr) -> anyhow::Result<Option<(File, Draft)>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
            Ok(found) => {
                let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
                if !self.manners.overwrite {
                    return Ok(None);
                }
                if kind != rustix::fs::FileType::RegularFile {
                    bail!("it is no file");
                }
            }
        }
        let mode = if self.manners.group_readable { 0o640 } else { 0o600 };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for number in 1..=TRIES {
            let temporary = temporary(name, number);
            match rustix::fs::openat(&self.fd, &temporary, flags, Mode::from_raw_mode(mode)) {
                Ok(fd) => {
                    // Whatever the umask is.
                    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
                    // The lock says that somebody is at it. On a file system without locks nobody says it.
                    let _ = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
                    return Ok(Some((fd.into(), Draft { temporary, name: name.to_owned() })));
                }
                Err(Errno::EXIST) if self.is_being_written(&temporary) => {
                    return Err(Busy.into());
                }
                // Left by a capture that was killed: what is in it may be wanted.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("all temporary names for it are taken")
    }

    /// Whether a capture is writing that file now.
    fn is_being_written(&self, temporary: &OsStr) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&self.fd, temporary, flags, Mode::empty()) else { return false };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    fn rename(&self, draft: &Draft) -> rustix::io::Result<()> {
        let (from, to) = (&draft.temporary, &draft.name);
        if self.manners.overwrite {
            return rustix::fs::renameat(&self.fd, from, &self.fd, to);
        }
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            // Not every file system can. A link never replaces either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty())?;
                rustix::fs::unlinkat(&self.fd, from, AtFlags::empty())
            }
            done => done,
        }
    }

    fn make_room(&mut self, warn: &dyn Fn(&str)) {
        let Some(keep) = self.manners.keep else { return };
        // One is about to be made.
        while self.kept.len() >= (keep.max(1)) as usize {
            let Some(oldest) = self.kept.pop_front() else { return };
            match rustix::fs::unlinkat(&self.fd, &oldest, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    warn(&format!(
                        "cannot remove {}: {}",
                        self.shown(&oldest).display(),
                        io::Error::from(error)
                    ));
                }
            }
        }
    }
}

impl Draft {
    /// The name that it has while it is written.
    pub(super) fn temporary(&self) -> &OsStr {
        &self.temporary
    }

    /// The name that it is to have.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }
}

/// Another capture writes a part of that name.
#[derive(Clone, Copy, Debug)]
struct Busy;

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("another capture is writing it")
    }
}

impl std::error::Error for Busy {}

/// `out.pcapng.part`, `out.pcapng.part2`, …
fn temporary(name: &OsStr, number: u32) -> OsString {
    let mut temporary = name.to_owned();
    temporary.push(TEMPORARY);
    if number > 1 {
        temporary.push(number.to_string());
    }
    temporary
}
