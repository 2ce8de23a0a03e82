//! Whose, between which ends, and how that is known.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::capture::{Captured, Tlsdump};
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::mover::{Move, Moved, Mover, SERVER_SEED, pattern};
use crate::process::{Process, run};
use crate::servers::Nginx;

/// Captures `moves` of a container's clients, and expects the true addresses of each.
#[track_caller]
fn truly_addressed(moves: impl FnOnce(&Lab, &Container) -> Vec<Moved>) -> Captured {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let moved = moves(&lab, &container);
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), moved.len(), "{captured}");
    for session in &moved {
        captured.is_exact(session);
        assert_eq!(captured.value(captured.between(session.local, session.remote), "tuple"), "nested");
    }
    captured
}

/// The same of one move after another over 127.0.0.1, each with other options of the client.
#[track_caller]
fn clients_truly_addressed(options: &[&str]) {
    truly_addressed(|lab, container| {
        let moves = options.iter().map(|client| Move { client, server: "", steps: "w70000 r70000 w1" });
        moves.flat_map(|how| how.run(lab, container)).collect()
    });
}

#[test]
fn a_connection_older_than_the_capture_has_its_true_addresses() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let talks = ["", "-b"].map(|options| {
        let (server, address) = Mover::server(&lab, &Host, "", "127.0.0.1", "r1000 w1000");
        let client = Mover::client(&lab, &container, options, address, "g w1000 r1000");
        client.reaches_gate();
        (server, client)
    });
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let moved = talks.map(|(server, mut client)| {
        client.open_gate();
        let moved = client.end();
        server.end();
        moved
    });
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), 2, "{captured}");
    moved.iter().flatten().for_each(|session| captured.is_exact(session));
}

#[test]
fn ipv6_is_shown_as_it_is_and_mapped_ipv4_as_ipv4() {
    let captured = truly_addressed(|lab, container| {
        let cases = [("::1", "::1"), ("127.0.0.1", "::ffff:127.0.0.1")];
        let cases = cases.iter().flat_map(|&(server, client)| [(server, client, ""), (server, client, "-b")]);
        let run = |(server_ip, client_ip, options): (&str, &str, &str)| {
            let (server, mut address) = Mover::server(lab, &Host, "", server_ip, "r70000 w70000");
            address.set_ip(client_ip.parse().unwrap());
            let moved = Mover::client(lab, container, options, address, "w70000 r70000").end();
            server.end();
            moved
        };
        cases.flat_map(run).collect()
    });
    let shown = captured.conversations.iter().map(|c| (c.client.ip().to_string(), c.server.ip().to_string()));
    let expected = ["::1", "::1", "127.0.0.1", "127.0.0.1"].map(|ip| (ip.to_owned(), ip.to_owned()));
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn a_bio_without_a_descriptor_is_followed_to_its_socket() {
    // Also where the handshake happens inside the first write.
    clients_truly_addressed(&["-b", "-b -h", "-b -d"]);
}

#[test]
fn another_socket_used_inside_the_call_is_not_taken_for_the_sessions() {
    // Message callbacks write to it, in the handshake and with every record, and read after the session did.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = ["", "-a", "-h", "-h -a", "-b", "-b -h", "-b -a", "-b -h -a"]
        .map(|options| format!("-l {port} {options}"));
    let connections = options.len();
    let log = std::thread::spawn(move || listener.incoming().take(connections).for_each(answer_lines));
    clients_truly_addressed(&options.each_ref().map(String::as_str));
    log.join().unwrap();
}

/// Reads lines and answers each with a byte, until the connection ends.
fn answer_lines(connection: std::io::Result<TcpStream>) {
    let connection = connection.unwrap();
    for _line in BufReader::new(&connection).lines() {
        // Who wants no answer may be gone.
        let _ = (&connection).write_all(b".");
    }
}

#[test]
fn a_captured_server_is_not_drawn_as_the_client() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let (server, address) = Mover::server(&lab, &container, "", "127.0.0.1", "r1000 w70000");
    Mover::client(&lab, &Host, "", address, "w1000 r70000").end();
    let moved = server.end();
    let captured = tlsdump.stop();
    captured.is_exact(&moved[0]);
    let conversation = captured.only();
    assert_eq!((conversation.server, conversation.client), (moved[0].local, moved[0].remote));
    assert_eq!(conversation.to_server().bytes().len(), 1000);
}

#[test]
fn the_comment_tells_process_container_library_and_how_the_addresses_are_known() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let moved = Move { client: "", server: "", steps: "w1000 r1000" }.run(&lab, &container);
    let captured = tlsdump.stop();
    let value = |key| captured.value(captured.only(), key);
    assert_eq!(value("pid"), moved[0].pid.to_string());
    assert_eq!(value("comm"), "tlsmove");
    assert_eq!(value("mntns"), container.mntns().to_string());
    assert_eq!(value("tuple"), "nested");
    let (library, inside) = (value("lib"), container.root());
    assert!(library.contains("/libssl.so") && inside.join(&library[1..]).exists(), "{library}");
}

/// Python's asyncio lets OpenSSL write to memory and sends by itself, later.
const ASYNCIO: &str = "
import asyncio, ssl, sys
async def main():
    any = ssl._create_unverified_context()
    reader, writer = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]), ssl=any)
    writer.write(b'GET /asyncio HTTP/1.0\\r\\n\\r\\n')
    await writer.drain()
    sys.stdout.write((await reader.read()).decode())
    writer.close()
asyncio.run(main())";

/// So does node.
const NODE: &str = "
const tls = require('tls');
const socket = tls.connect({ host: '127.0.0.1', port: process.argv[1], rejectUnauthorized: false });
socket.write('GET /asyncio HTTP/1.0\\r\\n\\r\\n');
socket.pipe(process.stdout);";

#[test]
fn programs_that_send_the_records_by_themselves_have_their_true_addresses() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let container = Container::new(&lab);
    sends_records(&lab, &container, &nginx, &["/usr/bin/python3", "-c", ASYNCIO]);
    sends_records(&lab, &container, &nginx, &["node", "-e", NODE]);
}

fn sends_records(lab: &Lab, container: &Container, nginx: &Nginx, program: &[&str]) {
    let tlsdump = Tlsdump::start(lab, &[&container.option()]);
    let mut command = container.command(program[0]);
    let port = nginx.address().port().to_string();
    let printed = run(command.args(&program[1..]).arg(port)).succeeds().stdout;
    let captured = tlsdump.stop();
    let conversation = captured.that_wrote("GET /asyncio HTTP/1.0\r\n\r\n");
    assert!(printed.contains("\nanswer to /asyncio for port "), "{printed}");
    let read = String::from_utf8_lossy(conversation.read().bytes()).replace("\r\n", "\n");
    assert_eq!(read.trim_end(), printed.replace('\r', "").trim_end());
    assert_eq!(captured.value(conversation, "tuple"), "record");
    let (local, remote) = captured.ends(conversation);
    assert_eq!(remote, nginx.address());
    // The server tells the port that it saw.
    assert!(printed.contains(&format!("for port {}", local.port())), "{local}: {printed}");
    assert_eq!(captured.conversations.len(), 1);
}

/// Downloads until the end, half of it before it is told to go on, and tells its port.
const ASYNCIO_DOWNLOAD: &str = "
import asyncio, ssl, sys
async def main():
    any = ssl._create_unverified_context()
    reader, writer = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]), ssl=any)
    total = int(sys.argv[2])
    left = total // 2
    await reader.readexactly(left)
    print('port', writer.get_extra_info('sockname')[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    while left:
        left -= len(await reader.read(left))
    writer.close()
asyncio.run(main())";

const NODE_DOWNLOAD: &str = "
const tls = require('tls');
const total = +process.argv[2];
const socket = tls.connect({ host: '127.0.0.1', port: process.argv[1], rejectUnauthorized: false });
let left = total;
socket.on('data', data => {
    const before = left;
    left -= data.length;
    if (before > total / 2 && left <= total / 2) {
        socket.pause();
        console.log('port ' + socket.localPort);
        process.stdin.once('data', () => { socket.resume(); process.stdin.destroy(); });
    }
    if (left == 0) socket.end();
});";

#[test]
fn downloads_that_were_begun_before_the_capture_have_their_true_addresses() {
    for program in [&["/usr/bin/python3", "-c", ASYNCIO_DOWNLOAD], &["node", "-e", NODE_DOWNLOAD]] {
        downloads(program);
    }
}

fn downloads(program: &[&str]) {
    const TOTAL: usize = 40_000_000;
    let lab = Lab::new();
    let container = Container::new(&lab);
    let (_server, address) = Mover::server(&lab, &Host, "", "127.0.0.1", &format!("w{TOTAL}"));
    let mut command = container.command(program[0]);
    command.args(&program[1..]).args([address.port().to_string(), TOTAL.to_string()]);
    let mut client = Process::start(&command);
    let port = client.stdout_line("half of the download", |line| line.starts_with("port "));
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), "--buffer=64M"]);
    client.type_line("");
    client.end().succeeds();
    let captured = tlsdump.stop();
    let conversation = captured.only();
    assert_eq!(captured.value(conversation, "tuple"), "record");
    let local = SocketAddr::new(address.ip(), port["port ".len()..].parse().unwrap());
    assert_eq!(captured.ends(conversation), (local, address));
    let read = conversation.read();
    assert_eq!(read.gaps(), []);
    let bytes = read.bytes();
    assert!(bytes.len() > TOTAL / 4, "{captured}");
    assert!(bytes == pattern(SERVER_SEED, (TOTAL - bytes.len()) as u64, bytes.len()), "{captured}");
}

/// TLS over UNIX sockets: a pair, or by the path or abstract name that it is told.
const UNIX: &str = "
import socket, ssl, sys, threading
if len(sys.argv) == 2:
    near, far = socket.socketpair()
else:
    name = sys.argv[2].replace('@', chr(0))
    listener, near = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    near.connect(name)
    far = listener.accept()[0]
def serve():
    any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    any.load_cert_chain(sys.argv[1])
    tls = any.wrap_socket(far, server_side=True)
    tls.recv(100)
    tls.sendall(b'answer')
    tls.close()
server = threading.Thread(target=serve)
server.start()
tls = ssl._create_unverified_context().wrap_socket(near)
tls.sendall(b'question')
print(tls.recv(100).decode(), end='')
server.join()";

/// What is captured of that, at both ends, is on made-up addresses and tells the socket.
#[track_caller]
fn on_unix_sockets(name: &[&str], socket: &str) {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let mut python = container.command("/usr/bin/python3");
    let printed = run(python.arg("-c").arg(UNIX).arg(lab.certificate()).args(name)).succeeds().stdout;
    assert_eq!(printed, "answer");
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), 2, "{captured}");
    for (wrote, read) in [("question", "answer"), ("answer", "question")] {
        let conversation = captured.that_wrote(wrote);
        assert_eq!(conversation.read().bytes(), read.as_bytes());
        assert_eq!(captured.value(conversation, "tuple"), "unknown");
        assert_eq!(captured.value(conversation, "socket"), socket);
        let comments = &captured.first_packet(conversation).comments;
        assert!(comments.iter().any(|comment| comment.contains("addresses unknown")), "{comments:?}");
        let (local, remote) = captured.ends(conversation);
        for end in [local, remote] {
            assert!(end.to_string().starts_with("198.1"), "{end} is not of 198.18.0.0/15");
        }
    }
}

#[test]
fn addresses_that_cannot_be_known_are_made_up_and_said_to_be() {
    on_unix_sockets(&[], "unix");
    on_unix_sockets(&["/tmp/tls over unix"], "unix:/tmp/tls over unix");
    on_unix_sockets(&["@tlsdump-test"], "unix:@tlsdump-test");
}
