//! `tlsdump open`: another capture of one that is there, with the secrets of a key log in it, or without any.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::config::{Open, Place};
use crate::file::copy::{self, Change, KEY_LOG_BYTES_MAX};
use crate::file::output::{Output, Settings};

/// Does it, and says that the answer is yes.
///
/// # Errors
/// What can't be read or written, and why.
pub fn run(open: &Open) -> anyhow::Result<bool> {
    let lines = open.keylog.as_deref().map(key_log).transpose()?.unwrap_or_default();
    let name = open.capture.name("standard input");
    let mut input: Box<dyn Read> = match &open.capture {
        Place::Standard => Box::new(io::stdin().lock()),
        Place::File(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
            Box::new(BufReader::new(file))
        }
    };
    let settings = Settings { wait: true, manners: open.manners, ..Settings::default() };
    let mut output = Output::open(open.write.path(), settings, Box::new(say))?;
    let change = Change { add: &lines, strip: open.strip };
    let copied =
        copy::copy(&mut input, &mut output, change).with_context(|| format!("cannot open {name}"))?;
    say(&format!("{} blocks copied, {} of secrets left out", copied.blocks, copied.stripped));
    if copied.cut {
        say(&format!("{name} ends within a block, which is left out"));
    }
    Ok(true)
}

fn key_log(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let mut text = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    file.take(KEY_LOG_BYTES_MAX + 1).read_to_end(&mut text).with_context(|| format!("cannot read {name}"))?;
    ensure!(text.len() as u64 <= KEY_LOG_BYTES_MAX, "{name} has more than {KEY_LOG_BYTES_MAX} bytes");
    let lines = copy::key_log_lines(&String::from_utf8_lossy(&text));
    ensure!(!lines.is_empty(), "{name} has no line of a key log (LABEL RANDOM SECRET)");
    Ok(lines)
}

/// Tells the user something on standard error, which may be closed.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "tlsdump: {line}");
}
