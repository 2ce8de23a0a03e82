//! Records → output: each record decoded, put in its place in its flow, drawn, written.

mod aside;

use std::io;

use anyhow::Context as _;

use crate::event::{CloseReason, Counters, Event};
use crate::file::output::Output;
use crate::file::{KeyLog, Summary, Writer};
use crate::flow::{FlowTable, Limits, Segment, What};
use crate::frame::{self, Encoder, Envelope, Frame, Seed};
use crate::names::Names;
use crate::real::Real;
use crate::secrets::Secrets;
use crate::stats::Report;
use crate::text::Text;
use crate::wire::{self, Records};

/// What comes out, and when that is enough.
#[derive(Debug, Default)]
pub struct Outputs {
    /// The capture file.
    pub file: Option<Writer<Output>>,
    /// The readable dump.
    pub text: Option<Text<Output>>,
    /// Where the secrets of the captured sessions are appended.
    pub keylog: Option<KeyLog>,
    /// Whether they are in the file.
    pub secrets: bool,
    /// How plaintext is wrapped in the packets of the file.
    pub envelope: Envelope,
    /// What the keys are derived from, where it is sealed.
    pub seed: Seed,
    /// Draw a connection from both its ends, where both are captured.
    pub both_ends: bool,
    /// Packets after which to stop; where there is no file, segments of the dump.
    pub count: Option<u64>,
    /// Flush after each packet.
    pub flush_each: bool,
    /// Most lost bytes that one loss is filled with zeros for, if less than [`frame::FILL_MAX`].
    pub fill_max: Option<u64>,
}

/// Whether more records are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Yes.
    More,
    /// No: the count is reached, or nobody reads any more.
    Enough,
}

/// All stages after the source. Reads no clock and no file: the same records give the same bytes.
#[derive(Debug)]
pub struct Pipeline {
    names: Names,
    flows: FlowTable<frame::State>,
    drawing: Drawing,
    damaged: u64,
    counters: Option<Counters>,
}

/// The stages that a segment passes through; apart from the flow table, which lends it the flow's state.
#[derive(Debug)]
struct Drawing {
    encoder: Encoder,
    outputs: Outputs,
    secrets: Secrets,
    /// The part that has those of all sessions that go on.
    secrets_in: Option<u32>,
    /// Where real packets are wanted.
    real: Option<Real>,
    packets: u64,
    /// Segments that the file had no room for, and bytes in them.
    unwritten: (u64, u64),
    /// Segments that the dump had no room for.
    unshown: u64,
    stop: Option<Stop>,
}

#[derive(Debug)]
enum Stop {
    Counted,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Pipeline {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(outputs: Outputs) -> Self {
        let encoder = Encoder::new(outputs.envelope, &outputs.seed)
            .fill_max(outputs.fill_max.unwrap_or(frame::FILL_MAX));
        let real = (outputs.envelope == Envelope::Wire).then(Real::default);
        Self {
            names: Names::default(),
            flows: FlowTable::new(Limits::default()).both_ends(outputs.both_ends),
            drawing: Drawing {
                encoder,
                outputs,
                secrets: Secrets::default(),
                secrets_in: None,
                real,
                packets: 0,
                unwritten: (0, 0),
                unshown: 0,
                stop: None,
            },
            damaged: 0,
            counters: None,
        }
    }

    /// Takes whole records, one after another.
    ///
    /// # Errors
    /// The output's.
    pub fn records(&mut self, batch: &[u8]) -> anyhow::Result<Progress> {
        for record in Records::new(batch) {
            match wire::decode(record) {
                Ok(event) => self.event(&event),
                Err(_) => self.damaged += 1,
            }
            if self.drawing.stop.is_some() {
                break;
            }
        }
        self.drawing.progress()
    }

    fn event(&mut self, event: &Event<'_>) {
        self.names.learn(event);
        let (drawing, names) = (&mut self.drawing, &self.names);
        self.flows.push(event, &mut |segment| drawing.segment(segment, names));
        match event {
            Event::Counters(counters) => {
                self.counters = Some(*counters);
                drawing.outputs.file.iter_mut().for_each(|file| file.count(counters));
            }
            Event::Clock(clock) => {
                drawing.relieve(clock.wall, names);
                drawing.tick(clock.wall, names);
            }
            Event::Secret(secret) => drawing.secret(secret, names),
            Event::Close(close) if close.reason == CloseReason::Free => {
                drawing.secrets.end(close.context.session.id);
            }
            Event::Exit(exit) => drawing.secrets.exit(&exit.task),
            Event::Data(data) => drawing.learn(&data.context),
            Event::Name(name) => drawing.name(name),
            Event::Packet(packet) => drawing.packet(packet, names),
            _ => {}
        }
    }

    /// Sees to it that all that was taken is with its reader.
    ///
    /// # Errors
    /// The output's.
    pub fn flush(&mut self) -> anyhow::Result<Progress> {
        let drawing = &mut self.drawing;
        drawing.attempt(|drawing| drawing.flush(&self.names));
        drawing.progress()
    }

    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            packets: self.drawing.packets,
            unwritten: self.drawing.unwritten,
            unshown: self.drawing.unshown,
            unopened: self.drawing.real.as_ref().map_or(0, Real::unopened),
            strays: self.drawing.real.as_ref().map_or(0, Real::strays),
            // A capture that is one part has them all.
            unrepeated: if self.drawing.is_cut() { self.drawing.secrets.dropped() } else { 0 },
            damaged: self.damaged,
            both_ends: self.drawing.outputs.both_ends,
            flows: *self.flows.stats(),
            counters: self.counters.unwrap_or_default(),
        }
    }

    /// Writes what is still held back and the end of the file.
    ///
    /// # Errors
    /// The output's; that nobody reads any more is none.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        let (drawing, names) = (&mut self.drawing, &self.names);
        if drawing.stop.is_none() {
            self.flows.finish(&mut |segment| drawing.segment(segment, names));
            drawing.relieve(u64::MAX, names);
        }
        let report = self.report();
        if self.drawing.progress()? == Progress::Enough && self.drawing.is_broken() {
            return Ok(report);
        }
        let ended = self.drawing.end(&self.names);
        match ended {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("the capture is not whole")
            }
            _ => Ok(report),
        }
    }
}

impl Drawing {
    fn segment(&mut self, segment: Segment<'_, frame::State>, names: &Names) {
        if self.stop.is_none() {
            self.stop = self.draw(segment, names).err();
        }
    }

    fn draw(&mut self, segment: Segment<'_, frame::State>, names: &Names) -> Result<(), Stop> {
        let Outputs { file, text, count, flush_each, .. } = &mut self.outputs;
        if let Some(text) = text {
            self.unshown += u64::from(!text.segment(&segment, names)?);
            if *flush_each {
                text.flush()?;
            }
        }
        let Some(file) = file else {
            return counted(&mut self.packets, *count);
        };
        if self.real.is_some() {
            return Ok(());
        }
        let bytes = match segment.what {
            What::Data(bytes) => bytes.len(),
            What::Gap(lost) => usize::try_from(lost.min(self.encoder.fills())).unwrap_or(usize::MAX),
            What::Open | What::Fin | What::Reset => 0,
        };
        if file.is_full() {
            self.unwritten.0 += 1;
            self.unwritten.1 += bytes as u64;
            self.encoder.skip(segment);
            return Ok(());
        }
        self.encoder.set_part(file.turn(segment.at, bytes, names)?);
        self.tell_secrets()?;
        self.write(segment, names)
    }

    fn write(&mut self, segment: Segment<'_, frame::State>, names: &Names) -> Result<(), Stop> {
        let Self { encoder, packets, outputs, .. } = self;
        let Outputs { file: Some(file), count, flush_each, .. } = outputs else { return Ok(()) };
        encoder.segment(segment, &mut |frame: &Frame<'_>| {
            file.frame(frame, names)?;
            if *flush_each {
                file.flush(names)?;
            }
            counted(packets, *count)
        })
    }

    fn flush(&mut self, names: &Names) -> io::Result<()> {
        if let Some(file) = &mut self.outputs.file {
            file.flush(names)?;
        }
        self.tell_secrets()?;
        self.outputs.text.as_mut().map_or(Ok(()), Text::flush)
    }

    /// A second has gone by: what is written so far is to be safe, also when there is no quiet moment.
    fn tick(&mut self, now: u64, names: &Names) {
        self.attempt(|drawing| {
            drawing.outputs.file.as_mut().map_or(Ok(()), |file| file.tick(now))?;
            drawing.flush(names)
        });
    }

    /// Does something, unless there was a reason to stop; its error is one.
    fn attempt(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) {
        if self.stop.is_none()
            && let Err(error) = act(self)
        {
            self.stop = Some(Stop::Failed(error));
        }
    }

    fn end(&mut self, names: &Names) -> io::Result<Summary> {
        if let Some(text) = self.outputs.text.take() {
            text.finish()?;
        }
        self.outputs.file.take().map_or(Ok(Summary::default()), |file| file.finish(names))
    }

    /// A reader that has gone away is a reason to stop, not a failure.
    fn is_broken(&self) -> bool {
        matches!(&self.stop, Some(Stop::Failed(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn progress(&mut self) -> anyhow::Result<Progress> {
        if self.is_broken() {
            return Ok(Progress::Enough);
        }
        match self.stop.take() {
            None => Ok(Progress::More),
            Some(Stop::Counted) => {
                self.stop = Some(Stop::Counted);
                Ok(Progress::Enough)
            }
            Some(Stop::Failed(error)) => Err(error.into()),
        }
    }
}

fn counted(packets: &mut u64, count: Option<u64>) -> Result<(), Stop> {
    *packets += 1;
    if count.is_some_and(|count| *packets >= count) { Err(Stop::Counted) } else { Ok(()) }
}
