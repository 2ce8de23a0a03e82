//! How a capture is written: cut into parts, compressed, made as files.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cli::Args;
use crate::file::Cuts;
use crate::file::compress::{LEVEL_DEFAULT, LEVELS};
use crate::file::directory::{KEPT_MAX, Manners};
use crate::file::naming::Naming;

use super::{Place, decimal};

/// Largest size of a part, bytes: far beyond any disk, and far below an overflow.
const SIZE_MAX: u64 = 1 << 60;
/// What a plain number after `-C` counts, as tcpdump has it.
const MILLION: u64 = 1_000_000;
/// What dumpcap's `filesize` counts.
const KILOBYTE: u64 = 1000;

/// How a capture is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Where parts end (`-C`, `-G`, `-b`).
    pub cuts: Cuts,
    /// How many parts are kept (`-W`, `-b files`).
    pub keep: Option<u32>,
    /// zstd's level, for compressed parts (`--compress`, or by the name).
    pub compress: Option<i32>,
    /// What is run for each finished part (`-z`).
    pub command: Option<OsString>,
    /// Replace files of the same name (`--overwrite`).
    pub overwrite: bool,
    /// Let the group read (`--group-readable`).
    pub group_readable: bool,
    /// Have each part on the disk when it has its name (`--sync`).
    pub sync: bool,
}

impl Parts {
    /// What was typed; `write` is what `-w` names.
    pub(super) fn new(args: &Args, write: Option<&Place>) -> Result<Self> {
        let mut parts = Self {
            command: args.postrotate.clone(),
            overwrite: args.overwrite,
            group_readable: args.group_readable,
            sync: args.sync,
            ..Self::default()
        };
        if let Some(size) = &args.rotate_size {
            parts.cuts.bytes = Some(bytes(size).with_context(|| format!("-C {size}"))?);
        }
        if let Some(seconds) = args.rotate_seconds {
            ensure!(seconds > 0, "-G 0: give the seconds after which a part ends, at least 1");
            parts.cuts.every = Some(seconds);
        }
        parts.keep = args.keep;
        for condition in &args.ring_buffer {
            parts.condition(condition).with_context(|| format!("-b {condition}"))?;
        }
        if let Some(keep) = parts.keep {
            ensure!((1..=KEPT_MAX).contains(&keep), "-W {keep}: 1 to {KEPT_MAX} parts can be kept");
            ensure!(parts.cuts.any(), "-W keeps a number of parts: say where they end (-C, -G or -b)");
        }
        parts.compress = args.compress.as_deref().map(level).transpose()?;
        parts.check(write)?;
        Ok(parts)
    }

    /// How files are made.
    #[must_use]
    pub fn manners(&self) -> Manners {
        let Self { overwrite, group_readable, sync, keep, .. } = *self;
        Manners { overwrite, group_readable, sync, keep }
    }

    /// One of dumpcap's conditions.
    fn condition(&mut self, condition: &str) -> Result<()> {
        const KNOWN: &str = "packets:N, filesize:KILOBYTES, duration:SECONDS, interval:SECONDS or files:N";
        let (what, value) = condition.split_once(':').with_context(|| format!("not one of {KNOWN}"))?;
        let number = decimal(value).filter(|number| *number > 0).context("give a number, at least 1")?;
        let Cuts { bytes, packets, seconds, every } = &mut self.cuts;
        let given_before = match what {
            "packets" => packets.replace(number.into()).is_some(),
            "filesize" => bytes.replace(u64::from(number) * KILOBYTE).is_some(),
            "duration" => seconds.replace(number).is_some(),
            "interval" => every.replace(number).is_some(),
            "files" => self.keep.replace(number).is_some(),
            _ => bail!("not one of {KNOWN}"),
        };
        ensure!(!given_before, "that is said twice");
        Ok(())
    }

    /// What can't be done with that output.
    fn check(&mut self, write: Option<&Place>) -> Result<()> {
        let for_files = [
            ("-C, -G or -b", self.cuts.any()),
            ("--compress", self.compress.is_some()),
            ("-z", self.command.is_some()),
            ("--sync", self.sync),
        ];
        let path = match write {
            Some(Place::File(path)) => path,
            other => {
                let why = if other.is_some() { "not with -w -, which is one stream" } else { "with -w FILE" };
                for (option, given) in for_files {
                    ensure!(!given, "{option} can be used only for files: {why}");
                }
                return Ok(());
            }
        };
        if let Some(name) = path.file_name() {
            Naming::new(name, self.cuts.any())
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("-w {}: the name", path.display()))?;
        }
        if path.extension().is_some_and(|extension| extension == "zst") {
            self.compress = self.compress.or(Some(LEVEL_DEFAULT));
        }
        Ok(())
    }
}

/// `SIZE[k|M|G]`: millions of bytes, or units of 1024, 1024² and 1024³.
fn bytes(size: &str) -> Result<u64> {
    // A last byte that is ASCII is a whole character: the cut before it is right.
    let (number, unit) = match size.as_bytes().last() {
        Some(b'k' | b'K') => (&size[..size.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&size[..size.len() - 1], 1 << 20),
        Some(b'g' | b'G') => (&size[..size.len() - 1], 1 << 30),
        _ => (size, MILLION),
    };
    let bytes = decimal(number).map(|number| u64::from(number) * unit);
    let bytes = bytes.filter(|bytes| (1..=SIZE_MAX).contains(bytes));
    bytes.context("give a size such as 100 (million bytes), 500k, 10M or 1G")
}

/// `zstd` or `zstd:LEVEL`.
fn level(compress: &str) -> Result<i32> {
    let level = match compress.split_once(':') {
        None if compress == "zstd" => Some(LEVEL_DEFAULT),
        Some(("zstd", level)) => decimal(level).and_then(|level| i32::try_from(level).ok()),
        _ => None,
    };
    level.filter(|level| LEVELS.contains(level)).with_context(|| {
        let (least, most) = (LEVELS.start(), LEVELS.end());
        format!("--compress {compress}: give zstd, or zstd:LEVEL with a level from {least} to {most}")
    })
}
