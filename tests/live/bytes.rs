//! What a program moved is in the file: every byte, once, in order.

use std::collections::HashSet;

use crate::capture::{Captured, Tlsdump, tshark};
use crate::container::Container;
use crate::lab::Lab;
use crate::mover::{Move, Moved, Mover, Sum};

/// Captures moves in a container, one after another, with a buffer in which nothing is lost.
fn capture(moves: &[Move<'_>]) -> (Lab, Captured, Vec<Moved>) {
    capture_as("tls", moves)
}

fn capture_as(frames: &str, moves: &[Move<'_>]) -> (Lab, Captured, Vec<Moved>) {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), "--buffer=64M", "--frames", frames]);
    let moved = moves.iter().flat_map(|how| how.run(&lab, &container)).collect();
    let captured = tlsdump.stop();
    (lab, captured, moved)
}

/// Captures moves with the same options, and expects exactly what was moved.
#[track_caller]
fn exact(client: &str, server: &str, steps: &[&str]) -> Vec<Moved> {
    let moves: Vec<_> = steps.iter().map(|steps| Move { client, server, steps }).collect();
    let (_lab, captured, moved) = capture(&moves);
    assert_eq!(captured.conversations.len(), moved.len(), "{captured}");
    moved.iter().for_each(|session| captured.is_exact(session));
    moved
}

#[test]
fn calls_of_any_size_are_exact_both_ways() {
    let sizes = [1, 1024, 16_384, 16_385, 1 << 20, 5 << 20];
    let [plain, ex] = [('w', 'r'), ('W', 'R')]
        .map(|(write, read)| sizes.map(|size| format!("{write}{size} {read}{size} ")).concat());
    let moved = exact("", "", &[&plain, &ex]);
    assert_eq!((moved[0].wrote.bytes, moved[1].read.bytes), (6_325_250, 6_325_250));
}

#[test]
fn tshark_follows_the_stream_to_the_same_bytes() {
    let steps = "w1 r1 w1000000 r1000000 W16385 R16385";
    // Lines of hexadecimal digits; those of the server's side begin with a tab.
    let is_data = |line: &&str| line.trim_start().bytes().all(|b| b.is_ascii_hexdigit()) && !line.is_empty();
    for (frames, follow) in [("tls", "follow,tls,raw,0"), ("plain", "follow,tcp,raw,0")] {
        let (_lab, captured, moved) = capture_as(frames, &[Move { client: "", server: "", steps }]);
        let followed = tshark(&captured.file, &["-q", "-z", follow]);
        let (from_server, from_client): (Vec<_>, Vec<_>) =
            followed.lines().filter(is_data).partition(|line| line.starts_with('\t'));
        assert_eq!(Sum::of(&unhex(&from_client)), moved[0].wrote, "{frames}");
        assert_eq!(Sum::of(&unhex(&from_server)), moved[0].read, "{frames}");
    }
}

fn unhex(lines: &[&str]) -> Vec<u8> {
    let digits = lines.iter().flat_map(|line| line.trim_start().bytes());
    let digits: Vec<_> = digits.map(|digit| char::from(digit).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn retries_after_want_write_are_counted_once() {
    let moved = exact("-d", "", &["w1000000 r1000 w30000", "W1000000 R1000 W30000"]);
    assert!(moved.iter().all(|session| session.waits > 0), "no call had to be retried: {moved:?}");
}

#[test]
fn partial_writes_count_for_what_they_wrote() {
    let moved = exact("-d -p", "", &["w1000000 r1000 w30000", "W1000000 R1000 W30000"]);
    assert!(moved.iter().all(|session| session.waits > 0), "no call was partial: {moved:?}");
}

#[test]
fn peeking_is_not_reading() {
    exact("-k", "", &["r1000 w10 r100000 R100000"]);
}

#[test]
fn two_threads_with_a_session_each_do_not_mix() {
    let moved = exact("-t 2", "-t 2", &["w1000000 r1000000 W100000 R100000"]);
    assert_eq!(moved.len(), 2);
    assert_ne!(moved[0].wrote, moved[1].wrote, "each writes something else");
}

#[test]
fn many_threads_with_many_sessions_are_exact() {
    let moved = exact("-t 8 -n 10", "-t 8 -n 10", &["w1 r1 w20000 r20000"]);
    assert_eq!(moved.len(), 80);
}

#[test]
fn sessions_at_one_place_in_memory_are_told_apart() {
    let moved = exact("-n 20", "-n 20", &["w1000 r1000"]);
    let pointers: HashSet<_> = moved.iter().map(|session| &session.pointer).collect();
    assert!(pointers.len() < moved.len(), "no pointer was used again: {moved:?}");
}

#[test]
fn a_forked_child_goes_on_with_the_session() {
    let (_lab, captured, moved) =
        capture(&[Move { client: "", server: "", steps: "w1000 r1000 f w5000 r50000" }]);
    // The child ends first.
    let [child, parent] = &moved[..] else { panic!("not two processes: {moved:?}") };
    let conversation = captured.only();
    assert_eq!(captured.ends(conversation), (parent.local, parent.remote));
    for (stream, of_parent, of_child) in [
        (conversation.written(), &parent.wrote, &child.wrote),
        (conversation.read(), &parent.read, &child.read),
    ] {
        assert_eq!(stream.gaps(), []);
        let (first, rest) = stream.bytes().split_at(1000);
        assert_eq!((&Sum::of(first), &Sum::of(rest)), (of_parent, of_child));
    }
    let told = conversation.packets.iter().filter_map(|&n| captured.capture.packets[n].value("pid"));
    assert_eq!(told.collect::<Vec<_>>(), [parent.pid.to_string(), child.pid.to_string()]);
}

#[test]
fn both_layers_of_tls_inside_tls_are_captured() {
    let (_lab, captured, moved) =
        capture(&[Move { client: "-i", server: "-i", steps: "w100000 r100000 W10 R10" }]);
    assert_eq!((moved.len(), captured.conversations.len()), (2, 2), "{captured}");
    for layer in &moved {
        let of_layer = |c: &&crate::streams::Conversation| Sum::of(c.written().bytes()) == layer.wrote;
        let conversation = captured.conversations.iter().find(of_layer);
        let conversation = conversation.unwrap_or_else(|| panic!("no {layer:?} in\n{captured}"));
        captured.is_exact_in(conversation, layer);
        // The socket is the outer one's. Nothing wrong may be said of the inner one.
        if layer.layer == "outer" || captured.value(conversation, "tuple") != "unknown" {
            assert_eq!(captured.ends(conversation), (layer.local, layer.remote), "{layer:?}");
        }
    }
}

#[test]
fn a_connection_with_both_ends_in_the_capture_is_drawn_once() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let (server, address) = Mover::server(&lab, &container, "", "127.0.0.1", "r1000 w1000 r50000 w50000");
    let client = Mover::client(&lab, &container, "", address, "w1000 r1000 w50000 r50000").end();
    let server = server.end();
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), 1, "{captured}");
    captured.is_exact(&client[0]);
    let told = format!("tlsdump: the other end is captured too: pid={} ", server[0].pid);
    assert!(captured.mentions(&told), "{captured}");
    assert!(captured.ended.stderr.contains("1 connections were captured from both ends"), "{captured}");
}

#[test]
fn both_ends_of_a_connection_are_drawn_if_asked_for() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), "--both-ends"]);
    let (server, address) = Mover::server(&lab, &container, "", "127.0.0.1", "r1000 w1000");
    let client = Mover::client(&lab, &container, "", address, "w1000 r1000").end();
    let server = server.end();
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), 2, "{captured}");
    [&client[0], &server[0]].into_iter().for_each(|end| captured.is_exact(end));
    assert!(captured.ended.stderr.contains("1 connections were captured from both ends"), "{captured}");
}
