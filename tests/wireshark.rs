//! What tshark, capinfos and tcpdump make of our files, with their default settings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod tshark;
}

use std::fs;
use std::path::Path;
use std::process::Command;

use support::draw::{Drawn, Pen, flow, mntns, noise, record, record_as};
use support::tshark::{fields, followed, run, tshark};
use tempfile::TempDir;
use tlsdump::event::Dir;
use tlsdump::flow::What;
use tlsdump::frame::Envelope;

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: example.com\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// What a program prints of a capture, and its complaints about it.
fn read_in(config: &Path, program: &str, arguments: &[&str], capture: &[u8]) -> (String, String) {
    let path = config.join("capture.pcapng");
    fs::write(&path, capture).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg("-r").arg(&path).env("HOME", config).env("XDG_CONFIG_HOME", config);
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    // They say who runs them and what they read, whatever that is.
    let is_usual = |line: &&str| line.starts_with("Running as user") || line.starts_with("reading from file");
    (out, err.lines().filter(|line| !is_usual(line)).collect())
}

fn exchange(pen: &mut Pen<'_, &mut Vec<u8>>, on: &mut Drawn) {
    pen.write(on, REQUEST);
    pen.read(on, ANSWER);
}

/// HTTP on 80 and 8080 over IPv4 and IPv6, in two containers, one flow with 5 MB in each direction.
fn lossless() -> Vec<u8> {
    lossless_as(Envelope::Plain)
}

fn lossless_as(envelope: Envelope) -> Vec<u8> {
    record_as(envelope, |pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:8080");
        let mut b = flow(2, "[fd00::1]:50000", "[fd00::2]:80");
        let mut c = flow(3, "10.0.0.2:8080", "10.0.0.7:50000");
        c.flow.local_is_client = false;
        c.flow.task.mntns = mntns(43);
        let mut d = flow(4, "10.0.0.1:50001", "10.0.0.2:9999");
        for on in [&mut a, &mut b, &mut c, &mut d] {
            pen.open(on);
        }
        exchange(pen, &mut a);
        exchange(pen, &mut b);
        pen.read(&mut c, REQUEST);
        pen.write(&mut c, ANSWER);
        pen.write(&mut d, &noise(5_000_000));
        pen.read(&mut d, &noise(5_000_001));
        for on in [&mut a, &mut b, &mut c, &mut d] {
            pen.close(on);
        }
        // The same ports again.
        let mut e = flow(5, "10.0.0.1:50000", "10.0.0.2:8080");
        pen.open(&mut e);
        exchange(pen, &mut e);
        pen.close(&mut e);
    })
}

fn nothing_looks_wrong(file: &[u8]) {
    let arguments =
        ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-q", "-z", "expert,warn"];
    assert_eq!(tshark(file, &arguments).trim(), "");
    let good =
        ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", "tcp.checksum.status != 1"];
    assert_eq!(tshark(file, &good), "");
    // Of notes only those that every connection's end gives, and the one on the ports that come again.
    let odd = "_ws.expert && !tcp.connection.fin && !tcp.connection.fin_active \
               && !tcp.connection.fin_passive && !tcp.connection.syn && !tcp.connection.synack \
               && !http && !frame.comment";
    assert_eq!(fields(file, odd, &["frame.number", "_ws.expert.message"]), [""; 0]);
}

#[test]
fn nothing_looks_wrong_in_a_file_without_loss() {
    nothing_looks_wrong(&lossless());
    nothing_looks_wrong(&lossless_as(Envelope::Tls));
}

#[test]
fn follow_gives_the_bytes() {
    let file = lossless();
    assert!(followed(&file, "tcp", 0, true) == REQUEST && followed(&file, "tcp", 0, false) == ANSWER);
    assert!(followed(&file, "tcp", 3, true) == noise(5_000_000));
    assert!(followed(&file, "tcp", 3, false) == noise(5_000_001));
    assert!(followed(&file, "tcp", 4, true) == REQUEST, "the same ports again are another stream");
}

#[test]
fn follow_gives_the_bytes_in_the_envelope() {
    let file = lossless_as(Envelope::Tls);
    assert!(followed(&file, "tls", 3, true) == noise(5_000_000));
    assert!(followed(&file, "tls", 3, false) == noise(5_000_001));
}

#[test]
fn http_is_dissected_on_its_ports() {
    let requests =
        fields(&lossless(), "http.request", &["tcp.dstport", "http.request.uri", "ip.src", "ipv6.src"]);
    assert_eq!(
        requests,
        [
            "8080\t/hello\t10.0.0.1\t",
            "80\t/hello\t\tfd00::1",
            "8080\t/hello\t10.0.0.7\t",
            "8080\t/hello\t10.0.0.1\t"
        ]
    );
    assert_eq!(fields(&lossless(), "http.response", &["http.file_data"]).len(), 4);
}

#[test]
fn names_times_directions_and_comments_are_shown() {
    let file = lossless();
    let columns =
        ["frame.interface_name", "frame.packet_flags_direction", "frame.time_epoch", "frame.comment"];
    let shown = fields(&file, "tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.stream in {0,2}", &columns);
    let who = "pid=1234 tid=1235 comm=curl";
    let lib = "lib=/usr/lib/x86_64-linux-gnu/libssl.so.3 tuple=nested";
    assert_eq!(
        shown,
        [
            format!("web-1\t0x00000002\t1700000000.000000000\t{who} container=web-1 mntns=42 {lib}"),
            format!("mnt:[43]\t0x00000001\t1700000000.002000002\t{who} mntns=43 {lib}"),
        ]
    );
}

#[test]
fn capinfos_tells_of_the_capture() {
    let printed = run("capinfos", &[], &lossless(), &[]);
    for line in [
        "File encapsulation:  Ethernet",
        "File timestamp precision:  nanoseconds (9)",
        "Strict time order:   True",
        "Capture oper-sys:    Linux 6.18.44 x86_64",
        "Capture application: tlsdump 0.1.0",
        "Capture comment:     tlsdump --mntns=42 -w out.pcapng",
        "Number of interfaces in file: 2",
        "Name = web-1",
        "Description = docker, nginx:1.27, mnt:[42]",
        "Name = mnt:[43]",
        "Capture length = 262144",
        "Operating system = Linux 6.18.44 x86_64",
        "Number of stat entries = 1",
    ] {
        assert!(printed.contains(line), "no {line:?} in\n{printed}");
    }
}

#[test]
fn tcpdump_reads_it() {
    let printed = run("tcpdump", &["-n", "-v", "-r"], &lossless(), &["port", "80"]);
    assert_eq!(printed.matches("Flags [").count(), 7, "{printed}");
    assert!(printed.contains("GET /hello HTTP/1.1"), "{printed}");
    assert!(printed.contains("(correct)") && !printed.contains("incorrect"), "{printed}");
}

#[test]
fn an_empty_capture_opens() {
    let empty = record(|_| {});
    assert_eq!(tshark(&empty, &[]), "");
    assert_eq!(run("tcpdump", &["-n", "-r"], &empty, &[]), "");
    assert!(run("capinfos", &[], &empty, &[]).contains("Number of packets:   0"));
}

#[test]
fn a_loss_is_shown_at_its_place() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:8080");
        pen.open(&mut a);
        pen.write(&mut a, REQUEST);
        pen.draw(&mut a, Dir::Out, What::Gap(16_384));
        pen.write(&mut a, b"after");
    });
    let marked = fields(&file, "tcp.analysis.lost_segment", &["frame.number", "frame.comment"]);
    assert_eq!(marked, ["5\ttlsdump: 16384 bytes lost here"]);
    // Nothing follows in the other direction, and yet the later bytes are shown.
    let note = b"[16384 bytes missing in capture file]\0";
    assert_eq!(followed(&file, "tcp", 0, true), [REQUEST, note, b"after"].concat());
}

#[test]
fn a_loss_at_the_end_is_shown() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:8080");
        pen.open(&mut a);
        pen.read(&mut a, ANSWER);
        pen.draw(&mut a, Dir::In, What::Gap(1));
        pen.close(&mut a);
    });
    let marked = fields(&file, "tcp.analysis.lost_segment", &["frame.number", "frame.comment"]);
    assert_eq!(marked, ["5\ttlsdump: 1 byte lost here"]);
}

#[test]
fn follow_runs_over_the_wrap_of_the_numbers() {
    let pieces: Vec<Vec<u8>> = (1..20).map(|n| noise(1000 + n)).collect();
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:8080");
        pen.open(&mut a);
        for piece in &pieces {
            pen.write(&mut a, piece);
            pen.draw(&mut a, Dir::Out, What::Gap(1 << 29));
        }
        pen.close(&mut a);
    });
    let note = b"[536870912 bytes missing in capture file]\0".to_vec();
    let expected = pieces.join(&note[..]);
    assert!(followed(&file, "tcp", 0, true) == expected);
    assert_eq!(
        fields(&file, "tcp.analysis.retransmission || tcp.analysis.out_of_order", &["frame.number"]),
        [""; 0]
    );
}

/// Five packets of two processes.
fn two_processes() -> Vec<u8> {
    record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:8443");
        pen.open(&mut a);
        pen.write(&mut a, REQUEST);
        a.flow.task.pid = 77;
        pen.read(&mut a, ANSWER);
    })
}

#[test]
fn readers_that_know_no_processes_pass_over_them() {
    let dir = TempDir::new().unwrap();
    for (program, arguments) in [("tshark", &["-n"][..]), ("tcpdump", &["-n"])] {
        let (rows, complaints) = read_in(dir.path(), program, arguments, &two_processes());
        assert_eq!((rows.lines().count(), complaints.as_str()), (5, ""), "{program}:\n{rows}");
    }
}

#[test]
fn the_profile_is_taken_as_it_is() {
    let dir = TempDir::new().unwrap();
    let profile = dir.path().join("wireshark/profiles/tlsdump");
    fs::create_dir_all(&profile).unwrap();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("share/wireshark/tlsdump")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), profile.join(file.file_name())).unwrap();
    }
    let arguments = ["-C", "tlsdump", "--color", "-Y", "http.request"];
    let (rows, complaints) = read_in(dir.path(), "tshark", &arguments, &two_processes());
    assert_eq!(complaints, "");
    assert!(rows.contains("web-1") && rows.contains("GET /hello"), "{rows}");
}
