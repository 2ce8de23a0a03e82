//! Captures in parts and to slow readers, while things go wrong around them.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

use crate::capture::{Captured, Tlsdump, tlsdump, tshark};
use crate::container::{Container, Host, Place};
use crate::lab::{Lab, free_port};
use crate::loss::{session_adds_up, told};
use crate::mover::{Move, Moved, Mover, Sum, pattern};
use crate::part_files::{directory, files, name, unpacked, used};
use crate::pcapng;
use crate::process::{Ended, Process, run, wait_until};
use crate::servers::{nginx_command, wait_for_listener};
use crate::streams;

/// A user without rights, as Debian has it.
const USER: (&str, u32) = ("nobody", 65_534);

/// What a stop of tlsdump or of its reader lasts.
const STOP: Duration = Duration::from_secs(10);

/// What parts hold of the only session, one after another.
#[track_caller]
fn written_and_read(parts: &[PathBuf]) -> [Vec<u8>; 2] {
    let mut moved = [Vec::new(), Vec::new()];
    for part in parts {
        let capture = pcapng::read(&unpacked(part)).unwrap();
        for conversation in streams::conversations(&capture).unwrap() {
            moved[0].extend_from_slice(conversation.written().bytes());
            moved[1].extend_from_slice(conversation.read().bytes());
        }
    }
    moved
}

#[track_caller]
fn exact(parts: &[PathBuf], moved: &Moved) {
    let [written, read] = written_and_read(parts);
    assert_eq!((&Sum::of(&written), &Sum::of(&read)), (&moved.wrote, &moved.read));
}

/// The process is that user, with the user's groups only, and has no capability.
#[track_caller]
fn has_no_rights(pid: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let id = USER.1.to_string();
    assert_eq!(value("Uid:"), [id.as_str(); 4].join(" "));
    assert_eq!(value("Gid:"), [id.as_str(); 4].join(" "));
    assert_eq!(value("Groups:"), id);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
}

/// A directory that the user without rights can write to.
fn users_directory(lab: &Lab) -> PathBuf {
    fs::set_permissions(lab.directory(), Permissions::from_mode(0o755)).unwrap();
    let directory = directory(lab, "captures");
    chown(&directory, Some(USER.1), Some(USER.1)).unwrap();
    directory
}

#[test]
fn a_user_without_rights_goes_on_with_the_capture() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let captures = users_directory(&lab);
    let record = captures.join("kept.stream");
    let record = record.to_str().unwrap();
    let options = [&container.option(), "-G", "1", "-Z", USER.0, "--record", record];
    let tlsdump = Tlsdump::start_to(captures.join("out.pcapng"), &options);
    has_no_rights(tlsdump.pid());
    let steps = "w1000 r1000 g w100000 r100000 g w5000 r1";
    let (server, address) =
        Mover::server(&lab, &Host, "", "127.0.0.1", "r1000 w1000 r100000 w100000 r5000 w1");
    let mut client = Mover::client(&lab, &container, "", address, steps);
    for _ in 0..2 {
        client.reaches_gate();
        sleep(Duration::from_millis(1100));
        client.open_gate();
    }
    let moved = client.end();
    server.end();
    has_no_rights(tlsdump.pid());
    tlsdump.signal(Signal::INT);
    let ended = tlsdump.end().succeeds();
    assert!(ended.stderr.contains(", 0 events lost"), "{ended}");
    let mut parts = files(&captures);
    for file in &parts {
        let found = fs::metadata(file).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (USER.1, USER.1, 0o600));
    }
    parts.retain(|file| name(file) != "kept.stream");
    assert!(parts.len() >= 3, "{parts:?}");
    exact(&parts, &moved[0]);
}

/// Capabilities that are not bound to the user id go too.
#[test]
fn no_capability_outlasts_the_change_of_the_user() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let captures = users_directory(&lab);
    let mut command = Command::new("setpriv");
    let inner = tlsdump(&[&container.option(), "-Z", USER.0, "-w"]);
    command.args(["--securebits", "+no_setuid_fixup", "--"]).arg(inner.get_program()).args(inner.get_args());
    let process = Process::start(command.arg(captures.join("out.pcapng")));
    process.stderr_line("tlsdump to be armed", |line| line.starts_with("tlsdump: capturing "));
    has_no_rights(process.pid());
    let moved = Move { client: "", server: "", steps: "w1000 r1000" }.run(&lab, &container);
    process.signal(Signal::INT);
    process.end().succeeds();
    exact(&files(&captures), &moved[0]);
}

#[test]
fn a_user_that_is_not_there_or_may_not_write_is_told() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let captures = directory(&lab, "captures");
    fs::set_permissions(lab.directory(), Permissions::from_mode(0o700)).unwrap();
    let fails = |user: &str, said: &str| {
        let ended =
            run(tlsdump(&[&container.option(), "-Z", user, "-G", "5", "-w"]).arg(captures.join("out")));
        assert_eq!(ended.status.code(), Some(1), "{ended}");
        assert!(ended.stderr.lines().last().unwrap().contains(said), "{said:?}: {ended}");
        assert!(!ended.stderr.contains("capturing"), "{ended}");
        assert_eq!(files(&captures).len(), 0);
    };
    fails("no-such-user", "-Z no-such-user: there is no such user");
    let shown = captures.join("out");
    fails(USER.0, &format!("cannot write to {}: Permission denied", shown.display()));
    fs::set_permissions(lab.directory(), Permissions::from_mode(0o755)).unwrap();
    fails(
        USER.0,
        &format!("cannot write to {}: no file can be made there: Permission denied", shown.display()),
    );
}

/// How often it is tried to have a system call fail at the right moment.
const ATTEMPTS: usize = 5;

/// As before Linux 5.19: the system call fails once the process has no rights.
#[test]
fn a_kernel_that_lets_only_root_read_is_told() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let captures = users_directory(&lab);
    let (log, file) = (lab.path("log"), captures.join("out.pcapng"));
    let traced = |options: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", "trace=bpf,setuid"]).args(options);
        command.arg(env!("CARGO_BIN_EXE_tlsdump")).args([&container.option(), "-Z", USER.0, "-w"]);
        Process::start(command.arg(&file))
    };
    // How many calls there are depends on what type information the machine's kernel has at that moment, and
    // that of a capture that has ended is there for a while.
    let mut ends = (0..ATTEMPTS).map(|_| {
        let usual = traced(&[]);
        usual.stderr_line("tlsdump to be armed", |line| line.starts_with("tlsdump: capturing "));
        let calls = fs::read_to_string(&log).unwrap();
        // strace would only let go of it. Each line begins with who made the call, the first with the main
        // thread.
        let traced_pid = calls.split_whitespace().next().unwrap().parse().ok().and_then(Pid::from_raw);
        kill_process(traced_pid.unwrap(), Signal::INT).unwrap();
        usual.end().succeeds();
        fs::remove_file(&file).unwrap();
        sleep(Duration::from_secs(1));
        let before = calls.lines().take_while(|call| !call.contains("setuid("));
        let before = before.filter(|call| call.contains("bpf(")).count();
        traced(&["-e", &format!("inject=bpf:error=EPERM:when={}+", before + 1)]).end()
    });
    let told = "-Z nobody: only root can go on reading here: Linux 5.19 or later lets other users do so";
    let is_told = |ended: &Ended| ended.stderr.lines().last().is_some_and(|line| line.contains(told));
    let ended = ends.find(is_told).unwrap_or_else(|| panic!("nobody was told {told:?}"));
    assert_eq!(ended.status.code(), Some(1), "{ended}");
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn no_traffic_makes_no_parts_and_takes_no_time() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let captures = directory(&lab, "captures");
    let tlsdump = Tlsdump::start_to(captures.join("%s.pcapng"), &[&container.option(), "-G", "2"]);
    // Until a while after an even second, so that what follows is one part.
    let since = now().as_millis() as u64 % 2000;
    sleep(Duration::from_millis(4200 - since));
    assert_eq!(files(&captures).len(), 0, "nothing has come yet");
    let moved = Move { client: "", server: "", steps: "w1000 r1000" }.run(&lab, &container);
    let part = wait_until("the part has its name", || {
        files(&captures).into_iter().find(|file| name(file).ends_with(".pcapng"))
    });
    // Its time is over at an even second; a second later its name is due, and time is told once a second.
    let begun: u64 = name(&part).trim_end_matches(".pcapng").parse().unwrap();
    let over = Duration::from_secs(begun / 2 * 2 + 2);
    let late = now().saturating_sub(over);
    println!("the part had its name {late:?} after its time was over");
    assert!((1.0..3.5).contains(&late.as_secs_f64()), "{late:?}");
    let before = used(tlsdump.pid());
    sleep(Duration::from_secs(6));
    let used = used(tlsdump.pid()) - before;
    println!("6 s without traffic took {used} s of the processor");
    assert!(used < 0.3, "{used} s");
    assert_eq!(files(&captures), [part]);
    tlsdump.signal(Signal::INT);
    tlsdump.end().succeeds();
    assert_eq!(files(&captures).len(), 1);
    exact(&files(&captures), &moved[0]);
}

/// Two are stopped while a program moves 10 MB: the buffer of one has room for it, that of the other not.
#[test]
fn a_stopped_tlsdump_loses_what_does_not_fit_the_buffer_and_tells_it() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let start = |buffer: &str| Tlsdump::start(&lab, &[&container.option(), buffer]);
    let tlsdumps = [start("--buffer=64M"), start("--buffer=1M")];
    let load = "w100000 ".repeat(100);
    let mirrored = load.replace('w', "r");
    let (server, address) =
        Mover::server(&lab, &Host, "", "127.0.0.1", &format!("r1000 {mirrored} r1000 w1000"));
    let steps = format!("w1000 g {load} g w1000 r1000");
    let mut client = Mover::client(&lab, &container, "", address, &steps);
    client.reaches_gate();
    tlsdumps.iter().for_each(|tlsdump| tlsdump.signal(Signal::STOP));
    let begun = Instant::now();
    client.open_gate();
    // Nothing holds the program up.
    client.reaches_gate();
    assert!(begun.elapsed() < STOP);
    sleep(STOP - begun.elapsed());
    tlsdumps.iter().for_each(|tlsdump| tlsdump.signal(Signal::CONT));
    sleep(Duration::from_secs(1));
    client.open_gate();
    let moved = client.end().remove(0);
    server.end();
    let [roomy, small] = tlsdumps.map(Tlsdump::stop);

    roomy.is_exact(&moved);
    assert!(roomy.ended.stderr.contains(", 0 events lost"), "{roomy}");
    let lost = session_adds_up(&small, &moved);
    println!("stopped for {STOP:?} with a buffer of 1M: {lost} of {} bytes lost", moved.wrote.bytes);
    assert!((8_500_000..9_500_000).contains(&lost), "{lost} of {} bytes lost", moved.wrote.bytes);
    told(&small, moved.wrote.bytes + moved.read.bytes, lost);
}

#[test]
fn a_stopped_reader_holds_nobody_up() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let file = lab.path("read.pcapng");
    let (pipe, end) = std::io::pipe().unwrap();
    let cat = Process::start_with(&Command::new("cat"), pipe.into(), File::create(&file).unwrap().into());
    let tlsdump = Tlsdump::start_piped(&[&container.option(), "--buffer=128M"], Stdio::from(end));
    let load = ["w100000 "; 600].concat();
    let mirrored = format!("r1000 {0} {0} r1000 w1000", load.replace('w', "r"));
    let (server, address) = Mover::server(&lab, &Host, "", "127.0.0.1", &mirrored);
    let steps = format!("w1000 g {load} g {load} g w1000 r1000");
    let mut client = Mover::client(&lab, &container, "", address, &steps);
    let mut timed = || {
        client.reaches_gate();
        let begun = Instant::now();
        client.open_gate();
        client.reaches_gate();
        begun.elapsed()
    };
    let usually = timed();
    // What is still on its way is read.
    sleep(Duration::from_secs(2));
    cat.signal(Signal::STOP);
    let begun = Instant::now();
    let meanwhile = timed();
    println!("60 MB took {usually:?} with a reader, {meanwhile:?} with one that is stopped");
    assert!(meanwhile < usually * 3 + Duration::from_secs(1), "{meanwhile:?}, usually {usually:?}");
    sleep(STOP.saturating_sub(begun.elapsed()));
    cat.signal(Signal::CONT);
    sleep(Duration::from_secs(2));
    client.open_gate();
    let moved = client.end().remove(0);
    server.end();
    tlsdump.signal(Signal::INT);
    let ended = tlsdump.end().succeeds();
    cat.end().succeeds();

    let captured = Captured::read(&file, ended);
    let (mut position, mut dropped) = (0, 0);
    for conversation in &captured.conversations {
        let told =
            conversation.packets.iter().find_map(|&packet| not_written(&captured.capture.packets[packet]));
        let told = told.unwrap_or(0);
        (position, dropped) = (position + told, dropped + told);
        let bytes = conversation.written().bytes();
        assert!(
            bytes == pattern(moved.seed, position, bytes.len()),
            "not the bytes at {position}:\n{captured}"
        );
        position += bytes.len() as u64;
    }
    assert_eq!(position, moved.wrote.bytes, "{captured}");
    assert!(dropped > 10_000_000 && captured.conversations.len() > 1, "{dropped} bytes dropped:\n{captured}");
    let last = captured.conversations.last().unwrap();
    assert_eq!(Sum::of(last.read().bytes()), moved.read, "it goes on after the stop");
    let words = format!("events ({dropped} bytes) were not written: the output took nothing");
    assert!(captured.ended.stderr.contains(&words), "{words} is not in {}", captured.ended);
    assert!(captured.ended.stderr.contains(", 0 events lost"), "{captured}");
}

/// Bytes that a comment says were dropped before this packet.
fn not_written(packet: &pcapng::Packet) -> Option<u64> {
    let told =
        packet.comments.iter().find_map(|comment| comment.strip_suffix(" drawn as a new connection"))?;
    let told = told.strip_prefix("tlsdump: ")?.split_once(" bytes not written before")?.0;
    Some(told.parse().unwrap())
}

/// What a comment says of a connection that began in an earlier part.
const GOES_ON: &str = "tlsdump: goes on from an earlier part";

/// Requests of each kind of HTTP, at 500 a second.
const REQUESTS: usize = 7500;

/// curl that asks for so many pages, one after another on as few connections as nginx lets it.
fn asking(container: &Container, version: &str, port: u16) -> Process {
    let pages = format!("https://127.0.0.1:{port}/{}/[1-{REQUESTS}]", version.trim_start_matches("--"));
    let mut curl = container.command("curl");
    curl.args(["-sk", "--fail", version, "--rate", "500/s", "-o", "/dev/null", &pages]);
    Process::start(&curl)
}

/// As somebody types it, and with a ring that is too small for all.
#[test]
fn parts_by_time_and_size_under_load() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let port = free_port();
    let _nginx = Process::start(&nginx_command(&lab, &Host, port, "ssl http2"));
    wait_for_listener(port);
    let [all, last] = ["all", "last"].map(|name| directory(&lab, name));
    let typed = |captures: &Path, keep: &str| {
        let file = captures.join("c-%H%M%S.pcapng.zst");
        Tlsdump::start_to(file, &[&container.option(), "-G", "5", "-C", "10M", "-W", keep])
    };
    let tlsdumps = [typed(&all, "20"), typed(&last, "3")];

    let load = format!("{}g ", "w100000 ".repeat(100)).repeat(5);
    let mirrored = load.replace('w', "r").replace('g', "");
    let (server, address) = Mover::server(&lab, &Host, "", "127.0.0.1", &mirrored);
    let mut mover = Mover::client(&lab, &container, "", address, &load);
    let clients = ["--http1.1", "--http2"].map(|version| asking(&container, version, port));
    for _ in 0..5 {
        sleep(Duration::from_secs(2));
        mover.open_gate();
        assert!(files(&last).len() <= 3, "{:?}", files(&last));
    }
    let moved = mover.end().remove(0);
    server.end();
    clients.into_iter().for_each(|client| drop(client.end().succeeds()));
    for tlsdump in tlsdumps {
        tlsdump.signal(Signal::INT);
        let ended = tlsdump.end().succeeds();
        assert!(ended.stderr.contains(", 0 events lost"), "{ended}");
    }
    let parts = files(&all);
    println!("{} parts: {:?}", parts.len(), parts.iter().map(|part| name(part)).collect::<Vec<_>>());
    assert!((7..=20).contains(&parts.len()), "{parts:?}");
    let begun = Cell::new([false; 2]);
    all_bytes_are_in(&parts, &moved, |part, span| requests_in(part, port, span, &begun));
    let kept = files(&last);
    assert_eq!(kept.len(), 3, "{kept:?}");
    kept.iter().for_each(|part| drop(unpacked(part)));
    assert_eq!(kept.last().map(|part| name(part)), parts.last().map(|part| name(part)));
}

/// The names tell the time of the first packet, in the right order; no part is longer or larger than asked,
/// and all but the first begin in the middle of connections.
/// `requests` gives those of a part that is so many nanoseconds long.
#[track_caller]
fn all_bytes_are_in(parts: &[PathBuf], moved: &Moved, requests: impl Fn(&Path, u64) -> [Vec<usize>; 2]) {
    let (mut written, mut before, mut asked) = (Vec::new(), String::new(), [Vec::new(), Vec::new()]);
    for part in parts {
        let bytes = unpacked(part);
        assert!(bytes.len() <= 10 << 20, "{}: {} bytes", part.display(), bytes.len());
        let capture = pcapng::read(&bytes).unwrap();
        let times = || capture.packets.iter().map(|packet| packet.at);
        let span = times().max().unwrap() - times().min().unwrap();
        assert!(span < 5_500_000_000, "{}: {span} ns", part.display());
        let first = format!("@{}", capture.packets[0].at / 1_000_000_000);
        let time = run(Command::new("date").args(["-d", &first, "+c-%H%M%S"])).succeeds().stdout;
        assert!(name(part).starts_with(time.trim()), "{}: begins at {time}", part.display());
        let goes_on = capture.packets.iter().any(|packet| packet.comments.iter().any(|c| c == GOES_ON));
        assert!(goes_on || before.is_empty(), "{}: no connection goes on", part.display());
        assert!(*name(part) > *before, "{} after {before}", part.display());
        name(part).clone_into(&mut before);
        for conversation in streams::conversations(&capture).unwrap() {
            if conversation.packets.iter().any(|&n| capture.packets[n].from == moved.local) {
                written.extend_from_slice(conversation.written().bytes());
            }
        }
        asked.iter_mut().zip(requests(part, span)).for_each(|(all, some)| all.extend(some));
    }
    assert_eq!(Sum::of(&written), moved.wrote);
    for kind in asked {
        assert!(kind.iter().copied().eq(1..=REQUESTS), "{} of {REQUESTS} requests", kind.len());
    }
}

/// The numbers of the requests that tshark shows in a part, of HTTP/1.1 and of HTTP/2: in one that is a
/// second long or more there are some of each that was begun before.
#[track_caller]
fn requests_in(part: &Path, port: u16, span: u64, begun: &Cell<[bool; 2]>) -> [Vec<usize>; 2] {
    let filter = format!("tcp.dstport == {port} && (http.request || http2.headers.method)");
    let fields = ["-T", "fields", "-e", "http.request.uri", "-e", "http2.headers.path"];
    let shown = tshark(part, &[&["-Y", &filter], &fields[..]].concat());
    let mut asked = [Vec::new(), Vec::new()];
    for path in shown.split(['\t', ',', '\n']).filter(|path| !path.is_empty()) {
        let number = path.rsplit('/').next().unwrap().parse().unwrap();
        asked[usize::from(path.starts_with("/http2/"))].push(number);
    }
    println!("{}: {:?} requests", name(part), asked.each_ref().map(Vec::len));
    let there = asked.each_ref().map(|kind| !kind.is_empty());
    let before = begun.get();
    let goes_on = before.iter().zip(there).all(|(before, there)| there || !before);
    assert!(span < 1_000_000_000 || goes_on, "{}", part.display());
    begun.set([before[0] || there[0], before[1] || there[1]]);
    asked
}
