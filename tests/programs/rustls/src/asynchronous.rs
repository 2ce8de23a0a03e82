// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many connections on few threads, by tokio.

use std::io::IoSlice;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{slices, tls, wait_at_gate, wait_for_end, Options, Tally};

pub fn run(options: Options) {
    let mut builder =
        if options.one_thread { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = builder.worker_threads(2).enable_io().build().expect("runtime");
    if options.is_server {
        runtime.block_on(serve(options));
    } else {
        runtime.block_on(ask(options));
    }
    runtime.shutdown_background();
}

async fn serve(options: Options) {
    let listener = TcpListener::bind(options.address).await.expect("bind");
    let acceptor = TlsAcceptor::from(tls::server(&options));
    let end = tokio::task::spawn_blocking(wait_for_end);
    let accepting = async {
        loop {
            let (socket, _) = listener.accept().await.expect("accept");
            let (acceptor, options) = (acceptor.clone(), options.clone());
            tokio::spawn(async move {
                let tally = tally(&socket);
                let stream = acceptor.accept(socket).await.expect("handshake");
                session(stream.into(), tally, &options).await;
            });
        }
    };
    tokio::select! {
        _ = end => {}
        () = accepting => {}
    }
}

async fn ask(options: Options) {
    let connector = TlsConnector::from(tls::client(&options));
    let mut tasks = JoinSet::new();
    for _ in 0..options.parallel {
        let (connector, options) = (connector.clone(), options.clone());
        tasks.spawn(async move {
            for _ in 0..options.sessions {
                let socket = TcpStream::connect(options.address).await.expect("connect");
                let tally = tally(&socket);
                let stream = connector.connect(tls::name(), socket).await.expect("handshake");
                session(stream.into(), tally, &options).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("session");
    }
}

fn tally(socket: &TcpStream) -> Tally {
    Tally::new(socket.local_addr().expect("address"), socket.peer_addr().expect("address"))
}

async fn session(stream: TlsStream<TcpStream>, mut tally: Tally, options: &Options) {
    let mut stream = Box::new(stream);
    for &(step, size) in &options.steps {
        match step {
            'w' | 'v' => {
                let bytes = tally.pattern(size);
                if step == 'w' {
                    stream.write_all(&bytes).await.expect("write");
                } else {
                    write_vectored(&mut stream, &bytes).await;
                }
                tally.wrote.add(&bytes);
                stream.flush().await.expect("flush");
            }
            'r' => read(&mut stream, &mut tally, Some(size)).await,
            'm' => stream = Box::new(*stream),
            'k' => match &mut *stream {
                TlsStream::Client(stream) => stream.get_mut().1.refresh_traffic_keys(),
                TlsStream::Server(stream) => stream.get_mut().1.refresh_traffic_keys(),
            }
            .expect("key update"),
            'g' => wait_at_gate(),
            _ => panic!("no such step: {step}"),
        }
    }
    if options.half {
        stream.shutdown().await.expect("shutdown");
        read(&mut stream, &mut tally, None).await;
    } else if options.is_server {
        read(&mut stream, &mut tally, None).await;
    }
    // The other end may be gone.
    let _ = stream.shutdown().await;
    tally.tell();
}

async fn write_vectored(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let mut slices = slices(bytes);
    let mut rest = slices.as_mut_slice();
    while rest.iter().any(|slice| !slice.is_empty()) {
        let wrote = stream.write_vectored(rest).await.expect("write");
        assert!(wrote > 0, "nothing was written");
        IoSlice::advance_slices(&mut rest, wrote);
    }
}

/// So many bytes, or all to the end.
async fn read(stream: &mut (impl AsyncRead + Unpin), tally: &mut Tally, bytes: Option<usize>) {
    let mut room = vec![0; 7001];
    let mut left = bytes.unwrap_or(usize::MAX);
    while left > 0 {
        let length = stream.read(&mut room[..left.min(7001)]).await.expect("read");
        if length == 0 && bytes.is_none() {
            return;
        }
        assert!(length > 0, "the end came early");
        tally.read.add(&room[..length]);
        left -= length;
    }
}
