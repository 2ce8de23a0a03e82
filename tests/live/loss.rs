//! What the kernel's buffer could not hold is counted exactly, and shown where it is missing.

use std::time::Duration;

use rustix::process::Signal;

use crate::capture::{Captured, Tlsdump};
use crate::container::{Container, Host};
use crate::lab::Lab;
use crate::mover::{Move, Moved, Mover, SERVER_SEED, Sum, pattern};
use crate::streams::Stream;

/// Captured and told lost is what was moved, and what stands around each gap belongs there. Gives the loss.
#[track_caller]
fn adds_up(stream: &Stream, seed: u64, moved: &Sum) -> u64 {
    let (mut taken, mut position) = (0, 0);
    let end = (stream.bytes().len(), 0);
    for &(place, lost) in stream.gaps().iter().chain([&end]) {
        let piece = &stream.bytes()[taken..place];
        assert!(
            piece == pattern(seed, position, piece.len()),
            "the bytes at {position} are not those of there"
        );
        position += piece.len() as u64 + lost;
        taken = place;
    }
    assert_eq!(position, moved.bytes, "gaps: {:?}", stream.gaps());
    stream.lost()
}

/// The same for both directions of a session with the first session of a server.
#[track_caller]
pub(crate) fn session_adds_up(captured: &Captured, moved: &Moved) -> u64 {
    let conversation = captured.between(moved.local, moved.remote);
    let written = adds_up(conversation.written(), moved.seed, &moved.wrote);
    written + adds_up(conversation.read(), SERVER_SEED, &moved.read)
}

/// What is told at the end of the file and on standard error is `lost` of `moved` bytes.
#[track_caller]
pub(crate) fn told(captured: &Captured, moved: u64, lost: u64) {
    let comments = captured.capture.statistics.iter().flat_map(|statistics| &statistics.comments);
    let comment = comments.map(String::as_str).collect::<Vec<_>>().join(" ");
    let captured_bytes = moved - lost;
    let counts = format!("moved_bytes={moved} captured_bytes={captured_bytes} lost_bytes={lost} ");
    assert!(comment.contains(&counts), "{counts} is not in {comment}");
    let words = format!("events lost ({lost} of {moved} bytes)");
    assert!(captured.ended.stderr.contains(&words), "{words} is not in {}", captured.ended);
}

#[test]
fn an_overflow_is_counted_exactly_and_shown_in_its_place() {
    for transport in ["ring", "perf"] {
        let lab = Lab::new();
        let container = Container::new(&lab);
        let options = [&container.option(), "--buffer=64k", "--transport", transport];
        let tlsdump = Tlsdump::start(&lab, &options);
        let steps = "w5000000 r5000000 w100000 r100000 w1 r1 w1000000 r1000 w3000000";
        let moved = Move { client: "", server: "", steps }.run(&lab, &container);
        let captured = tlsdump.stop();
        let lost = session_adds_up(&captured, &moved[0]);
        assert!(lost > 0, "nothing was lost: this test tests nothing");
        told(&captured, moved[0].wrote.bytes + moved[0].read.bytes, lost);
    }
}

#[test]
fn a_loss_in_the_middle_ends_where_the_capture_goes_on() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), "--buffer=64k"]);
    let (server, address) = Mover::server(&lab, &Host, "", "127.0.0.1", "r1000 r500000 w500000 r1000 w1000");
    let steps = "w1000 g w500000 r500000 g w1000 r1000";
    let mut client = Mover::client(&lab, &container, "", address, steps);
    client.reaches_gate();
    // Nobody reads the buffer meanwhile.
    tlsdump.signal(Signal::STOP);
    client.open_gate();
    client.reaches_gate();
    tlsdump.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(500));
    client.open_gate();
    let moved = client.end();
    server.end();
    let captured = tlsdump.stop();

    let lost = session_adds_up(&captured, &moved[0]);
    assert!(lost > 900_000, "only {lost} bytes did not fit the buffer");
    told(&captured, moved[0].wrote.bytes + moved[0].read.bytes, lost);
    let conversation = captured.between(moved[0].local, moved[0].remote);
    for (stream, seed, position) in
        [(conversation.written(), moved[0].seed, 501_000), (conversation.read(), SERVER_SEED, 500_000)]
    {
        assert!(stream.bytes().ends_with(&pattern(seed, position, 1000)), "gaps: {:?}", stream.gaps());
    }
}

#[test]
fn one_write_of_100_megabytes_is_captured_where_the_buffer_has_room() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), "--buffer=256M"]);
    let moved = Move { client: "", server: "", steps: "w104857600 r1" }.run(&lab, &container);
    let captured = tlsdump.stop();
    captured.is_exact(&moved[0]);
}
