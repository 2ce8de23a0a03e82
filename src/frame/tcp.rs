//! The TCP conversation of a flow: numbers, flags, the cut into segments (RFC 9293).

use crate::event::Dir;
use crate::flow::Flow;

use super::headers::{Headers, Tcp, addresses, ends};
use super::sealed::Sealer;
use super::{Frame, Note, SEGMENT_MAX, State, Strange};

/// Window of a SYN, which is not scaled; what Linux offers.
const SYN_WINDOW: u16 = 64_240;
/// Window of all other segments, in units of 2^[`WINDOW_SCALE`] bytes. Together they are far from any round
/// number of bytes, so that no reader takes a window for exactly full.
const WINDOW: u16 = u16::MAX;
/// Window scale (RFC 7323) of both ends; what Linux offers.
const WINDOW_SCALE: u8 = 7;
/// Maximum segment size that both ends announce: a loopback's, since segments are drawn longer than a real
/// network would carry.
const MSS: [u8; 2] = 65_475u16.to_be_bytes();
/// Of a SYN: MSS, one NOP for alignment, window scale (kinds 2, 1 and 3).
const SYN_OPTIONS: [u8; 8] = [2, 4, MSS[0], MSS[1], 1, 3, 3, WINDOW_SCALE];

/// Farthest that one frame moves the sequence number over lost bytes. A step of half the number space or
/// more reads as a step back (RFC 9293, section 3.4), so longer ones are made in several, each acknowledged
/// before the next.
const STEP_MAX: u32 = 1 << 30;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// How far a conversation is, by [`Dir::index`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// The next sequence number of each direction; none before the conversation begins.
    next: Option<[u32; 2]>,
    /// Whether a gap was drawn and no data after it yet.
    gap: [bool; 2],
}

impl Numbers {
    /// Whether anything was drawn yet.
    pub(super) fn have_begun(&self) -> bool {
        self.next.is_some()
    }

    fn next(&mut self, flow: &Flow) -> &mut [u32; 2] {
        self.next.get_or_insert_with(|| first_numbers(flow.id))
    }
}

/// Draws in one flow at one time.
pub(super) struct Pen<'a, E> {
    pub(super) at: u64,
    pub(super) flow: &'a Flow,
    pub(super) state: &'a mut State,
    /// Most lost bytes that zeros are drawn for.
    pub(super) fill_max: u64,
    /// What seals records; none where nothing is sealed.
    pub(super) sealer: Option<&'a mut Sealer>,
    pub(super) emit: &'a mut dyn FnMut(&Frame<'_>) -> Result<(), E>,
}

impl<E> Pen<'_, E> {
    /// SYN, SYN-ACK, ACK; the first goes in direction `client` and carries the note.
    pub(super) fn handshake(&mut self, client: Dir, note: Option<Note>) -> Result<(), E> {
        self.send(client, SYN, &[], note)?;
        self.send(client.flip(), SYN | ACK, &[], None)?;
        self.send(client, ACK, &[], None)
    }

    /// Payload, cut into as many segments as it needs. No bytes, no segment. The first after a gap is
    /// acknowledged by an empty segment: a reader that puts the stream together waits for the missing bytes
    /// until then.
    pub(super) fn data(&mut self, dir: Dir, bytes: &[u8]) -> Result<(), E> {
        for piece in bytes.chunks(SEGMENT_MAX) {
            self.payload(dir, &[piece], None)?;
            if std::mem::take(&mut self.state.numbers.gap[dir.index()]) {
                self.send(dir.flip(), ACK, &[], None)?;
            }
        }
        Ok(())
    }

    /// One segment of payload, given in parts: not more than [`SEGMENT_MAX`] bytes.
    pub(super) fn payload(&mut self, dir: Dir, parts: &[&[u8]], note: Option<Note>) -> Result<(), E> {
        self.send(dir, PSH | ACK, parts, note)
    }

    /// The same, with the secrets that a reader needs from here on.
    pub(super) fn secret_payload(&mut self, dir: Dir, parts: &[&[u8]], secrets: &str) -> Result<(), E> {
        self.send_with(dir, PSH | ACK, parts, None, Some(secrets))
    }

    /// Steps over `lost` bytes. The step shows as an empty segment after the gap, so that a loss that nothing
    /// follows is told too. Numbers count modulo 2^32; the note on the first segment tells the true length.
    pub(super) fn gap(&mut self, dir: Dir, lost: u64) -> Result<(), E> {
        if lost == 0 {
            return Ok(());
        }
        self.state.numbers.gap[dir.index()] = true;
        // Truncation is what sequence numbers do.
        let mut left = lost as u32;
        self.step(dir, &mut left, Some(Note::Gap(lost)))?;
        while left > 0 {
            self.send(dir.flip(), ACK, &[], None)?;
            self.step(dir, &mut left, None)?;
        }
        Ok(())
    }

    /// The end of one direction, with the last of its payload.
    pub(super) fn fin(&mut self, dir: Dir, payload: &[u8]) -> Result<(), E> {
        self.send(dir, FIN | ACK, &[payload], None)
    }

    /// The end of both directions, without one.
    pub(super) fn reset(&mut self, dir: Dir) -> Result<(), E> {
        self.send(dir, RST | ACK, &[], None)
    }

    /// Breaks off and begins again, instead of `lost` bytes of direction `dir`. The numbers go on, because a
    /// SYN with the number of an earlier one would be taken for that one sent again.
    pub(super) fn restart(&mut self, dir: Dir, lost: u64) -> Result<(), E> {
        self.send(dir, RST | ACK, &[], Some(Note::BrokenOff(lost)))?;
        self.handshake(self.flow.client(), Some(Note::BegunAgain(lost)))
    }

    /// If a reader does not know the connection, draws it begun again and says why; says whether it did.
    /// The numbers go on, as in [`Self::restart`].
    pub(super) fn reintroduce(&mut self) -> Result<bool, E> {
        let Some(strange) = self.state.strange.take() else { return Ok(false) };
        let note = match strange {
            Strange::Part => Some(Note::Continued),
            // Nothing but its beginning was passed over.
            Strange::Unwritten(0) if !self.state.numbers.have_begun() => None,
            Strange::Unwritten(bytes) => Some(Note::Unwritten(bytes)),
        };
        self.state.numbers.gap = [false; 2];
        self.handshake(self.flow.client(), note)?;
        Ok(true)
    }

    fn step(&mut self, dir: Dir, left: &mut u32, note: Option<Note>) -> Result<(), E> {
        let step = (*left).min(STEP_MAX);
        *left -= step;
        self.advance(dir, step);
        self.send(dir, ACK, &[], note)
    }

    fn advance(&mut self, dir: Dir, bytes: u32) {
        let next = &mut self.state.numbers.next(self.flow)[dir.index()];
        *next = next.wrapping_add(bytes);
    }

    fn send(&mut self, dir: Dir, flags: u8, parts: &[&[u8]], note: Option<Note>) -> Result<(), E> {
        self.send_with(dir, flags, parts, note, None)
    }

    fn send_with(
        &mut self,
        dir: Dir,
        flags: u8,
        parts: &[&[u8]],
        note: Option<Note>,
        secrets: Option<&str>,
    ) -> Result<(), E> {
        let (from, to) = ends(self.flow, dir);
        let tcp = self.header(dir, flags, from.port(), to.port());
        let headers = Headers::new(dir, addresses(from.ip(), to.ip()), &tcp, parts);
        // At most SEGMENT_MAX, so the conversion is exact. SYN and FIN take a number each.
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        self.advance(dir, payload as u32 + u32::from(flags & (SYN | FIN) != 0));
        let introduce = self.introduce();
        let Self { at, flow, .. } = *self;
        let (headers, payload) = (headers.bytes(), parts);
        (self.emit)(&Frame { at, flow, dir, headers, payload, cut: 0, introduce, note, secrets })
    }

    fn header(&mut self, dir: Dir, flags: u8, source_port: u16, destination_port: u16) -> Tcp {
        let numbers = self.state.numbers.next(self.flow);
        let syn = flags & SYN != 0;
        Tcp {
            source_port,
            destination_port,
            sequence: numbers[dir.index()],
            acknowledgment: if flags & ACK != 0 { numbers[dir.flip().index()] } else { 0 },
            flags,
            window: if syn { SYN_WINDOW } else { WINDOW },
            options: if syn { &SYN_OPTIONS } else { &[] },
        }
    }

    /// Whether the frame that is being drawn is the first that its process is the cause of.
    fn introduce(&mut self) -> bool {
        let who = Some((self.flow.task.pid, self.flow.task.comm));
        std::mem::replace(&mut self.state.introduced, who) != who
    }
}

/// Initial sequence numbers. They differ from flow to flow, because a reader takes a SYN with the numbers of
/// the one before on the same ports for that one sent again; and they are the same in every run.
fn first_numbers(flow: u64) -> [u32; 2] {
    // Multiplying by an odd number maps ids that differ modulo 2^32 to different numbers; this one is
    // 2^32 / golden ratio, which spreads them.
    let out = (flow as u32).wrapping_mul(0x9E37_79B1);
    [out, out.rotate_left(16) ^ u32::MAX]
}
