//! Runs a row.

use std::path::Path;
use std::process::Command;

use super::check::{Outcome, check};
use super::listed::Listed;
use super::peers::{Web, pages};
use super::{Installed, Row, SHELL, Side, Talk};
use crate::capture::Tlsdump;
use crate::container::{Container, Host, Place};
use crate::lab::{Lab, free_port};
use crate::process::Process;
use crate::relay::Relay;
use crate::servers::wait_for_listener_of;

/// Who is captured, and who isn't.
pub(crate) const MARKS: [&str; 2] = ["wanted", "stranger"];

/// Where `tests/support/programs` leaves what it gets.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/programs");

/// Requests for the pages at `$1`, with the option `$2`, the last one with the data `$3`. The answers go into
/// the directory `$4`. (A connection with prior knowledge of HTTP/2 is not used twice by curl 7.88.)
const CURLS: &str = "
    cd \"$4\"
    for page in 1 2; do curl -sSf --max-time 30 \"$2\" -o answer$page \"$1/$page\"; done
    curl -sSf --max-time 30 \"$2\" ${3:+-d \"$3\"} -o answer3 \"$1/3\"";

/// Two containers with the program.
struct Stage<'a> {
    row: &'a Row,
    web: &'a Web,
    lab: Lab,
    places: [Container; 2],
}

/// Plays a row, and panics where something is not as it says.
pub(crate) fn play(row: &Row, web: &Web) -> Outcome {
    let lab = Lab::new();
    // Some servers give up their rights.
    std::fs::set_permissions(lab.directory(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let places = [Container::new(&lab), Container::new(&lab)];
    if let Installed::Other { directory, .. } = row.installed {
        let from = Path::new(PROGRAMS).join(directory);
        assert!(from.exists(), "there is no {}: tests/support/programs gets it", from.display());
        places.iter().for_each(|place| place.bind(&from, &Path::new("/opt").join(directory)));
    }
    for mark in MARKS {
        std::fs::create_dir(lab.path(mark)).unwrap();
        pages(&lab.path(mark), mark);
    }
    let stage = Stage { row, web, lab, places };
    match row.side {
        Side::Client => stage.client(),
        Side::Server => stage.server(),
    }
}

impl Stage<'_> {
    fn client(&self) -> Outcome {
        let (style, backends, _peer) = self.backends();
        let ports = [free_port(), free_port()];
        let mut relay = Relay::for_clients(&self.lab, style, &backends, &ports);
        let tlsdump = Tlsdump::start(&self.lab, &[&self.places[0].option()]);
        let mut clients: Vec<_> = (0..2)
            .map(|which| {
                let (port, mark) = (ports[which].to_string(), MARKS[which]);
                let url = format!("https://127.0.0.1:{port}/{mark}");
                (
                    ports[which],
                    Process::start(&self.command(which, &[&url, &port, mark, &self.certificate()])),
                )
            })
            .collect();
        relay.holds(&mut clients);
        let listed = Listed::of(&self.places[0], self.row.file);
        relay.open();
        clients.into_iter().for_each(|(_, client)| drop(client.end().succeeds()));
        let relayed = relay.end();
        check(self.row, listed, &tlsdump.stop(), &relayed, ports, &|_| Vec::new())
    }

    fn server(&self) -> Outcome {
        let servers = [free_port(), free_port()];
        let [http1, http2] = self.web.ports.map(|port| port.to_string());
        let processes: Vec<_> = (0..2)
            .map(|which| {
                let port = servers[which].to_string();
                let mut process =
                    Process::start(&self.command(which, &[&port, &self.certificate(), &http1, &http2]));
                wait_for_listener_of(&mut process, servers[which]);
                process
            })
            .collect();
        let ports = [free_port(), free_port()];
        let style = match self.row.talk {
            Talk::Http { version: 2, .. } => "h2",
            Talk::Http { .. } => "http/1.1",
            Talk::Other { style, .. } => style,
        };
        let relay = Relay::for_servers(&self.lab, style, &[(ports[0], servers[0]), (ports[1], servers[1])]);
        let tlsdump = Tlsdump::start(&self.lab, &[&self.places[0].option()]);
        let listed = Listed::of(&self.places[0], self.row.file);
        let clients: Vec<_> = (0..2).map(|which| Process::start(&self.driver(which, ports[which]))).collect();
        clients.into_iter().for_each(|client| drop(client.end().succeeds()));
        let relayed = relay.end();
        let captured = tlsdump.stop();
        drop(processes);
        let answers = |page: u8| {
            let answer = std::fs::read(self.lab.path(MARKS[0]).join(format!("answer{page}"))).unwrap();
            assert!(!answer.is_empty(), "an empty answer to {page}");
            answer
        };
        check(self.row, listed, &captured, &relayed, ports, &answers)
    }

    /// The command of the row.
    fn command(&self, which: usize, arguments: &[&str]) -> Command {
        let directory = self.lab.path(MARKS[which]);
        let mut command = self.places[which].shell("cd \"$1\"; shift; exec \"$@\"", &[]);
        command.arg(&directory).args(self.row.command).arg(self.row.script);
        if self.row.command == SHELL {
            command.arg("sh");
        }
        command.args(arguments).arg(directory);
        command
    }

    fn certificate(&self) -> String {
        self.lab.certificate().display().to_string()
    }

    /// How TLS begins, the ports of what is behind the relay of a client, and its process.
    fn backends(&self) -> (&'static str, Vec<u16>, Option<Process>) {
        match self.row.talk {
            Talk::Http { version: 2, .. } => ("direct", self.web.ports.into(), None),
            Talk::Http { .. } => ("direct", vec![self.web.ports[0]], None),
            Talk::Other { style, peer, .. } => {
                let port = free_port();
                let directory = self.lab.path("peer");
                std::fs::create_dir(&directory).unwrap();
                let mut server = Host.command(peer[0]);
                server.args(&peer[1..]).arg(port.to_string()).arg(directory);
                let mut process = Process::start(&server);
                wait_for_listener_of(&mut process, port);
                (style, vec![port], Some(process))
            }
        }
    }

    /// What makes requests of a server.
    fn driver(&self, which: usize, port: u16) -> Command {
        let mark = MARKS[which];
        let directory = self.lab.path(mark);
        let Talk::Http { version, posts } = self.row.talk else {
            let Talk::Other { peer, .. } = self.row.talk else { unreachable!() };
            let mut command = Host.command(peer[0]);
            command.args(&peer[1..]).args([&port.to_string(), mark]).arg(directory);
            return command;
        };
        let http = if version == 2 { "--http2-prior-knowledge" } else { "--http1.1" };
        let data = if posts { body(mark) } else { String::new() };
        let url = format!("http://127.0.0.1:{port}/{mark}");
        Host.shell(CURLS, &[&url, http, &data, &directory.display().to_string()])
    }
}

/// What is posted.
pub(crate) fn body(mark: &str) -> String {
    format!("body from {mark}")
}
