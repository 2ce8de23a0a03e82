//! Programs that people run, as clients and as servers.

use std::net::SocketAddr;
use std::process::Command;

use crate::capture::{Captured, Tlsdump};
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::mover::Move;
use crate::process::{Process, run};
use crate::servers::{Nginx, s_server};

/// Captures `client`, which asks nginx for the page `/page` in a container, and looks for what both said.
#[track_caller]
pub(crate) fn captures_client(client: impl Fn(&Container, &Nginx) -> Command) {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let ended = run(&client(&container, &nginx)).succeeds();
    let captured = tlsdump.stop();

    let conversation = captured.only();
    let request = String::from_utf8_lossy(conversation.written().bytes());
    assert!(request.starts_with("GET /page HTTP/1.") && request.ends_with("\r\n\r\n"), "{captured}");
    let answer = String::from_utf8_lossy(conversation.read().bytes()).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{captured}");
    let (local, remote) = captured.ends(conversation);
    // The server tells the client's port.
    let body = format!("answer to /page for port {}", local.port());
    assert!(
        answer.contains(&body) && ended.stdout.contains(&body),
        "no {body:?} in\n{captured}\nor\n{ended}"
    );
    assert_eq!((local.ip(), remote), (nginx.address().ip(), nginx.address()));
    assert_eq!(captured.value(conversation, "tuple"), "nested");
    assert!(conversation.opened && conversation.written().finished, "{captured}");
}

#[test]
fn curl() {
    captures_client(|place, nginx| {
        let mut command = place.command("curl");
        command.args(["-sk", &nginx.url("/page")]);
        command
    });
}

#[test]
fn python_http_client() {
    let script = "import http.client, ssl, sys
c = http.client.HTTPSConnection('127.0.0.1', int(sys.argv[1]), context=ssl._create_unverified_context())
c.request('GET', '/page')
print(c.getresponse().read().decode())
c.close()";
    captures_client(|place, nginx| {
        let mut command = place.command("/usr/bin/python3");
        command.args(["-c", script, &nginx.address().port().to_string()]);
        command
    });
}

#[test]
fn python_requests() {
    let script = "import requests, sys, warnings
warnings.simplefilter('ignore')
print(requests.get(sys.argv[1], verify=False).text)";
    captures_client(|place, nginx| {
        let mut command = place.command("/usr/bin/python3");
        command.args(["-c", script, &nginx.url("/page")]);
        command
    });
}

#[test]
fn openssl_s_client() {
    let script =
        "printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect \"$1\" 2>/dev/null";
    captures_client(|place, nginx| place.shell(script, &[&nginx.address().to_string()]));
}

/// Both sides of a talk as a captured server has them.
#[track_caller]
fn captured_server(captured: &Captured, server: SocketAddr, client_port: u16, read: &str, written: &str) {
    let conversation = captured.only();
    assert_eq!(captured.ends(conversation), (server, SocketAddr::new(server.ip(), client_port)));
    assert_eq!(conversation.server, server, "the SYN goes to it");
    assert!(String::from_utf8_lossy(conversation.read().bytes()).contains(read), "{captured}");
    assert!(String::from_utf8_lossy(conversation.written().bytes()).contains(written), "{captured}");
    assert_eq!(captured.value(conversation, "tuple"), "nested");
}

#[test]
fn nginx() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    // It runs before the capture, as servers do.
    let nginx = Nginx::start(&lab, &container);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let curl = run(Host.command("curl").args(["-sk", "-w", "%{local_port}", &nginx.url("/page")])).succeeds();
    let captured = tlsdump.stop();
    let (body, port) = curl.stdout.rsplit_once('\n').unwrap();
    captured_server(&captured, nginx.address(), port.parse().unwrap(), "GET /page HTTP/1.1\r\n", body);
}

#[test]
fn openssl_s_server() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let (mut server, address) = s_server(&lab, &container);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let mut command = Host.command("openssl");
    command.args(["s_client", "-quiet", "-connect", &address.to_string()]);
    let mut client = Process::start(&command);
    client.type_line("said by the client");
    server.stdout_line("the client's words", |line| line == "said by the client");
    server.type_line("said by the server");
    client.stdout_line("the server's words", |line| line == "said by the server");
    let port = local_port(client.pid());
    drop(client);
    let captured = tlsdump.stop();
    captured_server(&captured, address, port, "said by the client\n", "said by the server\n");
}

/// The local port of the one connection of a process.
fn local_port(pid: u32) -> u16 {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links: Vec<_> = links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mine = fields.filter(|fields| {
        let link = format!("socket:[{}]", fields[9]);
        links.iter().any(|l| l.as_os_str() == link.as_str())
    });
    let ports: Vec<_> = mine.map(|fields| fields[1].rsplit_once(':').unwrap().1.to_owned()).collect();
    assert_eq!(ports.len(), 1, "{ports:?}");
    u16::from_str_radix(&ports[0], 16).unwrap()
}

#[test]
fn openssl_1_1_1() {
    let lab = Lab::with_openssl_1_1();
    let container = Container::new(&lab);
    let library = format!("--lib={}", lab.libssl().unwrap().display());
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &library, "--buffer=64M"]);
    let mut moved = Vec::new();
    for client in ["", "-b"] {
        let steps = "w1 r1 W1024 R1024 w16385 r16385 W1000000 R1000000";
        moved.extend(Move { client, server: "", steps }.run(&lab, &container));
    }
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), moved.len(), "{captured}");
    for session in &moved {
        captured.is_exact(session);
        let conversation = captured.between(session.local, session.remote);
        assert!(captured.value(conversation, "lib").ends_with("/openssl-1.1/lib/libssl.so.1.1"));
    }
}
