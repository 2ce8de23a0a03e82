//! Real packets, which Wireshark decrypts with nothing configured.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::capture::{Tlsdump, tshark};
use crate::container::{Container, Host, Place};
use crate::lab::{Lab, free_port};
use crate::process::{Ended, Process, run};
use crate::servers::{nginx_command, wait_for_listener};

/// nginx with HTTP/2.
struct Server {
    _process: Process,
    address: SocketAddr,
}

impl Server {
    fn start(lab: &Lab, place: &impl Place) -> Self {
        let port = free_port();
        let process = Process::start(&nginx_command(lab, place, port, "ssl http2"));
        wait_for_listener(port);
        Self { _process: process, address: ([127, 0, 0, 1], port).into() }
    }

    /// Asks for a page with curl in `place`.
    #[track_caller]
    fn ask(&self, place: &impl Place, path: &str, arguments: &[&str]) {
        let url = format!("https://{}{path}", self.address);
        run(place.command("curl").arg("-sk").args(arguments).arg(url)).succeeds();
    }
}

/// A capture of real packets.
struct Wire {
    tlsdump: Tlsdump,
    file: PathBuf,
}

impl Wire {
    fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let file = lab.path("wire.pcapng");
        let tlsdump = Tlsdump::start_to(file.clone(), &[&["--frames=wire"], arguments].concat());
        Self { tlsdump, file }
    }

    #[track_caller]
    fn stop(self) -> (PathBuf, Ended) {
        self.tlsdump.signal(Signal::INT);
        (self.file, self.tlsdump.end().succeeds())
    }
}

/// The values of some fields of packets, each that is there.
fn fields(file: &Path, filter: &str, names: &[&str]) -> Vec<String> {
    let names: Vec<_> = names.iter().flat_map(|name| ["-e", name]).collect();
    let text = tshark(file, &[&["-Y", filter, "-T", "fields"], &names[..]].concat());
    let values = text.lines().flat_map(|line| line.split(['\t', ','])).filter(|value| !value.is_empty());
    values.map(str::to_owned).collect()
}

/// The pages that were asked for, in order.
fn asked(file: &Path) -> Vec<String> {
    let pages = ["http.request.uri", "http2.headers.path"];
    fields(file, "http.request or http2.headers.path", &pages)
}

/// How many answers were good.
fn answered(file: &Path) -> usize {
    let status = ["http.response.code", "http2.headers.status"];
    let all = fields(file, "http.response or http2.headers.status", &status);
    all.iter().filter(|status| *status == "200").count()
}

const KINDS: [(&str, &str); 4] =
    [("1.2", "--http1.1"), ("1.2", "--http2"), ("1.3", "--http1.1"), ("1.3", "--http2")];

#[test]
fn of_a_client_with_both_versions_and_protocols() {
    let lab = Lab::new();
    let server = Server::start(&lab, &Host);
    let (container, neighbour) = (Container::new(&lab), Container::new(&lab));
    let wire = Wire::start(&lab, &[&container.option()]);
    for (version, protocol) in KINDS {
        server.ask(&neighbour, "/of-the-neighbour", &["--tls-max", version, protocol]);
        server.ask(&container, &format!("/of-{version}{protocol}"), &["--tls-max", version, protocol]);
    }
    let (file, ended) = wire.stop();
    let pages: Vec<_> = KINDS.iter().map(|(version, protocol)| format!("/of-{version}{protocol}")).collect();
    assert_eq!(asked(&file), pages, "{ended}");
    assert_eq!(answered(&file), pages.len());
    // The neighbour's packets go over the same interface.
    let begun = fields(&file, "tcp.flags.syn == 1 and tcp.flags.ack == 0", &["tcp.srcport"]);
    let ports: BTreeSet<_> = fields(&file, "tcp", &["tcp.srcport", "tcp.dstport"]).into_iter().collect();
    assert_eq!((begun.len(), ports.len()), (pages.len(), pages.len() + 1), "{ports:?}");
    // Every connection is whole.
    let lost = "tcp.analysis.lost_segment or tcp.analysis.ack_lost_segment";
    assert_eq!(fields(&file, lost, &["frame.number"]), Vec::<String>::new());
    let ended =
        tshark(&file, &["-Y", "tcp.flags.fin == 1", "-T", "fields", "-e", "tcp.stream", "-e", "tcp.srcport"]);
    let ended: BTreeSet<_> = ended.lines().collect();
    assert_eq!(ended.len(), 2 * pages.len(), "{ended:?}");
}

#[test]
fn of_a_server() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let server = Server::start(&lab, &container);
    let wire = Wire::start(&lab, &[&container.option(), "-i", "lo"]);
    for (version, protocol) in KINDS {
        server.ask(&Host, "/page", &["--tls-max", version, protocol]);
    }
    let (file, ended) = wire.stop();
    assert_eq!(asked(&file), ["/page"; KINDS.len()], "{ended}");
    assert_eq!(answered(&file), KINDS.len());
}

#[test]
fn a_recorded_stream_has_them_too() {
    let lab = Lab::new();
    let server = Server::start(&lab, &Host);
    let container = Container::new(&lab);
    let stream = lab.path("stream").display().to_string();
    let wire = Wire::start(&lab, &[&container.option(), "--record", &stream]);
    server.ask(&container, "/page", &[]);
    let (file, _) = wire.stop();
    let again = lab.path("again.pcapng");
    let mut replay = crate::capture::tlsdump(&["-r", &stream, "--frames=wire", "-w"]);
    run(replay.arg(&again)).succeeds();
    assert_eq!(asked(&file), ["/page"]);
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&file).unwrap());
}
