//! Wiring: the source on one thread, all other stages on another, a bounded queue between them.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use flume::{Receiver, RecvTimeoutError, Sender};
use rustix::rand::GetRandomFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

use crate::arm;
use crate::config::{Config, Input, Output, Place, Verbosity};
use crate::doctor::hazard;
use crate::file::output::{self, Settings};
use crate::file::{self, KeyLog, Writer};
use crate::frame::{Envelope, Seed};
use crate::pipeline::{Outputs, Pipeline, Progress};
use crate::privileges;
use crate::source::live::{self, Live, Storage};
use crate::source::stream::{Replay, Tee};
use crate::source::{Source, State};
use crate::stats::Report;
use crate::sys;
use crate::text::Text;

/// Batches between the threads. When the queue is full the source waits, and what the kernel's buffer can't
/// hold meanwhile is lost and counted there.
const QUEUE_BATCHES: usize = 16;
/// How often the consuming thread looks up when nothing comes.
const IDLE: Duration = Duration::from_millis(100);

/// Does what the command line says, until its end, a signal or an error.
///
/// # Errors
/// What went wrong, in one line with its causes.
pub fn run(config: Config) -> anyhow::Result<()> {
    let signals = Signals::install()?;
    let run = Run { signals, verbosity: config.verbosity };
    match &config.input {
        Input::Replay(place) => {
            let name = place.name("standard input");
            let source = open_input(place).and_then(Replay::new).with_context(|| name.clone())?;
            let outputs = run.open_outputs(&config.output, true)?;
            let report = run.drive(source, outputs).context(name)?;
            run.close(&report);
        }
        Input::Live(live) => {
            if run.verbosity < Verbosity::Debug {
                live::silence_libbpf();
            }
            let mut options = arm::prepare(live, run.verbosity)?;
            options.stop = Arc::clone(&run.signals.stop);
            let open = || {
                let manners = config.output.parts.manners();
                let record = live.record.as_deref().map(|path| output::create(path, manners)).transpose()?;
                anyhow::Ok((run.open_outputs(&config.output, false)?, record))
            };
            // First, because it may fail or wait for a reader; files of another user only that one can make.
            let opened = if live.user.is_none() { Some(open()?) } else { None };
            let mut storage = Storage::uninit();
            let source = Live::new(&mut storage, &options)?;
            if let Some(user) = &live.user {
                privileges::give_up(user)?;
                source.check_rights().with_context(|| format!("-Z {user}"))?;
            }
            let (outputs, record) = opened.map_or_else(open, Ok)?;
            run.say(&arm::armed(&options, source.transport()));
            let (release, machine) = sys::kernel_release();
            if hazard::is_possible(&release, &machine) {
                run.say(&hazard::warning(&release));
            }
            let report = match record {
                Some(file) => run.drive(Tee::new(source, file)?, outputs),
                None => run.drive(source, outputs),
            }?;
            run.close(&report);
        }
    }
    Ok(())
}

/// What the process was asked by signals.
struct Signals {
    /// SIGINT, SIGTERM, SIGHUP: end cleanly.
    stop: Arc<AtomicBool>,
    /// SIGUSR1: print the counts.
    print: Arc<AtomicBool>,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let signals = Self { stop: Arc::default(), print: Arc::default() };
        for (signal, flag) in [
            (SIGINT, &signals.stop),
            (SIGTERM, &signals.stop),
            (SIGHUP, &signals.stop),
            (SIGUSR1, &signals.print),
            // So that a limit on the size of files is an error to tell, not the end.
            (SIGXFSZ, &Arc::default()),
        ] {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot handle signals")?;
        }
        Ok(signals)
    }
}

struct Run {
    signals: Signals,
    verbosity: Verbosity,
}

impl Run {
    /// Moves everything from the source to the outputs.
    fn drive(&self, mut source: impl Source, outputs: Outputs) -> anyhow::Result<Report> {
        let (sender, receiver) = flume::bounded(QUEUE_BATCHES);
        // Batches go back, so that their memory is used again.
        let (giver, used) = flume::bounded(QUEUE_BATCHES);
        let pipeline = Pipeline::new(outputs);
        thread::scope(|scope| {
            let consumer = scope.spawn(move || self.consume(pipeline, &receiver, &giver));
            let read = self.produce(&mut source, &sender, &used);
            drop(sender);
            let written = consumer.join().map_err(|_| anyhow!("the writing thread failed"))?;
            // What can't be written matters more than what can't be read.
            written.and_then(|report| read.map(|()| report))
        })
    }

    fn produce(
        &self,
        source: &mut impl Source,
        sender: &Sender<Vec<u8>>,
        used: &Receiver<Vec<u8>>,
    ) -> anyhow::Result<()> {
        loop {
            let mut batch = used.try_recv().unwrap_or_default();
            let state = source.fill(&mut batch);
            let consumed = batch.is_empty() || sender.send(batch).is_ok();
            if state? == State::End || !consumed {
                return Ok(());
            }
        }
    }

    fn consume(
        &self,
        mut pipeline: Pipeline,
        receiver: &Receiver<Vec<u8>>,
        giver: &Sender<Vec<u8>>,
    ) -> anyhow::Result<Report> {
        let result = self.consume_all(&mut pipeline, receiver, giver);
        self.signals.stop.store(true, Ordering::Relaxed);
        result?;
        pipeline.finish()
    }

    fn consume_all(
        &self,
        pipeline: &mut Pipeline,
        receiver: &Receiver<Vec<u8>>,
        giver: &Sender<Vec<u8>>,
    ) -> anyhow::Result<()> {
        loop {
            match receiver.recv_timeout(IDLE) {
                Ok(mut batch) => {
                    if pipeline.records(&batch)? == Progress::Enough {
                        return Ok(());
                    }
                    batch.clear();
                    // There are enough then.
                    let _ = giver.try_send(batch);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if receiver.is_empty() && pipeline.flush()? == Progress::Enough {
                return Ok(());
            }
            if self.signals.print.swap(false, Ordering::Relaxed) {
                self.close(&pipeline.report());
            }
        }
    }

    /// Opens what is written to. A replay waits for it; what comes from the kernel doesn't.
    fn open_outputs(&self, output: &Output, wait: bool) -> anyhow::Result<Outputs> {
        let parts = &output.parts;
        let path = output.write.as_ref().map(Place::path);
        let settings = Settings {
            cut: parts.cuts.any(),
            manners: parts.manners(),
            compress: parts.compress,
            command: parts.command.clone(),
            wait,
        };
        let verbosity = self.verbosity;
        let open =
            |path, settings| output::Output::open(path, settings, Box::new(move |line| say(verbosity, line)));
        let keylog = output.keylog.as_deref().map(KeyLog::open).transpose()?;
        let sink = path.map(|path| open(path, settings)).transpose()?;
        let dump = output.text.then(|| open(Path::new("-"), Settings { wait, ..Settings::default() }));
        let options = file::Options { snaplen: output.snaplen, cuts: parts.cuts };
        let apart = keylog.as_ref().filter(|_| output.envelope == Envelope::Sealed);
        let apart = apart.map(KeyLog::try_clone).transpose().context("cannot write secrets")?;
        Ok(Outputs {
            file: sink.map(|sink| Writer::new(sink, options).keylog(apart)),
            keylog,
            secrets: output.secrets,
            text: dump.transpose()?.map(Text::new),
            envelope: output.envelope,
            seed: if output.envelope == Envelope::Sealed { random_seed()? } else { Seed::default() },
            both_ends: output.both_ends,
            count: output.count,
            flush_each: output.packet_buffered,
            // A loss must not make a part much larger than it may be.
            fill_max: parts.cuts.bytes.map(|bytes| bytes / 4),
        })
    }

    fn close(&self, report: &Report) {
        self.say(&report.closing());
        report.warnings().iter().for_each(|warning| self.say(warning));
    }

    fn say(&self, line: &str) {
        say(self.verbosity, line);
    }
}

/// Tells the user something on standard error, which may be closed.
fn say(verbosity: Verbosity, line: &str) {
    if verbosity > Verbosity::Quiet {
        let _ = writeln!(io::stderr(), "tlsdump: {line}");
    }
}

/// A seed that nobody else has.
fn random_seed() -> anyhow::Result<Seed> {
    let mut seed = Seed::default();
    let mut filled = 0;
    while filled < seed.len() {
        match rustix::rand::getrandom(&mut seed[filled..], GetRandomFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            got => filled += got.context("there is no randomness for keys")?,
        }
    }
    Ok(seed)
}

fn open_input(place: &Place) -> anyhow::Result<Box<dyn Read>> {
    Ok(match place {
        Place::Standard => Box::new(io::stdin().lock()),
        Place::File(path) => Box::new(BufReader::new(File::open(path)?)),
    })
}
