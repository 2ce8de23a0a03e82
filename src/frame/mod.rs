//! Segments → Ethernet frames. Pure: no I/O, no clock.
//!
//! The plaintext of a flow is put into an envelope (`tls`, or `plain`: none) and the result is drawn as the
//! TCP conversation that would have carried it (`tcp`). Numbers are counted after the envelope.

mod guess;
mod headers;
mod hello;
mod plain;
mod ports;
mod tcp;
mod tls;

use crate::event::{Comm, Dir};
use crate::flow::{Flow, Segment};

/// Most payload that one TCP segment is drawn with. A whole record of the kernel side fits; with the longest
/// headers it stays well under the 65,535 bytes that an IP packet may have, whatever an envelope adds, and a
/// block of the file stays under what Wireshark accepts.
pub const SEGMENT_MAX: usize = 32_768;

/// Most lost bytes that one loss is filled with zeros for, in the envelope. So a reader of the protocol
/// inside keeps its place in the stream; beyond this it is cheaper to begin a new connection. A damaged
/// stream can tell of 2⁶⁴ bytes.
pub const FILL_MAX: u64 = 16 << 20;

/// Most bytes that a frame can have.
pub const FRAME_MAX: usize = headers::ETHERNET_BYTES + headers::IP_MAX + headers::TCP_MAX + SEGMENT_MAX;

const _: () = assert!(headers::IP_MAX + headers::TCP_MAX + SEGMENT_MAX <= u16::MAX as usize);

/// One Ethernet frame, and what is said about it beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Wall-clock time, nanoseconds since 1970-01-01 UTC.
    pub at: u64,
    /// Whose.
    pub flow: &'a Flow,
    /// Which way, as the traced process sees it.
    pub dir: Dir,
    /// The frame, from the Ethernet header on, without a frame check sequence.
    pub bytes: &'a [u8],
    /// Whether the process must be named here: it is the first frame of the flow, or the first that another
    /// process (or the same one under another name) is the cause of.
    pub introduce: bool,
    /// What is out of the ordinary about it.
    pub note: Option<Note>,
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
}

/// What is remembered of each flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    numbers: tcp::Numbers,
    introduced: Option<(u32, Comm)>,
    dress: tls::Dress,
}

/// Draws segments. One is enough for all flows; what belongs to a flow is in its [`State`].
#[derive(Debug)]
pub struct Encoder {
    envelope: Envelope,
    buffer: Vec<u8>,
}

impl Encoder {
    /// One that wraps as `envelope` says.
    #[must_use]
    pub fn new(envelope: Envelope) -> Self {
        Self { envelope, buffer: Vec::with_capacity(FRAME_MAX) }
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
        let mut pen = tcp::Pen { at, flow, state, buffer: &mut self.buffer, emit };
        match self.envelope {
            Envelope::Tls => tls::draw(&mut pen, dir, what),
            Envelope::Plain => plain::draw(&mut pen, dir, what),
        }
    }
}
