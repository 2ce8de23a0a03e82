//! However records leave the kernel and probes are attached, the capture is the same.

use crate::capture::Tlsdump;
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::mover::Move;
use crate::process::run;
use crate::servers::Nginx;

/// One of two containers, short and large calls, with and without a descriptor.
fn core(transport: &str, attach: &str) {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let (a, b) = (Container::new(&lab), Container::new(&lab));
    let way = ["--transport", transport, "--attach", attach, "--buffer=64M"];
    let tlsdump = Tlsdump::start(&lab, &[&[a.option().as_str()][..], &way].concat());
    assert!(tlsdump.armed.contains(&format!("({transport} buffer)")), "{}", tlsdump.armed);
    let mut moved = Vec::new();
    for client in ["", "-b", "-t 3"] {
        let steps = "w1 r1 W1024 R1024 w16384 r16384 W16385 R16385 w1000000 r1000000";
        let server = client.trim_start_matches("-b");
        moved.extend(Move { client, server, steps }.run(&lab, &a));
        Move { client, server, steps }.run(&lab, &b);
    }
    for (place, path) in [(&a, "/alpha"), (&b, "/beta")] {
        run(place.command("curl").args(["-sk", "--fail", "-o", "/dev/null", &nginx.url(path)])).succeeds();
    }
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), moved.len() + 1, "{captured}");
    moved.iter().for_each(|session| captured.is_exact(session));
    let conversation = captured.that_wrote("GET /alpha HTTP/1.1\r\n");
    assert!(conversation.read().bytes().starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(captured.ends(conversation).1, nginx.address());
    assert!(!captured.mentions("/beta"));
}

#[test]
fn ring_buffer_and_uprobe_multi() {
    core("ring", "multi");
}

#[test]
fn ring_buffer_and_perf_events() {
    core("ring", "perf");
}

#[test]
fn perf_buffer_and_uprobe_multi() {
    core("perf", "multi");
}

#[test]
fn perf_buffer_and_perf_events() {
    core("perf", "perf");
}
