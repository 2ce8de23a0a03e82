//! Frames → pcapng blocks → parts.
//!
//! A capture is one part or several ([`Cuts`]), and each part is one section that opens alone: its header,
//! an interface for each container and a description of each process (both written when they are first seen
//! in the part), packets, before them the secrets that open them unless a key log takes those, and the
//! statistics of each interface at the end. See draft-ietf-opsawg-pcapng. The writer composes blocks and says
//! where parts begin and end; what becomes of them is the [`sink`]'s matter.

mod blocks;
mod command;
mod comment;
pub mod compress;
pub mod copy;
mod cuts;
pub mod directory;
mod interfaces;
mod keylog;
pub mod naming;
pub mod output;
mod packet;
mod processes;
pub mod sink;
mod writing;

use std::io;

use crate::event::{Counters, How};
use crate::frame::{FRAME_MAX, Frame, Note};
use crate::names::Names;

use blocks::{Section, Statistics};
use cuts::Span;
use interfaces::{Interface, Interfaces};
use processes::Processes;
use sink::Sink;

pub use cuts::Cuts;
pub use interfaces::INTERFACES_MAX;
pub use keylog::KeyLog;
pub use processes::PROCESSES_MAX;

/// Snap length where none is asked for, and the most that one can ask for: Wireshark refuses a file with a
/// packet of more captured bytes.
pub const SNAPLEN_MAX: u32 = 262_144;

const _: () = assert!(FRAME_MAX <= SNAPLEN_MAX as usize);

/// More than what a segment can add to a part besides its own bytes: an interface, a process, the hello of
/// its flow, and comments with long names.
const ADDED_BYTES: u64 = 16 << 10;
/// More than the statistics of an interface.
const STATISTICS_BYTES: u64 = 512;

/// What can be asked of a capture.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Most bytes that are kept of a frame; 0, and anything above [`SNAPLEN_MAX`], is [`SNAPLEN_MAX`].
    pub snaplen: u32,
    /// Where parts end.
    pub cuts: Cuts,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets.
    pub packets: u64,
    /// Bytes of all parts, before compression.
    pub bytes: u64,
    /// Parts.
    pub parts: u32,
}

/// Writes frames as pcapng. Nothing happens when it is dropped: the last part is whole after
/// [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<S> {
    sink: S,
    snaplen: u32,
    cuts: Cuts,
    /// Where secrets of packets go instead of into the parts.
    keylog: Option<KeyLog>,
    part: Option<Part>,
    /// What the kernel side counted, as last told.
    counters: Option<Counters>,
    comments: Vec<String>,
    written: Summary,
}

/// The part that is being written.
#[derive(Debug)]
struct Part {
    span: Span,
    section: Section,
    interfaces: Interfaces,
    processes: Processes,
    /// The flow of the packet before, if that named the process at the other end.
    named_other: Option<u64>,
    /// Times of the first and of the last packet.
    times: Option<(u64, u64)>,
    packets: u64,
    bytes: u64,
}

impl<S: Sink> Writer<S> {
    /// A capture to `sink`, of which nothing is written yet.
    pub fn new(sink: S, options: Options) -> Self {
        let snaplen = match options.snaplen {
            0 => SNAPLEN_MAX,
            asked => asked.min(SNAPLEN_MAX),
        };
        Self {
            sink,
            snaplen,
            cuts: options.cuts,
            keylog: None,
            part: None,
            counters: None,
            comments: Vec::new(),
            written: Summary::default(),
        }
    }

    /// The same capture without the secrets of its packets in it: they go to `keylog`, if there is one.
    #[must_use]
    pub fn keylog(mut self, keylog: Option<KeyLog>) -> Self {
        self.keylog = keylog;
        self
    }

    /// Sees to it that what comes next, with about so many bytes at the time `at`, has a part to be written
    /// to: where the one before has no room for it or is not for that time, that ends and another begins.
    /// Gives the number of the part, from 1. The section header takes its text from [`Names::start`].
    ///
    /// # Errors
    /// The sink's.
    pub fn turn(&mut self, at: u64, bytes: usize, names: &Names) -> io::Result<u32> {
        // Each 16 KiB of payload have headers and a block of their own, far less than a 64th.
        let more = (bytes as u64).saturating_add(bytes as u64 / 64 + ADDED_BYTES);
        if self.part.as_ref().is_some_and(|part| part.is_over(&self.cuts, at, more)) {
            self.end()?;
        }
        self.begun(at, names)?;
        Ok(self.written.parts)
    }

    /// It is the time `now`: ends a part that no packet can come for any more.
    ///
    /// # Errors
    /// The sink's.
    pub fn tick(&mut self, now: u64) -> io::Result<()> {
        if self.part.as_ref().is_some_and(|part| part.packets > 0 && part.span.is_over(now)) {
            self.end()?;
        }
        Ok(())
    }

    /// Takes note of what the kernel side has counted: it is told at the end of each part.
    pub fn count(&mut self, counters: &Counters) {
        self.counters = Some(*counters);
    }

    /// Whether nothing more should be given for now, because the sink has no room.
    pub fn is_full(&mut self) -> bool {
        self.sink.is_full()
    }

    /// Writes one frame; before it the interface of its container and the description of its process, if it
    /// is the first of them in this part, and the secrets that it brings. It goes to the part of the last
    /// [`Self::turn`].
    ///
    /// # Errors
    /// The sink's or the key log's.
    pub fn frame(&mut self, frame: &Frame<'_>, names: &Names) -> io::Result<()> {
        self.begun(frame.at, names)?;
        let Self { sink, snaplen, keylog, part: Some(part), comments, written, .. } = self else {
            return Ok(());
        };
        let (number, new) = part.interfaces.number(frame.flow.task.mntns, names);
        let interface = part.interfaces.get_mut(number);
        if new {
            part.section.interface(interface, *snaplen)?;
            part.bytes += give(sink, &mut part.section)?;
        }
        let process = part.processes.number(&frame.flow.task);
        if let Some((_, true)) = process {
            part.section.process(&frame.flow.task)?;
            part.bytes += give(sink, &mut part.section)?;
        }
        match (frame.secrets, keylog) {
            (None, _) => {}
            (Some(lines), Some(keylog)) => keylog.append(lines)?,
            (Some(lines), None) => {
                part.section.secrets(lines)?;
                part.bytes += give(sink, &mut part.section)?;
            }
        }
        // What is told with one segment may come in several frames.
        let names_other = frame.flow.other_end.map(|_| frame.flow.id);
        let is_told = std::mem::replace(&mut part.named_other, names_other) == names_other;
        comment_on(comments, frame, !is_told, names);
        let (kept, original) = (frame.length(), frame.original());
        let packet = packet::Packet {
            // At most INTERFACES_MAX.
            interface: number as u32,
            at: frame.at,
            dir: frame.dir,
            process: process.map(|(number, _)| number),
            kept: kept.min(*snaplen as usize),
            original,
            comments,
        };
        part.bytes += packet::write(sink.buffer(), &packet, frame.parts()) as u64;
        sink.block()?;

        interface.packets += 1;
        interface.losses += u64::from(frame.note.is_some_and(loses));
        let (first, last) = part.times.unwrap_or((frame.at, frame.at));
        part.times = Some((first.min(frame.at), last.max(frame.at)));
        part.packets += 1;
        written.packets += 1;
        Ok(())
    }

    /// The number of the part that is being written, from 1.
    pub fn part(&self) -> Option<u32> {
        self.part.as_ref().map(|_| self.written.parts)
    }

    /// Writes secrets that no packet of the capture brings: lines of a key log, each with its end of line.
    /// Nothing happens where no part is being written.
    ///
    /// # Errors
    /// The sink's.
    pub fn secrets(&mut self, lines: &str) -> io::Result<()> {
        if let Some(part) = self.part.as_mut().filter(|_| !lines.is_empty()) {
            part.section.secrets(lines)?;
            part.bytes += give(&mut self.sink, &mut part.section)?;
        }
        Ok(())
    }

    /// Sees to it that all that was written so far is on its way to a reader. A capture that is one part
    /// begins with this, so that a reader at the other end of a pipe can begin too.
    ///
    /// # Errors
    /// The sink's.
    pub fn flush(&mut self, names: &Names) -> io::Result<()> {
        if !self.cuts.any() {
            self.begun(0, names)?;
        }
        self.sink.flush()
    }

    /// Ends the last part. Parts that are cut by time or size exist only if something is in them; a capture
    /// that is one part exists whatever is in it.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(mut self, names: &Names) -> io::Result<Summary> {
        if !self.cuts.any() {
            self.begun(0, names)?;
        }
        self.end()?;
        self.sink.close()?;
        Ok(self.written)
    }

    /// Begins a part, unless one is there.
    fn begun(&mut self, at: u64, names: &Names) -> io::Result<()> {
        if self.part.is_some() {
            return Ok(());
        }
        let number = self.written.parts.saturating_add(1);
        self.sink.begin(sink::Part { number, at })?;
        let mut section = Section::new(names.start())?;
        let bytes = give(&mut self.sink, &mut section)?;
        self.part = Some(Part {
            span: self.cuts.span(at),
            section,
            interfaces: Interfaces::default(),
            processes: Processes::default(),
            named_other: None,
            times: None,
            packets: 0,
            bytes,
        });
        self.written.parts = number;
        Ok(())
    }

    /// Writes the statistics of each interface. `isb_ifrecv` is the number of its packets in this part and
    /// `isb_ifdrop` the number of places where bytes are missing in them. What the kernel side counted cannot
    /// be told apart by container: it stands on the first interface, as `isb_osdrop` (records lost) and as a
    /// comment, if it was heard of. A part without a packet gets an interface for it, because libpcap opens
    /// none that has no interface.
    fn end(&mut self) -> io::Result<()> {
        let Some(mut part) = self.part.take() else { return Ok(()) };
        if part.interfaces.list().is_empty() {
            let none = Interface::new("tlsdump", "no packet was captured".to_owned());
            let number = part.interfaces.add(none);
            part.section.interface(part.interfaces.get_mut(number), self.snaplen)?;
            part.bytes += give(&mut self.sink, &mut part.section)?;
        }
        let Part { section, interfaces, times, bytes, .. } = &mut part;
        for (number, interface) in (0..).zip(interfaces.list()) {
            let counters = self.counters.as_ref().filter(|_| number == 0);
            let capture = counters.map(|c| (c.lost_records, comment::counted(c)));
            let Interface { packets, losses, .. } = *interface;
            section.statistics(Statistics { interface: number, span: *times, packets, losses, capture })?;
            *bytes += give(&mut self.sink, section)?;
        }
        self.written.bytes += part.bytes;
        self.sink.end()
    }
}

impl Part {
    /// Whether so many bytes more, at the time `at`, belong into another part. One with nothing in it takes
    /// anything.
    fn is_over(&self, cuts: &Cuts, at: u64, more: u64) -> bool {
        let statistics = self.interfaces.list().len() as u64 * STATISTICS_BYTES;
        let more = more.saturating_add(statistics);
        self.packets > 0 && (self.span.excludes(at) || cuts.is_full(self.bytes, self.packets, more))
    }
}

/// Hands the block that `section` has composed to the sink, and gives its length.
fn give(sink: &mut impl Sink, section: &mut Section) -> io::Result<u64> {
    let block = section.block();
    let length = block.len() as u64;
    sink.buffer().extend_from_slice(block);
    section.clear();
    sink.block().map(|()| length)
}

/// What is said of `frame`; on most frames nothing. `name_other` is whether to name the process at the other
/// end, where it is told.
fn comment_on(comments: &mut Vec<String>, frame: &Frame<'_>, name_other: bool, names: &Names) {
    comments.clear();
    if frame.introduce {
        comments.push(comment::who(frame.flow, names));
        if frame.flow.how == How::Unknown {
            comments.push(comment::addresses_unknown());
        }
    }
    let other_end = frame.flow.other_end.filter(|_| name_other);
    comments.extend(other_end.map(|task| comment::other_end(&task, names)));
    comments.extend(frame.note.map(comment::note));
}

/// Whether a place where bytes are missing begins at the frame with this note.
fn loses(note: Note) -> bool {
    matches!(note, Note::Gap(_) | Note::Filled { first: true, .. } | Note::BrokenOff(_) | Note::Unwritten(_))
}
