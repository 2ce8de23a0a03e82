//! Where blocks go: a file, a pipe, a device, standard output.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, SeekFrom};

/// Bytes that are collected before they are written.
pub const BUFFER_BYTES: usize = 256 * 1024;

/// Mode of the files that are made: plaintext of other people's connections is in them.
const MODE: u32 = 0o600;

/// Takes whole blocks.
pub trait Sink {
    /// Takes one block; it may be kept back until [`Self::flush`].
    ///
    /// # Errors
    /// What hindered writing. [`io::ErrorKind::BrokenPipe`]: there is no reader any more.
    fn block(&mut self, block: &[u8]) -> io::Result<()>;

    /// Writes what was kept back.
    ///
    /// # Errors
    /// As [`Self::block`].
    fn flush(&mut self) -> io::Result<()>;
}

impl<W: Write> Sink for W {
    fn block(&mut self, block: &[u8]) -> io::Result<()> {
        self.write_all(block)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }
}

/// A file, pipe or device that was opened by name, or standard output.
///
/// When it cannot be written to any more (a full disk), a file ends with the last block that found room as a
/// whole, so that it opens. Errors name the file and keep their [`io::ErrorKind`]. Nothing is written when it
/// is dropped.
#[derive(Debug)]
pub struct Output {
    file: File,
    name: PathBuf,
    buffer: Vec<u8>,
    /// Where blocks end in `buffer`.
    ends: Vec<usize>,
}

impl Output {
    /// Opens `path` for writing; `-` is standard output. A file is made with mode 0600, or emptied and given
    /// that mode if there is one already. A FIFO (which waits for its reader) or a character device is
    /// written to as it is.
    ///
    /// # Errors
    /// It cannot be opened, or is a symbolic link, which may lead anywhere, or a directory, block device or
    /// socket.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, name) = if is_stdout(path) {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            (File::from(stdout.context("cannot write to standard output")?), "standard output".into())
        } else {
            (create(path).with_context(|| format!("cannot write to {}", path.display()))?, path.to_owned())
        };
        Ok(Self { file, name, buffer: Vec::with_capacity(BUFFER_BYTES), ends: Vec::new() })
    }

    /// Writes the buffer; if it does not fit, takes back the block that was cut.
    fn write_out(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.buffer.len() {
            match self.file.write(&self.buffer[written..]) {
                Ok(0) => return self.fail(written, io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return self.fail(written, e),
            }
        }
        self.buffer.clear();
        self.ends.clear();
        Ok(())
    }

    fn fail(&mut self, written: usize, error: io::Error) -> io::Result<()> {
        let whole = self.ends.iter().copied().take_while(|&end| end <= written).last().unwrap_or(0);
        // That the file cannot be cut is not worth hiding the reason for, and a pipe never can.
        let _ = take_back(&self.file, (written - whole) as u64);
        self.buffer.clear();
        self.ends.clear();
        Err(io::Error::new(error.kind(), format!("cannot write to {}: {error}", self.name.display())))
    }
}

impl Sink for Output {
    fn block(&mut self, block: &[u8]) -> io::Result<()> {
        if self.buffer.len() + block.len() > BUFFER_BYTES {
            self.write_out()?;
        }
        self.buffer.extend_from_slice(block);
        self.ends.push(self.buffer.len());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()
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

/// Opens `path` for writing as [`Output::open`] does, but for standard output.
///
/// # Errors
/// As [`Output::open`].
pub fn create(path: &Path) -> Result<File> {
    let nofollow = if is_own_fd(path) { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = (nofollow | OFlags::NOCTTY).bits().cast_signed();
    let new = OpenOptions::new().write(true).create_new(true).mode(MODE).custom_flags(flags).open(path);
    match new {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => return Ok(made?),
    }
    let file = match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            bail!("it is a symbolic link (name the file that it leads to)")
        }
        opened => opened?,
    };
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    match kind {
        rustix::fs::FileType::RegularFile => {
            file.set_permissions(Permissions::from_mode(MODE)).context("it belongs to someone else")?;
            file.set_len(0)?;
        }
        rustix::fs::FileType::Fifo | rustix::fs::FileType::CharacterDevice => {}
        _ => bail!("it is neither a file nor a FIFO nor a character device"),
    }
    Ok(file)
}

/// Cuts `bytes` off a regular file whose last bytes they are and at whose end `file` stands.
fn take_back(file: &File, bytes: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    let position = rustix::fs::tell(file)?;
    if file.metadata()?.is_file() && position == length && bytes > 0 {
        file.set_len(length.saturating_sub(bytes))?;
        rustix::fs::seek(file, SeekFrom::End(0))?;
    }
    Ok(())
}
