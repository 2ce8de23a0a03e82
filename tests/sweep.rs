//! Which protocol tshark sees on every server port. Takes minutes, so that it runs only when asked for:
//!
//! ```text
//! cargo test --test sweep -- --nocapture
//! ```
//!
//! Its result is in docs/WIRESHARK.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod payloads;
}

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use support::draw::{flow, record_as};
use support::payloads::{Talk, http1, http2};
use tempfile::TempDir;
use tlsdump::event::Dir;
use tlsdump::flow::What;
use tlsdump::frame::Envelope;

/// The port of the client: one that no dissector has.
const CLIENT: u16 = 50_001;

/// A conversation on every port; each has addresses of its own.
fn all_ports(talk: &Talk, envelope: Envelope) -> Vec<u8> {
    record_as(envelope, |pen| {
        for port in 1..=u16::MAX {
            let [high, low] = port.to_be_bytes();
            let (client, server) =
                (format!("10.1.{high}.{low}:{CLIENT}"), format!("10.2.{high}.{low}:{port}"));
            let mut on = flow(port.into(), &client, &server);
            pen.open(&mut on);
            for (asks, bytes) in talk.beginning.iter().chain(&talk.exchange) {
                pen.draw(&mut on, if *asks { Dir::Out } else { Dir::In }, What::Data(bytes));
            }
            pen.close(&mut on);
        }
    })
}

/// The server ports of the packets that a display filter lets through.
fn ports(file: &[u8], filter: &str) -> Vec<u16> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sweep.pcapng");
    fs::write(&path, file).unwrap();
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(&path)
        .args(["-Y", filter, "-T", "fields", "-e", "ip.src", "-e", "tcp.srcport"])
        .env("HOME", dir.path())
        .env("XDG_CONFIG_HOME", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut ports: Vec<u16> = text.lines().filter_map(|line| line.split_once('\t')?.1.parse().ok()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// `1-3, 7`.
fn ranges(ports: impl Iterator<Item = u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut().filter(|range| range.1 + 1 == port) {
            Some(range) => range.1 = port,
            None => ranges.push((port, port)),
        }
    }
    let shown = ranges.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    shown.collect::<Vec<_>>().join(", ")
}

#[test]
fn http_shows_on_nearly_every_port() {
    let mut seen = BTreeMap::new();
    for (name, talk, filter) in
        [("HTTP/1", http1(), "http.response.code == 200"), ("HTTP/2", http2(), "http2.headers.status == 200")]
    {
        for envelope in [Envelope::Tls, Envelope::Plain] {
            let found = ports(&all_ports(&talk, envelope), filter);
            let missing = (1..=u16::MAX).filter(|port| found.binary_search(port).is_err());
            println!("{name}, {envelope:?}: on {} of 65535 ports", found.len());
            if found.len() > 60_000 {
                println!("not on {}", ranges(missing));
            } else {
                println!("on {}", ranges(found.iter().copied()));
            }
            seen.insert((name, envelope == Envelope::Tls), found.len());
        }
    }
    assert!(seen[&("HTTP/1", true)] > 65_200 && seen[&("HTTP/2", true)] > 65_200, "{seen:?}");
}
