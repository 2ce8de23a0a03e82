//! The thread that writes: chunks of blocks → a stream, or parts one after another.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use flume::{Receiver, RecvTimeoutError, Sender};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{SeekFrom, Timespec};
use rustix::io::Errno;

use super::command::Runner;
use super::compress::Compressed;
use super::directory::{Directory, Draft, Unpublished};
use super::output::{CHUNK_BYTES, Order, Say, Settings};
use super::sink::Part;

/// How often the thread looks up when there is nothing to write.
const IDLE: Duration = Duration::from_millis(100);

/// Where it goes.
#[derive(Debug)]
pub(super) enum Goal {
    /// A FIFO, a device, standard output: with its name.
    Stream(File, PathBuf),
    /// Files.
    Parts(Directory),
}

/// The state of the thread.
pub(super) struct Writing {
    goal: Goal,
    compress: Option<i32>,
    runner: Option<Runner>,
    say: Say,
    progress: Arc<AtomicU64>,
    /// The part that is being written.
    part: Option<(Body, Draft)>,
    /// Whether [`Self::part`] was made ahead, when the capture was opened.
    ahead: bool,
    /// The first part that could not be given its name; the capture goes on, and ends with this.
    failed: Option<io::Error>,
}

/// The file of a part.
#[derive(Debug)]
enum Body {
    Plain(File),
    Compressed(Compressed),
}

impl Writing {
    /// Makes the file of a capture that is one part, so that it is known at the start whether it can be.
    pub(super) fn new(goal: Goal, settings: Settings, say: Say, progress: Arc<AtomicU64>) -> Result<Self> {
        let runner = settings.command.map(Runner::new);
        let compress = settings.compress;
        let ahead = !settings.cut && matches!(goal, Goal::Parts(_));
        let mut writing = Self { goal, compress, runner, say, progress, part: None, ahead, failed: None };
        if ahead {
            writing.create(Part { number: 1, at: 0 })?;
        }
        Ok(writing)
    }

    /// Does as it is told until there is nobody who could tell it anything.
    ///
    /// # Errors
    /// What can't be written; then the thread ends.
    pub(super) fn run(&mut self, orders: &Receiver<Order>, used: &Sender<Vec<u8>>) -> io::Result<()> {
        let done = self.obey(orders, used);
        // Also those of parts that were finished before something failed.
        if let Some(runner) = &mut self.runner {
            runner.finish();
        }
        self.tell_troubles();
        done.and(self.failed.take().map_or(Ok(()), Err))
    }

    fn obey(&mut self, orders: &Receiver<Order>, used: &Sender<Vec<u8>>) -> io::Result<()> {
        loop {
            match orders.recv_timeout(IDLE) {
                Ok(Order::Begin(part)) => self.begin(part)?,
                Ok(Order::Blocks(mut chunk, flush)) => {
                    self.write(&chunk, flush)?;
                    self.progress.fetch_add(1, Ordering::Relaxed);
                    if chunk.capacity() >= CHUNK_BYTES {
                        chunk.clear();
                        // There are enough then.
                        let _ = used.try_send(chunk);
                    }
                }
                Ok(Order::End) => self.end()?,
                Err(RecvTimeoutError::Timeout) => self.idle()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn begin(&mut self, part: Part) -> io::Result<()> {
        if matches!(self.goal, Goal::Stream(..)) || std::mem::take(&mut self.ahead) {
            return Ok(());
        }
        self.create(part).map_err(|error| {
            let kind = error.downcast_ref::<Errno>().map_or(io::ErrorKind::Other, |errno| errno.kind());
            io::Error::new(kind, format!("cannot make the next part: {error:#}"))
        })
    }

    fn create(&mut self, part: Part) -> Result<()> {
        let Goal::Parts(directory) = &mut self.goal else { return Ok(()) };
        let (file, draft) = directory.create(part, &self.say)?;
        let body = match self.compress {
            Some(level) => Body::Compressed(Compressed::new(file, level)?),
            None => Body::Plain(file),
        };
        self.part = Some((body, draft));
        Ok(())
    }

    fn write(&mut self, chunk: &[u8], flush: bool) -> io::Result<()> {
        match (&mut self.goal, &mut self.part) {
            (Goal::Stream(file, name), _) => write_all(file, chunk).map_err(|(error, written)| {
                let _ = take_back(file, (written - whole_blocks(&chunk[..written])) as u64);
                let kind = error.kind();
                io::Error::new(kind, format!("cannot write to {}: {error}", name.display()))
            }),
            (Goal::Parts(directory), Some((body, draft))) => body.write(chunk, flush).map_err(|error| {
                cannot_write(&directory.shown(draft.name()), &error, &directory.shown(draft.temporary()))
            }),
            (Goal::Parts(_), None) => Ok(()),
        }
    }

    /// Gives the part its name. If that fails the capture goes on with the next; if what is left of the part
    /// can't be written it ends, as with all else that can't be written.
    fn end(&mut self) -> io::Result<()> {
        let (Goal::Parts(directory), Some((body, mut draft))) = (&mut self.goal, self.part.take()) else {
            return Ok(());
        };
        let kept = directory.shown(draft.temporary());
        let finished = body.finish();
        let file = finished.map_err(|error| cannot_write(&directory.shown(draft.name()), &error, &kept))?;
        let published = directory.publish(&file, &mut draft);
        directory.keep(&file, &draft);
        let name = directory.shown(draft.name());
        if matches!(published, Ok(()) | Err(Unpublished::Unsure(_))) {
            self.runner.iter_mut().for_each(|runner| runner.add(name.clone()));
        }
        if let Err(unpublished) = published {
            let told = unpublished.told(&name, &kept);
            (self.say)(&told);
            self.failed.get_or_insert_with(|| io::Error::other(told));
        }
        self.tell_troubles();
        Ok(())
    }

    fn idle(&mut self) -> io::Result<()> {
        if let Some(runner) = &mut self.runner {
            runner.look();
        }
        self.tell_troubles();
        match &self.goal {
            Goal::Stream(file, name) if has_lost_its_reader(file) => {
                let told = format!("cannot write to {}: nobody reads it any more", name.display());
                Err(io::Error::new(io::ErrorKind::BrokenPipe, told))
            }
            _ => Ok(()),
        }
    }

    fn tell_troubles(&mut self) {
        let troubles = self.runner.as_mut().map(Runner::troubles).unwrap_or_default();
        troubles.iter().for_each(|trouble| (self.say)(trouble));
    }
}

impl Body {
    /// If it does not fit, a block that was cut is taken back, so that the file opens. What was compressed
    /// opens up to where it was cut.
    fn write(&mut self, chunk: &[u8], flush: bool) -> io::Result<()> {
        match self {
            Self::Plain(file) => write_all(file, chunk).map_err(|(error, written)| {
                // That the file cannot be cut is not worth hiding the reason for, and a pipe never can.
                let _ = take_back(file, (written - whole_blocks(&chunk[..written])) as u64);
                error
            }),
            // What a reader can make out of a frame that is cut off is more than what was flushed.
            Self::Compressed(compressed) => {
                compressed.write(chunk)?;
                if flush { compressed.flush() } else { Ok(()) }
            }
        }
    }

    fn finish(self) -> io::Result<File> {
        match self {
            Self::Plain(file) => Ok(file),
            Self::Compressed(compressed) => compressed.finish(),
        }
    }
}

fn cannot_write(name: &Path, error: &io::Error, kept: &Path) -> io::Error {
    let (name, kept) = (name.display(), kept.display());
    let told = format!("cannot write to {name}: {error}; what it held until then is in {kept}");
    io::Error::new(error.kind(), told)
}

/// Writes all of it, or gives the error and how much was written.
fn write_all(mut file: &File, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

/// How many bytes of `blocks` are whole blocks; each has its length after its type.
fn whole_blocks(blocks: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(length) = blocks.get(whole + 4..).and_then(|rest| rest.first_chunk()) {
        let next = whole + u32::from_le_bytes(*length) as usize;
        if next <= whole || next > blocks.len() {
            break;
        }
        whole = next;
    }
    whole
}

/// Cuts `bytes` off a regular file whose last bytes they are and at whose end `file` stands.
fn take_back(file: &File, bytes: u64) -> io::Result<()> {
    let found = file.metadata()?;
    let position = rustix::fs::tell(file)?;
    if found.is_file() && position == found.len() {
        file.set_len(position.saturating_sub(bytes))?;
        rustix::fs::seek(file, SeekFrom::End(0))?;
    }
    Ok(())
}

/// Whether the file is a pipe that nobody has open for reading.
fn has_lost_its_reader(file: &File) -> bool {
    let mut polled = [PollFd::new(file, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::whole_blocks;

    #[test]
    fn whole_blocks_are_counted() {
        let block = |length: u32| {
            let mut block = vec![6, 0, 0, 0];
            block.extend_from_slice(&length.to_le_bytes());
            block.resize(length as usize, 0);
            block
        };
        let blocks = [block(12), block(32), block(16)].concat();
        for (cut, whole) in [(0, 0), (7, 0), (11, 0), (12, 12), (43, 12), (44, 44), (59, 44), (60, 60)] {
            assert_eq!(whole_blocks(&blocks[..cut]), whole, "{cut}");
        }
        // Lengths that can't be.
        assert_eq!(whole_blocks(&[0; 64]), 0);
        assert_eq!(whole_blocks(&[0xff; 64]), 0);
    }
}
