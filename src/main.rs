//! The program: command line in, exit status out.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use tlsdump::cli::Args;
use tlsdump::config::Task;
use tlsdump::{doctor, list, open, run};

/// Failed while capturing, or there is nothing to capture.
const FAILED: u8 = 1;

/// Wrong usage.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let task = Args::from_command_line().and_then(|args| Task::new(args, stdout().is_terminal()));
    let (error, code) = match task {
        Err(error) => (error, WRONG_USAGE),
        Ok(task) => match perform(task) {
            Err(error) => (error, FAILED),
            Ok(true) => return ExitCode::SUCCESS,
            Ok(false) => return ExitCode::from(FAILED),
        },
    };
    // One line, whatever bytes a file name in it has; and no panic where standard error is closed.
    let text = format!("{error:#}").replace(char::is_control, " ");
    let _ = writeln!(stderr(), "tlsdump: {text}");
    ExitCode::from(code)
}

/// Does it, and says whether the answer is yes.
fn perform(task: Task) -> anyhow::Result<bool> {
    match task {
        Task::Capture(config) => run::run(*config).map(|()| true),
        Task::List(list) => list::run(&list),
        Task::Doctor(doctor) => doctor::run(doctor),
        Task::Open(open) => open::run(&open),
    }
}
