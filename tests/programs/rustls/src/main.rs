// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moves bytes over rustls, and tells what it moved.
//!
//! usage: `rustmove [OPTION...] client|server ADDRESS:PORT STEP...`
//!
//! Steps are letters with numbers: wN writes N bytes, vN does so from slices of many sizes, bN without
//! sending anything yet (not by tokio), rN reads until N bytes are there, m moves the connection to another
//! place in memory, k changes the keys of both sides, g prints "gate" and waits for a line. Options: -s
//! SEED of what the first session writes, further ones have the next; -c FILE with certificate and key; -n
//! sessions one after another, each on a new connection; -t so many at the same time; -a by tokio, -1 on
//! one thread of it; -2 by TLS 1.2; -h closes its own side first, and reads to the end. A server prints
//! "listening", and ends with its standard input.

mod asynchronous;
mod blocking;
mod tls;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest;

/// What was asked for.
#[derive(Clone)]
struct Options {
    is_server: bool,
    address: SocketAddr,
    steps: Vec<(char, usize)>,
    certificate: String,
    sessions: usize,
    parallel: usize,
    tokio: bool,
    one_thread: bool,
    tls12: bool,
    half: bool,
}

static NEXT_SEED: AtomicU64 = AtomicU64::new(0);

fn main() {
    let options = parse();
    if options.tokio {
        asynchronous::run(options);
    } else {
        blocking::run(&options);
    }
}

fn parse() -> Options {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options {
        is_server: false,
        address: ([127, 0, 0, 1], 0).into(),
        steps: Vec::new(),
        certificate: String::new(),
        sessions: 1,
        parallel: 1,
        tokio: false,
        one_thread: false,
        tls12: false,
        half: false,
    };
    let side = loop {
        let argument = arguments.next().expect("client or server");
        let mut value = || arguments.next().expect("a value");
        match argument.as_str() {
            "-s" => NEXT_SEED.store(value().parse().expect("a seed"), Ordering::Relaxed),
            "-c" => options.certificate = value(),
            "-n" => options.sessions = value().parse().expect("a number"),
            "-t" => options.parallel = value().parse().expect("a number"),
            "-a" => options.tokio = true,
            "-1" => options.one_thread = true,
            "-2" => options.tls12 = true,
            "-h" => options.half = true,
            _ => break argument,
        }
    };
    options.is_server = side == "server";
    options.address = arguments.next().expect("an address").parse().expect("an address");
    let step = |step: String| (step.as_bytes()[0].into(), step[1..].parse().unwrap_or(0));
    options.steps = arguments.map(step).collect();
    options
}

/// What went one way.
struct Sum {
    bytes: u64,
    hash: digest::Context,
}

impl Sum {
    fn new() -> Self {
        Self { bytes: 0, hash: digest::Context::new(&digest::SHA256) }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    fn text(self, name: &str) -> String {
        let sum: String = self.hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}={} {name}_sha256={sum}", self.bytes)
    }
}

/// What a session moved.
struct Tally {
    seed: u64,
    wrote: Sum,
    read: Sum,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Tally {
    fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let seed = NEXT_SEED.fetch_add(1, Ordering::Relaxed);
        Self { seed, wrote: Sum::new(), read: Sum::new(), local, remote }
    }

    /// The next bytes to be written: words of eight bytes, the seed in the upper 16 bits, the word's number
    /// in the others.
    fn pattern(&self, length: usize) -> Vec<u8> {
        let from = self.wrote.bytes as usize;
        let words = (from / 8..).flat_map(|word| (self.seed << 48 | word as u64).to_be_bytes());
        words.skip(from % 8).take(length).collect()
    }

    fn tell(self) {
        let line = format!(
            "session layer=only pid={} ssl=0 seed={} waits=0 local={} remote={} {} {}\n",
            std::process::id(),
            self.seed,
            self.local,
            self.remote,
            self.wrote.text("wrote"),
            self.read.text("read"),
        );
        std::io::stdout().lock().write_all(line.as_bytes()).expect("standard output");
    }
}

/// Cuts bytes into slices of many sizes, empty ones among them.
fn slices(bytes: &[u8]) -> Vec<std::io::IoSlice<'_>> {
    let (mut rest, mut slices) = (bytes, Vec::new());
    for size in [0, 1, 16384, 3, 0, 40000, 100].into_iter().cycle() {
        let (slice, after) = rest.split_at(rest.len().min(size));
        slices.push(std::io::IoSlice::new(slice));
        rest = after;
        if rest.is_empty() {
            return slices;
        }
    }
    slices
}

fn wait_at_gate() {
    println!("gate");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("standard input");
}

fn wait_for_end() {
    println!("listening");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("standard input");
}
