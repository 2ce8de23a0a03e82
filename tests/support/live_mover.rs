//! Drives `tests/programs/tlsmove.c`: moves known bytes over TLS, and tells what was really moved.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::container::{Host, Place};
use crate::lab::{Lab, free_port};
use crate::process::Process;

/// Of what a server writes in its first session.
pub(crate) const SERVER_SEED: u64 = 100;

/// A running tlsmove.
pub(crate) struct Mover {
    process: Process,
    gates: usize,
}

/// What one end of a session moved, as the program itself counted.
#[derive(Debug)]
pub(crate) struct Moved {
    /// `only`, or `outer` and `inner` where TLS runs inside TLS.
    pub(crate) layer: String,
    pub(crate) pid: u32,
    /// Where the `SSL` was in memory.
    pub(crate) pointer: String,
    /// Of what it wrote: see [`pattern`].
    pub(crate) seed: u64,
    /// How often a write had to wait for room.
    pub(crate) waits: u64,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) wrote: Sum,
    pub(crate) read: Sum,
}

/// Bytes that went one way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut child =
            Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        Self { bytes: bytes.len() as u64, sha256: text.split(' ').next().unwrap().to_owned() }
    }
}

impl Mover {
    /// A server on a free port of `ip`, and its address.
    pub(crate) fn server(
        lab: &Lab,
        place: &impl Place,
        options: &str,
        ip: &str,
        steps: &str,
    ) -> (Self, SocketAddr) {
        let address = SocketAddr::new(ip.parse().unwrap(), free_port());
        let certificate = lab.certificate();
        let options = format!("-s {SERVER_SEED} -c {} {options}", certificate.display());
        let mover = Self::start(lab, place, &options, "server", address, steps);
        mover.process.stdout_line("the server", |line| line == "listening");
        (mover, address)
    }

    pub(crate) fn client(lab: &Lab, place: &impl Place, options: &str, to: SocketAddr, steps: &str) -> Self {
        Self::start(lab, place, options, "client", to, steps)
    }

    /// A client by another library than OpenSSL: `tests/programs/client.c`.
    pub(crate) fn client_by(
        lab: &Lab,
        place: &impl Place,
        (library, setup): (&str, &str),
        to: SocketAddr,
        steps: &str,
    ) -> Self {
        let mut command = place.command(&lab.client(library));
        command.args([to.ip().to_string(), to.port().to_string(), setup.to_owned()]);
        Self { process: Process::start(command.args(steps.split_whitespace())), gates: 0 }
    }

    fn start(
        lab: &Lab,
        place: &impl Place,
        options: &str,
        side: &str,
        address: SocketAddr,
        steps: &str,
    ) -> Self {
        let mut command = place.command(&lab.tlsmove());
        command.args(options.split_whitespace()).arg(side);
        command.args([address.ip().to_string(), address.port().to_string()]).args(steps.split_whitespace());
        Self { process: Process::start(&command), gates: 0 }
    }

    /// Waits until it stands before its next gate, and all before that was moved.
    #[track_caller]
    pub(crate) fn reaches_gate(&self) {
        self.process.stdout_line_after(self.gates, "the program at its gate", |line| line == "gate");
    }

    /// Lets it go on.
    #[track_caller]
    pub(crate) fn open_gate(&mut self) {
        self.reaches_gate();
        self.gates += 1;
        self.process.type_line("");
    }

    /// What its sessions moved.
    #[track_caller]
    pub(crate) fn end(self) -> Vec<Moved> {
        sessions(&self.process.end().succeeds().stdout)
    }
}

/// What the sessions moved of which a program printed this.
pub(crate) fn sessions(printed: &str) -> Vec<Moved> {
    printed.lines().filter_map(|line| line.strip_prefix("session ")).map(parse).collect()
}

fn parse(line: &str) -> Moved {
    let values: HashMap<_, _> = line.split(' ').map(|pair| pair.split_once('=').unwrap()).collect();
    let number = |key: &str| values[key].parse::<u64>().unwrap();
    let sum =
        |key: &str| Sum { bytes: number(key), sha256: values[format!("{key}_sha256").as_str()].to_owned() };
    Moved {
        layer: values["layer"].to_owned(),
        pid: number("pid") as u32,
        pointer: values["ssl"].to_owned(),
        seed: number("seed"),
        waits: number("waits"),
        local: canonical(values["local"].parse().unwrap()),
        remote: canonical(values["remote"].parse().unwrap()),
        wrote: sum("wrote"),
        read: sum("read"),
    }
}

/// As it goes over the wire: IPv4 also where the socket is an IPv6 one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What the other side has to do.
fn mirror(steps: &str) -> String {
    let steps = steps.split_whitespace().filter(|step| !step.starts_with(['g', 'f']));
    let flip = |c| match c {
        'w' => 'r',
        'r' => 'w',
        'W' => 'R',
        'R' => 'W',
        digit => digit,
    };
    steps.map(|step| step.chars().map(flip).collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// How bytes are moved between a client in a container and a server outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move<'a> {
    /// Options of the client, and those that the server needs with them.
    pub(crate) client: &'a str,
    pub(crate) server: &'a str,
    /// What the client does; the server does the opposite.
    pub(crate) steps: &'a str,
}

impl Move<'_> {
    /// Does it over 127.0.0.1 and says what the client moved.
    #[track_caller]
    pub(crate) fn run(&self, lab: &Lab, place: &impl Place) -> Vec<Moved> {
        let (server, address) = Mover::server(lab, &Host, self.server, "127.0.0.1", &mirror(self.steps));
        let client = Mover::client(lab, place, self.client, address, self.steps);
        let moved = client.end();
        server.end();
        moved
    }
}

/// What a session with that seed writes from position `from` on: words of eight bytes, the seed and the
/// number of the word. So the bytes tell their place.
pub(crate) fn pattern(seed: u64, from: u64, length: usize) -> Vec<u8> {
    (from..).take(length).map(|at| ((seed << 48) | (at / 8)).to_be_bytes()[(at % 8) as usize]).collect()
}
