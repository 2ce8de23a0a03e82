//! The byte streams of the conversations in a capture, taken out of their envelope (`envelope.rs`, or
//! `sealed.rs` where it is encrypted) where they have one.

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub)]

#[path = "streams/envelope.rs"]
mod envelope;
#[path = "streams/sealed.rs"]
mod sealed;

use std::collections::HashMap;
use std::net::SocketAddr;

pub use self::envelope::Hello;
use super::pcapng::{ACK, Capture, FIN, Packet, RST, Result, SYN, Way};

/// What one side of a conversation sent.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// What was captured, gaps left out.
    bytes: Vec<u8>,
    /// Position in `bytes` and length of each gap.
    gaps: Vec<(usize, u64)>,
    /// Position in `bytes` of each frame that is filled, and how many lost bytes it tells of.
    fills: Vec<(usize, u64)>,
    /// Whether it ended with a FIN.
    pub finished: bool,
    next: Option<u32>,
    /// How far the numbers moved over a gap that is not told completely yet, and what was told.
    skipped: u64,
    told: u64,
}

impl Stream {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Position in [`Self::bytes`] and length of each gap.
    pub fn gaps(&self) -> &[(usize, u64)] {
        &self.gaps
    }

    /// Bytes missing in all.
    pub fn lost(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.1).sum()
    }

    /// Takes in the next packet of this direction.
    fn packet(&mut self, packet: &Packet) -> Result<()> {
        let next = self.next.unwrap_or(packet.seq);
        let step = packet.seq.wrapping_sub(next);
        if step >= 1 << 31 {
            return Err(format!("goes back by {} bytes", step.wrapping_neg()));
        }
        let takes = packet.has(SYN) || packet.has(FIN);
        // An empty segment that only acknowledges may come after it.
        if self.finished && (takes || packet.payload_len > 0 || step > 0) {
            return Err("after the FIN".to_owned());
        }
        self.skipped += u64::from(step);
        self.told += packet.lost()?.unwrap_or(0);
        if takes || packet.payload_len > 0 {
            self.settle()?;
        }
        if packet.is_added() {
            // Never sent, and no part of the stream.
            self.next = Some(packet.seq.wrapping_add(packet.payload_len as u32));
            return Ok(());
        }
        self.fills.extend(packet.filled()?.map(|told| (self.bytes.len(), told)));
        self.bytes.extend_from_slice(&packet.payload);
        let cut = packet.payload_len - packet.payload.len();
        if cut > 0 {
            self.gaps.push((self.bytes.len(), cut as u64));
        }
        self.finished |= packet.has(FIN);
        self.next = Some(packet.seq.wrapping_add(packet.payload_len as u32).wrapping_add(u32::from(takes)));
        Ok(())
    }

    /// Bytes are missing here, behind what is already missing.
    fn lose(&mut self, lost: u64) {
        match self.gaps.last_mut().filter(|gap| gap.0 == self.bytes.len()) {
            Some(gap) => gap.1 += lost,
            None => self.gaps.push((self.bytes.len(), lost)),
        }
    }

    /// A gap is over: the numbers and the comments must agree on it.
    fn settle(&mut self) -> Result<()> {
        let Self { skipped, told, .. } = *self;
        if skipped as u32 != told as u32 {
            return Err(format!("sequence numbers step over {skipped} bytes, comments tell of {told}"));
        }
        if told > 0 {
            self.gaps.push((self.bytes.len(), told));
        }
        (self.skipped, self.told) = (0, 0);
        Ok(())
    }
}

/// A TCP connection, from its SYN where there is one.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Who sent the SYN; without one, who sent the first packet.
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// Whether it begins with a SYN.
    pub opened: bool,
    /// Whether it ended with a RST.
    pub reset: bool,
    /// Bytes that were lost before it began, and that it was therefore begun anew for.
    pub anew: Option<u64>,
    /// What the handshake of the envelope told, if there is one.
    pub hello: Option<Hello>,
    /// Indices of its packets in [`Capture::packets`].
    pub packets: Vec<usize>,
    /// From client to server, and back.
    streams: [Stream; 2],
    outbound: Option<usize>,
}

impl Conversation {
    pub fn to_server(&self) -> &Stream {
        &self.streams[0]
    }

    pub fn to_client(&self) -> &Stream {
        &self.streams[1]
    }

    /// What the traced process wrote.
    pub fn written(&self) -> &Stream {
        &self.streams[self.outbound.unwrap_or(0)]
    }

    /// What the traced process read.
    pub fn read(&self) -> &Stream {
        &self.streams[1 - self.outbound.unwrap_or(0)]
    }

    fn new(packet: &Packet) -> Self {
        Self {
            client: packet.from,
            server: packet.to,
            opened: packet.has(SYN),
            reset: false,
            anew: None,
            hello: None,
            packets: Vec::new(),
            streams: Default::default(),
            outbound: None,
        }
    }

    fn packet(&mut self, index: usize, packet: &Packet) -> Result<()> {
        if self.reset {
            return Err("after the RST".to_owned());
        }
        let side = usize::from(packet.from != self.client);
        let outbound = if packet.way == Some(Way::Outbound) { side } else { 1 - side };
        self.outbound = Some(outbound);
        let other = &self.streams[1 - side];
        if packet.has(ACK) && other.next.is_some_and(|next| next != packet.ack) {
            return Err(format!("acknowledges {} where {:?} is next", packet.ack, other.next));
        }
        if packet.window == 0 {
            return Err("has a window of 0".to_owned());
        }
        self.streams[side].packet(packet)?;
        self.anew = self.anew.or(packet.begun_again()?);
        self.reset |= packet.has(RST);
        self.packets.push(index);
        Ok(())
    }
}

/// Puts the conversations of a capture together, in order of their first packets. A SYN begins a new one.
/// What the two ends of a connection saw, if both were captured, is two.
///
/// Numbers that go back, wrong acknowledgements, packets after the end of a direction, and gaps whose length
/// in numbers is not the one that comments tell are errors, and so is anything in an envelope that does not
/// belong there: the program's output has none of them.
pub fn conversations(capture: &Capture) -> Result<Vec<Conversation>> {
    let mut found: Vec<Conversation> = Vec::new();
    let mut open = HashMap::new();
    for (index, packet) in capture.packets.iter().enumerate() {
        let (local, remote) = match packet.way {
            Some(Way::Outbound) => (packet.from, packet.to),
            Some(Way::Inbound) => (packet.to, packet.from),
            None => return Err(format!("packet {}, {packet:?}: has no direction flags", index + 1)),
        };
        let begins = packet.has(SYN) && !packet.has(ACK);
        let current = match open.get(&(local, remote)) {
            Some(&current) if !begins => current,
            _ => {
                found.push(Conversation::new(packet));
                open.insert((local, remote), found.len() - 1);
                found.len() - 1
            }
        };
        let packet_of = found[current].packet(index, packet);
        packet_of.map_err(|e| format!("packet {}, {packet:?}: {e}", index + 1))?;
    }
    let secrets = sealed::secrets(capture)?;
    for (number, conversation) in found.iter_mut().enumerate() {
        for stream in &mut conversation.streams {
            stream.settle().map_err(|e| format!("conversation {number} at its end: {e}"))?;
        }
        let [client, server] = &mut conversation.streams;
        let hello = match sealed::unwrap(client, server, &secrets) {
            Ok(None) => envelope::unwrap(client, server),
            opened => opened,
        };
        conversation.hello = hello.map_err(|e| format!("conversation {number}: {e}"))?;
    }
    Ok(found)
}
