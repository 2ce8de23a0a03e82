//! A server and a client in containers of their own, both captured, and what Wireshark makes of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::capture::{Captured, Tlsdump};
use crate::container::Container;
use crate::lab::Lab;
use crate::network::{Network, Within};
use crate::process::{Process, run};

/// Expert information from here on is a warning or an error.
const WARNING: u32 = 0x60_0000;

/// Where a server and a client talk to each other at 127.0.0.1.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    network: Network,
    server: Container,
    client: Container,
}

/// A capture of each end that runs.
pub(crate) struct Capturing<'a> {
    stage: &'a Stage,
    client: Tlsdump,
    server: Tlsdump,
}

/// The same talk, captured at its two ends.
pub(crate) struct Ends {
    client: Shown,
    server: Shown,
}

/// A capture as tshark shows it to somebody who has configured nothing.
pub(crate) struct Shown {
    pub(crate) captured: Captured,
    home: PathBuf,
    rows: Vec<Row>,
}

/// A packet in Wireshark's list.
struct Row {
    ports: (u16, u16),
    protocol: String,
    info: String,
    /// What is thought to be wrong.
    warnings: Vec<String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let lab = Lab::new();
        std::fs::create_dir(lab.path("home")).unwrap();
        let (network, server, client) = (Network::new(&lab), Container::new(&lab), Container::new(&lab));
        Self { lab, network, server, client }
    }

    pub(crate) fn server(&self) -> Within<'_, Container> {
        Within(&self.network, &self.server)
    }

    pub(crate) fn client(&self) -> Within<'_, Container> {
        Within(&self.network, &self.client)
    }

    /// The file with a certificate and its key.
    pub(crate) fn certificate(&self) -> String {
        self.lab.certificate().display().to_string()
    }

    /// Starts a server; it listens on `port` when this returns.
    #[track_caller]
    pub(crate) fn serve(&self, port: u16, command: &Command) -> Process {
        let mut process = Process::start(command);
        self.network.wait_for_listener(port, &mut process);
        process
    }

    /// Begins to capture both ends.
    #[track_caller]
    pub(crate) fn capture(&self) -> Capturing<'_> {
        self.capture_also(&[])
    }

    /// The same with more arguments.
    #[track_caller]
    pub(crate) fn capture_also(&self, arguments: &[&str]) -> Capturing<'_> {
        let begin =
            |place: &Container| Tlsdump::begin(&self.lab, &[&[place.option().as_str()], arguments].concat());
        let [client, server] = [&self.client, &self.server].map(begin);
        Capturing { stage: self, client: client.armed(), server: server.armed() }
    }

    /// Captures both ends while `client` runs, and gives what it printed.
    #[track_caller]
    pub(crate) fn captures(&self, client: &Command) -> (Ends, String) {
        let capturing = self.capture();
        let ended = run(client).succeeds();
        (capturing.stop(), ended.stdout)
    }
}

impl Capturing<'_> {
    #[track_caller]
    pub(crate) fn stop(self) -> Ends {
        let home = self.stage.lab.path("home");
        let [client, server] = [self.client, self.server].map(|tlsdump| Shown::new(tlsdump.stop(), &home));
        Ends { client, server }
    }
}

impl Ends {
    pub(crate) fn both(&self) -> [&Shown; 2] {
        [&self.client, &self.server]
    }

    /// Both ends [show](Shown::shows) these.
    #[track_caller]
    pub(crate) fn show(&self, rows: &[(&str, &str)]) {
        self.client.shows(rows);
        self.server.shows(rows);
    }

    /// The server's port is this one in both captures.
    #[track_caller]
    pub(crate) fn are_on_port(&self, port: u16) {
        self.client.is_on_port(port);
        self.server.is_on_port(port);
    }
}

impl Shown {
    fn new(captured: Captured, home: &Path) -> Self {
        let mut this = Self { captured, home: home.to_owned(), rows: Vec::new() };
        let fields = [
            "tcp.srcport",
            "tcp.dstport",
            "_ws.col.Protocol",
            "_ws.col.Info",
            "_ws.expert.severity",
            "_ws.expert.message",
        ];
        let mut arguments = vec!["-T", "fields", "-E", "aggregator=;"];
        fields.iter().for_each(|field| arguments.extend(["-e", field]));
        this.rows = this.tshark(&arguments).lines().map(Row::of).collect();
        this
    }

    /// What tshark prints with these arguments, and without a profile.
    #[track_caller]
    pub(crate) fn tshark(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tshark");
        command.env("HOME", &self.home).env("XDG_CONFIG_HOME", &self.home);
        run(command.arg("-r").arg(&self.captured.file).args(arguments)).succeeds().stdout
    }

    /// There are rows of these protocols that say these words, in this order, and no row has a warning. A row
    /// may have several of them, because it depends on the moment what a program puts into one call.
    #[track_caller]
    pub(crate) fn shows(&self, wanted: &[(&str, &str)]) {
        let mut rows = self.rows.iter().map(|row| (row, row.info.as_str())).peekable();
        for (protocol, words) in wanted {
            loop {
                let Some((row, info)) = rows.peek_mut() else {
                    panic!("no {protocol} {words:?}, or not in its place:\n{self}")
                };
                match info.split_once(words) {
                    Some((_, rest)) if row.protocol.contains(protocol) => {
                        *info = rest;
                        break;
                    }
                    _ => drop(rows.next()),
                }
            }
        }
        assert!(self.rows.iter().all(|row| row.warnings.is_empty()), "warnings:\n{self}");
    }

    #[track_caller]
    pub(crate) fn is_on_port(&self, port: u16) {
        let fits = |row: &Row| (row.ports.0 == port) != (row.ports.1 == port);
        assert!(!self.rows.is_empty() && self.rows.iter().all(fits), "{self}");
    }
}

impl Row {
    fn of(line: &str) -> Self {
        let fields: Vec<_> = line.split('\t').collect();
        let [from, to, protocol, info, severities, messages] = fields[..] else {
            panic!("tshark shows something else: {line:?}")
        };
        let severe = severities.split(';').filter_map(|severity| severity.parse::<u32>().ok());
        let warnings = severe.zip(messages.split(';')).filter(|(severity, _)| *severity >= WARNING);
        Self {
            ports: (from.parse().unwrap(), to.parse().unwrap()),
            protocol: protocol.to_owned(),
            info: info.to_owned(),
            warnings: warnings.map(|(_, message)| message.to_owned()).collect(),
        }
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Row { ports, protocol, info, warnings } in &self.rows {
            writeln!(f, "{:>5} → {:<5} {protocol:<12} {info} {warnings:?}", ports.0, ports.1)?;
        }
        write!(f, "{}", self.captured)
    }
}
