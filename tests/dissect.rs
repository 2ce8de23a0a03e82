//! What tshark sees in our files with no settings at all: protocol by protocol on the port where it is at
//! home, from the start of a conversation, from its middle, and after a loss.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod payloads;
    pub mod talks;
    pub mod tshark;
}

use std::collections::BTreeMap;

use support::draw::{flow, record_as};
use support::payloads::{self as say, Talk};
use support::talks::{converse, speak};
use support::tshark::{fields, followed, tshark};
use tempfile::TempDir;
use tlsdump::event::Dir;
use tlsdump::flow::What;
use tlsdump::frame::Envelope;

/// From the start; from the middle; a whole answer lost, and then once more.
const WAYS: [&str; 3] = ["start", "middle", "loss"];

/// A conversation, the server's port, how tshark calls the protocol, and a field of the answers with a value.
/// In the three [`WAYS`] one, one and two answers are there (and three requests in the last), and so many
/// packets have the field. They are fewer where a protocol with lengths is put out of step by zeros, or one
/// of lines takes them for the beginning of the next line; and WebSocket is known only by its upgrade.
type Row = (fn() -> Talk, u16, &'static str, &'static str, &'static str, [usize; 3]);

/// With `--frames tls`.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    (say::http1,        443, "HTTP",      "http.response.code",      "200",      [1, 1, 2]),
    (say::http1,       8443, "HTTP",      "http.response.code",      "200",      [1, 1, 2]),
    (say::http1,         80, "HTTP",      "http.response.code",      "200",      [1, 1, 2]),
    (say::http1,       8080, "HTTP",      "http.response.code",      "200",      [1, 1, 2]),
    (say::http1,       5000, "HTTP",      "http.response.code",      "200",      [1, 1, 2]),
    (say::http1,       4222, "HTTP",      "http.response.code",      "200",      [1, 1, 2]),
    (say::http1,       5432, "HTTP",      "http.response.code",      "200",      [1, 1, 2]),
    (say::http2,        443, "HTTP2",     "http2.headers.status",    "200",      [1, 1, 1]),
    (say::http2,       6443, "HTTP2",     "http2.headers.status",    "200",      [1, 1, 1]),
    (say::http2,         80, "HTTP2",     "http2.headers.status",    "200",      [1, 1, 2]),
    (say::http2,       8080, "HTTP2",     "http2.headers.status",    "200",      [1, 1, 2]),
    (say::grpc,       50051, "GRPC",      "grpc.message_length",     "7",        [2, 2, 4]),
    (say::grpc,         443, "GRPC",      "grpc.message_length",     "7",        [2, 2, 4]),
    (say::websocket,    443, "WebSocket", "websocket.payload.text",  "Hello",    [2, 0, 4]),
    (say::dns,          853, "DNS",       "dns.a",                   "10.1.2.3", [1, 1, 1]),
    (say::mqtt,        8883, "MQTT",      "mqtt.topic",              "a/b",      [2, 2, 5]),
    (say::mqtt,        1883, "MQTT",      "mqtt.topic",              "a/b",      [2, 2, 5]),
    (say::smtp,         465, "SMTP",      "smtp.response.code",      "250",      [2, 1, 2]),
    (say::smtp,          25, "SMTP",      "smtp.response.code",      "250",      [2, 1, 3]),
    (say::imap,         993, "IMAP",      "imap.response.status",    "OK",       [1, 1, 2]),
    (say::ldap,         636, "LDAP",      "ldap.resultCode",         "0",        [1, 1, 2]),
    (say::ldap,         389, "LDAP",      "ldap.resultCode",         "0",        [1, 1, 2]),
    (say::amqp,        5671, "AMQP",      "amqp.type",               "8",        [1, 1, 2]),
    (say::amqp,        5672, "AMQP",      "amqp.type",               "8",        [1, 1, 2]),
    (say::mongo,      27017, "MONGO",     "mongo.opcode",            "2013",     [2, 2, 4]),
    (say::postgresql,  5432, "PGSQL",     "pgsql.tag",               "SELECT 1", [1, 1, 1]),
    (say::redis,       6379, "RESP",      "resp.bulk_string.value",  "776f726c64", [1, 1, 2]),
    (say::kafka,       9092, "Kafka",     "kafka.correlation_id",    "1",        [2, 2, 5]),
    (say::cql,         9042, "CQL",       "cql.opcode",              "6",        [1, 1, 2]),
    (say::mysql,       3306, "MySQL",     "mysql.affected_rows",     "0",        [2, 1, 3]),
    (say::memcached,  11211, "MEMCACHE",  "memcache.value",          "world",    [1, 1, 2]),
];

/// A capture of one conversation.
fn one(talk: &Talk, port: u16, way: &str) -> Vec<u8> {
    record_as(Envelope::Tls, |pen| {
        converse(pen, &mut flow(1, "10.0.0.1:50001", &format!("10.0.0.2:{port}")), talk, way);
    })
}

/// All conversations of the table in all ways: one TCP stream after another.
fn everything() -> Vec<u8> {
    record_as(Envelope::Tls, |pen| {
        for (row, (talk, port, ..)) in TABLE.iter().enumerate() {
            for (number, way) in WAYS.iter().enumerate() {
                let (client, server) = (format!("10.{number}.{row}.1:50001"), format!("10.9.{row}.2:{port}"));
                converse(pen, &mut flow((row * 3 + number) as u64, &client, &server), &talk(), way);
            }
        }
    })
}

#[test]
fn every_protocol_shows_on_its_port() {
    let mut names: Vec<&str> = TABLE.iter().map(|row| row.3).collect();
    names.sort_unstable();
    names.dedup();
    let columns = [&["tcp.stream", "_ws.col.Protocol"], &names[..]].concat();
    // By stream: how often each field has each value, and which protocols are named.
    let mut values = BTreeMap::<(usize, &str, String), usize>::new();
    let mut protocols = BTreeMap::<usize, String>::new();
    for line in fields(&everything(), "tcp", &columns) {
        let cells: Vec<&str> = line.split('\t').collect();
        let stream = cells[0].parse().unwrap();
        *protocols.entry(stream).or_default() += &format!("{} ", cells[1]);
        for (name, cell) in names.iter().zip(&cells[2..]) {
            for value in cell.split(',') {
                *values.entry((stream, name, value.to_owned())).or_default() += 1;
            }
        }
    }
    let mut wrong = String::new();
    for (row, (talk, port, protocol, field, value, expected)) in TABLE.iter().enumerate() {
        let streams = [0, 1, 2].map(|way| row * 3 + way);
        let found = streams.map(|s| values.get(&(s, *field, (*value).to_owned())).copied().unwrap_or(0));
        let named = streams.map(|stream| protocols[&stream].contains(protocol));
        if found != *expected || named != expected.map(|count| count > 0) {
            let name = talk().name;
            wrong += &format!("{name} on {port}: {field}={value} {found:?} times, {protocol} {named:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_nobody_knows_can_be_found() {
    for port in [443, 6380, 12_345] {
        let file = one(&say::unknown(), port, "start");
        let found = fields(&file, "frame contains \"hello answer\"", &["_ws.col.Protocol"]);
        assert_eq!(found, ["TLSv1.2"], "{port}");
        assert_eq!(followed(&file, "tls", 0, false), say::unknown().exchange[1].1);
    }
    let redis = one(&say::redis(), 6380, "start");
    assert_eq!(fields(&redis, "frame contains \"world\"", &["tcp.srcport"]), ["6380"]);
}

#[test]
fn a_file_without_loss_has_no_warning() {
    for (talk, port) in
        [(say::http1(), 443), (say::http2(), 443), (say::grpc(), 50051), (say::websocket(), 443)]
    {
        let printed = tshark(&one(&talk, port, "start"), &["-q", "-z", "expert,note"]);
        let rest = printed.lines().filter(|line| !line.contains("the connection closing"));
        let odd: Vec<_> = rest.filter(|line| line.contains("Sequence ") || line.contains("Warn")).collect();
        assert!(odd.is_empty(), "{} on {port}: {printed}", talk.name);
    }
}

#[test]
fn names_are_in_the_hello_and_in_the_comment() {
    let file = record_as(Envelope::Tls, |pen| {
        let mut on = flow(1, "10.0.0.1:50001", "10.0.0.2:12345");
        on.flow.names.server = Some(b"api.example.com"[..].into());
        on.flow.names.alpn = Some(b"mqtt\x1b[2J x"[..].into());
        converse(pen, &mut on, &say::unknown(), "start");
    });
    let names = ["tls.handshake.extensions_server_name", "tls.handshake.ciphersuite"];
    assert_eq!(fields(&file, "tls.handshake.type == 1", &names), ["api.example.com\t0x0001"]);
    let comment = &fields(&file, "frame.comment", &["frame.comment"])[0];
    assert!(comment.contains("tuple=nested sni=api.example.com alpn=\"mqtt\u{fffd}[2J x\""), "{comment}");
    // Both sides of gRPC agree on a name that Wireshark doesn't know; the server speaks first.
    let file = record_as(Envelope::Tls, |pen| {
        let mut on = flow(1, "10.0.0.1:50001", "10.0.0.2:50051");
        on.flow.names.alpn = Some(b"grpc-exp"[..].into());
        let mut talk = say::grpc();
        let first = talk.beginning.iter().position(|(from_client, _)| !from_client).unwrap();
        talk.beginning.swap(0, first);
        converse(pen, &mut on, &talk, "start");
    });
    let known = fields(&file, "tls.handshake", &["tls.handshake.extensions_alpn_str"]);
    assert_eq!(known, ["h2", "h2"]);
    assert!(fields(&file, "frame.comment", &["frame.comment"])[0].ends_with("alpn=grpc-exp"));
    assert!(!fields(&file, "grpc", &["frame.number"]).is_empty());
    let inferred = one(&say::http2(), 443, "middle");
    let alpn = fields(&inferred, "tls.handshake", &["tls.handshake.extensions_alpn_str"]);
    assert_eq!(alpn, ["h2", "h2"]);
}

#[test]
fn follow_and_export_give_what_was_sent() {
    let talk = say::http1();
    let file = one(&talk, 443, "start");
    assert_eq!(followed(&file, "tls", 0, true), talk.exchange[0].1);
    assert_eq!(followed(&file, "tls", 0, false), talk.exchange[1].1);
    let uri = fields(&file, "http.request", &["http.request.full_uri"]);
    assert_eq!(uri, ["https://example.com/hello"]);

    let file = one(&say::http2(), 443, "start");
    let printed = tshark(&file, &["-q", "-z", "follow,http2,ascii,0,1"]);
    assert!(printed.contains("/hello") && printed.contains("{\"hello\":\"1\"}"), "{printed}");

    let dir = TempDir::new().unwrap();
    let file = one(&talk, 443, "start");
    tshark(&file, &["-q", "--export-objects", &format!("http,{}", dir.path().display())]);
    assert_eq!(std::fs::read(dir.path().join("hello")).unwrap(), b"{\"hello\":\"1\"}");
    let talkers = tshark(&file, &["-q", "-z", "conv,tcp"]);
    assert!(talkers.contains("10.0.0.1:50001") && talkers.contains("10.0.0.2:443"), "{talkers}");
}

#[test]
fn a_body_with_a_hole_keeps_its_place() {
    let body = vec![b'x'; 40_000];
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
    let file = record_as(Envelope::Tls, |pen| {
        let mut on = flow(1, "10.0.0.1:50001", "10.0.0.2:443");
        pen.open(&mut on);
        for _ in 0..2 {
            pen.write(&mut on, &say::http1().exchange[0].1);
            pen.read(&mut on, &[head.as_bytes(), &body[..10_000]].concat());
            pen.draw(&mut on, Dir::In, What::Gap(20_000));
            pen.read(&mut on, &body[30_000..]);
        }
        pen.close(&mut on);
    });
    assert_eq!(fields(&file, "http.response.code == 200", &["http.content_length"]), ["40000", "40000"]);
    let told = fields(&file, "frame.comment contains \"lost\"", &["frame.comment"]);
    let expected =
        [16_384, 3_616].map(|bytes| format!("tlsdump: {bytes} bytes lost here, filled with zeros"));
    assert_eq!(told, [&expected[..], &expected].concat());
}

#[test]
fn too_long_a_loss_begins_a_new_connection() {
    let file = record_as(Envelope::Tls, |pen| {
        let mut on = flow(1, "10.0.0.1:50001", "10.0.0.2:443");
        pen.open(&mut on);
        speak(pen, &mut on, &say::http2().beginning, false);
        speak(pen, &mut on, &say::http2().exchange, false);
        pen.draw(&mut on, Dir::In, What::Gap(1 << 40));
        speak(pen, &mut on, &say::http2().exchange, false);
    });
    let told = fields(
        &file,
        "frame.comment contains \"loss\" or frame.comment contains \"lost\"",
        &["tcp.flags.str", "frame.comment"],
    );
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("1099511627776 bytes lost, too many to fill"), "{told:?}");
    assert!(told[1].contains("goes on after the loss of 1099511627776 bytes"), "{told:?}");
    let streams = fields(&file, "http2.headers.status == 200", &["tcp.stream"]);
    assert_eq!(streams, ["0", "1"]);
}

#[test]
fn a_preface_that_was_missed_is_added_on_the_ports_of_http() {
    let file = one(&say::http2(), 8080, "middle");
    let added = fields(&file, "http2.magic", &["frame.comment"]);
    assert_eq!(added, ["tlsdump: added for the reader, not captured"]);
    assert_eq!(fields(&one(&say::http2(), 8080, "start"), "http2.magic", &["frame.comment"]), [""]);
}
