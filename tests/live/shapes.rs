//! Call shapes that no program of the other tests has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::capture::Tlsdump;
use crate::container::{Container, Place};
use crate::lab::{Lab, free_port};
use crate::mover::{Mover, SERVER_SEED, Sum, pattern};
use crate::process::{Process, run};
use crate::servers::wait_for_listener;

/// Of what `tests/programs/client.c` writes.
const CLIENT_SEED: u64 = 7;

/// Bytes of a record's header, of which there is one before each piece that is sent.
const HEADER: usize = 5;

#[test]
fn functions_of_libraries_that_are_not_at_hand() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let program = format!("--lib={}", lab.client("shapes").display());
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &program]);
    let steps = "w70000 e50000 f3000 a500 v2000 r70000 w1";
    let moved = ["string", "short"].map(|setup| {
        let (server, address) = plain_server(125_501 + 7 * HEADER, 70_000);
        let moved = Mover::client_by(&lab, &container, ("shapes", setup), address, steps).end().remove(0);
        server.join().unwrap();
        moved
    });
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), 2, "{captured}");
    for session in moved {
        let conversation = captured.between(session.local, session.remote);
        // What was sent of a file, or of several buffers, is a gap of that length.
        let stream = conversation.written();
        let gaps: Vec<_> = stream.gaps().iter().filter(|gap| gap.1 > 0).collect();
        assert_eq!(gaps, [&(120_000, 3000), &(120_500, 2000)], "{captured}");
        let kept = [(0, 120_000), (123_000, 500), (125_500, 1)];
        let written = kept.map(|(from, length)| pattern(CLIENT_SEED, from, length)).concat();
        assert_eq!(Sum::of(stream.bytes()), Sum::of(&written));
        assert_eq!(Sum::of(conversation.read().bytes()), session.read);
        let value = |key| captured.value(conversation, key);
        assert_eq!((value("tuple"), value("sni")), ("nested".to_owned(), "server.example".to_owned()));
        assert_eq!(value("alpn"), "tally/1");
    }
}

/// Reads so many bytes from the next client in all, and writes it the others before the last piece.
fn plain_server(reads: usize, writes: usize) -> (std::thread::JoinHandle<()>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let (mut connection, _) = listener.accept().unwrap();
        let last = 1 + HEADER;
        let mut bytes = vec![0; reads - last];
        connection.read_exact(&mut bytes).unwrap();
        connection.write_all(&pattern(SERVER_SEED, 0, writes)).unwrap();
        connection.read_exact(&mut bytes[..last]).unwrap();
    };
    (std::thread::spawn(serve), address)
}

/// `openssl s_client` to the address `$1` with further arguments, which is told `$2` after a while.
const S_CLIENT: &str = "
    address=$1 text=$2
    shift 2
    (sleep 1; echo \"$text\"; sleep 1) | openssl s_client -connect \"$address\" \"$@\"";

#[test]
fn early_data_of_openssl_at_both_ends() {
    let lab = Lab::new();
    let (client, server) = (Container::new(&lab), Container::new(&lab));
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut serve = server.command("openssl");
    serve.args(["s_server", "-tls1_3", "-early_data", "-accept", &address.to_string(), "-cert"]);
    let serving = Process::start(serve.arg(lab.certificate()));
    wait_for_listener(port);
    let early = lab.path("early");
    std::fs::write(&early, "said early\n".repeat(200)).unwrap();
    let tlsdump = Tlsdump::start(&lab, &[&client.option(), &server.option(), "--both-ends"]);
    let session = lab.path("session").display().to_string();
    let connect = address.to_string();
    let talk = |text: &str, arguments: &[&str]| {
        let arguments = [&[connect.as_str(), text], arguments].concat();
        run(&client.shell(S_CLIENT, &arguments)).succeeds()
    };
    talk("first", &["-sess_out", &session]);
    let second = talk("later", &["-sess_in", &session, "-early_data", &early.display().to_string()]);
    assert!(second.stdout.contains("Early data was accepted"), "{second}");
    let captured = tlsdump.stop();
    drop(serving);

    assert_eq!(captured.conversations.len(), 4, "{captured}");
    let said = "said early\n".repeat(200) + "later\n";
    let is_second = |stream: &[u8]| stream == said.as_bytes();
    let clients = captured.conversations.iter().filter(|c| is_second(c.written().bytes()));
    let servers = captured.conversations.iter().filter(|c| is_second(c.read().bytes()));
    let (clients, servers): (Vec<_>, Vec<_>) = (clients.collect(), servers.collect());
    assert_eq!((clients.len(), servers.len()), (1, 1), "{captured}");
    let (local, remote) = captured.ends(clients[0]);
    assert_eq!((remote, captured.ends(servers[0])), (address, (address, local)));
    for conversation in [clients[0], servers[0]] {
        assert_eq!(captured.value(conversation, "tuple"), "nested");
    }
}

/// gnutls-cli to the port `$1`, which sends the file `$2` early, and later `later`.
const GNUTLS_CLI: &str = "
    (sleep 1; echo later; sleep 1) |
        gnutls-cli --insecure --resume --waitresumption --earlydata=\"$2\" -p \"$1\" 127.0.0.1";

#[test]
fn early_data_of_gnutls_at_both_ends() {
    let lab = Lab::new();
    let (client, server) = (Container::new(&lab), Container::new(&lab));
    let port = free_port();
    let mut serve = server.command("gnutls-serv");
    serve.args(["--echo", "--earlydata", "--maxearlydata=4096", "--port", &port.to_string()]);
    serve.arg("--x509keyfile").arg(lab.certificate()).arg("--x509certfile").arg(lab.certificate());
    let serving = Process::start(&serve);
    wait_for_listener(port);
    let early = lab.path("early");
    std::fs::write(&early, "said early\n".repeat(200)).unwrap();
    let tlsdump = Tlsdump::start(&lab, &[&client.option(), &server.option(), "--both-ends"]);
    let arguments = [port.to_string(), early.display().to_string()];
    run(&client.shell(GNUTLS_CLI, &arguments.each_ref().map(String::as_str))).succeeds();
    let captured = tlsdump.stop();
    drop(serving);

    let said = "said early\n".repeat(200) + "later\n";
    assert_eq!(captured.conversations.len(), 2, "{captured}");
    let clients = captured.conversations.iter().filter(|c| c.written().bytes() == said.as_bytes());
    let servers = captured.conversations.iter().filter(|c| c.read().bytes() == said.as_bytes());
    assert_eq!((clients.count(), servers.count()), (1, 1), "{captured}");
}
