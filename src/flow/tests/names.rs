//! Names of sessions, and which conversations get them.

use super::{FlowTable, Limits, With, clock, context, free, read, write};
use crate::event::{Conn, Event, How, Name, NameKind};
use crate::flow::What;

fn name(number: u32, what: NameKind, bytes: &[u8]) -> Event<'_> {
    Event::Name(Name { context: context(number), what, bytes })
}

fn text(name: &Option<Box<[u8]>>) -> String {
    String::from_utf8_lossy(name.as_deref().unwrap_or_default()).into_owned()
}

/// The server name and the ALPN that the flow of each opening and each piece of data has, after its number.
fn seen(events: &[Event<'_>]) -> Vec<String> {
    let mut table = FlowTable::<u32>::new(Limits::default());
    let mut seen = Vec::new();
    let mut emit = |segment: super::Segment<'_, u32>| {
        if let What::Data(_) | What::Open = segment.what {
            let (flow, names) = (segment.flow, &segment.flow.names);
            seen.push(format!("{} {} {}", flow.id, text(&names.server), text(&names.alpn)));
        }
    };
    events.iter().for_each(|event| table.push(event, &mut emit));
    table.finish(&mut emit);
    seen
}

#[test]
fn a_name_is_known_from_its_turn_on_and_in_what_is_drawn_anew() {
    let events = [
        name(0, NameKind::ServerName, b"a.example"),
        write(1, 0, "question"),
        name(2, NameKind::Alpn, b"h2"),
        read(3, 0, "answer"),
        free(4, [8, 6]),
        write(5, 8, "again"),
    ];
    let expected = ["1 a.example ", "1 a.example ", "1 a.example h2", "2 a.example h2", "2 a.example h2"];
    assert_eq!(seen(&events), expected);
    // The same in any order of coming.
    let [a, b, c, d, e, f] = events;
    assert_eq!(seen(&[f, d, c, b, e, a]), expected);
}

#[test]
fn a_name_is_known_to_what_waits_for_addresses() {
    let events = [write(0, 0, "question").nowhere(), name(1, NameKind::Alpn, b"h2")];
    assert_eq!(seen(&events), ["1  h2", "1  h2"]);
}

#[test]
fn a_name_that_comes_too_late_replaces_none() {
    let events = [
        write(0, 0, "question"),
        name(3, NameKind::Alpn, b"new"),
        clock(10),
        clock(12),
        name(1, NameKind::Alpn, b"old"),
        name(2, NameKind::ServerName, b"late"),
        write(4, 8, "more"),
    ];
    assert_eq!(seen(&events), ["1  ", "1  ", "1 late new"]);
}

/// What is told of a session on a UNIX socket, and how many flows are drawn before the stream ends.
fn on_unix(how: How) -> (Option<String>, u64) {
    let nowhere = |event: Event<'static>| event.with(|c| c.conn = Conn { how, ..Conn::default() });
    let socket = nowhere(name(0, NameKind::Socket, b"\x01\0\0\0/run/x.sock\0"));
    let mut table = FlowTable::<u32>::new(Limits::default());
    let mut text = None;
    let mut emit = |segment: super::Segment<'_, u32>| text = segment.flow.socket();
    [nowhere(write(1, 0, "question")), socket].iter().for_each(|event| table.push(event, &mut emit));
    let flows = table.stats().flows;
    table.finish(&mut emit);
    (text, flows)
}

#[test]
fn what_is_on_a_unix_socket_waits_for_addresses_only_if_its_records_may_go_on_from_there() {
    let text = Some("unix:/run/x.sock".to_owned());
    assert_eq!(on_unix(How::Nested), (text.clone(), 1));
    assert_eq!(on_unix(How::Fd), (text.clone(), 1));
    assert_eq!(on_unix(How::Record), (text, 0));
}
