//! Static programs from which the names were taken: found by what their functions look like, by symbols that
//! were kept elsewhere, or where the user says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::capture::{Captured, Tlsdump};
use crate::container::{Container, Host};
use crate::lab::Lab;
use crate::mover::{Move, Moved, Mover};
use crate::process::run;

const STEPS: &str = "w1 r1 W1024 R1024 w16385 r16385 W1000000 R1000000";

/// Makes the lab's tlsmove a static one. The one that has its symbols is beside it.
fn static_tlsmove(lab: &Lab) -> (PathBuf, PathBuf) {
    let (program, full) = (lab.path("tlsmove"), lab.path("tlsmove.full"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/tlsmove.c");
    let mut compile = Command::new("gcc");
    // The linker warns of what a static program can't do, which this one doesn't.
    compile.args(["-O1", "-static", "-w", "-o"]).arg(&full).arg(source);
    run(compile.args(["-lssl", "-lcrypto", "-lpthread"])).succeeds();
    objcopy(&["--strip-all"], &full, &program);
    (program, full)
}

fn objcopy(options: &[&str], from: &Path, to: &Path) {
    run(Command::new("objcopy").args(options).arg(from).arg(to)).succeeds();
}

/// Takes from a stripped program what its functions are known by: the name of their source file.
pub(crate) fn blind(program: &Path) {
    let mut bytes = fs::read(program).unwrap();
    // Put together here, so that it isn't found in this very program.
    let text = [b"ssl_lib", &b".c\0"[..]].concat();
    let places: Vec<_> = (0..bytes.len() - text.len()).filter(|&at| bytes[at..].starts_with(&text)).collect();
    assert!(!places.is_empty(), "{}", program.display());
    for at in places {
        bytes[at] = b'x';
    }
    fs::write(program, bytes).unwrap();
}

#[track_caller]
fn exact(captured: &Captured, moved: &[Moved]) {
    assert_eq!(captured.conversations.len(), moved.len(), "{captured}");
    for session in moved {
        captured.is_exact(session);
    }
}

#[test]
fn a_stripped_static_program_is_captured_exactly() {
    let lab = Lab::new();
    let (program, _) = static_tlsmove(&lab);
    let container = Container::new(&lab);
    let library = format!("--lib={}", program.display());
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &library, "--buffer=64M"]);
    // The descriptor known, or not; and sessions one after another, which have the same place in memory.
    let clients = [("", ""), ("-b", ""), ("-n 4", "-n 4")];
    let clients = clients.map(|(client, server)| Move { client, server, steps: STEPS });
    let moved: Vec<_> = clients.iter().flat_map(|client| client.run(&lab, &container)).collect();
    let captured = tlsdump.stop();
    exact(&captured, &moved);
    assert_eq!(moved.len(), 6);
    for session in &moved {
        let conversation = captured.between(session.local, session.remote);
        assert_eq!(captured.value(conversation, "tuple"), "nested");
        assert!(captured.value(conversation, "lib").ends_with("/tlsmove"));
    }
}

#[test]
fn functions_are_probed_where_the_user_says() {
    let lab = Lab::new();
    let (program, full) = static_tlsmove(&lab);
    blind(&program);
    let symbols = run(Command::new("nm").arg(&full)).succeeds().stdout;
    let place = |name: &str| {
        let fields = symbols.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let address = fields.filter(|f| f.last() == Some(&name)).map(|f| f[0].to_owned()).next().unwrap();
        format!("{name}=0x{address}")
    };
    let places = ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_do_handshake"].map(place);
    let container = Container::new(&lab);
    let library = format!("--lib={}@{}", program.display(), places.join(","));
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &library, "--buffer=64M"]);
    let moved = Move { client: "", server: "", steps: STEPS }.run(&lab, &container);
    exact(&tlsdump.stop(), &moved);
}

/// Captures a client that runs before the capture begins.
fn captures_running(lab: &Lab, container: &Container) {
    let (server, address) = Mover::server(lab, &Host, "", "127.0.0.1", "r1024 w1024");
    let mut client = Mover::client(lab, container, "", address, "g w1024 r1024");
    client.reaches_gate();
    let tlsdump = Tlsdump::start(lab, &[&container.option()]);
    client.open_gate();
    let moved = client.end();
    server.end();
    exact(&tlsdump.stop(), &moved);
}

#[test]
fn a_file_of_symbols_in_the_container_is_used() {
    let lab = Lab::new();
    let (program, full) = static_tlsmove(&lab);
    blind(&program);
    let container = Container::new(&lab);
    let notes = run(Command::new("readelf").arg("-n").arg(&program)).succeeds().stdout;
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap();
    let directory = container.root().join(format!("usr/lib/debug/.build-id/{}", &id[..2]));
    fs::create_dir_all(&directory).unwrap();
    objcopy(&["--only-keep-debug"], &full, &directory.join(format!("{}.debug", &id[2..])));
    captures_running(&lab, &container);
}

#[test]
fn compressed_symbols_are_used() {
    let lab = Lab::new();
    let (program, full) = static_tlsmove(&lab);
    let symbols = lab.path("symbols");
    objcopy(&["--only-keep-debug"], &full, &symbols);
    run(Command::new("xz").arg(&symbols)).succeeds();
    let section = format!(".gnu_debugdata={}.xz", symbols.display());
    objcopy(&["--strip-all", "--add-section", &section], &full, &program);
    blind(&program);
    captures_running(&lab, &Container::new(&lab));
}
