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
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Stat};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Names of earlier parts and which files they were, the oldest first; as many as are kept.
    kept: VecDeque<(OsString, Kept)>,
}

/// Which file it is, whatever it is called: device and inode.
type Identity = (u64, u64);

/// The file that a part was when it was finished, with the time of its last change, because an inode that is
/// free is used again.
type Kept = (Identity, (i64, u64));

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
                Err(error) if !self.cut => return Err(error),
                Err(error) if error.is::<Busy>() => name = self.naming.another(),
                Err(error) => return Err(error.context(self.shown(&name).display().to_string())),
            }
        }
        bail!("all names for it are taken")
    }

    /// The path of a file here, for people and for commands.
    pub(super) fn shown(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Gives a part that is whole its name; `draft` then tells which that is, for it may be another than was
    /// meant.
    pub(super) fn publish(&mut self, file: &File, draft: &mut Draft) -> Result<(), Unpublished> {
        if self.manners.sync {
            rustix::fs::fsync(file).map_err(Unpublished::Unwritten)?;
        }
        // A file system at the other end of a network may tell only now that it has no room. That closes
        // another descriptor of the same file, because the lock is to be held until the name is there.
        let other = file.try_clone().map_err(Unpublished::failed)?;
        nix::unistd::close(other).map_err(|error| Unpublished::Unwritten(as_rustix(error)))?;
        let mut tries = 0;
        while let Err(error) = self.rename(file, draft) {
            tries += 1;
            match error {
                Unpublished::Nameless(Errno::EXIST) if self.cut && tries < TRIES => {
                    draft.name = self.naming.another();
                }
                error => return Err(error),
            }
        }
        if self.manners.sync {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
            directory.and_then(rustix::fs::fsync).map_err(Unpublished::Unsure)?;
        }
        Ok(())
    }

    /// Counts a part among those that are kept: under its name, or where that could not be given to it under
    /// its temporary one, for it takes room all the same.
    pub(super) fn keep(&mut self, file: &File, draft: &Draft) {
        if self.manners.keep.is_none() {
            return;
        }
        let Ok(finished) = rustix::fs::fstat(file) else { return };
        let is_it = |name: &OsStr| self.stat(name).is_ok_and(|found| identity(&found) == identity(&finished));
        let name = [&draft.name, &draft.temporary].into_iter().find(|name| is_it(name));
        if let Some(name) = name {
            self.kept.retain(|(kept, _)| kept != name);
            self.kept.push_back((name.clone(), as_kept(&finished)));
        }
    }

    fn stat(&self, name: &OsStr) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Makes a file under a temporary name; none if the name itself is taken.
    fn draft(&self, name: &OsStr) -> anyhow::Result<Option<(File, Draft)>> {
        match self.stat(name) {
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
                    // Whatever the umask is. A file system without modes, such as FAT, has its own.
                    match rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)) {
                        Ok(()) | Err(Errno::PERM) => {}
                        Err(error) => return Err(error.into()),
                    }
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

    fn rename(&self, file: &File, draft: &Draft) -> Result<(), Unpublished> {
        let ours = rustix::fs::fstat(file).map_err(Unpublished::Nameless)?;
        // Else what somebody has put in its place would be called whole.
        match self.stat(&draft.temporary) {
            Ok(found) if identity(&found) == identity(&ours) => {}
            Ok(_) | Err(Errno::NOENT) => return Err(Unpublished::Gone),
            Err(error) => return Err(Unpublished::Nameless(error)),
        }
        self.rename_draft(draft).map_err(Unpublished::Nameless)
    }

    fn rename_draft(&self, draft: &Draft) -> rustix::io::Result<()> {
        let (from, to) = (&draft.temporary, &draft.name);
        if self.manners.overwrite {
            return rustix::fs::renameat(&self.fd, from, &self.fd, to);
        }
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            // Not every file system can. A link never replaces either.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            done => return done,
        }
        match rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty()) {
            // Nor has every one links. An empty file of that name is ours, and may be replaced.
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            linked => {
                linked?;
                // If that fails the file has two names, and is whole under both.
                let _ = rustix::fs::unlinkat(&self.fd, from, AtFlags::empty());
                return Ok(());
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        drop(rustix::fs::openat(&self.fd, to, flags, Mode::from_raw_mode(0o600))?);
        rustix::fs::renameat(&self.fd, from, &self.fd, to).inspect_err(|_| {
            let _ = rustix::fs::unlinkat(&self.fd, to, AtFlags::empty());
        })
    }

    fn make_room(&mut self, warn: &dyn Fn(&str)) {
        let Some(keep) = self.manners.keep else { return };
        // One is about to be made.
        while self.kept.len() >= (keep.max(1)) as usize {
            let Some((oldest, was)) = self.kept.pop_front() else { return };
            let removed = match self.stat(&oldest) {
                Ok(found) if as_kept(&found) == was => {
                    rustix::fs::unlinkat(&self.fd, &oldest, AtFlags::empty())
                }
                // Somebody has removed it, and another may have that name now.
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    let oldest = self.shown(&oldest);
                    warn(&format!("cannot remove {}: {}", oldest.display(), io::Error::from(error)));
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

/// Why a part has not got its name, or is not as safe as was asked.
#[derive(Debug)]
pub(super) enum Unpublished {
    /// What was written may not be in the file.
    Unwritten(Errno),
    /// It is whole, and can't be given its name.
    Nameless(Errno),
    /// Nothing has its temporary name any more, or something else.
    Gone,
    /// It has its name, but maybe not for long.
    Unsure(Errno),
}

impl Unpublished {
    fn failed(error: io::Error) -> Self {
        Self::Nameless(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// In words: `name` is what it was to be called and `temporary` where it was written.
    pub(super) fn told(&self, name: &Path, temporary: &Path) -> String {
        let (name, temporary) = (name.display(), temporary.display());
        let reason = |error: &Errno| io::Error::from(*error);
        match self {
            Self::Unwritten(error) => {
                let error = reason(error);
                format!("{name} may not be on the disk: {error}; what is there of it is in {temporary}")
            }
            Self::Nameless(Errno::EXIST) => {
                format!("a file called {name} was made meanwhile; the capture is whole in {temporary}")
            }
            Self::Nameless(error) => {
                format!("cannot give {name} its name: {}; it is whole in {temporary}", reason(error))
            }
            Self::Gone => format!("{name} is lost: somebody has removed {temporary} while it was written"),
            Self::Unsure(error) => format!("the name {name} may not be on the disk: {}", reason(error)),
        }
    }
}

fn identity(found: &Stat) -> Identity {
    (found.st_dev, found.st_ino)
}

fn as_kept(found: &Stat) -> Kept {
    (identity(found), (found.st_mtime, found.st_mtime_nsec))
}

fn as_rustix(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
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
