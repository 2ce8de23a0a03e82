//! Sessions that could be taken for being on another socket than theirs: `tests/programs/bindings.c`. What is
//! shown must be true, or said to be unknown. docs/SOCKETS.md tells how sockets are found.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::capture::{Captured, Tlsdump};
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::mover::{Moved, Mover, Sum, sessions};
use crate::process::run;

/// What the server of each session does.
const TALK: &str = "r3000 w3000";

/// What is at the second port that the program is told.
#[derive(Clone, Copy)]
enum Other {
    /// Answers lines.
    Lines,
    /// A server that does the same as the first.
    Talk,
    /// A server that answers bytes.
    Bytes,
    /// Takes what comes.
    Sink,
}

/// Captures the program in each of these ways.
fn capture(ways: &[&str], what: &str, other: Other) -> (Captured, Vec<Vec<Moved>>) {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let moved = ways.iter().map(|way| {
        let (_server, address) = Mover::server(&lab, &Host, "-n 1", "127.0.0.1", TALK);
        let serve = |options, steps| {
            let (server, address) = Mover::server(&lab, &Host, options, "127.0.0.1", steps);
            (Some(server), address.port())
        };
        let (_other, port) = match other {
            Other::Lines => (None, listen(answer_lines)),
            Other::Sink => (None, listen(take)),
            Other::Talk => serve("-n 20", TALK),
            Other::Bytes => serve("-x 10000", "r1 w1"),
        };
        let mut command = container.command(&lab.by_openssl("bindings"));
        command.args([*way, what, &address.port().to_string(), &port.to_string()]);
        sessions(&run(&command).succeeds().stdout)
    });
    let moved = moved.collect();
    (tlsdump.stop(), moved)
}

/// A port on which each connection is served so.
fn listen(serve: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || serve(connection));
        }
    });
    port
}

fn answer_lines(connection: TcpStream) {
    for _line in BufReader::new(&connection).lines() {
        let _ = (&connection).write_all(b".");
    }
}

fn take(mut connection: TcpStream) {
    let mut bytes = [0; 1000];
    while connection.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

/// All sessions of all runs are there, each with its bytes and true ends, which are known in that way.
#[track_caller]
fn is_true(captured: &Captured, runs: &[Vec<Moved>], how: &str) {
    let moved: Vec<_> = runs.iter().flatten().collect();
    assert_eq!(captured.conversations.len(), moved.len(), "{captured}\n{moved:?}");
    for session in moved {
        captured.is_exact(session);
        let conversation = captured.between(session.local, session.remote);
        assert_eq!(captured.value(conversation, "tuple"), how, "{session:?}\n{captured}");
    }
}

/// Where the library uses the socket itself.
const LIBRARY: [&str; 4] = ["fd", "socket", "custom", "buffer"];
/// Where the program sends the records.
const PROGRAM: [&str; 5] = ["memory", "pair", "write", "writev", "message"];

#[track_caller]
fn both_true(what: &str, other: Other) {
    let (captured, runs) = capture(&LIBRARY, what, other);
    is_true(&captured, &runs, "nested");
    let (captured, runs) = capture(&["memory", "pair"], what, other);
    is_true(&captured, &runs, "record");
}

#[test]
fn sockets_used_by_the_library_and_by_the_program() {
    let (captured, runs) = capture(&LIBRARY, "plain", Other::Lines);
    is_true(&captured, &runs, "nested");
    let (captured, runs) = capture(&PROGRAM, "plain", Other::Lines);
    is_true(&captured, &runs, "record");
}

#[test]
fn a_log_written_by_callbacks() {
    both_true("log", Other::Lines);
}

#[test]
fn connections_made_by_callbacks() {
    both_true("fetch", Other::Lines);
}

#[test]
fn sessions_held_by_callbacks() {
    both_true("session", Other::Talk);
}

#[test]
fn another_session_used_by_callbacks() {
    both_true("inside", Other::Bytes);
}

#[test]
fn two_sessions_by_turns() {
    both_true("turns", Other::Talk);
}

#[test]
fn a_descriptor_that_is_connected_later() {
    let (captured, runs) = capture(&LIBRARY, "late", Other::Lines);
    is_true(&captured, &runs, "nested");
}

#[test]
fn one_ssl_for_two_connections() {
    both_true("again", Other::Talk);
    both_true("lazily", Other::Talk);
}

#[test]
fn a_duplicated_descriptor() {
    both_true("dup", Other::Lines);
}

#[test]
fn a_descriptor_from_another_process() {
    both_true("passed", Other::Lines);
}

#[test]
fn two_processes_with_one_session() {
    let (captured, runs) = capture(&["fd", "custom", "memory"], "forked", Other::Lines);
    assert_eq!(captured.conversations.len(), runs.len(), "{captured}");
    for moved in runs {
        let [child, parent] = &moved[..] else { panic!("{moved:?}") };
        let conversation = captured.between(parent.local, parent.remote);
        assert_eq!(Sum::of(conversation.written().bytes()), parent.wrote);
        assert_eq!(Sum::of(conversation.read().bytes()), child.read);
    }
}

#[test]
fn other_stacks_of_the_thread() {
    let (captured, runs) = capture(&["custom"], "fibers", Other::Sink);
    is_true(&captured, &runs, "nested");
}

#[test]
fn records_that_others_get_as_well() {
    // Another thread of the program sends them too, or only that.
    let (captured, runs) = capture(&["copied", "relay", "framed", "local"], "plain", Other::Lines);
    is_true(&captured, &runs, "record");
}

#[test]
fn records_of_which_somebody_else_gets_a_copy_first() {
    let (captured, runs) = capture(&["tapped"], "plain", Other::Sink);
    // Which connection is the session's, and which the copy's, can't be known.
    let conversation = captured.only();
    captured.is_exact_in(conversation, &runs[0][0]);
    assert_eq!(captured.value(conversation, "tuple"), "unknown");
}

#[test]
fn records_that_leave_by_io_uring() {
    let ways = ["u_send", "u_sendmsg", "u_write", "u_writev", "u_fixed", "u_polled"];
    let (captured, runs) = capture(&ways, "plain", Other::Lines);
    is_true(&captured, &runs, "record");
}
