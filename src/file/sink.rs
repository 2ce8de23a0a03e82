//! Where blocks go, as the writer sees it.

use std::io;

/// Takes whole blocks, part after part.
pub trait Sink {
    /// A part begins: the blocks that follow are its own.
    ///
    /// # Errors
    /// What hindered writing what came before. [`io::ErrorKind::BrokenPipe`]: there is no reader any more.
    fn begin(&mut self, part: Part) -> io::Result<()>;

    /// Where the next block is to be appended. What is there already must be left as it is.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// A whole block was appended to [`Self::buffer`]; it may be kept back until [`Self::flush`].
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn block(&mut self) -> io::Result<()>;

    /// Sees to it that a reader gets what was kept back, soon.
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn flush(&mut self) -> io::Result<()>;

    /// The part that was begun is whole.
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn end(&mut self) -> io::Result<()>;

    /// No part follows: waits until all parts are where they are to be.
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether there is no room for more until somebody has taken what is there.
    fn is_full(&mut self) -> bool {
        false
    }
}

/// A part of a capture: one section, which opens alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// Time of its first packet, nanoseconds since 1970-01-01 UTC.
    pub at: u64,
}

/// All parts one after another.
impl Sink for Vec<u8> {
    fn begin(&mut self, _part: Part) -> io::Result<()> {
        Ok(())
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        self
    }

    fn block(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Sink> Sink for &mut S {
    fn begin(&mut self, part: Part) -> io::Result<()> {
        (**self).begin(part)
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        (**self).buffer()
    }

    fn block(&mut self) -> io::Result<()> {
        (**self).block()
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn end(&mut self) -> io::Result<()> {
        (**self).end()
    }

    fn close(&mut self) -> io::Result<()> {
        (**self).close()
    }

    fn is_full(&mut self) -> bool {
        (**self).is_full()
    }
}
