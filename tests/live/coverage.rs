//! Programs that people run, each as it is installed, with a peer that knows every byte of it; and the table
//! of what came of them, docs/COVERAGE.md.
//!
//! A row runs in two containers at once, of which one is captured. Between each of them and what is on the
//! other side stands a relay (`tests/programs/relay.py`), which says what really went over the connection.
//!
//! `TLSDUMP_WRITE_COVERAGE=1` writes the table instead of comparing it. `TLSDUMP_ROWS=words` runs only rows
//! whose name has these words, and leaves the table alone.

mod bundled;
mod check;
mod clients;
mod databases;
mod document;
mod go;
mod javascript;
mod listed;
mod peers;
mod play;
mod python;
mod scripts;
mod servers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use self::check::Outcome;
use self::peers::Web;

/// How many rows run at the same time.
const WORKERS: usize = 2;

/// A program in one of its roles.
pub(crate) struct Row {
    pub(crate) program: &'static str,
    pub(crate) installed: Installed,
    pub(crate) side: Side,
    /// How the name of the file begins that has its TLS.
    pub(crate) file: &'static str,
    pub(crate) talk: Talk,
    /// How the socket is found: what `tuple=` tells.
    pub(crate) socket: &'static str,
    pub(crate) verdict: Verdict,
    /// What runs the script, which is its next argument; after it come those of [`Side`].
    pub(crate) command: &'static [&'static str],
    pub(crate) script: &'static str,
}

/// Where a program comes from.
#[derive(Clone, Copy)]
pub(crate) enum Installed {
    /// These packages of Debian.
    Apt(&'static str),
    /// A package of another kind, of that name; `tests/support/programs` gets it, into a directory that
    /// becomes `/opt/…` in the container.
    Other { from: &'static str, package: &'static str, directory: &'static str },
}

/// What the program is to its peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Its script gets the address of its pages, the port, its mark, the certificate's file, and a directory.
    Client,
    /// Its script gets the port, the certificate's file with the key in it, ports of a server in clear that
    /// speaks HTTP/1.1 and of one that speaks HTTP/2, and a directory; in this are the pages to be served.
    Server,
}

/// What is said over the connection.
#[derive(Clone, Copy)]
pub(crate) enum Talk {
    /// Pages are asked for, the last one by POST if `posts`.
    Http { version: u8, posts: bool },
    /// Something else. Of what is asked and answered a part must be there; `{}` stands for the mark.
    Other {
        protocol: &'static str,
        /// How TLS begins.
        style: &'static str,
        /// The command of the peer in clear behind the relay. Of a client it is the server, and gets its port
        /// and a directory; of a server the client, and gets the relay's port, the mark and a directory.
        peer: &'static [&'static str],
        asks: &'static [&'static str],
        answers: &'static [&'static str],
    },
}

/// What is expected.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    /// Every byte, with true addresses.
    Works,
    /// Nothing: `tlsdump list` gives a reason that has these words.
    Nothing(&'static str),
}

/// All rows, in the order of the page.
const TABLES: &[&[Row]] = &[
    clients::ROWS,
    servers::ROWS,
    databases::ROWS,
    python::ROWS,
    javascript::ROWS,
    scripts::ROWS,
    go::ROWS,
    bundled::ROWS,
];

#[test]
fn every_row_of_the_table_is_as_it_says() {
    let chosen = std::env::var("TLSDUMP_ROWS").ok();
    let is_chosen = |row: &&Row| chosen.as_ref().is_none_or(|words| row.name().contains(words));
    let rows: Vec<_> = TABLES.iter().copied().flatten().filter(is_chosen).collect();
    assert!(!rows.is_empty(), "no row is called so: {chosen:?}");
    let web = Web::start();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| play::play(row, &web))).ok();
                    println!("{:6.1} s  {}", start.elapsed().as_secs_f64(), row.name());
                    results.lock().unwrap().push((row.name(), outcome));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let failed: Vec<_> =
        results.iter().filter(|(_, outcome)| outcome.is_none()).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{} of {} rows failed: {failed:#?}", failed.len(), rows.len());
    if chosen.is_none() {
        let outcome = |row: &Row| results.iter().find(|(name, _)| *name == row.name()).unwrap().1.as_ref();
        let outcomes: Vec<(&Row, &Outcome)> = rows.iter().map(|row| (*row, outcome(row).unwrap())).collect();
        document::compare(&document::text(&outcomes));
    }
}

impl Row {
    /// What it is called; no other is.
    fn name(&self) -> String {
        let side = match self.side {
            Side::Client => "client",
            Side::Server => "server",
        };
        match self.installed {
            Installed::Apt(_) => format!("{}, {side}", self.program),
            Installed::Other { package, .. } => format!("{}, {side} ({package})", self.program),
        }
    }
}

const HTTP1: Talk = Talk::Http { version: 1, posts: true };
const HTTP1_GET: Talk = Talk::Http { version: 1, posts: false };
const HTTP2: Talk = Talk::Http { version: 2, posts: true };
const SHELL: &[&str] = &["sh", "-euc"];
const PYTHON: &[&str] = &["/usr/bin/python3", "-c"];
const NODE: &[&str] = &["node", "-e"];

/// What most clients have in common.
const CLIENT: Row = Row {
    program: "",
    installed: Installed::Apt(""),
    side: Side::Client,
    file: "libssl.so",
    talk: HTTP1,
    socket: "nested",
    verdict: Verdict::Works,
    command: SHELL,
    script: "",
};

/// What most servers have in common.
const SERVER: Row = Row { side: Side::Server, ..CLIENT };
