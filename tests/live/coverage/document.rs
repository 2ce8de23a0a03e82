//! docs/COVERAGE.md, as the rows make it.

use std::path::Path;

use super::check::{Count, Outcome};
use super::listed::Listed;
use super::{Installed, Row, Side, Talk, Verdict};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/COVERAGE.md");

const HEAD: &str = "# Programs and libraries

Programs that people run, each as it is installed, captured live. **This page is written by a test**,
`tests/live/coverage.rs`, which runs every row. `./dev test` fails if a row is not as it stands here, numbers
of versions aside; with `TLSDUMP_WRITE_COVERAGE=1` the test writes the page anew.

Each program runs in two containers at the same time, of which one is captured. Its peer is a relay that
speaks TLS with it, and hands everything on in clear to a server of that protocol, or takes it from a client.
The relay keeps every byte of each connection and both of its addresses. A row is *exact* if the capture has,
of each connection, the very bytes that the relay has, in both directions, with nothing missing, and nothing
of the neighbour; its addresses are *true* if they are those that the relay saw.

- **library**: what `tlsdump list` says of the file that has the TLS, while the program runs in its container;
  versions, as far as it tells them, are below.
- **socket**: how the connection was found, as `tuple=` in the capture tells it: `nested` is a socket that was
  used within the call of the library, `record` a TLS record that the program sent by itself.
- **requests**, **answers**: how many of them were captured, of how many. Web pages have from 20 to 75,000
  bytes; the last one is asked for by POST where the program can.
";

/// What comes after it is of that day and is not compared.
const VERSIONS: &str = "
## Versions, as `tlsdump list` tells them

";

/// The whole page.
pub(crate) fn text(outcomes: &[(&Row, &Outcome)]) -> String {
    let works = outcomes.iter().filter(|(row, _)| matches!(row.verdict, Verdict::Works));
    let works = works.count();
    let made =
        format!("Made {}: {} of {} rows are exact with true addresses.\n", made_on(), works, outcomes.len());
    let mut text = format!("{HEAD}\n{made}\n");
    text +=
        "| program | from | role | protocol | library | socket | requests | answers | bytes | addresses |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|\n";
    for (row, outcome) in outcomes {
        text += &line(row, outcome);
    }
    text += "\n## What does not work, and why\n\n";
    for (row, outcome) in outcomes {
        match row.verdict {
            Verdict::Works => {}
            Verdict::Nothing(_) => {
                let Listed::Refused(why) = &outcome.listed else { continue };
                text += &format!("- {}: {why}.\n", row.name());
            }
        }
    }
    text += VERSIONS;
    for (row, outcome) in outcomes {
        if let Listed::Found { version, .. } = &outcome.listed {
            text += &format!("- {}: {version}\n", row.name());
        }
    }
    text
}

fn line(row: &Row, outcome: &Outcome) -> String {
    let from = match row.installed {
        Installed::Apt(packages) => packages.to_owned(),
        Installed::Other { from, package, .. } => format!("{package} ({from})"),
    };
    let role = if row.side == Side::Client { "client" } else { "server" };
    let protocol = match row.talk {
        Talk::Http { version: 1, .. } => "HTTP/1.1",
        Talk::Http { .. } => "HTTP/2",
        Talk::Other { protocol, .. } => protocol,
    };
    let library = match &outcome.listed {
        Listed::Found { library, .. } => library,
        Listed::Refused(_) => "not probed",
    };
    let [socket, bytes, addresses] = match row.verdict {
        Verdict::Works => [row.socket, "exact", "true"],
        Verdict::Nothing(_) => ["", "none", ""],
    };
    let count = |Count { captured, made }: &Count| format!("{captured} of {made}");
    let (requests, answers) = (count(&outcome.requests), count(&outcome.answers));
    let cells = [row.program, &from, role, protocol, library, socket, &requests, &answers, bytes, addresses];
    format!("| {} |\n", cells.join(" | "))
}

/// When and where: not compared.
fn made_on() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let date = std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]).output().unwrap();
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let name = name.trim_matches('"');
    let machine = std::env::consts::ARCH;
    format!("{date} on {name}, Linux {}, {machine}, {processors} processors", kernel.trim())
}

/// The page that stands there says the same; or is written.
#[track_caller]
pub(crate) fn compare(text: &str) {
    if std::env::var_os("TLSDUMP_WRITE_COVERAGE").is_some() {
        std::fs::write(Path::new(FILE), text).unwrap();
        return;
    }
    let stands = std::fs::read_to_string(FILE).unwrap_or_default();
    let (stands, made) = (comparable(&stands), comparable(text));
    if let Some((old, new)) = stands.iter().zip(&made).find(|(old, new)| old != new) {
        panic!("docs/COVERAGE.md says\n{old}\nbut it is\n{new}\nTLSDUMP_WRITE_COVERAGE=1 writes it");
    }
    assert_eq!(
        stands.len(),
        made.len(),
        "docs/COVERAGE.md has other lines: TLSDUMP_WRITE_COVERAGE=1 writes it"
    );
}

/// Lines without what depends on day and machine: a word that begins with a digit and has a dot is a version.
fn comparable(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let version = word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        if version { "…".to_owned() } else { word.to_owned() }
    };
    let text = text.split_once(VERSIONS).map_or(text, |(before, _)| before);
    let lines = text.lines().filter(|line| !line.starts_with("Made "));
    lines.map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect()
}
