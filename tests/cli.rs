//! The built program as its user meets it: options, errors, exit status, and what the manual says of them.

#![allow(clippy::unwrap_used)]

#[path = "support/command.rs"]
mod command;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use command::TestCommand;

/// A stream recorded from a real capture.
fn stream() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo.stream")
}

fn run(arguments: &[&str]) -> command::Outcome {
    TestCommand::new(arguments).run()
}

#[test]
fn version() {
    let outcome = run(&["--version"]).succeeds();
    assert_eq!(outcome.stdout, format!("tlsdump {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    assert_eq!(outcome.stderr, "");
}

#[test]
fn help() {
    for option in ["-h", "--help"] {
        let outcome = run(&[option]).succeeds();
        let text = String::from_utf8(outcome.stdout).unwrap();
        assert!(text.contains("Usage: tlsdump") && text.contains("--mntns") && text.contains("Exit status"));
        assert!(!text.contains("--witness") && !text.contains("--attach"), "for tests only:\n{text}");
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn bare_call_says_what_to_do() {
    run(&[]).fails(2, &["no target", "--mntns", "--pid 0 for everything"]);
}

#[test]
fn wrong_usage() {
    run(&["--mntn", "1"]).fails(2, &["unexpected argument '--mntn'", "similar", "--mntns"]);
    run(&["port", "443"]).fails(2, &["unrecognized subcommand 'port'"]);
    run(&["--pid", "one"]).fails(2, &["--pid", "'one'"]);
    run(&["--pid", "-1"]).fails(2, &["-1"]);
    run(&["--pid", "0", "-w"]).fails(2, &["-w <FILE>", "value is required"]);
    run(&["--pid", "0", "-w", ""]).fails(2, &["-w", "empty"]);
    run(&["--mntns", "mnt:4026532573"]).fails(2, &["mnt:4026532573", "/proc/PID/ns/mnt"]);
    run(&["--comm", "sixteen-bytes-xx"]).fails(2, &["sixteen-bytes-xx", "15 bytes"]);
    run(&["--pid", "0", "--buffer", "12"]).fails(2, &["--buffer 12", "64k", "1G"]);
    run(&["--pid", "0", "--transport", "udp"]).fails(2, &["--transport udp", "auto, ring, perf"]);
    run(&["--pid", "0", "-c", "0"]).fails(2, &["-c 0", "at least 1"]);
    run(&["--pid", "0", "-s", "262145"]).fails(2, &["-s 262145", "262144"]);
}

#[test]
fn conflicting_options() {
    run(&["-r", "a", "--mntns", "1"]).fails(2, &["--mntns", "-r"]);
    run(&["-r", "a", "--lib", "b"]).fails(2, &["--lib", "-r"]);
    run(&["-r", "a", "--record", "b"]).fails(2, &["--record", "-r"]);
    run(&["-r", "a", "-w", "a"]).fails(2, &["-w and -r name the same file"]);
    run(&["--pid", "0", "--record", "a", "-w", "a"]).fails(2, &["-w and --record name the same file"]);
    run(&["--pid", "0", "-w", "-", "--text"]).fails(2, &["-w -", "--text"]);
    run(&["--pid", "0", "-q", "-v"]).fails(2, &["-q", "-v"]);
}

#[test]
fn an_error_is_one_line_whatever_is_in_a_name() {
    run(&["--mntns", "1\n2"]).fails(2, &["--mntns 1 2"]);
    run(&["--nosuch\nthing"]).fails(2, &["unexpected argument '--nosuch thing'"]);
    let outcome = run(&["-r", "no\nsuch\x1b[2J"]).fails(1, &["No such file"]);
    assert!(!outcome.stderr.contains('\x1b'), "would steer the terminal:\n{outcome}");
}

#[test]
fn arguments_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    TestCommand::new(["--mntns".as_ref(), name]).run().fails(2, &["UTF-8"]);
    TestCommand::new(["-r".as_ref(), name]).run().fails(1, &["No such file"]);
}

#[test]
fn replay_of_what_is_not_there() {
    run(&["-r", "missing.stream"]).fails(1, &["missing.stream", "No such file"]);
    run(&["-r", "missing/a.stream"]).fails(1, &["missing/a.stream", "No such file"]);
    run(&["-r", "/"]).fails(1, &["/", "directory"]);
}

#[test]
fn replay_of_what_is_no_stream() {
    for bytes in [&b""[..], b"\x0a", b"GET / HTTP/1.1\r\n\r\n", &[0; 100_000]] {
        let outcome = TestCommand::new(["-r", "other", "-w", "out"]).file("other", bytes, 0o600).run();
        let outcome = outcome.fails(1, &["other", "stream"]);
        assert!(!outcome.directory.path().join("out").exists(), "nothing was replayed:\n{outcome}");
        TestCommand::new(["-r", "-"]).stdin(bytes).run().fails(1, &["standard input", "stream"]);
    }
}

#[test]
fn replay_of_what_cannot_be_read() {
    let refused = TestCommand::without_rights(["-r", "secret"]).file("secret", b"secret", 0);
    refused.run().fails(1, &["secret", "Permission denied"]);
    // Opens and then fails at the first read.
    run(&["-r", "/proc/self/mem"]).fails(1, &["/proc/self/mem", "Input/output error"]);
}

#[test]
fn replay_to_where_nothing_can_be_written() {
    let stream = stream();
    let to = |file: &str| TestCommand::new(["-r".as_ref(), stream.as_os_str(), "-w".as_ref(), file.as_ref()]);
    to("missing/out.pcapng").run().fails(1, &["missing/out.pcapng", "No such file"]);
    to("/").run().fails(1, &["/", "directory"]);
    to("/dev/full").run().fails(1, &["/dev/full", "No space left"]);
}

#[test]
fn replay_needs_no_rights() {
    let bytes = std::fs::read(stream()).unwrap();
    let outcome = TestCommand::without_rights(["-r", "-", "-w", "-"]).stdin(&bytes).run().succeeds();
    assert_eq!(outcome.stdout.get(..4), Some(&[0x0a, 0x0d, 0x0d, 0x0a][..]), "no pcapng:\n{outcome}");
}

#[test]
fn capture_without_rights_says_which_are_needed() {
    TestCommand::without_rights(["--pid", "0"]).run().fails(1, &["root", "CAP_BPF"]);
}

#[test]
fn usage_of_subcommands() {
    for (subcommand, option) in [("list", "--mntns"), ("doctor", "--json")] {
        let text = String::from_utf8(run(&[subcommand, "--help"]).succeeds().stdout).unwrap();
        assert!(text.contains(&format!("Usage: tlsdump {subcommand}")) && text.contains(option), "{text}");
        assert!(!text.contains("--self-test-child"), "for itself only:\n{text}");
        run(&["--pid", "0", subcommand]).fails(2, &[subcommand, "--pid"]);
        run(&[subcommand, "-w", "a"]).fails(2, &["unexpected argument '-w'"]);
    }
    let text = String::from_utf8(run(&["open", "--help"]).succeeds().stdout).unwrap();
    assert!(text.contains("Usage: tlsdump open") && text.contains("--keylog"), "{text}");
    run(&["open", "a", "-w", "b"]).fails(2, &["nothing to change"]);
    run(&["open", "-w", "b", "--no-secrets"]).fails(2, &["CAPTURE"]);
    run(&["open", "missing", "-w", "b", "--no-secrets"]).fails(1, &["cannot read missing"]);
    run(&["list", "--pid", "x"]).fails(2, &["--pid", "'x'"]);
    run(&["list", "--mntns", "x"]).fails(2, &["\"x\" is not a mount namespace"]);
    run(&["list", "--comm", "sixteen-bytes-xx"]).fails(2, &["15 bytes"]);
    run(&["doctor", "--pid", "1"]).fails(2, &["unexpected argument '--pid'"]);
    run(&["doctor", "--self-test-child", "x"]).fails(2, &["--self-test-child x"]);
    run(&["list", "--pid", "4194304"]).fails(1, &["no process 4194304"]);
    run(&["list", "--lib", "missing"]).fails(1, &["missing", "No such file"]);
}

#[test]
fn doctor_without_rights_says_which_are_missing() {
    let outcome = TestCommand::without_rights(["doctor", "--json"]).run().says_no();
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((&report["schema"], &report["works"]), (&1.into(), &false.into()), "{outcome}");
    let failed = |check: &&serde_json::Value| check["status"] == "fail";
    let failed: Vec<_> = report["checks"].as_array().unwrap().iter().filter(failed).collect();
    for name in ["cap-bpf", "cap-perfmon", "cap-sys-ptrace", "load"] {
        let check = failed.iter().find(|check| check["name"] == name);
        assert!(check.is_some_and(|check| check["advice"].is_string()), "{name}: {outcome}");
    }
    let outcome = TestCommand::without_rights(["doctor"]).run().says_no();
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("\nFAIL  no CAP_BPF"), "{outcome}");
}

/// What a process of one's own has mapped can be listed without any right.
#[test]
fn list_needs_no_rights() {
    let outcome = TestCommand::without_rights(["list", "--json"]).run();
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert!(report["processes"].as_u64().unwrap() >= 1, "it sees itself: {outcome}");
    assert!(report["unseen_processes"].as_u64().unwrap() >= 1, "but not the first process: {outcome}");
}

#[test]
fn manual_and_readme_tell_every_option() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let options = options();
    assert!(options.contains("--mntns") && options.contains("-w") && !options.contains("--witness"));
    assert_eq!(options_of_manual(&std::fs::read_to_string(root.join("man/tlsdump.1")).unwrap()), options);
    let told: BTreeSet<_> = readme.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    for option in &options {
        assert!(told.contains(option.as_str()), "README.md doesn't tell {option}");
    }
}

/// Every option that `--help` shows, in each of its forms.
fn options() -> BTreeSet<String> {
    let mut command = tlsdump::cli::Args::command();
    command.build();
    let subcommands = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let shown = command.get_arguments().chain(subcommands).filter(|argument| !argument.is_hide_set());
    shown
        .flat_map(|argument| {
            let short = argument.get_short().map(|letter| format!("-{letter}"));
            short.into_iter().chain(argument.get_long().map(|word| format!("--{word}")))
        })
        .collect()
}

/// The options that a manual page in man(7) has an entry for: those in the line after each `.TP`.
fn options_of_manual(page: &str) -> BTreeSet<String> {
    let page = page.replace("\\-", "-");
    let entries = page.split("\n.TP\n").skip(1).filter_map(|entry| entry.lines().next());
    let words = entries.flat_map(|line| line.split([' ', ',', '"']));
    words.filter(|word| word.starts_with('-') && *word != "-").map(str::to_owned).collect()
}
