//! The answer for people.

use std::fmt::Write as _;

use super::report::{Container, Library, NotProbed, Report, User};
use crate::safe;

/// Longest text of a field, which comes from a container.
const FIELD_BYTES_MAX: usize = 4096;
/// Processes that are named, without `-v`.
const USERS_SHOWN: usize = 3;
/// Places that could not be looked at and are named, without `-v`.
const UNSEEN_SHOWN: usize = 5;

/// Two spaces between columns, no space at the end of a line.
pub(super) fn text(report: &Report, verbose: bool) -> String {
    let mut out = String::new();
    if report.found.is_empty() {
        out.push_str("No TLS library that could be probed.\n");
    } else {
        found(&mut out, &report.found, verbose);
    }
    if !report.not_probed.is_empty() {
        out.push_str("\nNot probed:\n");
        not_probed(&mut out, &report.not_probed, verbose);
    }
    if report.more > 0 {
        let _ = writeln!(out, "\n{} more files and places are not shown.", report.more);
    }
    unseen(&mut out, report, verbose);
    out
}

fn found(out: &mut String, libraries: &[Library], verbose: bool) {
    let head = ["LIBRARY", "FUNCTIONS", "CONTAINER", "FILE", "MAPPED BY"].map(str::to_owned);
    let rows = libraries.iter().map(|library| {
        let version = if library.program {
            format!("{} in a program", library.version)
        } else {
            library.version.clone()
        };
        let row = [
            version,
            library.functions.len().to_string(),
            place(library.container.as_ref()),
            library.path.clone(),
            users(&library.processes, verbose),
        ];
        let names = format!("{} ({} places)", library.functions.join(" "), library.places);
        let mut below = if verbose { vec![names] } else { Vec::new() };
        if !library.doubts.is_empty() {
            below
                .push(format!("no names in it, found by what they look like; {}", library.doubts.join(", ")));
        }
        (row, below)
    });
    print(out, &std::iter::once((head, Vec::new())).chain(rows).collect::<Vec<_>>());
}

fn not_probed(out: &mut String, files: &[NotProbed], verbose: bool) {
    let rows = files.iter().map(|file| {
        let row = [place(file.container.as_ref()), file.path.clone(), users(&file.processes, verbose)];
        (row, vec![file.why.clone()])
    });
    print(out, &rows.collect::<Vec<_>>());
}

/// What this user may not see, which must not be taken for its not being there.
fn unseen(out: &mut String, report: &Report, verbose: bool) {
    if report.unseen_processes + report.unseen.len() == 0 {
        return;
    }
    out.push_str("\nNot seen:\n");
    if report.unseen_processes > 0 {
        let processes = if report.unseen_processes == 1 { "process" } else { "processes" };
        let _ = writeln!(out, "{} {processes} that this user may not look at", report.unseen_processes);
    }
    let shown = if verbose { report.unseen.len() } else { UNSEEN_SHOWN };
    for place in report.unseen.iter().take(shown) {
        let (path, why) = (shown_text(&place.path), shown_text(&place.why));
        let _ = writeln!(out, "{path}: {why}");
    }
    if report.unseen.len() > shown {
        let _ = writeln!(out, "{} more places (-v shows them)", report.unseen.len() - shown);
    }
    if !report.may_see_all {
        out.push_str("Without CAP_SYS_PTRACE only own processes can be looked at: run as root.\n");
    }
}

fn place(container: Option<&Container>) -> String {
    container.map_or_else(|| "--lib".to_owned(), |container| container.name.clone())
}

/// `nginx 12 13, curl 99 and 4 more`
fn users(users: &[User], verbose: bool) -> String {
    if users.is_empty() {
        return "nobody now".to_owned();
    }
    let shown = if verbose { users.len() } else { USERS_SHOWN };
    let mut text = String::new();
    let mut last = None;
    for user in users.iter().take(shown) {
        if last != Some(&user.comm) {
            let _ = write!(text, "{}{}", if last.is_some() { ", " } else { "" }, user.comm);
            last = Some(&user.comm);
        }
        let _ = write!(text, " {}", user.pid);
    }
    if users.len() > shown {
        let _ = write!(text, " and {} more", users.len() - shown);
    }
    text
}

/// Rows in columns as wide as they must be, each with further lines below it.
fn print<const N: usize>(out: &mut String, rows: &[([String; N], Vec<String>)]) {
    let rows: Vec<_> =
        rows.iter().map(|(row, below)| (row.each_ref().map(|cell| shown_text(cell)), below)).collect();
    let mut widths = [0; N];
    for (row, _) in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for (row, below) in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
        for text in *below {
            let _ = writeln!(out, "    {}", shown_text(text));
        }
    }
}

fn shown_text(text: &str) -> String {
    safe::text(text, FIELD_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(pid: u32, comm: &str) -> User {
        User { pid, comm: comm.to_owned(), mntns: 7 }
    }

    fn report() -> Report {
        let container = Some(Container { mntns: 7, name: "mnt:[7]".into(), description: String::new() });
        let found = Library {
            path: "/usr/lib/libssl.so.3".into(),
            library: "OpenSSL",
            version: "OpenSSL 3".into(),
            program: false,
            build_id: String::new(),
            inode: 5,
            container: container.clone(),
            functions: vec!["SSL_read", "SSL_write"],
            doubts: vec!["no function looks like SSL_new".into()],
            places: 2,
            processes: vec![user(1, "a"), user(2, "a"), user(3, "b"), user(4, "b")],
        };
        let why = "no functions".into();
        let not_probed = NotProbed { path: "/x\x1b[2J\n".into(), why, container, processes: Vec::new() };
        Report {
            schema: 1,
            found: vec![found],
            not_probed: vec![not_probed],
            unseen: Vec::new(),
            more: 2,
            unseen_processes: 3,
            processes: 4,
            may_see_all: false,
        }
    }

    #[test]
    fn a_table() {
        let expected = "\
LIBRARY    FUNCTIONS  CONTAINER  FILE                  MAPPED BY
OpenSSL 3  2          mnt:[7]    /usr/lib/libssl.so.3  a 1 2, b 3 and 1 more
    no names in it, found by what they look like; no function looks like SSL_new

Not probed:
mnt:[7]  /x\u{fffd}[2J\u{fffd}  nobody now
    no functions

2 more files and places are not shown.

Not seen:
3 processes that this user may not look at
Without CAP_SYS_PTRACE only own processes can be looked at: run as root.
";
        assert_eq!(text(&report(), false), expected);
        assert!(text(&report(), true).contains(", b 3 4\n    SSL_read SSL_write (2 places)\n"));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let report =
            Report { found: Vec::new(), not_probed: Vec::new(), more: 0, unseen_processes: 0, ..report() };
        assert_eq!(text(&report, false), "No TLS library that could be probed.\n");
    }
}
