//! The rules between options, checked on the library: nothing is run, nothing is opened.

use clap::Parser;

use tlsdump::cli::Args;
use tlsdump::config::{BUFFER_DEFAULT, Config, Input, Live, Place, SNAPLEN_MAX, Verbosity};
use tlsdump::event::Comm;
use tlsdump::frame::Envelope;
use tlsdump::source::live::{Attach, Transport, Witness};
use tlsdump::target::MntNsSpec;

/// Checks `line`, with standard output not a terminal; the error as text.
fn check(line: &str) -> Result<Config, String> {
    let args = Args::try_parse_from(std::iter::once("tlsdump").chain(line.split_whitespace()));
    Config::new(args.map_err(|error| error.to_string())?, false).map_err(|error| format!("{error:#}"))
}

fn live(line: &str) -> Live {
    match check(line).map(|config| config.input) {
        Ok(Input::Live(live)) => live,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn defaults() {
    let config = check("--pid 0").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.verbosity, Verbosity::Normal);
    assert_eq!((config.output.text, config.output.write, config.output.count), (true, None, None));
    assert_eq!((config.output.snaplen, config.output.packet_buffered), (SNAPLEN_MAX, false));
    assert_eq!((config.output.envelope, config.output.both_ends), (Envelope::Tls, false));
    let live = live("--pid 0");
    assert_eq!((live.buffer_bytes, live.root.to_str()), (BUFFER_DEFAULT, Some("/")));
    assert_eq!((live.transport, live.witness, live.attach), (Transport::Auto, Witness::Auto, Attach::Auto));
}

#[test]
fn targets_are_typed() {
    let targets =
        live("--mntns 4026532573 --mntns mnt:[7] --mntns /proc/1/ns/mnt --uid 0 --comm curl").targets;
    let path = MntNsSpec::File("/proc/1/ns/mnt".into());
    assert_eq!(targets.mntns, [MntNsSpec::Number(4_026_532_573), MntNsSpec::Number(7), path]);
    assert_eq!((targets.pids.len(), targets.uids), (0, vec![0]));
    assert_eq!(targets.comms, [Comm(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0")]);
    assert_eq!(live("--comm 123456789012345").targets.comms[0].bytes().len(), 15);
}

#[test]
fn pid_0_means_all() {
    assert_eq!(live("--pid 5 --pid 6").targets.pids, [5, 6]);
    assert_eq!(live("--pid 5 --pid 0").targets.pids, [0; 0]);
}

#[test]
fn buffer_sizes_are_rounded_up() {
    let cases =
        [("64k", 65_536), ("65537", 131_072), ("3M", 4 << 20), ("1G", 1 << 30), ("1000000k", 1 << 30)];
    for (typed, bytes) in cases {
        assert_eq!(live(&format!("--pid 0 --buffer {typed}")).buffer_bytes, bytes, "{typed}");
    }
    for typed in ["0", "63k", "2G", "1025M", "k", "+64k", "64kb", "-1", "99999999999", "6٣k"] {
        let error = check(&format!("--pid 0 --buffer={typed}")).err().unwrap_or_default();
        assert!(error.contains("from 64k to 1G"), "{typed}: {error}");
    }
}

#[test]
fn text_goes_where_no_pcapng_goes() {
    let cases =
        [("-w out", false), ("-w out --text", true), ("-w -", false), ("--record s", true), ("", true)];
    for (line, text) in cases {
        assert_eq!(check(&format!("--pid 0 {line}")).map(|config| config.output.text), Ok(text), "{line}");
    }
}

#[test]
fn a_terminal_gets_no_binary() {
    let args = || Args { pid: vec![0], write: Some("-".into()), ..Args::default() };
    assert!(Config::new(args(), false).is_ok());
    let error = Config::new(args(), true).err().map(|error| error.to_string());
    assert!(error.unwrap_or_default().contains("terminal"));
}

#[test]
fn standard_streams_and_snap_length() {
    let config = check("-r - -w - -s 0 -U -c 3 --both-ends -vvv").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.input, Input::Replay(Place::Standard));
    assert_eq!(config.output.write, Some(Place::Standard));
    assert_eq!((config.output.snaplen, config.output.packet_buffered), (SNAPLEN_MAX, true));
    assert_eq!((config.output.count, config.verbosity), (Some(3), Verbosity::Debug));
    assert!(config.output.both_ends);
}

#[test]
fn what_contradicts_is_refused() {
    let cases = [
        ("", "no target"),
        ("-w out --lib x", "no target"),
        ("--mntns x", "not a mount namespace"),
        ("--mntns 0", "not a mount namespace"),
        ("--mntns +1", "not a mount namespace"),
        ("--mntns 4294967296", "not a mount namespace"),
        ("--mntns mnt:[1", "not a mount namespace"),
        ("--mntns net:[1]", "not a mount namespace"),
        ("--mntns=", "not a mount namespace"),
        ("--uid 4294967295", "no such user id"),
        ("--comm=", "the name is empty"),
        ("--comm 1234567890123456", "only 15 bytes"),
        ("--pid 0 -c 0", "at least 1"),
        ("--pid 0 -s 262145", "at most 262144"),
        ("--pid 0 -w - --text", "both want standard output"),
        ("--pid 0 -q -v", "contradict"),
        ("--pid 0 --transport tcp", "not one of auto, ring, perf"),
        ("--pid 0 --frames udp", "not one of tls, plain"),
        ("--pid 0 --witness x", "not one of auto, tracepoint, fentry, kprobe"),
        ("--pid 0 --attach x", "not one of auto, multi, perf"),
        ("--pid 0 --record -", "--record takes a file"),
        ("--pid 0 --lib -", "--lib takes a file"),
        ("--pid 0 --record a -w a", "name the same file, a"),
        ("-r a -w a", "name the same file, a"),
    ];
    for (line, expected) in cases {
        let error = check(line).err().unwrap_or_default();
        assert!(error.contains(expected), "tlsdump {line}: {error:?} lacks {expected:?}");
    }
}

#[test]
fn replay_takes_no_option_of_capturing() {
    let options = [
        "--mntns 1",
        "--pid 0",
        "--uid 0",
        "--comm a",
        "--lib a",
        "--record a",
        "--buffer 1M",
        "--transport ring",
        "--witness auto",
        "--attach auto",
    ];
    for option in options {
        let error = check(&format!("-r stream {option}")).err().unwrap_or_default();
        let name = option.split(' ').next().unwrap_or_default();
        assert!(error.starts_with(name) && error.contains("can't be used with -r"), "{option}: {error:?}");
    }
}
