//! `tlsdump doctor`: whether this machine can capture, found out by capturing.
//!
//! What the kernel and this process have is asked first, for the reasons; then another process of this very
//! program is captured, whose functions have the shape of a TLS library's.

pub mod hazard;
mod machine;
mod patient;
mod selftest;

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

use crate::config::Doctor;
use crate::safe;
use crate::source::live;

/// Number of the form of `--json`; another would be one that old readers can't read.
const SCHEMA: u32 = 1;
/// Longest text of a check: errors of the kernel can be long.
const TEXT_BYTES_MAX: usize = 2048;

/// How it is with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// Good.
    Ok,
    /// Capturing works, but not as well as it could, or not everywhere.
    Warn,
    /// Capturing doesn't work, or does harm.
    Fail,
}

/// One thing that was looked at. The names of the fields are documented in the manual.
#[derive(Debug, Serialize)]
struct Check {
    /// A word by which programs know it: `ring-buffer`.
    name: &'static str,
    status: Status,
    /// How it is, for people.
    what: String,
    /// What to do; null where nothing is to be done.
    advice: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// Whether capturing works and does no harm: no check has failed.
    works: bool,
    checks: Vec<Check>,
}

impl Check {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, what: what.into(), advice: None }
    }

    fn warn(name: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, what: what.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, what: what.into(), advice: Some(advice.into()) }
    }
}

/// Prints the checks, and says whether capturing works.
///
/// # Errors
/// Standard output can't be written to, or the self-test's other process could not do its part.
pub fn run(config: Doctor) -> anyhow::Result<bool> {
    let json = match config {
        Doctor::Patient { confined } => return patient::run(confined).map(|()| true),
        Doctor::Examine { json } => json,
    };
    live::silence_libbpf();
    let mut checks = machine::checks();
    checks.extend(selftest::checks());
    let works = checks.iter().all(|check| check.status != Status::Fail);
    let report = Report { schema: SCHEMA, works, checks };
    let text = if json {
        serde_json::to_string_pretty(&report).context("cannot make JSON")? + "\n"
    } else {
        lines(&report)
    };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // Who reads no further has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(works),
    }
}

/// `warn  what: advice`, a line for each check.
fn lines(report: &Report) -> String {
    let mut out = String::new();
    for check in &report.checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        let mut text = check.what.clone();
        if let Some(advice) = &check.advice {
            let _ = write!(text, ": {advice}");
        }
        let _ = writeln!(out, "{status:<4}  {}", safe::text(&text, TEXT_BYTES_MAX));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_check() {
        let checks = vec![
            Check::ok("a", "this is there"),
            Check::warn("b", "that is not there", "get\nit"),
            Check::fail("c", "it broke", "mend it"),
        ];
        let report = Report { schema: 1, works: false, checks };
        let expected =
            "ok    this is there\nwarn  that is not there: get\u{fffd}it\nFAIL  it broke: mend it\n";
        assert_eq!(lines(&report), expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][2]["status"], "fail");
        assert_eq!(json["checks"][0]["advice"], serde_json::Value::Null);
    }
}
