//! Other libraries than OpenSSL: programs that people run, and ones that use what those don't.

use std::net::SocketAddr;
use std::process::Command;

use crate::capture::{Captured, Tlsdump};
use crate::container::{Container, Host, Place};
use crate::lab::{Lab, free_port};
use crate::mover::{Moved, Mover, SERVER_SEED, Sum, pattern};
use crate::process::{Process, run};
use crate::programs::captures_client;
use crate::servers::{Nginx, wait_for_listener};

/// A client of `tests/programs` and what it does.
struct Client<'a> {
    library: &'a str,
    setup: &'a str,
    steps: &'a str,
}

impl Client<'_> {
    /// What tlsmove's server has to do.
    fn mirror(&self) -> String {
        let steps = self.steps.split_whitespace().filter(|step| *step != "g");
        let flip = |step: &str| {
            let (way, number) = step.split_at(1);
            format!("{}{number}", if "rqpu".contains(way) { 'w' } else { 'r' })
        };
        steps.map(flip).collect::<Vec<_>>().join(" ")
    }

    fn start(&self, lab: &Lab, place: &impl Place) -> (Mover, Mover) {
        let (server, address) = Mover::server(lab, &Host, "", "127.0.0.1", &self.mirror());
        (server, Mover::client_by(lab, place, (self.library, self.setup), address, self.steps))
    }

    fn run(&self, lab: &Lab, place: &impl Place) -> Moved {
        let (server, client) = self.start(lab, place);
        let mut moved = client.end();
        server.end();
        moved.remove(0)
    }
}

/// The conversation of a session is there, truly attributed.
#[track_caller]
fn attributed(captured: &Captured, moved: &Moved, library: &str) {
    let conversation = captured.between(moved.local, moved.remote);
    assert_eq!(conversation.server, moved.remote, "{captured}");
    assert_eq!(captured.value(conversation, "tuple"), "nested");
    let file = captured.value(conversation, "lib");
    assert!(file.rsplit('/').next().unwrap().starts_with(library), "{file}");
}

/// Captures clients of that library, while a neighbour does the same.
#[track_caller]
fn captures_exactly(library: &str, file: &str, talks: &[(&str, &str)]) -> Captured {
    let lab = Lab::new();
    let (container, neighbour) = (Container::new(&lab), Container::new(&lab));
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let talk = |&(setup, steps)| {
        let client = Client { library, setup, steps };
        client.run(&lab, &neighbour);
        client.run(&lab, &container)
    };
    let moved: Vec<_> = talks.iter().map(talk).collect();
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), moved.len(), "{captured}");
    for session in &moved {
        captured.is_exact(session);
        attributed(&captured, session, file);
        let conversation = captured.between(session.local, session.remote);
        assert_eq!(captured.value(conversation, "sni"), "server.example");
        assert!(conversation.opened && conversation.written().finished, "{captured}");
    }
    captured
}

#[test]
fn gnutls_in_all_its_ways() {
    captures_exactly(
        "gnutls",
        "libgnutls.so",
        &[
            ("int", "w100 r70000 s60000 r1"),
            ("ptr", "c120000 q30000 w30000 r10000 w1 p50000 c3 r1"),
            ("push", "s600 p500 w70000 r70000"),
        ],
    );
}

#[test]
fn gnutls_asked_to_go_on_without_the_data() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let moved = Client { library: "gnutls", setup: "int", steps: "n2000000 r1" }.run(&lab, &container);
    let captured = tlsdump.stop();
    assert!(moved.waits > 0, "{moved:?}");
    captured.is_exact(&moved);
    attributed(&captured, &moved, "libgnutls.so");
}

#[test]
fn a_packet_of_gnutls_that_is_not_looked_at_is_told_as_lost() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let moved = Client { library: "gnutls", setup: "int", steps: "w5 p100 u300 r200" }.run(&lab, &container);
    let captured = tlsdump.stop();
    let conversation = captured.between(moved.local, moved.remote);
    assert_eq!((conversation.written().bytes().len(), conversation.read().lost()), (5, 300), "{captured}");
    let kept = [pattern(SERVER_SEED, 0, 100), pattern(SERVER_SEED, 400, 200)].concat();
    assert_eq!(Sum::of(conversation.read().bytes()), Sum::of(&kept));
}

#[test]
fn openssl_through_a_bio_that_encrypts() {
    captures_exactly("bio", "libssl.so", &[("socket", "w100 r70000 s60000 q300 w70000 r1")]);
}

#[test]
fn mbedtls() {
    captures_exactly("mbedtls", "libmbedtls.so", &[("", "w100 r70000 w60000 r1")]);
}

#[test]
fn a_context_of_mbedtls_used_for_another_connection() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let (server, address) = Mover::server(&lab, &Host, "-n 2", "127.0.0.1", "r100 w1");
    let moved = Mover::client_by(&lab, &container, ("mbedtls", "again"), address, "w100 r1").end().remove(0);
    server.end();
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), 2, "{captured}");
    captured.is_exact(&moved);
    let first = captured.conversations.iter().find(|c| c.written().bytes() == [0; 100]).unwrap();
    assert_eq!((first.read().bytes().len(), first.read().lost(), first.server), (1, 0, address));
    for conversation in &captured.conversations {
        assert_eq!(captured.value(conversation, "tuple"), "nested");
        assert_eq!(captured.value(conversation, "sni"), "server.example");
        assert!(conversation.opened && conversation.written().finished, "{captured}");
    }
}

#[test]
fn wolfssl_in_all_its_ways() {
    captures_exactly("wolfssl", "libwolfssl.so", &[("", "w100 r70000 s60000 p300 v70000 r1")]);
}

#[test]
fn nss_in_all_its_ways_and_no_file_by_the_same_functions() {
    let steps = "w100 r70000 s60000 p300 v70000 r1";
    let captured = captures_exactly("nss", "libssl3.so", &[("plain", steps), ("layer", steps)]);
    assert!(!captured.mentions("a text in a file"));
}

#[test]
fn sessions_older_than_the_capture() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let libraries = [("gnutls", "int"), ("mbedtls", ""), ("nss", "plain"), ("wolfssl", "")];
    let talks = libraries.map(|(library, setup)| {
        let (server, client) = Client { library, setup, steps: "g w1000 r1000" }.start(&lab, &container);
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
    assert_eq!(captured.conversations.len(), libraries.len(), "{captured}");
    moved.iter().flatten().for_each(|session| captured.is_exact(session));
}

#[test]
fn wget() {
    captures_client(|place, nginx| {
        let mut command = place.command("wget");
        command.args(["-qO-", "--no-check-certificate", &nginx.url("/page")]);
        command
    });
}

#[test]
fn gnutls_cli() {
    let script = "printf 'GET /page HTTP/1.0\\r\\n\\r\\n' |
        gnutls-cli --logfile=/dev/null --insecure -p \"$2\" \"$1\"";
    captures_client(|place, nginx| {
        let address = nginx.address();
        place.shell(script, &[&address.ip().to_string(), &address.port().to_string()])
    });
}

#[test]
fn git() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let (container, neighbour) = (Container::new(&lab), Container::new(&lab));
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    for (place, repository) in [(&container, "/wanted"), (&neighbour, "/stranger")] {
        let script = "cd /; git -c http.sslVerify=false ls-remote \"$1\"";
        // What nginx answers is no repository, which git is heard to say after the answer.
        let ended = run(&place.shell(script, &[&nginx.url(repository)]));
        assert!(ended.stderr.contains(repository), "{ended}");
    }
    let captured = tlsdump.stop();
    let conversation = captured.only();
    let request = String::from_utf8_lossy(conversation.written().bytes());
    assert!(request.starts_with("GET /wanted/info/refs?service=git-upload-pack HTTP/1.1\r\n"), "{captured}");
    let (local, remote) = captured.ends(conversation);
    let answer = String::from_utf8_lossy(conversation.read().bytes());
    assert!(answer.ends_with(&format!(" for port {}\n", local.port())), "{captured}");
    assert_eq!((remote, conversation.server), (nginx.address(), nginx.address()));
    assert_eq!(captured.value(conversation, "tuple"), "nested");
}

/// Captures a server that runs before the capture does. curl asks it for a page, by the name
/// `server.example`.
#[track_caller]
fn captures_server(server: impl Fn(&Lab, &Container, u16) -> Command) -> Captured {
    let lab = Lab::new();
    let (container, neighbour) = (Container::new(&lab), Container::new(&lab));
    let ports = [free_port(), free_port()];
    let processes = [(&container, ports[0]), (&neighbour, ports[1])].map(|(place, port)| {
        let process = Process::start(&server(&lab, place, port));
        wait_for_listener(port);
        process
    });
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let [curl, _] = ports.map(|port| {
        let mut command = Host.command("curl");
        command.args(["-sk", "--http1.1", "-w", "\n%{local_port}", "--resolve"]);
        command.arg(format!("server.example:{port}:127.0.0.1"));
        run(command.arg(format!("https://server.example:{port}/page"))).succeeds().stdout
    });
    let captured = tlsdump.stop();
    drop(processes);
    let (body, port) = curl.rsplit_once('\n').unwrap();
    let conversation = captured.only();
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (server, client) = (address(ports[0]), address(port.parse().unwrap()));
    assert_eq!(captured.ends(conversation), (server, client));
    assert_eq!(conversation.server, server, "the SYN goes to it");
    assert_eq!(captured.value(conversation, "tuple"), "nested");
    let request = String::from_utf8_lossy(conversation.read().bytes());
    assert!(request.starts_with("GET /page HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"), "{captured}");
    let answer = String::from_utf8_lossy(conversation.written().bytes()).replace('\r', "");
    assert!(answer.trim_end().ends_with(body.replace('\r', "").trim_end()), "{answer}\n{body}");
    captured
}

#[test]
fn gnutls_serv() {
    let captured = captures_server(|lab, place, port| {
        let mut command = place.command("gnutls-serv");
        command.args(["--http", "--sni-hostname=server.example", "--alpn=http/1.1"]);
        command.args(["--port", &port.to_string(), "--x509keyfile"]).arg(lab.certificate());
        command.arg("--x509certfile").arg(lab.certificate());
        command
    });
    let value = |key| captured.value(captured.only(), key);
    assert_eq!((value("sni").as_str(), value("alpn").as_str()), ("server.example", "http/1.1"));
}

/// A database of NSS with a certificate called `server`. `$1` is its directory, `$2` holds certificate and
/// key.
const NSS_DATABASE: &str = "
    mkdir -p \"$1\"
    echo word >\"$1/password\"
    certutil -N -d \"sql:$1\" -f \"$1/password\"
    openssl pkcs12 -export -in \"$2\" -name server -passout pass: -out \"$1/p12\"
    pk12util -i \"$1/p12\" -d \"sql:$1\" -k \"$1/password\" -W ''";

#[test]
fn selfserv() {
    captures_server(|lab, place, port| {
        let database = lab.path(&format!("nss{port}")).display().to_string();
        run(&Host.shell(NSS_DATABASE, &[&database, &lab.certificate().display().to_string()])).succeeds();
        let mut command = place.command("selfserv");
        command.args(["-d", &format!("sql:{database}"), "-f", &format!("{database}/password")]);
        command.args(["-n", "server", "-p", &port.to_string()]);
        command
    });
}

#[test]
fn tstclnt() {
    let script = "
        certutil -N -d sql:/tmp --empty-password
        printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >/tmp/request
        tstclnt -h \"$1\" -p \"$2\" -d sql:/tmp -o </tmp/request";
    captures_client(|place, nginx| {
        let address = nginx.address();
        place.shell(script, &[&address.ip().to_string(), &address.port().to_string()])
    });
}
