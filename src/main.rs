//! The program: command line in, exit status out.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use tlsdump::cli::Args;
use tlsdump::config::Config;
use tlsdump::run;

/// Failed while capturing.
const FAILED: u8 = 1;

/// Wrong usage.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let config = Args::from_command_line().and_then(|args| Config::new(args, stdout().is_terminal()));
    let (error, code) = match config {
        Err(error) => (error, WRONG_USAGE),
        Ok(config) => match run::run(config) {
            Err(error) => (error, FAILED),
            Ok(()) => return ExitCode::SUCCESS,
        },
    };
    // One line, whatever bytes a file name in it has; and no panic where standard error is closed.
    let text = format!("{error:#}").replace(char::is_control, " ");
    let _ = writeln!(stderr(), "tlsdump: {text}");
    ExitCode::from(code)
}
