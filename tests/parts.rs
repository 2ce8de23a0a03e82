//! A capture in parts: where it is cut, and that each part opens alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod payloads;
    pub mod pcapng;
    pub mod streams;
    pub mod tshark;
}

use std::io;

use support::draw::{Drawn, Pen, START, flow, names, noise};
use support::payloads as say;
use support::pcapng::{self, Capture};
use support::streams::conversations;
use support::tshark::fields;
use tlsdump::event::Dir;
use tlsdump::file::sink::{Part, Sink};
use tlsdump::file::{Cuts, Options};
use tlsdump::flow::What;
use tlsdump::frame::Envelope;

const SECOND: u64 = 1_000_000_000;

/// Each part by itself.
#[derive(Debug, Default)]
struct Parts {
    begun: Vec<Part>,
    files: Vec<Vec<u8>>,
}

impl Sink for Parts {
    fn begin(&mut self, part: Part) -> io::Result<()> {
        assert_eq!(self.begun.len(), self.files.len(), "a part begins in another");
        self.begun.push(part);
        self.files.push(Vec::new());
        Ok(())
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        self.files.last_mut().unwrap()
    }

    fn block(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The parts that `script` draws.
fn draw(cuts: Cuts, envelope: Envelope, script: impl FnOnce(&mut Pen<'_, &mut Parts>)) -> Parts {
    let mut parts = Parts::default();
    let names = names();
    let mut pen = Pen::with(&mut parts, &names, Options { snaplen: 0, cuts }, envelope);
    script(&mut pen);
    let summary = pen.writer.finish(&names).unwrap();
    assert_eq!(summary.bytes, parts.files.iter().map(|file| file.len() as u64).sum::<u64>());
    assert_eq!(summary.parts as usize, parts.files.len());
    parts
}

/// Every part alone, with its statistics.
fn read(parts: &Parts) -> Vec<Capture> {
    let read = parts.files.iter().map(|file| pcapng::read(file).unwrap()).collect::<Vec<_>>();
    for capture in &read {
        assert_eq!(capture.statistics.len(), capture.interfaces.len());
        assert_eq!(capture.statistics[0].ifrecv, Some(capture.packets.len() as u64));
    }
    read
}

fn server(port: u16) -> Drawn {
    flow(1, "10.0.0.1:50001", &format!("10.0.0.2:{port}"))
}

fn by_packets(packets: u64) -> Cuts {
    Cuts { packets: Some(packets), ..Cuts::default() }
}

#[test]
fn a_connection_is_known_in_every_part() {
    for (talk, port, protocol) in [
        (say::http2(), 443, "http2"),
        (say::http2(), 80, "http2"),
        (say::grpc(), 50_051, "http2"),
        (say::http1(), 8443, "http"),
        (say::postgresql(), 5432, "pgsql"),
        (say::redis(), 6379, "resp"),
    ] {
        let mut on = server(port);
        let parts = draw(by_packets(4), Envelope::Tls, |pen| {
            pen.open(&mut on);
            for (asks, bytes) in talk.beginning.iter().chain(&talk.exchange).chain(&talk.exchange) {
                let dir = if *asks { Dir::Out } else { Dir::In };
                pen.draw(&mut on, dir, What::Data(bytes));
            }
            pen.close(&mut on);
        });
        let read = read(&parts);
        assert!(read.len() > 4, "{protocol} on {port}: {} parts", read.len());
        for (number, (capture, file)) in read.iter().zip(&parts.files).enumerate() {
            let who = capture.packets[0].value("pid");
            assert_eq!(who.as_deref(), Some("1234"), "the first packet of part {number}");
            let has_payload = conversations(capture)
                .unwrap()
                .iter()
                .any(|c| !c.to_server().bytes().is_empty() || !c.to_client().bytes().is_empty());
            let known = fields(file, protocol, &["frame.number"]).len();
            assert_eq!(known > 0, has_payload, "{protocol} on {port} in part {number}");
            // Wireshark 4.0 calls an answer malformed if its gRPC request is in another part.
            let malformed = if port == 50_051 { "" } else { " || _ws.malformed" };
            let trouble = fields(file, &format!("tcp.analysis.lost_segment{malformed}"), &["frame.number"]);
            assert_eq!(trouble, [""; 0], "{protocol} on {port} in part {number}");
        }
    }
}

#[test]
fn the_parts_together_are_the_whole() {
    let pieces: Vec<_> = (1..200).map(|n| noise(n * 37 % 5000)).collect();
    for envelope in [Envelope::Tls, Envelope::Plain, Envelope::Sealed] {
        let (mut a, mut b) = (server(443), flow(2, "10.0.0.3:50001", "10.0.0.2:443"));
        let cuts = Cuts { bytes: Some(60_000), ..Cuts::default() };
        let parts = draw(cuts, envelope, |pen| {
            pen.open(&mut a);
            pen.open(&mut b);
            for (number, piece) in pieces.iter().enumerate() {
                pen.draw(if number % 3 == 0 { &mut b } else { &mut a }, Dir::Out, What::Data(piece));
            }
        });
        let mut seen = [Vec::new(), Vec::new()];
        for capture in read(&parts) {
            for conversation in conversations(&capture).unwrap() {
                let first = &capture.packets[conversation.packets[0]];
                let client = usize::from(first.from.to_string().starts_with("10.0.0.3"));
                seen[client].extend_from_slice(conversation.to_server().bytes());
            }
        }
        for (client, seen) in seen.iter().enumerate() {
            let chosen = pieces.iter().enumerate().filter(|(n, _)| usize::from(n % 3 == 0) == client);
            assert!(*seen == chosen.map(|(_, p)| p.as_slice()).collect::<Vec<_>>().concat(), "{client}");
        }
    }
}

#[test]
fn no_part_is_larger_than_was_asked() {
    let cuts = Cuts { bytes: Some(100_000), ..Cuts::default() };
    let mut a = server(443);
    let parts = draw(cuts, Envelope::Tls, |pen| {
        pen.open(&mut a);
        for n in 0..500 {
            pen.write(&mut a, &noise(1 + n * 131 % 20_000));
        }
    });
    let sizes: Vec<_> = parts.files.iter().map(Vec::len).collect();
    assert!(sizes.iter().all(|size| *size <= 100_000), "{sizes:?}");
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!(mean > 60_000, "parts of {mean} bytes where 100000 are allowed");
}

#[test]
fn parts_follow_the_wall_clock_of_the_packets() {
    let cuts = Cuts { every: Some(10), ..Cuts::default() };
    let mut a = server(443);
    let parts = draw(cuts, Envelope::Tls, |pen| {
        pen.open(&mut a);
        for _ in 0..4 {
            pen.write(&mut a, b"GET / HTTP/1.1\r\n\r\n");
            pen.wait(4 * SECOND);
        }
        // Long after: no part for what was quiet.
        pen.wait(3600 * SECOND);
        pen.write(&mut a, b"GET / HTTP/1.1\r\n\r\n");
        // The clock is set back.
        pen.wait((7200 * SECOND).wrapping_neg());
        pen.write(&mut a, b"GET / HTTP/1.1\r\n\r\n");
    });
    let begun = parts.begun.iter().map(|part| (part.at / SECOND).cast_signed());
    let begun: Vec<_> = begun.map(|second| second - (START / SECOND).cast_signed()).collect();
    assert_eq!(begun, [0, 12, 3616, -3584]);
    for (capture, part) in read(&parts).iter().zip(&parts.begun) {
        assert_eq!(capture.packets[0].at, part.at);
        let slot = |at: u64| at / (10 * SECOND);
        assert!(capture.packets.iter().all(|packet| slot(packet.at) == slot(part.at)));
    }
}

#[test]
fn a_part_ends_when_its_time_is_over_though_no_packet_comes() {
    let cuts = Cuts { seconds: Some(5), ..Cuts::default() };
    let mut a = server(443);
    let parts = draw(cuts, Envelope::Tls, |pen| {
        pen.writer.tick(START + 100 * SECOND).unwrap();
        pen.open(&mut a);
        pen.writer.tick(START + 5 * SECOND).unwrap();
        pen.write(&mut a, b"late, but of this part");
        pen.writer.tick(START + 6 * SECOND).unwrap();
        pen.writer.tick(START + 60 * SECOND).unwrap();
        pen.write(&mut a, b"late, and of the next part");
    });
    assert_eq!(parts.begun.len(), 2);
}

#[test]
fn nothing_captured_is_no_part() {
    let parts = draw(by_packets(1), Envelope::Tls, |pen| pen.writer.flush(&names()).unwrap());
    assert!(parts.files.is_empty());
    let one = draw(Cuts::default(), Envelope::Tls, |_| {});
    assert_eq!(pcapng::read(&one.files[0]).unwrap().interfaces.len(), 1);
}

#[test]
fn an_end_alone_is_not_begun_again_for() {
    let mut a = server(443);
    let parts = draw(by_packets(1), Envelope::Tls, |pen| {
        pen.open(&mut a);
        pen.write(&mut a, b"GET / HTTP/1.1\r\n\r\n");
        pen.draw(&mut a, Dir::Out, What::Fin);
        pen.read(&mut a, b"HTTP/1.1 204 No Content\r\n\r\n");
        pen.draw(&mut a, Dir::In, What::Fin);
    });
    let read = read(&parts);
    let packets: Vec<_> = read.iter().map(|capture| capture.packets.len()).collect();
    // The answer comes after a handshake, a hello and the end of the other direction.
    assert_eq!(packets, [3, 3 + 3 + 1, 1, 3 + 3 + 1 + 1, 1]);
    assert!(read[4].packets[0].has(pcapng::FIN));
}

#[test]
fn what_was_not_written_is_told_where_the_connection_goes_on() {
    for envelope in [Envelope::Tls, Envelope::Plain, Envelope::Sealed] {
        let (mut a, mut b) = (server(443), flow(2, "10.0.0.3:50001", "10.0.0.2:443"));
        let parts = draw(Cuts::default(), envelope, |pen| {
            pen.open(&mut a);
            pen.write(&mut a, b"first");
            pen.skip(&mut a, Dir::Out, What::Data(b"passed over"));
            pen.skip(&mut a, Dir::In, What::Gap(9));
            pen.skip(&mut b, Dir::Out, What::Open);
            pen.write(&mut a, b"last");
            pen.write(&mut b, b"only");
        });
        let capture = read(&parts).remove(0);
        let told: Vec<_> =
            capture.packets.iter().flat_map(|p| &p.comments).filter(|c| c.contains("not written")).collect();
        let expected =
            "tlsdump: 20 bytes not written before, the output took nothing: drawn as a new connection";
        assert_eq!(told, [expected]);
        assert_eq!(capture.statistics[0].ifdrop, Some(1));
        let shown = conversations(&capture).unwrap();
        let bytes: Vec<_> = shown.iter().map(|c| c.to_server().bytes()).collect();
        assert_eq!(bytes, [&b"first"[..], b"last", b"only"]);
    }
}
