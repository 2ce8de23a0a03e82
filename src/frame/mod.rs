//! Segments → Ethernet frames. Pure: no I/O, no clock.
//!
//! The plaintext of a flow is put into an envelope (`tls`, `sealed`, or `plain`: none) and the result is
//! drawn as the TCP conversation that would have carried it (`tcp`). Numbers are counted after the envelope.

mod checksum;
mod guess;
mod headers;
mod hello;
pub mod keylog;
mod keys;
mod plain;
mod ports;
mod sealed;
mod tcp;
mod tls;

use crate::event::{Comm, Dir};
use crate::flow::{Flow, Segment, What};

/// Most payload that one TCP segment is drawn with. A whole record of the kernel side fits; with the longest
/// headers it stays well under the 65,535 bytes that an IP packet may have, whatever an envelope adds, and a
/// block of the file stays under what Wireshark accepts.
pub const SEGMENT_MAX: usize = 32_768;

/// Most lost bytes that one loss is filled with zeros for, in the envelope. So a reader of the protocol
/// inside keeps its place in the stream; beyond this it is cheaper to begin a new connection. A damaged
/// stream can tell of 2⁶⁴ bytes.
pub const FILL_MAX: u64 = 16 << 20;

/// Most bytes that a frame can have.
pub const FRAME_MAX: usize = headers::HEADERS_MAX + SEGMENT_MAX;

const _: () = assert!(headers::IP_TCP_MAX + SEGMENT_MAX <= u16::MAX as usize);

/// One Ethernet frame, and what is said about it beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Wall-clock time, nanoseconds since 1970-01-01 UTC.
    pub at: u64,
    /// Whose.
    pub flow: &'a Flow,
    /// Which way, as the traced process sees it.
    pub dir: Dir,
    /// Ethernet, IP and TCP header.
    pub headers: &'a [u8],
    /// What follows them, in parts, so that it is put together only in the file; no frame check sequence.
    pub payload: &'a [&'a [u8]],
    /// How many bytes more it had, which are not there.
    pub cut: u32,
    /// Whether the process must be named here: it is the first frame of the flow, or the first that another
    /// process (or the same one under another name) is the cause of.
    pub introduce: bool,
    /// What is out of the ordinary about it.
    pub note: Option<Note>,
    /// Secrets that a reader needs to open this frame and those after it: lines of a key log
    /// (draft-ietf-tls-keylogfile), each with its end of line.
    pub secrets: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// The bytes of the frame, in parts.
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        std::iter::once(self.headers).chain(self.payload.iter().copied())
    }

    /// How many bytes of it are there, at most [`FRAME_MAX`] of one that was drawn.
    #[must_use]
    pub fn length(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    /// How many bytes it had.
    #[must_use]
    pub fn original(&self) -> usize {
        self.length() + self.cut as usize
    }
}

/// What is out of the ordinary about a frame: bytes that were lost, or that were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// So many bytes of plaintext of this direction were lost immediately before this frame; the sequence
    /// numbers step over them.
    Gap(u64),
    /// The payload of this frame stands for so many bytes of plaintext that were lost: zeros.
    Filled {
        /// How many.
        bytes: u64,
        /// Whether it is the first frame of its loss.
        first: bool,
    },
    /// So many bytes of plaintext of this direction were lost, too many to stand for them: the connection
    /// breaks off.
    BrokenOff(u64),
    /// The connection begins again after [`Note::BrokenOff`].
    BegunAgain(u64),
    /// So many bytes of plaintext, of both directions, were not written before this frame, because the output
    /// took nothing: the connection begins again.
    Unwritten(u64),
    /// The connection was begun in an earlier part of the capture.
    Continued,
    /// The payload of this frame was not captured: it is there for the reader to know the protocol by.
    Added,
}

/// How plaintext is wrapped in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Envelope {
    /// As a TLS session that encrypts nothing, so that Wireshark knows every protocol on any port; plain
    /// bytes on the few ports where that does not work.
    #[default]
    Tls,
    /// Not at all.
    Plain,
    /// As the packets that really were: nothing is drawn.
    Wire,
    /// As a TLS session that encrypts, with keys that are made for it out of a [`Seed`].
    Sealed,
}

/// What the keys of [`Envelope::Sealed`] are derived from: random, and never given to two encoders. The same
/// seed and the same segments give the same frames.
pub type Seed = [u8; 32];

/// What is remembered of each flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    numbers: tcp::Numbers,
    introduced: Option<(u32, Comm)>,
    dress: tls::Dress,
    session: Option<sealed::Session>,
    /// The part of the capture that its last segment was drawn for.
    part: u32,
    /// Why a reader does not know the connection, though it was drawn before.
    strange: Option<Strange>,
}

/// Why the connection must be begun again before anything more of it is drawn.
#[derive(Clone, Copy, Debug)]
enum Strange {
    /// It was begun in another part.
    Part,
    /// So many bytes of it were passed over.
    Unwritten(u64),
}

/// Draws segments. One is enough for all flows; what belongs to a flow is in its [`State`].
#[derive(Debug)]
pub struct Encoder {
    envelope: Envelope,
    sealer: Option<sealed::Sealer>,
    fill_max: u64,
    part: u32,
}

impl Encoder {
    /// One that wraps as `envelope` says. Only [`Envelope::Sealed`] looks at the seed.
    #[must_use]
    pub fn new(envelope: Envelope, seed: &Seed) -> Self {
        let sealer = (envelope == Envelope::Sealed).then(|| sealed::Sealer::new(seed));
        Self { envelope, sealer, fill_max: FILL_MAX, part: 0 }
    }

    /// The same, but fills no loss of more than `bytes`, if that is less than [`FILL_MAX`].
    #[must_use]
    pub fn fill_max(self, bytes: u64) -> Self {
        Self { fill_max: bytes.min(FILL_MAX), ..self }
    }

    /// Most lost bytes that are filled.
    #[must_use]
    pub fn fills(&self) -> u64 {
        self.fill_max
    }

    /// What is drawn from now on is for this part of the capture: flows of another begin again in it.
    pub fn set_part(&mut self, part: u32) {
        self.part = part;
    }

    /// Passes over a segment that there is no room for. The flow tells of it when it is drawn again.
    pub fn skip(&mut self, segment: Segment<'_, State>) {
        let bytes = match segment.what {
            What::Data(bytes) => bytes.len() as u64,
            What::Gap(lost) => lost,
            What::Open | What::Fin | What::Reset => 0,
        };
        let before = match segment.state.strange {
            Some(Strange::Unwritten(before)) => before,
            Some(Strange::Part) | None => 0,
        };
        segment.state.strange = Some(Strange::Unwritten(before.saturating_add(bytes)));
    }

    /// Draws one segment: hands no, one or several frames to `emit`, in order.
    ///
    /// # Errors
    /// The first error of `emit`, as it is; what was not drawn by then is missing.
    pub fn segment<E>(
        &mut self,
        segment: Segment<'_, State>,
        emit: &mut dyn FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Segment { at, flow, state, dir, what } = segment;
        if std::mem::replace(&mut state.part, self.part) != self.part {
            state.introduced = None;
            if state.numbers.have_begun() && state.strange.is_none() {
                state.strange = Some(Strange::Part);
            }
        }
        let sealer = self.sealer.as_mut();
        let mut pen = tcp::Pen { at, flow, state, fill_max: self.fill_max, sealer, emit };
        match self.envelope {
            Envelope::Tls | Envelope::Sealed => tls::draw(&mut pen, dir, what),
            Envelope::Plain => plain::draw(&mut pen, dir, what),
            Envelope::Wire => Ok(()),
        }
    }
}
