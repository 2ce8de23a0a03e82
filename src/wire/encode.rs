//! Events → record bytes: for the records that user space makes, and for streams made up in tests.

use std::net::IpAddr;

use crate::event::{
    CloseReason, Conn, Context, Counters, Data, Event, How, NameKind, PACKET_BYTES_MAX, Packet, Role,
    SECRET_BYTES_MAX, Secret, Task,
};

use super::{
    HEADER_BYTES, KIND_CLOCK, KIND_CLOSE, KIND_CONTAINER, KIND_COUNTERS, KIND_DATA, KIND_EXIT, KIND_LIBRARY,
    KIND_NAME, KIND_PACKET, KIND_SECRET, KIND_START, KIND_TOTALS,
};

/// Appends the record that says `event`. Names longer than fits a record are cut; a payload longer than
/// [`RECORD_BYTES_MAX`] minus [`DATA_HEADER_BYTES`] must not be asked for.
pub fn encode(event: &Event<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let kind = match event {
        Event::Data(data) => {
            put_data(out, data);
            KIND_DATA
        }
        Event::Close(close) => {
            put_context(out, &close.context);
            close.totals.iter().for_each(|&n| put_u64(out, n));
            put_u32(out, if close.reason == CloseReason::Shutdown { 1 } else { 2 });
            put_u32(out, 0);
            KIND_CLOSE
        }
        Event::Name(name) => {
            put_context(out, &name.context);
            put_u32(out, name_kind(name.what));
            put_u32(out, name.bytes.len() as u32);
            out.extend_from_slice(name.bytes);
            KIND_NAME
        }
        Event::Secret(secret) => {
            put_secret(out, secret);
            KIND_SECRET
        }
        Event::Exit(exit) => {
            put_u64(out, exit.at);
            put_task(out, &exit.task);
            KIND_EXIT
        }
        Event::Start(start) => {
            [&start.application, &start.os, &start.command].iter().for_each(|text| put_text(out, text));
            KIND_START
        }
        Event::Clock(clock) => {
            [clock.mono, clock.wall].iter().for_each(|&n| put_u64(out, n));
            KIND_CLOCK
        }
        Event::Library(library) => {
            put_u32(out, library.id);
            put_text(out, &library.path);
            put_text(out, &library.version);
            KIND_LIBRARY
        }
        Event::Container(container) => {
            put_u64(out, container.mntns.id);
            put_u32(out, container.mntns.number);
            put_text(out, &container.name);
            put_text(out, &container.description);
            KIND_CONTAINER
        }
        Event::Counters(counters) => {
            put_counters(out, counters);
            KIND_COUNTERS
        }
        Event::Packet(packet) => {
            put_packet(out, packet);
            KIND_PACKET
        }
        Event::Totals(totals) => {
            put_context(out, &totals.context);
            totals.totals.iter().for_each(|&n| put_u64(out, n));
            KIND_TOTALS
        }
    };
    let size = (out.len() - begin) as u32;
    out[begin..begin + 4].copy_from_slice(&size.to_le_bytes());
    out[begin + 4..begin + 6].copy_from_slice(&kind.to_le_bytes());
}

/// Most bytes of one name in a record: a path, a command line.
const TEXT_BYTES_MAX: usize = 16 * 1024;

fn name_kind(what: NameKind) -> u32 {
    match what {
        NameKind::ServerName => 1,
        NameKind::Alpn => 2,
        NameKind::Socket => 3,
    }
}

fn put_u16(out: &mut Vec<u8>, n: u16) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn put_context(out: &mut Vec<u8>, context: &Context) {
    put_u64(out, context.at);
    put_u64(out, context.session.id);
    put_u32(out, context.session.number);
    put_u32(out, context.session.library);
    put_task(out, &context.task);
    put_conn(out, &context.conn);
}

fn put_data(out: &mut Vec<u8>, data: &Data<'_>) {
    put_context(out, &data.context);
    put_u64(out, data.offset);
    put_u32(out, data.bytes.len() as u32);
    put_u32(out, data.dir.index() as u32);
    out.extend_from_slice(data.bytes);
}

fn put_packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let Packet { at, session, netns, interface, dir, length, bytes } = *packet;
    let bytes = &bytes[..bytes.len().min(PACKET_BYTES_MAX)];
    [at, session].iter().for_each(|&n| put_u64(out, n));
    let words = [netns, interface, dir.index() as u32, length, bytes.len() as u32, 0];
    words.iter().for_each(|&n| put_u32(out, n));
    out.extend_from_slice(bytes);
}

fn put_secret(out: &mut Vec<u8>, secret: &Secret<'_>) {
    put_context(out, &secret.context);
    put_u32(out, secret.what as u32);
    put_u32(out, secret.bytes.len() as u32);
    out.extend_from_slice(&secret.client_random);
    let mut padded = [0; SECRET_BYTES_MAX];
    padded.iter_mut().zip(secret.bytes).for_each(|(to, from)| *to = *from);
    out.extend_from_slice(&padded);
}

fn put_task(out: &mut Vec<u8>, task: &Task) {
    [task.pid, task.tid, task.uid, task.mntns.number].iter().for_each(|&n| put_u32(out, n));
    put_u64(out, task.mntns.id);
    put_u64(out, task.start_ns);
    out.extend_from_slice(&task.comm.0);
}

fn put_conn(out: &mut Vec<u8>, conn: &Conn) {
    let how = match conn.how {
        How::Unknown => 0,
        How::Fd => 1,
        How::Nested => 2,
        How::Record => 3,
    };
    let role = match conn.role {
        Role::Unknown => 0,
        Role::Client => 1,
        Role::Server => 2,
    };
    let Some(tuple) = conn.tuple else {
        out.extend_from_slice(&[0, how, role, conn.place]);
        out.extend_from_slice(&[0; 44]);
        return;
    };
    let family = if tuple.local.is_ipv4() && tuple.remote.is_ipv4() { 4 } else { 6 };
    out.extend_from_slice(&[family, how, role, conn.place]);
    put_u16(out, tuple.local_port);
    put_u16(out, tuple.remote_port);
    put_u32(out, tuple.netns);
    put_u32(out, 0);
    put_address(out, tuple.local, family);
    put_address(out, tuple.remote, family);
}

fn put_address(out: &mut Vec<u8>, address: IpAddr, family: u8) {
    match address {
        IpAddr::V4(v4) if family == 4 => {
            out.extend_from_slice(&v4.octets());
            out.extend_from_slice(&[0; 12]);
        }
        IpAddr::V4(v4) => out.extend_from_slice(&v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

fn put_counters(out: &mut Vec<u8>, c: &Counters) {
    let all = [
        c.moved_bytes,
        c.captured_bytes,
        c.lost_bytes,
        c.lost_records,
        c.unreadable,
        c.lost_calls,
        c.socket_conflicts,
        c.lost_secrets,
        c.lost_packets,
    ];
    all.iter().for_each(|&n| put_u64(out, n));
}
