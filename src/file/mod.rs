//! Frames → pcapng blocks → bytes.
//!
//! One file is one section: its header, an interface for each container and a description of each process
//! (both written when they are first seen), packets, and the statistics of each interface at the end. See
//! draft-ietf-opsawg-pcapng.

mod blocks;
mod comment;
mod interfaces;
mod packet;
mod processes;
pub mod sink;

use std::io;

use crate::event::{Counters, How};
use crate::frame::{FRAME_MAX, Frame, Note};
use crate::names::Names;

use blocks::{Section, Statistics};
use interfaces::{Interface, Interfaces};
use processes::Processes;
use sink::Sink;

pub use interfaces::INTERFACES_MAX;
pub use processes::PROCESSES_MAX;

/// Snap length where none is asked for, and the most that one can ask for: Wireshark refuses a file with a
/// packet of more captured bytes.
pub const SNAPLEN_MAX: u32 = 262_144;

const _: () = assert!(FRAME_MAX <= SNAPLEN_MAX as usize);

/// What can be asked of a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Most bytes that are kept of a frame; 0, and anything above [`SNAPLEN_MAX`], is [`SNAPLEN_MAX`].
    pub snaplen: u32,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets.
    pub packets: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes frames as pcapng. Nothing happens when it is dropped: a file is whole after [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<S> {
    out: Out<S>,
    snaplen: u32,
    section: Option<Section>,
    interfaces: Interfaces,
    processes: Processes,
    comments: Vec<String>,
    /// The flow of the packet before, if that named the process at the other end.
    named_other: Option<u64>,
    span: Option<(u64, u64)>,
    packets: u64,
}

impl<S: Sink> Writer<S> {
    /// A file on `sink`, of which nothing is written yet.
    pub fn new(sink: S, options: Options) -> Self {
        let snaplen = match options.snaplen {
            0 => SNAPLEN_MAX,
            asked => asked.min(SNAPLEN_MAX),
        };
        Self {
            out: Out { sink, bytes: 0 },
            snaplen,
            section: None,
            interfaces: Interfaces::default(),
            processes: Processes::default(),
            comments: Vec::new(),
            named_other: None,
            span: None,
            packets: 0,
        }
    }

    /// Writes what a file begins with, unless that was done: the section header, which takes its text from
    /// [`Names::start`]. The other calls do it by themselves; to call this early lets a reader at the other
    /// end of a pipe begin.
    ///
    /// # Errors
    /// The sink's.
    pub fn begin(&mut self, names: &Names) -> io::Result<()> {
        begun(&mut self.section, &mut self.out, names).map(drop)
    }

    /// Writes one frame; before it the interface of its container and the description of its process, if it
    /// is the first of them.
    ///
    /// # Errors
    /// The sink's.
    pub fn frame(&mut self, frame: &Frame<'_>, names: &Names) -> io::Result<()> {
        let section = begun(&mut self.section, &mut self.out, names)?;
        let (number, new) = self.interfaces.number(frame.flow.task.mntns, names);
        let interface = self.interfaces.get_mut(number);
        if new {
            section.interface(interface, self.snaplen)?;
            self.out.block(section)?;
        }
        let process = self.processes.number(&frame.flow.task);
        if let Some((_, true)) = process {
            section.process(&frame.flow.task)?;
            self.out.block(section)?;
        }
        // What is told with one segment may come in several frames.
        let names_other = frame.flow.other_end.map(|_| frame.flow.id);
        let is_told = std::mem::replace(&mut self.named_other, names_other) == names_other;
        comment_on(&mut self.comments, frame, !is_told, names);
        let kept = frame.bytes.len().min(self.snaplen as usize);
        let packet = packet::Packet {
            // At most INTERFACES_MAX.
            interface: number as u32,
            at: frame.at,
            dir: frame.dir,
            process: process.map(|(number, _)| number),
            bytes: &frame.bytes[..kept],
            original: frame.bytes.len(),
            comments: &self.comments,
        };
        packet::write(section.block_mut(), &packet);
        self.out.block(section)?;

        interface.packets += 1;
        interface.losses += u64::from(frame.note.is_some_and(loses));
        let (first, last) = self.span.unwrap_or((frame.at, frame.at));
        self.span = Some((first.min(frame.at), last.max(frame.at)));
        self.packets += 1;
        Ok(())
    }

    /// Sees to it that all that was written so far is on its way to a reader.
    ///
    /// # Errors
    /// The sink's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.sink.flush()
    }

    /// Writes the statistics of each interface and flushes. `isb_ifrecv` is the number of its packets and
    /// `isb_ifdrop` the number of places where bytes are missing in them. What the kernel side counted cannot
    /// be told apart by container: it stands on the first interface, as `isb_osdrop` (records lost) and as a
    /// comment, if `counters` were heard of. A file without a packet gets an interface for it, because
    /// libpcap opens none that has no interface.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(mut self, names: &Names, counters: Option<&Counters>) -> io::Result<Summary> {
        let section = begun(&mut self.section, &mut self.out, names)?;
        if self.interfaces.list().is_empty() {
            let number = self.interfaces.add(Interface::new("tlsdump", "no packet was captured".to_owned()));
            section.interface(self.interfaces.get_mut(number), self.snaplen)?;
            self.out.block(section)?;
        }
        for (number, interface) in (0..).zip(self.interfaces.list()) {
            let capture = counters.filter(|_| number == 0).map(|c| (c.lost_records, comment::counted(c)));
            let Interface { packets, losses, .. } = *interface;
            section.statistics(Statistics {
                interface: number,
                span: self.span,
                packets,
                losses,
                capture,
            })?;
            self.out.block(section)?;
        }
        self.out.sink.flush()?;
        Ok(Summary { packets: self.packets, bytes: self.out.bytes })
    }
}

/// The sink, and how much it was given.
#[derive(Debug)]
struct Out<S> {
    sink: S,
    bytes: u64,
}

impl<S: Sink> Out<S> {
    /// Hands over the block that `section` has composed.
    fn block(&mut self, section: &mut Section) -> io::Result<()> {
        self.sink.block(section.block())?;
        self.bytes += section.block().len() as u64;
        section.clear();
        Ok(())
    }
}

/// The section, begun with its header if it was not yet.
fn begun<'a, S: Sink>(
    section: &'a mut Option<Section>,
    out: &mut Out<S>,
    names: &Names,
) -> io::Result<&'a mut Section> {
    match section {
        Some(section) => Ok(section),
        none => {
            let section = none.insert(Section::new(names.start())?);
            out.block(section)?;
            Ok(section)
        }
    }
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
    matches!(note, Note::Gap(_) | Note::Filled { first: true, .. } | Note::BrokenOff(_))
}
