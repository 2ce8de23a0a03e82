// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread for each connection.

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::DerefMut;
use std::thread;

use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData, StreamOwned};

use crate::{slices, tls, wait_at_gate, wait_for_end, Options, Tally};

pub fn run(options: &Options) {
    if options.is_server {
        let listener = TcpListener::bind(options.address).expect("bind");
        let (options, config) = (options.clone(), tls::server(options));
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (options, config, socket) = (options.clone(), config.clone(), socket.expect("accept"));
                thread::spawn(move || {
                    session(ServerConnection::new(config).expect("session"), socket, &options);
                });
            }
        });
        return wait_for_end();
    }
    let config = tls::client(options);
    thread::scope(|scope| {
        for _ in 0..options.parallel {
            scope.spawn(|| {
                for _ in 0..options.sessions {
                    let socket = TcpStream::connect(options.address).expect("connect");
                    let client = ClientConnection::new(config.clone(), tls::name()).expect("session");
                    session(client, socket, options);
                }
            });
        }
    });
}

fn session<C, S>(connection: C, socket: TcpStream, options: &Options)
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    let address = |address: std::io::Result<_>| address.expect("address");
    let mut tally = Tally::new(address(socket.local_addr()), address(socket.peer_addr()));
    let mut stream = Box::new(StreamOwned::new(connection, socket));
    for &(step, size) in &options.steps {
        match step {
            'w' | 'v' => {
                let bytes = tally.pattern(size);
                if step == 'w' {
                    stream.write_all(&bytes).expect("write");
                } else {
                    write_vectored(&mut stream, &bytes);
                }
                tally.wrote.add(&bytes);
                stream.flush().expect("flush");
            }
            // Before the handshake, which it does not wait for.
            'b' => {
                let bytes = tally.pattern(size);
                stream.conn.writer().write_all(&bytes).expect("write");
                tally.wrote.add(&bytes);
            }
            'r' => read(&mut stream, &mut tally, Some(size)),
            'm' => stream = Box::new(*stream),
            'k' => stream.conn.refresh_traffic_keys().expect("key update"),
            'g' => wait_at_gate(),
            _ => panic!("no such step: {step}"),
        }
    }
    if options.half {
        stream.conn.send_close_notify();
        stream.flush().expect("flush");
        read(&mut stream, &mut tally, None);
    } else if options.is_server {
        read(&mut stream, &mut tally, None);
    }
    stream.conn.send_close_notify();
    // The other end may be gone.
    let _ = stream.flush();
    tally.tell();
}

fn write_vectored(stream: &mut impl Write, bytes: &[u8]) {
    let mut slices = slices(bytes);
    let mut rest = slices.as_mut_slice();
    while rest.iter().any(|slice| !slice.is_empty()) {
        let wrote = stream.write_vectored(rest).expect("write");
        assert!(wrote > 0, "nothing was written");
        IoSlice::advance_slices(&mut rest, wrote);
    }
}

/// So many bytes, or all to the end.
fn read(stream: &mut impl Read, tally: &mut Tally, bytes: Option<usize>) {
    let mut room = [0; 7001];
    let mut left = bytes.unwrap_or(usize::MAX);
    while left > 0 {
        let length = stream.read(&mut room[..left.min(7001)]).expect("read");
        if length == 0 && bytes.is_none() {
            return;
        }
        assert!(length > 0, "the end came early");
        tally.read.add(&room[..length]);
        left -= length;
    }
}
