//! Segments → Ethernet frames. Pure: no I/O, no clock.
//!
//! The plaintext of a flow is put into an envelope (`plain`: none) and the result is drawn as the TCP
//! conversation that would have carried it (`tcp`). Numbers are counted after the envelope.

mod headers;
mod plain;
mod tcp;

use crate::event::{Comm, Dir};
use crate::flow::{Flow, Segment};

/// Most payload that one TCP segment is drawn with. A whole record of the kernel side fits; with the longest
/// headers it stays well under the 65,535 bytes that an IP packet may have, whatever an envelope adds, and a
/// block of the file stays under what Wireshark accepts.
pub const SEGMENT_MAX: usize = 32_768;

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
    /// So many bytes of plaintext of this direction were lost immediately before this frame.
    pub lost: Option<u64>,
}

/// What is remembered of each flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    numbers: tcp::Numbers,
    introduced: Option<(u32, Comm)>,
}

/// Draws segments. One is enough for all flows; what belongs to a flow is in its [`State`].
#[derive(Debug)]
pub struct Encoder {
    buffer: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { buffer: Vec::with_capacity(FRAME_MAX) }
    }
}

impl Encoder {
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
        plain::draw(&mut tcp::Pen { at, flow, state, buffer: &mut self.buffer, emit }, dir, what)
    }
}
