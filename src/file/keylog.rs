//! The key log: a text file with the secrets of sessions, one a line (draft-ietf-tls-keylogfile), apart from
//! the capture that they open.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FileType, Mode, OFlags};

/// Mode of the file: whoever reads it reads the captures that belong to it.
const MODE: u32 = 0o600;

/// A key log that lines are appended to. They are with the kernel at once, so that a packet never comes
/// before what opens it. Errors name the file.
#[derive(Debug)]
pub struct KeyLog {
    file: File,
    name: PathBuf,
}

impl KeyLog {
    /// Opens `path` to append to it. It is made if there is none; what is in it stays, and its mode becomes
    /// 0600.
    ///
    /// # Errors
    /// It cannot be opened, belongs to someone else, or is no file: a symbolic link may lead anywhere.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path).with_context(|| format!("cannot write secrets to {}", path.display()))?;
        Ok(Self { file, name: path.to_owned() })
    }

    /// Another handle for the same file: what one appends, the other appends after.
    ///
    /// # Errors
    /// No more files can be open.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, name: self.name.clone() })
    }

    /// Appends `lines`, each with its end of line, as one write.
    ///
    /// # Errors
    /// What hindered writing.
    pub fn append(&mut self, lines: &str) -> io::Result<()> {
        self.file.write_all(lines.as_bytes()).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write secrets to {}: {error}", self.name.display()))
        })
    }
}

fn open(path: &Path) -> Result<File> {
    // Without O_NONBLOCK a FIFO would wait for its reader before it can be refused.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NOCTTY
        | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(MODE)) {
        Err(rustix::io::Errno::LOOP) => {
            bail!("it is a symbolic link (name the file that it leads to)")
        }
        opened => File::from(opened?),
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    ensure!(kind == FileType::RegularFile, "it is not a file");
    file.set_permissions(Permissions::from_mode(MODE)).context("it belongs to someone else")?;
    Ok(file)
}
