//! The text of comments: who a packet belongs to, and what is missing before it.

use std::fmt::Write as _;

use crate::event::{Counters, How, Task};
use crate::flow::Flow;
use crate::frame::Note;
use crate::names::Names;
use crate::safe;

/// Most bytes that are shown of a name or a path.
const VALUE_MAX: usize = 1024;

/// Who a flow belongs to: `key=value` pairs in a fixed order, each where it is known. A value that is not one
/// plain word is in double quotes ([`safe::push_value`]).
pub(super) fn who(flow: &Flow, names: &Names) -> String {
    let mut line = String::new();
    push_task(&mut line, &flow.task, names);
    if let Some(library) = names.library(flow.library) {
        line.push_str(" lib=");
        safe::push_value(&mut line, &library.path, VALUE_MAX);
    }
    line.push_str(" tuple=");
    line.push_str(match flow.how {
        How::Unknown => "unknown",
        How::Fd => "fd",
        How::Nested => "nested",
        How::Record => "record",
    });
    if let Some(socket) = flow.socket() {
        line.push_str(" socket=");
        safe::push_value(&mut line, &socket, VALUE_MAX);
    }
    for (key, name) in [(" sni=", &flow.names.server), (" alpn=", &flow.names.alpn)] {
        if let Some(name) = name {
            line.push_str(key);
            safe::push_value(&mut line, &String::from_utf8_lossy(name), VALUE_MAX);
        }
    }
    line
}

/// The process, thread and container of a task, as pairs.
fn push_task(line: &mut String, task: &Task, names: &Names) {
    // Writing to a String cannot fail.
    let _ = write!(line, "pid={} tid={} comm=", task.pid, task.tid);
    safe::push_value(line, &task.comm.text(), VALUE_MAX);
    if let Some(container) = names.container(task.mntns) {
        line.push_str(" container=");
        safe::push_value(line, &container.name, VALUE_MAX);
    }
    let _ = write!(line, " mntns={}", task.mntns.number);
}

/// Said where it became known that the other end of the connection is captured too, by `task`.
pub(super) fn other_end(task: &Task, names: &Names) -> String {
    let mut line = "tlsdump: the other end is captured too: ".to_owned();
    push_task(&mut line, task, names);
    line
}

/// Said where the addresses of a flow are made up.
pub(super) fn addresses_unknown() -> String {
    "tlsdump: addresses unknown, those shown are made up".to_owned()
}

/// What is out of the ordinary about a packet.
pub(super) fn note(note: Note) -> String {
    match note {
        Note::Gap(lost) => format!("tlsdump: {} lost here", count(lost)),
        Note::Filled { bytes, .. } => format!("tlsdump: {} lost here, filled with zeros", count(bytes)),
        Note::BrokenOff(lost) => {
            format!("tlsdump: {} lost, too many to fill: drawn as a new connection", count(lost))
        }
        Note::BegunAgain(lost) => format!("tlsdump: goes on after the loss of {}", count(lost)),
        Note::Unwritten(bytes) => {
            format!(
                "tlsdump: {} not written before, the output took nothing: drawn as a new connection",
                count(bytes)
            )
        }
        Note::Continued => "tlsdump: goes on from an earlier part".to_owned(),
        Note::Added => "tlsdump: added for the reader, not captured".to_owned(),
    }
}

fn count(bytes: u64) -> String {
    format!("{bytes} {}", if bytes == 1 { "byte" } else { "bytes" })
}

/// What the kernel side counted in the whole capture.
pub(super) fn counted(counters: &Counters) -> String {
    // Every counter is named here, so that a new one is not forgotten.
    let Counters {
        moved_bytes,
        captured_bytes,
        lost_bytes,
        lost_records,
        unreadable,
        lost_calls,
        socket_conflicts,
        lost_secrets,
        lost_packets,
    } = counters;
    format!(
        "tlsdump: whole capture: moved_bytes={moved_bytes} captured_bytes={captured_bytes} \
         lost_bytes={lost_bytes} lost_records={lost_records} unreadable={unreadable} \
         lost_calls={lost_calls} socket_conflicts={socket_conflicts} lost_secrets={lost_secrets} \
         lost_packets={lost_packets}"
    )
}
