//! The readable dump (`--text`): a line for each segment, as tcpdump has one for each packet, and the bytes.
//!
//! Nothing that comes from a container reaches the terminal as it is: what would act on it is escaped, and
//! lines of payload begin with a tab, so that none of them can pass for a line of ours.

use std::fmt::Write as _;
use std::io;

use chrono::{DateTime, Local, TimeZone};

use crate::event::{Dir, How};
use crate::file::sink::Sink;
use crate::flow::{Segment, What};
use crate::names::Names;
use crate::safe;

/// Bytes on a line of a hex dump.
const HEX_COLUMNS: usize = 16;
/// Most bytes that are shown of a name.
const NAME_MAX: usize = 128;

/// Writes segments as text.
#[derive(Debug)]
pub struct Text<S> {
    out: S,
    lines: String,
    /// Segments in a row that there was no room for.
    left_out: u64,
}

impl<S: Sink> Text<S> {
    /// A dump to `out`, with times in the local zone (`TZ`).
    pub fn new(out: S) -> Self {
        Self { out, lines: String::new(), left_out: 0 }
    }

    /// Writes one segment, and gives whether there was room for it. Where one was left out, a line says so
    /// before the next.
    ///
    /// # Errors
    /// The sink's.
    pub fn segment<T>(&mut self, segment: &Segment<'_, T>, names: &Names) -> io::Result<bool> {
        if self.out.is_full() {
            self.left_out += 1;
            return Ok(false);
        }
        self.lines.clear();
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let _ = writeln!(self.lines, "{left_out} events are not shown here: the output took nothing");
        }
        stamp(&mut self.lines, segment.at, &Local);
        who(&mut self.lines, segment, names);
        what(&mut self.lines, segment.dir, segment.what);
        self.out.buffer().extend_from_slice(self.lines.as_bytes());
        self.out.block().map(|()| true)
    }

    /// Sees to it that a reader gets what was written so far, soon.
    ///
    /// # Errors
    /// The sink's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.end()?;
        self.out.close()
    }
}

// Writing to a String cannot fail, here and below.

/// `12:34:56.789012`, as tcpdump has it.
fn stamp<Z: TimeZone>(lines: &mut String, at: u64, zone: &Z) {
    // 2^64 ns are 584 years: any number is a time that chrono knows.
    let time = DateTime::from_timestamp_nanos(0) + std::time::Duration::from_nanos(at);
    let local = time.with_timezone(zone).naive_local();
    let _ = write!(lines, "{}", local.format("%H:%M:%S%.6f"));
}

/// ` curl[1234] web-1 mnt:[4026532573] 127.0.0.1:50000 > 127.0.0.1:8443`, from sender to receiver.
fn who<S>(lines: &mut String, segment: &Segment<'_, S>, names: &Names) {
    let flow = segment.flow;
    lines.push(' ');
    safe::push_value(lines, &flow.task.comm.text(), NAME_MAX);
    let _ = write!(lines, "[{}] ", flow.task.pid);
    let namespace = format!("mnt:[{}]", flow.task.mntns.number);
    if let Some(container) = names.container(flow.task.mntns)
        && container.name != namespace
    {
        safe::push_value(lines, &container.name, NAME_MAX);
        lines.push(' ');
    }
    let (from, to) = match segment.dir {
        Dir::Out => (flow.local, flow.remote),
        Dir::In => (flow.remote, flow.local),
    };
    let _ = write!(lines, "{namespace} {from} > {to}");
    if flow.how == How::Unknown {
        lines.push_str(" (addresses unknown");
        if let Some(socket) = flow.socket() {
            lines.push_str(", socket=");
            safe::push_value(lines, &socket, NAME_MAX);
        }
        lines.push(')');
    }
}

/// The rest of the line, and the bytes.
fn what(lines: &mut String, dir: Dir, what: What<'_>) {
    let bytes = |n: u64| if n == 1 { "byte" } else { "bytes" };
    match what {
        What::Open => lines.push_str(" open\n"),
        What::Data(data) => {
            let verb = match dir {
                Dir::Out => "write",
                Dir::In => "read",
            };
            let length = data.len() as u64;
            let _ = writeln!(lines, " {verb} {length} {}", bytes(length));
            payload(lines, data);
        }
        What::Gap(lost) => {
            let _ = writeln!(lines, " lost {lost} {} here", bytes(lost));
        }
        What::Fin => lines.push_str(" end\n"),
        What::Reset => lines.push_str(" broken off\n"),
    }
}

/// Text as text, anything else as a hex dump.
fn payload(lines: &mut String, data: &[u8]) {
    if is_text(data) { text(lines, data) } else { hex(lines, data) }
}

/// Whether no more than one byte of eight is something else than text.
fn is_text(data: &[u8]) -> bool {
    let other: usize = data
        .utf8_chunks()
        .map(|chunk| {
            let acting = chunk.valid().chars().filter(|&c| safe::acts(c) && !matches!(c, '\t' | '\r' | '\n'));
            chunk.invalid().len() + acting.map(char::len_utf8).sum::<usize>()
        })
        .sum();
    other <= data.len() / 8
}

fn text(lines: &mut String, data: &[u8]) {
    for line in data.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        lines.push('\t');
        for chunk in line.utf8_chunks() {
            for c in chunk.valid().chars() {
                if safe::acts(c) && c != '\t' {
                    lines.extend(c.escape_default());
                } else {
                    lines.push(c);
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(lines, "\\x{byte:02x}");
            }
        }
        lines.push('\n');
    }
}

/// Offset, hex digits, and the printable ones of the bytes, in columns.
fn hex(lines: &mut String, data: &[u8]) {
    for (row, bytes) in data.chunks(HEX_COLUMNS).enumerate() {
        let _ = write!(lines, "\t0x{:04x}: ", row * HEX_COLUMNS);
        for column in 0..HEX_COLUMNS {
            if column % 2 == 0 {
                lines.push(' ');
            }
            match bytes.get(column) {
                Some(byte) => {
                    let _ = write!(lines, "{byte:02x}");
                }
                None => lines.push_str("  "),
            }
        }
        lines.push_str("  ");
        let shown = |&byte: &u8| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' };
        lines.extend(bytes.iter().map(shown));
        lines.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    use crate::event::{Comm, Container, Event, MountNs, Task};
    use crate::flow::{Flow, FlowNames};

    fn flow() -> Flow {
        let mut comm = Comm::default();
        comm.0[..4].copy_from_slice(b"curl");
        let mntns = MountNs { number: 4_026_532_573, id: 1 };
        Flow {
            id: 1,
            session: 1,
            local: ([127, 0, 0, 1], 50000).into(),
            remote: ([127, 0, 0, 1], 8443).into(),
            local_is_client: true,
            how: How::Nested,
            netns: 1,
            library: 0,
            task: Task { pid: 1234, tid: 1234, mntns, comm, ..Task::default() },
            names: FlowNames::default(),
            other_end: None,
        }
    }

    fn dump(flow: &Flow, dir: Dir, what: What<'_>, names: &Names) -> io::Result<String> {
        let mut out = Vec::new();
        let shown =
            Text::new(&mut out).segment(&Segment { at: 0, flow, state: &mut (), dir, what }, names)?;
        assert!(shown);
        // The time depends on where the test runs.
        let text = String::from_utf8_lossy(&out).into_owned();
        Ok(text.split_once(' ').map(|(_, rest)| rest.to_owned()).unwrap_or_default())
    }

    #[test]
    fn time_is_local() {
        let mut line = String::new();
        // 2023-11-14 22:13:20.123456789 UTC
        let at = 1_700_000_000_123_456_789;
        stamp(&mut line, at, &chrono::Utc);
        line.push(' ');
        FixedOffset::east_opt(5 * 3600 + 1800).iter().for_each(|zone| stamp(&mut line, at, zone));
        line.push(' ');
        stamp(&mut line, u64::MAX, &chrono::Utc);
        assert_eq!(line, "22:13:20.123456 03:43:20.123456 23:34:33.709551");
    }

    #[test]
    fn a_request_reads_as_one() -> io::Result<()> {
        let names = Names::default();
        let request = What::Data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            dump(&flow(), Dir::Out, request, &names)?,
            "curl[1234] mnt:[4026532573] 127.0.0.1:50000 > 127.0.0.1:8443 write 27 bytes\n\
             \tGET / HTTP/1.1\n\tHost: a\n\t\n"
        );
        assert_eq!(
            dump(&flow(), Dir::In, What::Data(b"x"), &names)?,
            "curl[1234] mnt:[4026532573] 127.0.0.1:8443 > 127.0.0.1:50000 read 1 byte\n\tx\n"
        );
        Ok(())
    }

    #[test]
    fn what_else_happens_is_a_line() -> io::Result<()> {
        let names = Names::default();
        let line = |what| dump(&flow(), Dir::Out, what, &names);
        let prefix = "curl[1234] mnt:[4026532573] 127.0.0.1:50000 > 127.0.0.1:8443";
        assert_eq!(line(What::Open)?, format!("{prefix} open\n"));
        assert_eq!(line(What::Gap(16384))?, format!("{prefix} lost 16384 bytes here\n"));
        assert_eq!(line(What::Gap(1))?, format!("{prefix} lost 1 byte here\n"));
        assert_eq!(line(What::Fin)?, format!("{prefix} end\n"));
        assert_eq!(line(What::Reset)?, format!("{prefix} broken off\n"));
        Ok(())
    }

    #[test]
    fn container_and_unknown_addresses_are_told() -> io::Result<()> {
        let mut flow = flow();
        flow.how = How::Unknown;
        let mut names = Names::default();
        let mntns = flow.task.mntns;
        names.learn(&Event::Container(Container { mntns, name: "web 1\x1b".into(), description: "".into() }));
        assert_eq!(
            dump(&flow, Dir::Out, What::Open, &names)?,
            "curl[1234] \"web 1\u{fffd}\" mnt:[4026532573] 127.0.0.1:50000 > 127.0.0.1:8443 \
             (addresses unknown) open\n"
        );
        flow.names.socket = Some(b"\x01\0\0\0/run/a b\0".as_slice().into());
        assert_eq!(
            dump(&flow, Dir::Out, What::Open, &Names::default())?,
            "curl[1234] mnt:[4026532573] 127.0.0.1:50000 > 127.0.0.1:8443 \
             (addresses unknown, socket=\"unix:/run/a b\") open\n"
        );
        Ok(())
    }

    #[test]
    fn nothing_acts_on_the_terminal() {
        let mut every: Vec<u8> = (0..=255).collect();
        every.extend("plenty of text, so that it is not dumped as hex ".repeat(40).bytes());
        every.extend("\u{9b}31m\u{202e}\u{2028}".bytes());
        for show in [payload, hex] {
            let mut lines = String::new();
            show(&mut lines, &every);
            assert!(lines.chars().all(|c| !safe::acts(c) || matches!(c, '\n' | '\t')), "{lines}");
            assert!(lines.lines().all(|line| line.starts_with('\t')), "{lines}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped_or_dumped() {
        let mut lines = String::new();
        payload(&mut lines, "a name: Zoë\u{1b}[0m \\".as_bytes());
        payload(&mut lines, b"cut in the middle of a letter: Zo\xc3");
        payload(&mut lines, &[0, 1, 2, b'A', 0xff]);
        assert_eq!(
            lines,
            "\ta name: Zoë\\u{1b}[0m \\\n\
             \tcut in the middle of a letter: Zo\\xc3\n\
             \t0x0000:  0001 0241 ff                             ...A.\n"
        );
    }
}
