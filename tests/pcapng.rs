//! Segments → frames → file, read back by an independent reader and by pcap-file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod pcapng;
    pub mod streams;
}

use std::net::SocketAddr;
use std::time::Duration;

use pcap_file::pcapng::blocks::Block;

use support::draw::{START, TICK, comm, flow, mntns, names, noise, record, record_with};
use support::pcapng::{self, ACK, FIN, PSH, RST, SYN, Way};
use support::streams::{Conversation, conversations};
use tlsdump::event::{Container, Dir, Event, How, Library, Start, Task};
use tlsdump::file::{INTERFACES_MAX, SNAPLEN_MAX};
use tlsdump::flow::What;
use tlsdump::frame::SEGMENT_MAX;
use tlsdump::names::Names;

/// The conversations of a file, which must be right in all that the reader checks.
fn talk(file: &[u8]) -> Vec<Conversation> {
    conversations(&pcapng::read(file).unwrap()).unwrap()
}

#[test]
fn a_conversation_reads_back() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.write(&mut a, b"question");
        pen.read(&mut a, b"answer");
        pen.close(&mut a);
    });
    let capture = pcapng::read(&file).unwrap();
    let packets: Vec<_> = capture
        .packets
        .iter()
        .map(|p| (p.at - START, p.from.port(), p.way.unwrap(), p.flags, p.payload.as_slice()))
        .collect();
    let (out, back) = ((50000, Way::Outbound), (443, Way::Inbound));
    let none: &[u8] = b"";
    let expected = [
        (0, out, SYN, none),
        (0, back, SYN | ACK, none),
        (0, out, ACK, none),
        (TICK, out, PSH | ACK, b"question"),
        (2 * TICK, back, PSH | ACK, b"answer"),
        (3 * TICK, out, FIN | ACK, none),
        (4 * TICK, back, FIN | ACK, none),
    ];
    assert_eq!(packets, expected.map(|(at, (port, way), flags, payload)| (at, port, way, flags, payload)));
    assert_eq!(capture.packets[0].macs, ([2, b't', b'l', b's', 0, 1], [2, b't', b'l', b's', 0, 2]));

    let conversation = &conversations(&capture).unwrap()[0];
    assert_eq!(conversation.client, SocketAddr::from(([10, 0, 0, 1], 50000)));
    assert_eq!(conversation.server, SocketAddr::from(([10, 0, 0, 2], 443)));
    assert_eq!(
        (conversation.written().bytes(), conversation.read().bytes()),
        (&b"question"[..], &b"answer"[..])
    );
    assert!(conversation.to_server().finished && conversation.to_client().finished && !conversation.reset);
}

#[test]
fn the_file_says_where_it_is_from() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.draw(&mut a, Dir::In, What::Gap(10));
        let mut b = flow(2, "10.0.0.1:50001", "10.0.0.2:443");
        b.flow.task.mntns = mntns(43);
        pen.open(&mut b);
    });
    let capture = pcapng::read(&file).unwrap();
    assert_eq!(capture.os.as_deref(), Some("Linux 6.18.44 x86_64"));
    assert_eq!(capture.application.as_deref(), Some("tlsdump 0.1.0"));
    assert_eq!(capture.comments, ["tlsdump --mntns=42 -w out.pcapng"]);

    let described: Vec<_> =
        capture.interfaces.iter().map(|i| (i.name.as_str(), i.description.as_str(), i.snaplen)).collect();
    let expected = [
        ("web-1", "docker, nginx:1.27, mnt:[42]", SNAPLEN_MAX),
        ("mnt:[43]", "mount namespace 43", SNAPLEN_MAX),
    ];
    assert_eq!(described, expected);
    assert_eq!(capture.packets.iter().map(|p| p.interface).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1]);

    let statistics = &capture.statistics;
    let span = (Some(START), Some(START + 2 * TICK));
    assert_eq!(statistics.iter().map(|s| s.interface).collect::<Vec<_>>(), [0, 1]);
    assert!(statistics.iter().all(|s| (s.start, s.end) == span && s.at == START + 2 * TICK));
    assert_eq!(
        (statistics[0].ifrecv, statistics[0].ifdrop, statistics[0].osdrop),
        (Some(4), Some(1), Some(2))
    );
    assert_eq!((statistics[1].ifrecv, statistics[1].ifdrop, statistics[1].osdrop), (Some(3), Some(0), None));
    assert_eq!(
        statistics[0].comments,
        ["tlsdump: whole capture: moved_bytes=100 captured_bytes=90 lost_bytes=10 lost_records=2 \
             unreadable=3 lost_calls=4 socket_conflicts=5 lost_secrets=6 lost_packets=7"]
    );
    assert!(statistics[1].comments.is_empty());
}

#[test]
fn a_flow_is_introduced_once_and_again_for_another_process() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.write(&mut a, b"1");
        a.flow.task.tid = 1236;
        pen.write(&mut a, b"2");
        a.flow.task.comm = comm(b"a child");
        a.flow.task.pid = 1240;
        a.flow.library = 7;
        pen.write(&mut a, b"3");
        pen.write(&mut a, b"4");
    });
    let capture = pcapng::read(&file).unwrap();
    let comments: Vec<_> = capture.packets.iter().map(|p| p.comments.as_slice()).collect();
    let first = "pid=1234 tid=1235 comm=curl container=web-1 mntns=42 \
                 lib=/usr/lib/x86_64-linux-gnu/libssl.so.3 tuple=nested";
    let second = "pid=1240 tid=1236 comm=\"a child\" container=web-1 mntns=42 tuple=nested";
    let none: [String; 0] = [];
    assert_eq!(comments[0], [first]);
    assert_eq!(comments[5], [second]);
    assert!([1, 2, 3, 4, 6].iter().all(|&i| comments[i] == none), "{comments:?}");
    assert_eq!(capture.packets[5].value("comm").as_deref(), Some("a child"));
}

#[test]
fn every_packet_tells_its_process() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        let mut b = flow(2, "10.0.0.1:50001", "10.0.0.2:443");
        b.flow.task.pid = 77;
        pen.write(&mut b, b"1");
        b.flow.task.comm = comm(b"renamed");
        pen.write(&mut b, b"2");
        pen.write(&mut a, b"3");
        b.flow.task.comm = comm(b"curl");
        pen.write(&mut b, b"4");
    });
    let capture = pcapng::read(&file).unwrap();
    let processes = [(1234, "curl"), (77, "curl"), (77, "renamed")].map(|(pid, name)| (pid, name.to_owned()));
    assert_eq!(capture.processes, processes);
    let of: Vec<_> = capture.packets.iter().map(|p| p.process.unwrap()).collect();
    assert_eq!(of, [0, 0, 0, 1, 2, 0, 1]);
}

#[test]
fn the_process_at_the_other_end_is_told_where_it_becomes_known() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        let nginx = Task { pid: 77, tid: 78, comm: comm(b"nginx"), mntns: mntns(43), ..Task::default() };
        a.flow.other_end = Some(nginx);
        pen.write(&mut a, &noise(SEGMENT_MAX + 1));
        a.flow.other_end = None;
        pen.write(&mut a, b"2");
    });
    let comments: Vec<_> = pcapng::read(&file).unwrap().packets.into_iter().map(|p| p.comments).collect();
    let told = "tlsdump: the other end is captured too: pid=77 tid=78 comm=nginx mntns=43";
    assert_eq!(comments[3..], [vec![told.to_owned()], vec![], vec![]]);
}

#[test]
fn unknown_addresses_are_called_so() {
    let file = record(|pen| {
        let mut a = flow(1, "198.18.0.1:1", "198.18.0.2:1");
        a.flow.how = How::Unknown;
        pen.open(&mut a);
        let mut b = flow(2, "10.0.0.1:50000", "10.0.0.2:443");
        b.flow.how = How::Fd;
        pen.open(&mut b);
    });
    let packets = pcapng::read(&file).unwrap().packets;
    assert_eq!(packets[0].value("tuple").as_deref(), Some("unknown"));
    assert_eq!(packets[0].comments[1], "tlsdump: addresses unknown, those shown are made up");
    assert_eq!((packets[3].value("tuple").as_deref(), packets[3].comments.len()), (Some("fd"), 1));
}

#[test]
fn bytes_of_any_length_are_exact_both_ways() {
    let lengths =
        [0, 1, 1000, 16384, 16385, SEGMENT_MAX - 1, SEGMENT_MAX, SEGMENT_MAX + 1, 1 << 20, 5_000_000];
    let all = noise(5_000_000);
    for (local, remote) in [("10.0.0.1:50000", "10.0.0.2:443"), ("[fd00::1]:50000", "[fd00::2]:443")] {
        let file = record(|pen| {
            let mut a = flow(1, local, remote);
            pen.open(&mut a);
            for length in lengths {
                pen.write(&mut a, &all[..length]);
                pen.read(&mut a, &all[all.len() - length..]);
            }
            pen.close(&mut a);
        });
        let conversation = &talk(&file)[0];
        let written: Vec<u8> = lengths.iter().flat_map(|&l| &all[..l]).copied().collect();
        let read: Vec<u8> = lengths.iter().flat_map(|&l| &all[all.len() - l..]).copied().collect();
        assert!(conversation.written().bytes() == written, "{} bytes", conversation.written().bytes().len());
        assert!(conversation.read().bytes() == read, "{} bytes", conversation.read().bytes().len());
        assert_eq!((conversation.written().lost(), conversation.read().lost()), (0, 0));
    }
}

#[test]
fn a_traced_server_is_the_server() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.2:443", "10.0.0.1:50000");
        a.flow.local_is_client = false;
        pen.open(&mut a);
        pen.read(&mut a, b"question");
        pen.write(&mut a, b"answer");
    });
    let conversation = &talk(&file)[0];
    assert_eq!(conversation.server.port(), 443);
    assert_eq!(
        (conversation.read().bytes(), conversation.written().bytes()),
        (&b"question"[..], &b"answer"[..])
    );
    assert_eq!(conversation.to_server().bytes(), b"question");
}

#[test]
fn gaps_are_where_the_bytes_were() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.draw(&mut a, Dir::Out, What::Gap(3));
        pen.write(&mut a, b"abc");
        pen.draw(&mut a, Dir::Out, What::Gap(16384));
        pen.draw(&mut a, Dir::In, What::Gap(1));
        pen.draw(&mut a, Dir::Out, What::Gap(1));
        pen.write(&mut a, b"de");
        pen.draw(&mut a, Dir::Out, What::Gap(0));
        pen.draw(&mut a, Dir::Out, What::Gap(7));
        pen.close(&mut a);
    });
    let conversation = &talk(&file)[0];
    assert_eq!(conversation.written().bytes(), b"abcde");
    assert_eq!(conversation.written().gaps(), [(0, 3), (3, 16385), (5, 7)]);
    assert_eq!(conversation.read().gaps(), [(0, 1)]);
    let told: Vec<_> = pcapng::read(&file).unwrap().packets.into_iter().flat_map(|p| p.comments).collect();
    assert!(told.contains(&"tlsdump: 16384 bytes lost here".to_owned()), "{told:?}");
    assert!(told.contains(&"tlsdump: 1 byte lost here".to_owned()), "{told:?}");
}

#[test]
fn a_gap_that_nothing_follows_is_told() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.draw(&mut a, Dir::In, What::Gap(5));
    });
    let conversation = &talk(&file)[0];
    assert_eq!((conversation.read().bytes(), conversation.read().gaps()), (&b""[..], &[(0, 5)][..]));
}

#[test]
fn a_gap_after_the_other_end_closed_is_drawn() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.draw(&mut a, Dir::Out, What::Fin);
        pen.draw(&mut a, Dir::In, What::Gap(5));
        pen.read(&mut a, b"rest");
        pen.draw(&mut a, Dir::In, What::Fin);
    });
    let conversation = &talk(&file)[0];
    assert_eq!((conversation.read().bytes(), conversation.read().gaps()), (&b"rest"[..], &[(0, 5)][..]));
}

#[test]
fn numbers_wrap_at_4_gib() {
    let gaps = [
        1,
        (1 << 30) + 1,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        (5 << 32) + 9,
        u64::MAX - (1 << 40),
    ];
    let piece = noise(SEGMENT_MAX + 77);
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        for gap in gaps {
            for dir in [Dir::Out, Dir::In] {
                pen.draw(&mut a, dir, What::Gap(gap));
                pen.draw(&mut a, dir, What::Data(&piece));
            }
        }
        pen.close(&mut a);
    });
    let conversation = &talk(&file)[0];
    for stream in [conversation.written(), conversation.read()] {
        let expected: Vec<_> = (0..).map(|n| n * piece.len()).zip(gaps).collect();
        assert_eq!(stream.gaps(), expected);
        assert!(stream.bytes() == piece.repeat(gaps.len()));
    }
}

#[test]
fn data_runs_over_the_wrap() {
    // 2^32 bytes in all, 4 MiB of them seen: somewhere on the way the numbers pass zero, in every position.
    let piece = noise(SEGMENT_MAX);
    let file = record(|pen| {
        let mut a = flow(3, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        for _ in 0..128 {
            pen.write(&mut a, &piece);
            pen.draw(&mut a, Dir::Out, What::Gap((1 << 25) - SEGMENT_MAX as u64));
        }
    });
    let capture = pcapng::read(&file).unwrap();
    let numbers: Vec<u32> = capture.packets.iter().map(|p| p.seq).collect();
    assert!(numbers.windows(2).any(|pair| pair[1] < pair[0]), "no number wrapped");
    let conversation = &conversations(&capture).unwrap()[0];
    assert!(conversation.written().bytes() == piece.repeat(128));
}

#[test]
fn one_that_breaks_off_can_begin_again_on_the_same_ports() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.write(&mut a, b"first");
        pen.draw(&mut a, Dir::Out, What::Reset);
        let mut b = flow(2, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut b);
        pen.write(&mut b, b"second");
    });
    let capture = pcapng::read(&file).unwrap();
    let found = conversations(&capture).unwrap();
    assert_eq!(found.iter().map(|c| c.written().bytes()).collect::<Vec<_>>(), [&b"first"[..], b"second"]);
    assert_eq!(found.iter().map(|c| c.reset).collect::<Vec<_>>(), [true, false]);
    assert!(capture.packets[4].has(RST) && capture.packets[4].has(ACK));
    assert_ne!(capture.packets[0].seq, capture.packets[5].seq);
}

#[test]
fn a_pair_of_two_families_is_drawn_as_ipv6() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "[fd00::2]:443");
        pen.open(&mut a);
        pen.write(&mut a, b"hello");
    });
    let conversation = &talk(&file)[0];
    assert_eq!(conversation.client.to_string(), "[::ffff:10.0.0.1]:50000");
    assert_eq!(conversation.written().bytes(), b"hello");
}

#[test]
fn the_snap_length_cuts_packets_and_says_so() {
    let file = record_with(&names(), 100, |pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.write(&mut a, &noise(1000));
        pen.write(&mut a, b"short");
    });
    let capture = pcapng::read(&file).unwrap();
    assert_eq!(capture.interfaces[0].snaplen, 100);
    let cut = &capture.packets[3];
    assert_eq!((cut.captured, cut.original, cut.payload_len), (100, 1054, 1000));
    let conversation = &conversations(&capture).unwrap()[0];
    assert_eq!(conversation.written().bytes(), [&noise(46)[..], b"short"].concat());
    assert_eq!(conversation.written().gaps(), [(46, 954)]);

    let asked_too_much =
        record_with(&names(), u32::MAX, |pen| pen.open(&mut flow(1, "10.0.0.1:1", "10.0.0.2:2")));
    assert_eq!(pcapng::read(&asked_too_much).unwrap().interfaces[0].snaplen, SNAPLEN_MAX);
}

#[test]
fn hostile_names_stay_text() {
    let evil = "x pid=1\n\u{1b}[2J\u{202e}\"\\".repeat(10_000);
    let mut names = Names::default();
    names.learn(&Event::Start(Start {
        application: evil.clone().into(),
        os: evil.clone().into(),
        command: evil.clone().into(),
    }));
    names.learn(&Event::Library(Library { id: 1, path: evil.clone().into(), version: evil.clone().into() }));
    let (name, description) = (evil.clone().into(), evil.into());
    names.learn(&Event::Container(Container { mntns: mntns(42), name, description }));
    let file = record_with(&names, 0, |pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        a.flow.task.comm = comm(b"\xff\x1b[0m \"pid=9 ");
        pen.open(&mut a);
    });
    // The reader refuses control characters and invalid UTF-8.
    let capture = pcapng::read(&file).unwrap();
    assert!(file.len() < 32_768, "{} bytes", file.len());
    let packet = &capture.packets[0];
    assert_eq!(packet.value("pid").as_deref(), Some("1234"));
    assert_eq!(packet.value("comm").as_deref(), Some("\u{fffd}\u{fffd}[0m \"pid=9 "));
    assert_eq!(capture.processes, [(1234, "\u{fffd}\u{fffd}[0m \"pid=9 ".to_owned())]);
    assert_eq!(packet.value("mntns").as_deref(), Some("42"));
    assert!(packet.value("lib").unwrap().starts_with("x pid=1\u{fffd}\u{fffd}[2J\u{fffd}\"\\x pid=1"));
    assert_eq!(packet.value("tuple").as_deref(), Some("nested"));
}

#[test]
fn too_many_containers_share_an_interface() {
    let file = record(|pen| {
        for number in 0..INTERFACES_MAX as u32 + 10 {
            let mut a = flow(u64::from(number) + 1, "10.0.0.1:50000", "10.0.0.2:443");
            a.flow.task.mntns = mntns(1000 + number);
            pen.open(&mut a);
        }
    });
    let capture = pcapng::read(&file).unwrap();
    assert_eq!(capture.interfaces.len(), INTERFACES_MAX + 1);
    assert_eq!(capture.statistics[INTERFACES_MAX].ifrecv, Some(30));
    let last_syn = &capture.packets[capture.packets.len() - 3];
    assert_eq!((last_syn.interface, last_syn.value("mntns").as_deref()), (INTERFACES_MAX, Some("5105")));
}

#[test]
fn a_capture_of_nothing_is_a_file() {
    let capture = pcapng::read(&record(|_| {})).unwrap();
    assert_eq!((capture.interfaces.len(), capture.packets.len(), capture.statistics.len()), (1, 0, 1));
    assert_eq!((capture.statistics[0].start, capture.statistics[0].osdrop), (None, Some(2)));
    let unnamed = pcapng::read(&record_with(&Names::default(), 0, |_| {})).unwrap();
    assert_eq!(unnamed.application, None);
}

#[test]
fn pcap_file_reads_it_too() {
    let file = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.write(&mut a, b"hello");
    });
    let (mut rest, mut parser) = pcap_file::pcapng::PcapNgParser::new(&file).unwrap();
    let mut times = Vec::new();
    let mut kinds = Vec::new();
    while !rest.is_empty() {
        let (after, block) = parser.next_block(rest).unwrap();
        rest = after;
        match block {
            Block::EnhancedPacket(packet) => times.push((packet.timestamp, packet.options.len())),
            Block::InterfaceDescription(_) => kinds.push("interface"),
            Block::InterfaceStatistics(_) => kinds.push("statistics"),
            Block::Unknown(block) if block.type_ == 0x8000_0001 => kinds.push("process"),
            other => panic!("{other:?}"),
        }
    }
    let start = Duration::from_nanos(START);
    assert_eq!(times, [(start, 3), (start, 2), (start, 2), (start + Duration::from_nanos(TICK), 2)]);
    assert_eq!(kinds, ["interface", "process", "statistics"]);
}

#[test]
fn the_reader_sees_what_is_wrong() {
    let good = record(|pen| {
        let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
        pen.open(&mut a);
        pen.write(&mut a, b"hello, checksum");
        pen.draw(&mut a, Dir::Out, What::Gap(5));
        pen.write(&mut a, b"more");
    });
    let place = |text: &[u8]| good.windows(text.len()).position(|w| w == text).unwrap();
    let with = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        pcapng::read(&bad).and_then(|capture| conversations(&capture)).map(|c| c.len())
    };
    assert_eq!(with(place(b"hello")).unwrap_err().split(": ").last(), Some("wrong TCP checksum"));
    assert!(with(place(b"5 bytes lost")).unwrap_err().contains("step over 5 bytes, comments tell of 4"));
    assert!(with(0).is_err());
    assert!(pcapng::read(&good[..good.len() - 4]).is_err());
}
