//! The rules between options, checked on the library: nothing is run, nothing is opened.

use clap::Parser;

use tlsdump::cli::Args;
use tlsdump::config::{BUFFER_DEFAULT, Config, Input, Live, Output, Parts, Place, SNAPLEN_MAX, Verbosity};
use tlsdump::event::Comm;
use tlsdump::file::Cuts;
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
        Ok(Input::Live(live)) => *live,
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
fn sealed_packets_may_have_a_key_log() {
    let config = check("-r - -w - --frames sealed --keylog k").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.output.envelope, config.output.keylog), (Envelope::Sealed, Some("k".into())));
    assert!(!config.output.secrets, "they are only in the key log");
}

#[test]
fn secrets_are_in_the_capture_unless_they_are_not_wanted() {
    for (line, in_capture, asked) in [
        ("--pid 0 -w a", true, true),
        ("--pid 0 -w a --keylog k", true, true),
        ("--pid 0 -w a --no-secrets", false, false),
        ("--pid 0 --no-secrets --keylog k", false, true),
        ("--pid 0 -w a --frames sealed --keylog k", false, true),
    ] {
        let config = check(line).unwrap_or_else(|error| panic!("{error}"));
        let Input::Live(live) = &config.input else { panic!("{line}") };
        assert_eq!((config.output.secrets, live.secrets), (in_capture, asked), "{line}");
    }
}

#[test]
fn a_library_may_have_places() {
    let live = live("--pid 0 --lib a@b.so --lib a@b@SSL_read=0x1a,SSL_write=0x2B --lib c=d");
    let files: Vec<_> = live.libraries.iter().filter_map(|library| library.file.to_str()).collect();
    assert_eq!(files, ["a@b.so", "a@b", "c=d"]);
    let places = [("SSL_read".to_owned(), 0x1a), ("SSL_write".to_owned(), 0x2b)];
    assert_eq!(live.libraries[1].places, places);
    assert!(live.libraries[0].places.is_empty() && live.libraries[2].places.is_empty());
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
        ("--pid 0 --lib a@SSL_read=", "\"SSL_read=\" is not FUNCTION=0xADDRESS"),
        ("--pid 0 --lib a@SSL_read=12", "\"SSL_read=12\" is not FUNCTION=0xADDRESS"),
        ("--pid 0 --lib a@SSL_read=0x+1", "is not FUNCTION=0xADDRESS"),
        ("--pid 0 --lib a@SSL_read=0x1,SSL_write", "\"SSL_write\" is not FUNCTION=0xADDRESS"),
        ("--pid 0 --lib a@=0x1", "is not FUNCTION=0xADDRESS"),
        ("--pid 0 --lib a@f=0x1,f=0x2", "f is given twice"),
        ("--pid 0 --lib @f=0x1", "--lib: the file name is empty"),
        ("--pid 0 --record a -w a", "name the same file, a"),
        ("-r a -w a", "name the same file, a"),
        ("--pid 0 -w a --frames sealed --keylog a", "-w and --keylog name the same file, a"),
        ("--pid 0 -w a --record k --frames sealed --keylog k", "--record and --keylog name the same file, k"),
        ("-r k -w a --frames sealed --keylog k", "-r and --keylog name the same file, k"),
        ("--pid 0 -w a --frames sealed --keylog -", "--keylog takes a file"),
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

#[test]
fn parts_are_as_tcpdump_and_dumpcap_say() {
    let parts = |line: &str| output(&format!("--pid 0 -w out {line}")).parts;
    assert_eq!(parts(""), Parts::default());
    for (line, cuts) in [
        ("-C 1", Cuts { bytes: Some(1_000_000), ..Cuts::default() }),
        ("-C 500k", Cuts { bytes: Some(500 << 10), ..Cuts::default() }),
        ("-C10M", Cuts { bytes: Some(10 << 20), ..Cuts::default() }),
        ("-b filesize:5 -b packets:7", Cuts { bytes: Some(5000), packets: Some(7), ..Cuts::default() }),
        ("-G 60 -b duration:5", Cuts { every: Some(60), seconds: Some(5), ..Cuts::default() }),
        ("-b interval:3600", Cuts { every: Some(3600), ..Cuts::default() }),
    ] {
        assert_eq!(parts(line).cuts, cuts, "{line}");
    }
    assert_eq!(parts("-C 1 -W 20").keep, Some(20));
    assert_eq!(parts("-C 1 -b files:3").keep, Some(3));
    assert_eq!(parts("-z gzip").command, Some("gzip".into()));
    assert_eq!(parts("--compress zstd").compress, Some(3));
    assert_eq!(parts("--compress zstd:19").compress, Some(19));
    assert_eq!(output("--pid 0 -w out.pcapng.zst").parts.compress, Some(3));
    assert_eq!(output("--pid 0 -w out.pcapng.zst --compress zstd:1").parts.compress, Some(1));
    let manners = parts("--overwrite --group-readable --sync").manners();
    assert!(manners.overwrite && manners.group_readable && manners.sync);
    // Without parts a percent sign is one.
    assert_eq!(output("--pid 0 -w 100%").write, Some(Place::File("100%".into())));
}

#[test]
fn parts_that_make_no_sense() {
    for (line, told) in [
        ("-w out -C 0", "-C 0: give a size such as"),
        ("-w out -C 1.5", "-C 1.5: give a size such as"),
        ("-w out -C 10MB", "-C 10MB: give a size such as"),
        ("-w out -G 0", "-G 0: give the seconds"),
        ("-w out -W 3", "-W keeps a number of parts: say where they end"),
        ("-w out -C 1 -W 0", "-W 0: 1 to 100000 parts"),
        ("-w out -b size:5", "-b size:5: not one of packets:N"),
        ("-w out -b packets", "-b packets: not one of packets:N"),
        ("-w out -b packets:0", "-b packets:0: give a number"),
        ("-w out -C 1 -b filesize:1", "-b filesize:1: that is said twice"),
        ("-w out --compress gzip", "--compress gzip: give zstd"),
        (
            "-w out --compress zstd:20",
            "--compress zstd:20: give zstd, or zstd:LEVEL with a level from 1 to 19",
        ),
        ("-w 100% -C 1", "-w 100%: the name: has a % that strftime does not know"),
        ("-w %D -C 1", "-w %D: the name: gives names with a slash"),
        ("-w - -C 1", "-C, -G or -b can be used only for files: not with -w -, which is one stream"),
        ("-w - --compress zstd", "--compress can be used only for files"),
        ("-z gzip", "-z can be used only for files: with -w FILE"),
    ] {
        let error = check(&format!("--pid 0 {line}")).unwrap_err();
        assert!(error.starts_with(told), "{line}: {error}");
    }
    assert!(check("-r in -w out -Z nobody").unwrap_err().starts_with("-Z is for capturing"));
}

fn output(line: &str) -> Output {
    check(line).unwrap_or_else(|error| panic!("{line}: {error}")).output
}
