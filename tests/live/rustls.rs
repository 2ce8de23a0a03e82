//! rustls: a real program at both ends, blocking and by tokio. Its connections move about in memory, and its
//! records are sent by the program itself.

use crate::capture::{Tlsdump, tlsdump};
use crate::container::{Container, Host, Place as _};
use crate::lab::Lab;
use crate::mover::{Moved, sessions};
use crate::process::{Process, run};
use crate::rustls_program::{rustmove, stripped};

/// Captures client and server in one container and expects, of each end, exactly what it moved, and nothing
/// else.
#[track_caller]
fn exact(options: &str, client: &str, server: &str) -> Vec<Moved> {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let program = rustmove(&lab);
    let tlsdump =
        Tlsdump::start(&lab, &[&container.option(), &program.option(), "--buffer=128M", "--both-ends"]);
    let serving = program.serve(&container, options, "server", server);
    let (mut moved, _) = program.ask(&container, options, "client", client, &serving);
    moved.extend(serving.end());
    tlsdump.stop().are_exact(&moved, "record");
    moved
}

const CLIENT: &str = "w1 r1 w1024 r1024 w16384 r16384 w16385 r16385 v200000 r200000 w5000000 r5000000";
const SERVER: &str = "r1 w1 r1024 w1024 r16384 w16384 r16385 w16385 r200000 v200000 r5000000 w5000000";

#[test]
fn calls_of_any_size_are_exact_at_both_ends() {
    let moved = exact("", CLIENT, SERVER);
    assert_eq!((moved.len(), moved[0].wrote.bytes), (2, 5_233_794));
}

#[test]
fn by_tokio_as_well() {
    let moved = exact("-a", CLIENT, SERVER);
    assert_eq!((moved.len(), moved[0].wrote.bytes), (2, 5_233_794));
}

#[test]
fn tls_1_2() {
    exact("-2 -n 2", "w1 r100000 v50000", "r1 w100000 r50000");
    exact("-2 -a -n 2", "w1 r100000 v50000", "r1 w100000 r50000");
}

/// Many on one thread, one after another, and going from thread to thread.
#[test]
fn sessions_share_threads() {
    assert_eq!(exact("-n 20", "w100 r20000 w3 r3", "r100 w20000 r3 w3").len(), 40);
    assert_eq!(exact("-a -1 -t 30 -n 3", "w100 r20000 w3 r3", "r100 w20000 r3 w3").len(), 180);
    assert_eq!(exact("-a -t 50 -n 3", "w100 r20000 w3 r3", "r100 w20000 r3 w3").len(), 300);
}

/// The connection is moved to another place in memory while it is in use, and others come to be where it was.
#[test]
fn connections_that_move() {
    exact("-n 4 -t 4", "w100 m r200 m w300 m m r400", "m r100 w200 m r300 w400");
    exact("-a -n 4 -t 4", "w100 m r200 m w300 m m r400", "m r100 w200 m r300 w400");
}

/// Each side changes its keys, and asks the other to do so too.
#[test]
fn keys_that_change() {
    exact("", "w100 k w5 r200 w300 r400", "r105 w200 r300 k w400");
    exact("-a", "w100 k w5 m r200 w300 r400", "r105 w200 r300 k w400");
}

#[test]
fn what_is_written_before_the_handshake() {
    exact("-n 2", "b1000 r200 w100", "r1000 w200 r100");
}

#[test]
fn a_half_closed_connection_is_read_to_its_end() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let program = rustmove(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &program.option(), "--both-ends"]);
    let serving = program.serve(&container, "-a", "server", "r1000 w2000");
    let (mut moved, _) = program.ask(&container, "-h -n 3", "client", "w1000", &serving);
    moved.extend(serving.end());
    tlsdump.stop().are_exact(&moved, "record");
}

/// What was begun before is captured from where it is; by what is sent from then on it is known over which
/// socket.
#[test]
fn connections_older_than_the_capture() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let program = rustmove(&lab);
    let serving = program.serve(&Host, "", "server", "r100 w200 r300 w400 r5");
    let mut command = container.command(&program.program);
    command.args(["client", &serving.address.to_string(), "w100", "r200", "g", "w300", "r400", "w5"]);
    let mut client = Process::start(&command);
    client.stdout_line("the first answer", |line| line == "gate");
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &program.option()]);
    client.type_line("");
    let moved = sessions(&client.end().succeeds().stdout);
    serving.end();
    let captured = tlsdump.stop();
    let conversation = captured.only();
    assert_eq!(captured.ends(conversation), (moved[0].local, moved[0].remote), "{captured}");
    assert_eq!(captured.value(conversation, "tuple"), "record");
    assert_eq!((conversation.written().bytes().len(), conversation.read().bytes().len()), (305, 400));
}

/// It runs the same file.
#[test]
fn a_neighbour_is_not_captured() {
    let lab = Lab::new();
    let (container, neighbour) = (Container::new(&lab), Container::new(&lab));
    let program = rustmove(&lab);
    let serving = program.serve(&Host, "-a", "server", "r1000 w1000");
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &program.option()]);
    let (moved, _) = program.ask(&container, "-a -t 5", "client", "w1000 r1000", &serving);
    program.ask(&neighbour, "-a -t 5", "client", "w1000 r1000", &serving);
    program.ask(&Host, "-t 5", "client", "w1000 r1000", &serving);
    serving.end();
    let captured = tlsdump.stop();
    assert_eq!(moved.len(), 5);
    captured.are_exact(&moved, "record");
}

#[test]
fn stripped_programs_say_what_they_are() {
    let lab = Lab::new();
    let program = stripped(&lab);
    let list = run(tlsdump(&["list", "--comm=nobody", "--lib"]).arg(&program));
    let text = format!("{}{}", list.stdout, list.stderr);
    assert!(text.contains("has rustls 0.23."), "{text}");
    assert!(text.contains(" within, but is stripped of its symbols, "), "{text}");
}
