//! The program that the self-test captures: another process of tlsdump, with functions that look like those
//! of a TLS library and move bytes over a TCP connection that it has with itself.

use std::hint::black_box;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit};

use super::hazard;
use crate::probe;
use crate::sys;

/// Its command name, by which it is captured: in a container process ids may be other than the kernel's.
pub(super) const COMM: &[u8] = b"tlsdump-patient";
/// What it says when it can be told what to write, before the ports of its connection.
pub(super) const READY: &str = "ready";
/// Longest message, and size of a buffer.
pub(super) const MESSAGE_BYTES: usize = 64;
/// It hangs never: nobody would end it.
const PATIENCE: Duration = Duration::from_secs(10);

type Buffer = [u8; MESSAGE_BYTES];

/// What a TLS record of application data begins with: type and version (RFC 8446, section 5.1). Its length
/// follows, of two bytes.
const RECORD: [u8; 3] = [23, 3, 3];
const HEADER_BYTES: usize = RECORD.len() + 2;

/// As `SSL_write`: session, buffer, length; returns the number of bytes. What it sends looks like a record.
#[inline(never)]
extern "C" fn write_call(session: &TcpStream, buffer: &Buffer, length: i32) -> i32 {
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len());
    let mut session = session;
    let record = [&RECORD[..], &(length as u16).to_be_bytes(), &buffer[..length]].concat();
    session.write_all(&record).map_or(-1, |()| length as i32)
}

/// As `SSL_read`.
#[inline(never)]
extern "C" fn read_call(session: &TcpStream, buffer: &mut Buffer, size: i32) -> i32 {
    let size = usize::try_from(size).unwrap_or(0).min(buffer.len());
    let mut session = session;
    let mut header = [0; HEADER_BYTES];
    let read = session.read_exact(&mut header).and_then(|()| session.read(&mut buffer[..size]));
    read.map_or(-1, |read| read as i32)
}

/// Where these two are in the file of the program, as uprobes take it.
pub(super) fn places() -> anyhow::Result<[u64; 2]> {
    let offset = |address: *const ()| {
        let offset = probe::file_offset(address as u64).context("/proc/self/maps")?;
        offset.context("this program's code is not where /proc/self/maps tells")
    };
    Ok([offset(write_call as *const ())?, offset(read_call as *const ())?])
}

/// Waits for a line on standard input, writes it to a connection by [`write_call`], and reads it back by
/// [`read_call`].
pub(super) fn run(confined: bool) -> anyhow::Result<()> {
    std::fs::write("/proc/self/comm", COMM).context("/proc/self/comm")?;
    // Whoever is killed on purpose leaves no core file.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("setrlimit")?;
    let (client, mut peer) = connection().context("no TCP over 127.0.0.1")?;
    let (local, remote) = (client.local_addr()?.port(), client.peer_addr()?.port());
    if confined {
        sys::forbid_calls(hazard::UNKNOWN_CALLS).context("seccomp")?;
    }
    writeln!(io::stdout(), "{READY} {local} {remote}")?;
    let mut message = String::new();
    io::stdin().lock().take(MESSAGE_BYTES as u64).read_line(&mut message)?;
    let message = message.trim_end().as_bytes();
    let mut buffer = [0; MESSAGE_BYTES];
    buffer[..message.len()].copy_from_slice(message);
    let length = message.len() as i32;
    // Called as another program's functions would be: the compiler knows nothing of who is called.
    let write: extern "C" fn(&TcpStream, &Buffer, i32) -> i32 = black_box(write_call);
    let read: extern "C" fn(&TcpStream, &mut Buffer, i32) -> i32 = black_box(read_call);
    ensure!(write(&client, &buffer, length) == length, "could not write to 127.0.0.1");
    let mut echo = vec![0; HEADER_BYTES + message.len()];
    peer.read_exact(&mut echo)?;
    peer.write_all(&echo)?;
    let mut answer = [0; MESSAGE_BYTES];
    ensure!(read(&client, &mut answer, MESSAGE_BYTES as i32) == length, "could not read from 127.0.0.1");
    ensure!(answer == buffer, "read something else than was written");
    Ok(())
}

fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (peer, _) = listener.accept()?;
    for stream in [&client, &peer] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    Ok((client, peer))
}
