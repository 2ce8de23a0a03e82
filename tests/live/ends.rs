//! How a capture begins, how it ends, and what happens to its output meanwhile.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::capture::{Captured, Tlsdump, tlsdump, tshark};
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::mover::{Move, Mover, SERVER_SEED, pattern};
use crate::process::{Ended, Process, run};
use crate::servers::Nginx;

#[track_caller]
fn curl(place: &impl Place, nginx: &Nginx, path: &str) {
    run(place.command("curl").args(["-sk", "--fail", "-o", "/dev/null", &nginx.url(path)])).succeeds();
}

/// It ended well, with the line that tells what was captured.
#[track_caller]
fn closes(ended: Ended) -> Ended {
    let ended = ended.succeeds();
    let closing = ended.stderr.lines().find(|line| line.contains(" packets captured, "));
    let closing = closing.unwrap_or_else(|| panic!("no closing line:\n{ended}"));
    assert!(
        closing.starts_with("tlsdump: ") && closing.ends_with(" packets captured, 0 events lost"),
        "{closing}"
    );
    ended
}

#[test]
fn tshark_shows_requests_as_they_happen() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let container = Container::new(&lab);
    let (reader, writer) = std::io::pipe().unwrap();
    let tlsdump = Tlsdump::start_piped(&[&container.option()], writer.into());
    let mut command = Command::new("tshark");
    command.args(["-r", "-", "-l", "-Y", "http.request", "-T", "fields", "-e", "http.request.uri"]);
    let tshark = Process::start_with(&command, reader.into(), Stdio::piped());
    // It takes its time to begin.
    curl(&container, &nginx, "/first");
    tshark.stdout_line("the first request", |line| line == "/first");
    for path in ["/a", "/b", "/c", "/d", "/e"] {
        curl(&container, &nginx, path);
        let done = Instant::now();
        tshark.stdout_line("a request", |line| line == path);
        assert!(done.elapsed() < Duration::from_secs(1), "{path} was shown after {:?}", done.elapsed());
    }
    tlsdump.signal(Signal::INT);
    closes(tlsdump.end());
    tshark.end().succeeds();
}

#[test]
fn signals_end_a_capture_cleanly() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let container = Container::new(&lab);
    for signal in [Signal::INT, Signal::TERM] {
        let file = lab.path(&format!("{signal:?}.pcapng"));
        let tlsdump = Tlsdump::start_to(file.clone(), &[&container.option()]);
        curl(&container, &nginx, "/last");
        tlsdump.signal(signal);
        let captured = Captured::read(&file, closes(tlsdump.end()));
        // What happened right before the signal is in the file.
        assert!(captured.only().read().bytes().ends_with(b"\n"), "{captured}");
        run(Command::new("capinfos").arg(&file)).succeeds();
    }
}

#[test]
fn a_reader_that_goes_away_is_a_clean_end() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let container = Container::new(&lab);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let tlsdump = Tlsdump::start_piped(&[&container.option()], writer.into());
    curl(&container, &nginx, "/read");
    reader.read_exact(&mut [0; 100]).unwrap();
    drop(reader);
    curl(&container, &nginx, "/not-read");
    closes(tlsdump.end());
}

#[test]
fn a_full_disk_is_an_error_and_what_was_written_opens() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    run(&container.shell("mkdir /full; mount -t tmpfs -o size=256k tmpfs /full", &[])).succeeds();
    let file = container.root().join("full/out.pcapng");
    let tlsdump = Tlsdump::start_to(file.clone(), &[&container.option()]);
    Move { client: "", server: "", steps: "w1000000 r1000000" }.run(&lab, &container);
    let ended = tlsdump.end();
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    let complaint = ended.stderr.lines().last().unwrap();
    assert!(
        complaint.starts_with("tlsdump: ") && complaint.contains("No space left on device"),
        "{complaint}"
    );
    assert!(complaint.contains(&file.display().to_string()), "{complaint} does not name the file");
    assert!(!file.exists(), "it is not whole");
    let file = file.with_extension("pcapng.part");
    assert!(complaint.ends_with(&file.display().to_string()), "{complaint} does not name what is left");

    let packets = tshark(&file, &["-T", "fields", "-e", "tcp.len"]).lines().count();
    assert!(packets > 3, "{packets} packets");
    run(Command::new("capinfos").arg(&file)).succeeds();
    let captured = Captured::read(&file, ended);
    assert_eq!(captured.capture.packets.len(), packets);
}

#[test]
fn a_recorded_stream_gives_the_same_file_as_the_capture() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let container = Container::new(&lab);
    let recorded = lab.path("recorded.stream").display().to_string();
    let tlsdump_live = Tlsdump::start(&lab, &[&container.option(), "--record", &recorded]);
    curl(&container, &nginx, "/recorded");
    Move { client: "-t 2", server: "-t 2", steps: "w100000 r100000" }.run(&lab, &container);
    let captured = tlsdump_live.stop();
    assert_eq!(captured.conversations.len(), 3);
    let replayed = lab.path("replayed.pcapng");
    closes(run(tlsdump(&["-r", &recorded, "-w"]).arg(&replayed)));
    assert!(std::fs::read(replayed).unwrap() == captured.bytes, "replayed it is another file");
}

/// One line that says each of `words`, and exit status 1.
#[track_caller]
fn refuses(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
    assert!(ended.stderr.starts_with("tlsdump: "), "{ended}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not said:\n{ended}");
    }
}

#[test]
fn without_rights_it_says_so() {
    let lab = Lab::new();
    let program = lab.path("tlsdump").display().to_string();
    std::fs::copy(env!("CARGO_BIN_EXE_tlsdump"), &program).unwrap();
    run(Command::new("chmod").arg("755").args([lab.directory(), program.as_ref()])).succeeds();
    for options in [["--pid", "0"], ["--mntns", "/proc/self/ns/mnt"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", &program]).args(options);
        refuses(&run(&command), &["root", "CAP_BPF"]);
    }
}

#[test]
fn a_kernel_without_type_information_is_refused() {
    let _lab = Lab::new();
    let mut command = Command::new("unshare");
    let hide = "mount -t tmpfs tmpfs /sys/kernel/btf; exec \"$0\" --pid 0";
    command.args(["--mount", "--", "sh", "-euc", hide, env!("CARGO_BIN_EXE_tlsdump")]);
    refuses(&run(&command), &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

#[test]
fn what_cannot_be_captured_is_refused_in_one_line() {
    let lab = Lab::new();
    let text = lab.certificate().display().to_string();
    for (arguments, words) in [
        (&["--pid", "0", "-w", "/missing/out.pcapng"][..], &["/missing/out.pcapng", "No such file"][..]),
        (&["--pid", "0", "--record", "/missing/out"], &["/missing/out", "No such file"]),
        (&["--mntns", "/proc/self/ns/no"], &["/proc/self/ns/no", "No such file"]),
        (&["--mntns", "/proc/self/ns/pid"], &["/proc/self/ns/pid", "namespace"]),
        (&["--pid", "4194999"], &["4194999", "process"]),
        (&["--pid", "0", "--lib", "/missing.so"], &["/missing.so", "No such file"]),
        (&["--pid", "0", "--lib", &text], &[&text, "ELF"]),
        (&["--pid", "0", "--lib", "/bin/true"], &["/bin/true"]),
    ] {
        refuses(&run(&tlsdump(arguments)), words);
    }
}

#[test]
fn both_directions_of_a_talk_begin_and_end_together() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    // Each side waits for the other, again and again, before the capture begins and after it ends.
    let endless = "-x 1000000000";
    let (_server, address) = Mover::server(&lab, &Host, endless, "127.0.0.1", "r80 w80");
    let _client = Mover::client(&lab, &container, endless, address, "w80 r80");
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    std::thread::sleep(Duration::from_millis(200));
    let captured = tlsdump.stop();
    let conversation = captured.only();
    let (written, read) = (conversation.written().bytes(), conversation.read().bytes());
    assert!(written.len() > 800 && written.len().abs_diff(read.len()) <= 80, "{captured}");
    for (bytes, seed) in [(written, 0), (read, SERVER_SEED)] {
        let word = u64::from_be_bytes(bytes[..8].try_into().unwrap());
        let position = (word & 0xFFFF_FFFF_FFFF) * 8;
        assert!(
            bytes == pattern(seed, position, bytes.len()),
            "not one piece of what was moved:\n{captured}"
        );
    }
}
