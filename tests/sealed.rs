//! What tshark sees in a sealed capture with its secrets, and that nothing is seen without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod payloads;
    pub mod pcapng;
    pub mod talks;
    pub mod tshark;
}

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use support::draw::{COUNTERS, Pen, flow, names, record_as};
use support::payloads::{self as say, Talk};
use support::pcapng;
use support::talks::{converse, speak};
use support::tshark::{fields, followed, run, tshark};
use tempfile::TempDir;
use tlsdump::event::Dir;
use tlsdump::file::KeyLog;
use tlsdump::flow::What;
use tlsdump::frame::Envelope;

/// From the start; from the middle; a whole answer lost, and then once more.
const WAYS: [&str; 3] = ["start", "middle", "loss"];

/// As in `tests/dissect.rs`, and with the same figures: what shows in an envelope shows in a sealed one.
type Row = (fn() -> Talk, u16, &'static str, &'static str, [usize; 3]);

/// A conversation, the server's port, a protocol, a filter, and packets.
type Port = (fn() -> Talk, u16, &'static str, &'static str, usize);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    (say::http1,        443, "http.response.code",     "200",      [1, 1, 2]),
    (say::http1,       8443, "http.response.code",     "200",      [1, 1, 2]),
    (say::http1,       5432, "http.response.code",     "200",      [1, 1, 2]),
    (say::http2,        443, "http2.headers.status",   "200",      [1, 1, 1]),
    (say::http2,       6443, "http2.headers.status",   "200",      [1, 1, 1]),
    (say::grpc,       50051, "grpc.message_length",    "7",        [2, 2, 4]),
    (say::websocket,    443, "websocket.payload.text", "Hello",    [2, 0, 4]),
    (say::dns,          853, "dns.a",                  "10.1.2.3", [1, 1, 1]),
    (say::mqtt,        8883, "mqtt.topic",             "a/b",      [2, 2, 5]),
    (say::smtp,         465, "smtp.response.code",     "250",      [2, 1, 2]),
    (say::imap,         993, "imap.response.status",   "OK",       [1, 1, 2]),
    (say::ldap,         636, "ldap.resultCode",        "0",        [1, 1, 2]),
    (say::amqp,        5671, "amqp.type",              "8",        [1, 1, 2]),
    (say::mongo,      27017, "mongo.opcode",           "2013",     [2, 2, 4]),
    (say::postgresql,  5432, "pgsql.tag",              "SELECT 1", [1, 1, 1]),
];

/// Ports on which `--frames tls` writes plain bytes, their protocols, what has to be decoded there besides
/// TLS, and how many packets a filter finds then. Not every protocol can be named to Wireshark.
#[rustfmt::skip]
const PLAIN_PORTS: &[Port] = &[
    (say::http1,        80, "",      "http",         2),
    (say::http2,      8080, "",      "http2",        6),
    (say::mqtt,       1883, "mqtt",  "mqtt",         4),
    (say::smtp,         25, "smtp",  "smtp",         5),
    (say::ldap,        389, "ldap",  "ldap",         2),
    (say::amqp,       5672, "amqp",  "amqp",         4),
    (say::kafka,      9092, "kafka", "kafka",        2),
    (say::redis,      6379, "",      "data"        , 2),
    (say::cql,        9042, "",      "data"        , 2),
    (say::mysql,      3306, "",      "data"        , 4),
    (say::memcached, 11211, "",      "data"        , 2),
];

/// A capture of one conversation.
fn one(talk: &Talk, port: u16, way: &str) -> Vec<u8> {
    record_as(Envelope::Sealed, |pen| {
        converse(pen, &mut flow(1, "10.0.0.1:50001", &format!("10.0.0.2:{port}")), talk, way);
    })
}

/// All conversations of the table in all ways: one TCP stream after another.
fn everything(pen: &mut Pen<'_, &mut Vec<u8>>) {
    for (row, (talk, port, ..)) in TABLE.iter().enumerate() {
        for (number, way) in WAYS.iter().enumerate() {
            let (client, server) = (format!("10.{number}.{row}.1:50001"), format!("10.9.{row}.2:{port}"));
            converse(pen, &mut flow((row * 3 + number) as u64, &client, &server), &talk(), way);
        }
    }
}

/// The capture that `script` draws, and the key log beside it.
fn apart(script: impl FnOnce(&mut Pen<'_, &mut Vec<u8>>)) -> (Vec<u8>, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("secrets");
    let (mut file, names) = (Vec::new(), names());
    let mut pen = Pen::new(&mut file, &names, 0, Envelope::Sealed);
    pen.writer = pen.writer.keylog(Some(KeyLog::open(&log).unwrap()));
    script(&mut pen);
    pen.writer.count(&COUNTERS);
    pen.writer.finish(&names).unwrap();
    (file, fs::read(log).unwrap())
}

/// The capture with the secrets put in, as the manual says.
fn injected(file: &[u8], log: &[u8]) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let (secrets, out) = (dir.path().join("secrets"), dir.path().join("readable.pcapng"));
    fs::write(&secrets, log).unwrap();
    let inject = format!("tls,{}", secrets.display());
    run("editcap", &["--inject-secrets", &inject], file, &[out.to_str().unwrap()]);
    fs::read(out).unwrap()
}

/// All that tshark makes of it, packet by packet, each with all layers.
fn shown(file: &[u8], more: &[&str]) -> String {
    tshark(file, &[more, &["-V"]].concat())
}

/// Whether eight bytes that somebody said are in a payload, one after another.
fn is_told(file: &[u8], talk: &Talk) -> bool {
    let packets = pcapng::read(file).unwrap().packets;
    let payloads: HashSet<&[u8]> = packets.iter().flat_map(|packet| packet.payload.windows(8)).collect();
    let messages = talk.beginning.iter().chain(&talk.exchange);
    messages.flat_map(|(_, bytes)| bytes.windows(8)).any(|said| payloads.contains(said))
}

#[test]
fn every_protocol_shows_where_it_does_in_tls() {
    let mut names: Vec<&str> = TABLE.iter().map(|row| row.2).collect();
    names.sort_unstable();
    names.dedup();
    let columns = [&["tcp.stream"], &names[..]].concat();
    let mut values = BTreeMap::<(usize, &str, String), usize>::new();
    for line in fields(&record_as(Envelope::Sealed, everything), "tcp", &columns) {
        let cells: Vec<&str> = line.split('\t').collect();
        for (name, cell) in names.iter().zip(&cells[1..]) {
            for value in cell.split(',') {
                *values.entry((cells[0].parse().unwrap(), name, value.to_owned())).or_default() += 1;
            }
        }
    }
    let mut wrong = String::new();
    for (row, (talk, port, field, value, expected)) in TABLE.iter().enumerate() {
        let streams = [0, 1, 2].map(|way| row * 3 + way);
        let found = streams.map(|s| values.get(&(s, *field, (*value).to_owned())).copied().unwrap_or(0));
        if found != *expected {
            wrong += &format!("{} on {port}: {field}={value} {found:?} times\n", talk().name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn secrets_apart_open_what_nobody_reads_without_them() {
    let (file, log) = apart(everything);
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("secrets"), &log).unwrap();
    let option = format!("tls.keylog_file:{}", dir.path().join("secrets").display());
    let inside = record_as(Envelope::Sealed, everything);
    assert_eq!(log.iter().filter(|byte| **byte == b'\n').count(), 4 * WAYS.len() * TABLE.len());

    let closed = fields(&file, "tcp.len > 0", &["_ws.col.Protocol"]);
    let known = ["TLSv1.2", "TLSv1.3", "PGSQL"];
    assert!(closed.iter().all(|protocol| known.contains(&protocol.as_str())), "{closed:?}");
    for (talk, ..) in TABLE {
        assert!(!is_told(&file, &talk()), "{}", talk().name);
    }

    let all = shown(&inside, &[]);
    assert!(all.contains("Request URI: https://example.com/hello"));
    assert!(all == shown(&file, &["-o", &option]));
    assert!(all == shown(&injected(&file, &log), &[]));
}

#[test]
fn nothing_is_plain_on_any_port() {
    for (talk, port, ..) in PLAIN_PORTS {
        let file = one(&talk(), *port, "loss");
        assert!(!is_told(&file, &talk()), "{} on {port}", talk().name);
        let plain = record_as(Envelope::Plain, |pen| {
            converse(pen, &mut flow(1, "10.0.0.1:1", "10.0.0.2:2"), &talk(), "start");
        });
        assert!(is_told(&plain, &talk()), "the search finds nothing of {}", talk().name);
    }
}

#[test]
fn a_port_that_belongs_to_another_dissector_needs_a_word_of_the_reader() {
    let mut wrong = String::new();
    for (talk, port, protocol, filter, expected) in PLAIN_PORTS {
        let file = one(&talk(), *port, "start");
        let (outside, inside) = (format!("tcp.port=={port},tls"), format!("tls.port=={port},{protocol}"));
        let inside = if protocol.is_empty() { &[][..] } else { &["-d", &inside] };
        let found = tshark(&file, &[&["-d", &outside], inside, &["-Y", filter]].concat()).lines().count();
        if found != *expected {
            wrong += &format!("{} on {port}: {found} packets\n", talk().name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
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
fn the_hello_is_whole() {
    let file = record_as(Envelope::Sealed, |pen| {
        let mut on = flow(1, "10.0.0.1:50001", "10.0.0.2:443");
        on.flow.names.server = Some(b"api.example.com"[..].into());
        converse(pen, &mut on, &say::http2(), "start");
    });
    let names = [
        "tls.handshake.type",
        "tls.handshake.ciphersuite",
        "tls.handshake.extensions_server_name",
        "tls.handshake.extensions_alpn_str",
        "tls.handshake.extensions.supported_version",
    ];
    let expected = ["1\t0x1301\tapi.example.com\th2\t0x0304", "2,8,20\t0x1301\t\th2\t0x0304", "20\t\t\t\t"];
    assert_eq!(fields(&file, "tls.handshake", &names), expected);
    assert_eq!(fields(&file, "_ws.malformed", &["frame.number"]), [""; 0]);
    // Follow takes whoever sends something encrypted first for the client: in TLS 1.3 that is the server.
    let talk = say::http1();
    assert_eq!(followed(&one(&talk, 443, "start"), "tls", 0, false), talk.exchange[0].1);
    assert_eq!(followed(&one(&talk, 443, "start"), "tls", 0, true), talk.exchange[1].1);
}

#[test]
fn a_long_body_comes_out_whole() {
    let body: Vec<u8> = support::draw::noise(5 << 20);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let talk = say::http1();
    let file = record_as(Envelope::Sealed, |pen| {
        let mut on = flow(1, "10.0.0.1:50001", "10.0.0.2:443");
        pen.open(&mut on);
        pen.write(&mut on, &talk.exchange[0].1);
        pen.read(&mut on, head.as_bytes());
        body.chunks(50_001).for_each(|piece| pen.read(&mut on, piece));
        pen.close(&mut on);
    });
    let dir = TempDir::new().unwrap();
    tshark(&file, &["-q", "--export-objects", &format!("http,{}", dir.path().display())]);
    assert!(fs::read(dir.path().join("hello")).unwrap() == body);
}

#[test]
fn a_hole_is_filled_and_too_long_a_loss_begins_a_new_session() {
    let file = record_as(Envelope::Sealed, |pen| {
        let mut on = flow(1, "10.0.0.1:50001", "10.0.0.2:443");
        pen.open(&mut on);
        for lost in [20_000, 1 << 40] {
            speak(pen, &mut on, &say::http1().exchange, false);
            pen.write(&mut on, &say::http1().exchange[0].1);
            pen.read(&mut on, b"HTTP/1.1 201 Created\r\nContent-Length: 20005\r\n\r\n12345");
            pen.draw(&mut on, Dir::In, What::Gap(lost));
        }
        speak(pen, &mut on, &say::http1().exchange, false);
        pen.close(&mut on);
    });
    let told = fields(&file, "frame.comment matches \"lost|loss\"", &["tcp.stream", "frame.comment"]);
    let expected = [
        "0\ttlsdump: 16384 bytes lost here, filled with zeros",
        "0\ttlsdump: 3616 bytes lost here, filled with zeros",
        "0\ttlsdump: 1099511627776 bytes lost, too many to fill: drawn as a new connection",
        "1\ttlsdump: goes on after the loss of 1099511627776 bytes",
    ];
    assert_eq!(told, expected);
    let answers = fields(&file, "http.response", &["tcp.stream", "http.response.code"]);
    assert_eq!(answers, ["0\t200", "0\t201", "0\t200", "1\t200"]);
    let randoms = fields(&file, "tls.handshake.type == 1", &["tls.handshake.random"]);
    assert!(randoms.len() == 2 && randoms[0] != randoms[1], "{randoms:?}");
}

fn tlsdump(arguments: &[&str], directory: &Path) -> (i32, String) {
    let stream = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo.stream");
    let command = Command::new(env!("CARGO_BIN_EXE_tlsdump"))
        .arg("-r")
        .arg(stream)
        .args(["--frames", "sealed"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    (command.status.code().unwrap(), String::from_utf8(command.stderr).unwrap())
}

#[test]
fn every_run_has_keys_of_its_own() {
    let dir = TempDir::new().unwrap();
    for name in ["a", "b"] {
        assert_eq!(tlsdump(&["-w", name], dir.path()).0, 0);
    }
    let [first, second] = ["a", "b"].map(|name| fs::read(dir.path().join(name)).unwrap());
    let asked = [1, 2, 3].map(|n| format!("https://10.9.0.1:8443/from-a/{n}"));
    for file in [&first, &second] {
        assert_eq!(fields(file, "http.request", &["http.request.full_uri"]), asked);
    }
    let randoms = |file: &[u8]| fields(file, "tls.handshake.type == 1", &["tls.handshake.random"]);
    assert!(randoms(&first).iter().all(|random| !randoms(&second).contains(random)));
}

#[test]
fn a_key_log_is_appended_to_and_closed_to_others() {
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    fs::write(&log, "# from before\n").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o644)).unwrap();
    for name in ["a", "b"] {
        assert_eq!(tlsdump(&["-w", name, "--keylog", "log"], dir.path()).0, 0);
    }
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.starts_with("# from before\nCLIENT_HANDSHAKE_TRAFFIC_SECRET "), "{lines}");
    assert_eq!(lines.lines().count(), 1 + 2 * 3 * 4);
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o7777, 0o600);
    let option = format!("tls.keylog_file:{}", log.display());
    for name in ["a", "b"] {
        let file = fs::read(dir.path().join(name)).unwrap();
        assert_eq!(fields(&file, "http", &["frame.number"]), [""; 0]);
        assert_eq!(tshark(&file, &["-o", &option, "-Y", "http.request"]).lines().count(), 3);
    }
}

#[test]
fn a_capture_is_opened_for_everybody_and_closed_again() {
    let dir = TempDir::new().unwrap();
    assert_eq!(tlsdump(&["-w", "sealed", "--keylog", "log"], dir.path()).0, 0);
    let open = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tlsdump"));
        let output = command.arg("open").args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    open(&["sealed", "--keylog", "log", "-w", "opened"]);
    assert_eq!(fields(&read("opened"), "http.request", &["http.request.uri"]).len(), 3);
    assert_eq!(fs::metadata(dir.path().join("opened")).unwrap().permissions().mode() & 0o7777, 0o600);
    let said = open(&["opened", "--no-secrets", "-w", "closed"]);
    assert!(said.ends_with(", 1 of secrets left out\n"), "{said}");
    assert_eq!(read("closed"), read("sealed"));
}

#[test]
fn what_is_no_file_takes_no_secrets() {
    let dir = TempDir::new().unwrap();
    symlink("elsewhere", dir.path().join("link")).unwrap();
    Command::new("mkfifo").arg(dir.path().join("fifo")).status().unwrap();
    let cases = [
        ("link", "link: it is a symbolic link"),
        (".", "directory"),
        ("/dev/null", "not a file"),
        ("fifo", "fifo"),
    ];
    for (name, expected) in cases {
        let (status, said) = tlsdump(&["-w", "out", "--keylog", name], dir.path());
        assert_eq!(status, 1, "{name}: {said}");
        assert!(said.contains("cannot write secrets to") && said.contains(expected), "{name}: {said}");
    }
    assert!(!dir.path().join("out").exists() && !dir.path().join("elsewhere").exists());
}
