//! Go's crypto/tls: real Go programs at both ends, built in all ways that matter. `tests/go-versions` runs
//! these tests with other versions of Go, and docs/GO.md has the results.

use crate::capture::Tlsdump;
use crate::container::{Container, Host};
use crate::go_program::Gomove;
use crate::lab::Lab;
use crate::mover::{Moved, Sum, sessions};
use crate::stage::Stage;
use crate::streams::Conversation;

const STRIPPED: &[&str] = &["-ldflags=-s -w"];
const PIE: &[&str] = &["-buildmode=pie"];
const STRIPPED_PIE: &[&str] = &["-buildmode=pie", "-ldflags=-s -w"];

/// Captures client and server in one container and expects, of each end, exactly what it moved, and nothing
/// else.
#[track_caller]
fn exact(build: &[&str], options: &str, client: &str, server: &str) -> Vec<Moved> {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let gomove = Gomove::build(&lab, build);
    let tlsdump =
        Tlsdump::start(&lab, &[&container.option(), &gomove.option(), "--buffer=128M", "--both-ends"]);
    // Only the client reads in a strange way.
    let serving = gomove.serve(&container, &options.replace("-m", ""), "server", server);
    let (mut moved, _) = gomove.ask(&container, options, "client", client, &serving);
    moved.extend(serving.end());
    tlsdump.stop().are_exact(&moved, "nested");
    moved
}

#[test]
fn calls_of_any_size_are_exact_at_both_ends() {
    let moved = exact(
        &[],
        "",
        "w1 r1 w1024 r1024 w16384 r16384 w16385 r16385 w5000000 r5000000",
        "r1 w1 r1024 w1024 r16384 w16384 r16385 w16385 r5000000 w5000000",
    );
    assert_eq!((moved.len(), moved[0].wrote.bytes), (2, 5_033_794));
}

#[test]
fn stripped_programs() {
    exact(STRIPPED, "-n 3", "w1 r100000", "r1 w100000");
}

#[test]
fn position_independent_programs() {
    exact(PIE, "-n 3", "w1 r100000", "r1 w100000");
    exact(STRIPPED_PIE, "-n 3", "w1 r100000", "r1 w100000");
}

/// Conns come to lie where others were, and goroutines go from thread to thread.
#[test]
fn a_hundred_connections_at_once_are_exact() {
    let moved = exact(&[], "-t 100 -n 3", "w100 r20000 w3 r3", "r100 w20000 r3 w3");
    assert_eq!(moved.len(), 600);
}

#[test]
fn buffers_on_a_stack_that_moves() {
    exact(&[], "-m -t 4 -n 3", "w1000 r200000", "r1000 w200000");
}

#[test]
fn a_half_closed_connection_is_read_to_its_end() {
    exact(&[], "-h -n 3", "w1000 r2000", "r1000 w2000");
}

#[test]
fn both_layers_of_tls_inside_tls() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let gomove = Gomove::build(&lab, &[]);
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &gomove.option()]);
    let serving = gomove.serve(&Host, "-i", "server", "r1000 w30000");
    let (moved, _) = gomove.ask(&container, "-i", "client", "w1000 r30000", &serving);
    serving.end();
    let captured = tlsdump.stop();
    assert_eq!((moved.len(), captured.conversations.len()), (2, 2), "{captured}");
    let inner = moved.iter().find(|session| session.layer == "inner").unwrap();
    let outer = moved.iter().find(|session| session.layer == "outer").unwrap();
    captured.is_exact(outer);
    let of_inner = |c: &&Conversation| Sum::of(c.written().bytes()) == inner.wrote;
    let conversation = captured.conversations.iter().find(of_inner);
    captured.is_exact_in(conversation.unwrap_or_else(|| panic!("no {inner:?} in\n{captured}")), inner);
}

#[test]
fn http1_with_connections_that_are_kept() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let gomove = Gomove::build(&lab, &[]);
    let tlsdump =
        Tlsdump::start(&lab, &[&container.option(), &gomove.option(), "--buffer=128M", "--both-ends"]);
    let serving = gomove.serve(&container, "", "serve", "");
    let mut moved = Vec::new();
    for options in ["-r 3 -b 10", "-r 2 -b 5000000", "-t 20 -r 5 -b 70000"] {
        moved.extend(gomove.ask(&container, options, "get", "", &serving).0);
    }
    moved.extend(serving.end());
    let captured = tlsdump.stop();
    assert_eq!(moved.len(), 44);
    captured.are_exact(&moved, "nested");
    for session in &moved[..22] {
        let conversation = captured.between(session.local, session.remote);
        let request = String::from_utf8_lossy(conversation.written().bytes());
        let answer = String::from_utf8_lossy(conversation.read().bytes());
        assert!(request.starts_with("POST /page/0 HTTP/1.1\r\n") && request.contains("POST /page/1 "));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

/// Each end waits in a read when the capture begins: the server for a byte of the next request, the client
/// for an answer, or the end.
#[test]
fn what_comes_over_an_idle_connection_is_whole() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let gomove = Gomove::build(&lab, STRIPPED);
    let serving = gomove.serve(&container, "", "serve", "");
    let mut client = gomove.start(&container, "-g -r 2 -b 1000", "get", &serving);
    client.stdout_line("the first answer", |line| line == "gate");
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), "--both-ends"]);
    client.type_line("");
    let mut moved = sessions(&client.end().succeeds().stdout);
    moved.extend(serving.end());
    let captured = tlsdump.stop();
    assert_eq!((moved.len(), captured.conversations.len()), (2, 2), "{captured}");
    for session in &moved {
        let conversation = captured.between(session.local, session.remote);
        let (wrote, read) = (conversation.written().bytes(), conversation.read().bytes());
        let (request, answer) = if session.remote == moved[0].remote { (wrote, read) } else { (read, wrote) };
        assert!(request.starts_with(b"POST /page/1 HTTP/1.1\r\n"), "{captured}");
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{captured}");
        assert_eq!(
            (wrote.len() * 2, read.len() * 2),
            (session.wrote.bytes as usize, session.read.bytes as usize)
        );
        assert_eq!(captured.value(conversation, "tuple"), "nested");
    }
}

#[test]
fn http2() {
    let stage = Stage::new();
    let gomove = Gomove::build(&stage.lab, STRIPPED);
    let capturing = stage.capture_also(&[&gomove.option(), "--buffer=128M"]);
    let serving = gomove.serve_at(&stage.server(), "-2", "serve", "", ([127, 0, 0, 1], 443).into());
    let (_, printed) = gomove.ask(&stage.client(), "-2 -r 2 -b 300000", "get", "", &serving);
    assert!(printed.contains("answer HTTP/2.0 https://127.0.0.1:443/page/1 300000"), "{printed}");
    serving.end();
    let ends = capturing.stop();
    ends.are_on_port(443);
    ends.show(&[
        ("HTTP2", "Magic"),
        ("HTTP2", "HEADERS[1]: POST /page/0"),
        ("HTTP2", "HEADERS[1]: 200 OK"),
        ("HTTP2", "HEADERS[3]: POST /page/1"),
        ("HTTP2", "HEADERS[3]: 200 OK"),
    ]);
    // Neither end's program can count here, but what one writes the other reads.
    let [client, server] = ends.both().map(|shown| shown.captured.only());
    assert_eq!(client.written().bytes(), server.read().bytes());
    assert_eq!(client.read().bytes(), server.written().bytes());
    assert!(client.written().bytes().len() > 600_000);
}

#[test]
fn a_neighbour_with_the_same_program_is_not_captured() {
    let lab = Lab::new();
    let (wanted, neighbour) = (Container::new(&lab), Container::new(&lab));
    let gomove = Gomove::build(&lab, &[]);
    let tlsdump = Tlsdump::start(&lab, &[&wanted.option(), &gomove.option()]);
    let serving = gomove.serve(&neighbour, "-t 4 -n 5", "server", "r100 w1000");
    let (mut moved, _) = gomove.ask(&wanted, "-t 2 -n 5", "client", "w100 r1000", &serving);
    let (others, _) = gomove.ask(&neighbour, "-s 50 -t 2 -n 5", "client", "w100 r1000", &serving);
    assert_eq!((others.len(), serving.end().len()), (10, 20));
    let captured = tlsdump.stop();
    captured.are_exact(&moved, "nested");
    moved.retain(|session| session.wrote == others[0].wrote);
    assert!(moved.is_empty());
}

/// Without being named: a program that runs already, and one that is run later.
#[test]
fn programs_are_found() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let gomove = Gomove::build(&lab, STRIPPED);
    let serving = gomove.serve(&container, "-n 2", "server", "r100 w1000");
    let ahead = container.root().join("usr/local/bin/gomove");
    std::fs::copy(&gomove.program, &ahead).unwrap();
    let ahead = Gomove::at(&lab, "/usr/local/bin/gomove".into());
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), "--both-ends"]);
    let (mut moved, _) = ahead.ask(&container, "-n 2", "client", "w100 r1000", &serving);
    moved.extend(serving.end());
    tlsdump.stop().are_exact(&moved, "nested");
}
