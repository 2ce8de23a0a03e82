//! OpenSSL, both as client and as server: versions, ciphers and ways of handshakes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{kept, lines};
use crate::capture::{Captured, Tlsdump};
use crate::container::{Container, Host, Place};
use crate::lab::{Lab, free_port};
use crate::process::{Process, wait_until};
use crate::servers::wait_for_listener;

/// Conversations of `s_client` and `s_server`.
struct Talk {
    name: &'static str,
    server: &'static str,
    /// Clients one after another: their options, and what is typed after the handshake.
    clients: &'static [(&'static str, &'static [&'static str])],
    /// Of the key log.
    lines: usize,
}

/// What old versions need.
const SETTINGS: &str = "openssl_conf = conf\n[conf]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n\
    [default]\nCipherString = DEFAULT@SECLEVEL=0\nMinProtocol = TLSv1\n";

const fn once(
    name: &'static str,
    server: &'static str,
    client: &'static [(&str, &[&str])],
    n: usize,
) -> Talk {
    Talk { name, server, clients: client, lines: n }
}

const TALKS: &[Talk] = &[
    once("1.3 AES-128", "", &[("-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256", &[])], 5),
    once("1.3 AES-256", "", &[("-tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384", &[])], 5),
    once("1.3 ChaCha20", "", &[("-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256", &[])], 5),
    once("1.2 AES-128", "", &[("-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", &[])], 1),
    once("1.2 AES-256", "", &[("-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", &[])], 1),
    once("1.2 ChaCha20", "", &[("-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305", &[])], 1),
    once("1.2 CBC", "", &[("-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", &[])], 1),
    once("1.1", "", &[("-tls1_1", &[])], 1),
    once("1.0", "", &[("-tls1", &[])], 1),
    once("HelloRetryRequest", "-groups P-384", &[("-tls1_3 -groups X25519:P-384", &[])], 5),
    once("key update", "", &[("-tls1_3", &["k"]), ("-tls1_3", &["K"])], 10),
    once("renegotiation", "{renegotiates}", &[("-tls1_2", &["R"])], 2),
    once("both certified", "-Verify 1", &[("-tls1_3 {certified}", &[]), ("-tls1_2 {certified}", &[])], 6),
    once("pre-shared key 1.3", "-psk 1a2b3c4d", &[("-tls1_3 -psk 1a2b3c4d", &[])], 5),
    once("pre-shared key 1.2", "-psk 1a2b3c4d -nocert", &[("-tls1_2 -psk 1a2b3c4d", &[])], 1),
    once("resumed 1.2", "", &[("-tls1_2 -sess_out {session}", &[]), ("-tls1_2 -sess_in {session}", &[])], 2),
    once(
        "resumed 1.2 without tickets",
        "-no_ticket",
        &[("-tls1_2 -sess_out {session}", &[]), ("-tls1_2 -sess_in {session}", &[])],
        2,
    ),
    once("resumed 1.3", "", &[("-tls1_3 -sess_out {session}", &[]), ("-tls1_3 -sess_in {session}", &[])], 10),
    once(
        "early data",
        "-early_data",
        &[("-tls1_3 -sess_out {session}", &[]), ("-tls1_3 -sess_in {session} -early_data {early}", &[])],
        5 + 7,
    ),
];

/// An OpenSSL's program.
struct Openssl<'a> {
    lab: &'a Lab,
    program: String,
    library: String,
    /// What lets a client begin another handshake.
    renegotiates: &'static str,
}

impl<'a> Openssl<'a> {
    fn new(lab: &'a Lab) -> Self {
        std::fs::write(lab.path("settings"), SETTINGS).unwrap();
        std::fs::write(lab.path("early"), "early\n").unwrap();
        let renegotiates = "-client_renegotiation";
        Self { lab, program: "openssl".to_owned(), library: String::new(), renegotiates }
    }

    fn old(lab: &'a Lab) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openssl-1.1");
        let [program, library] =
            ["bin/openssl", "lib"].map(|name| directory.join(name).display().to_string());
        Self { program, library, renegotiates: "", ..Self::new(lab) }
    }

    fn command(&self, place: &impl Place, keys: &str, options: &str) -> Command {
        let [certificate, session, early, keys] =
            ["server.pem", "session", "early", keys].map(|name| self.lab.path(name).display().to_string());
        let options = options
            .replace("{renegotiates}", self.renegotiates)
            .replace("{certified}", &format!("-cert {certificate} -key {certificate}"))
            .replace("{session}", &session)
            .replace("{early}", &early);
        let mut command = place.command(&self.program);
        if !self.library.is_empty() {
            command.env("LD_LIBRARY_PATH", &self.library);
        }
        command.env("OPENSSL_CONF", self.lab.path("settings"));
        command.args(options.split_whitespace()).args(["-keylogfile", &keys]);
        command
    }

    /// Has a talk; each side writes its secrets to a file of its own.
    #[track_caller]
    fn talk(&self, server: &impl Place, client: &impl Place, talk: &Talk, keys: [&str; 2]) {
        let _ = std::fs::remove_file(self.lab.path("session"));
        let port = free_port();
        let at = format!("127.0.0.1:{port}");
        let certificate = self.lab.certificate();
        let options = format!("s_server -accept {at} {}", talk.server);
        let mut command = self.command(server, keys[0], &options);
        if !talk.server.contains("-nocert") {
            command.arg("-cert").arg(certificate);
        }
        let serving = Process::start(&command);
        wait_for_listener(port);
        for (i, (options, typed)) in talk.clients.iter().enumerate() {
            let options = format!("s_client -connect {at} {options}");
            let mut client = Process::start(&self.command(client, keys[1], &options));
            client.stdout_line(talk.name, |line| line.trim_start().starts_with("Verif"));
            if options.contains("-sess_out") {
                let session = self.lab.path("session");
                wait_until("there is a session", || session.exists().then_some(()));
            }
            let says = |client: &mut Process, word: String| {
                client.type_line(&word);
                serving.stdout_line(talk.name, |line| line == word);
            };
            says(&mut client, format!("first {i}"));
            // A letter is a command only if nothing is read with it.
            for letter in *typed {
                client.type_line(letter);
                client.stderr_line(talk.name, |line| line.starts_with(['R', 'K']));
                says(&mut client, format!("after {letter} {i}"));
            }
            client.end();
        }
    }
}

/// What the side of that key log had for secrets in each talk, and all that a capture has of them.
fn compare(captured: &Captured, talks: &[(&Talk, BTreeSet<String>)], own: &BTreeSet<String>) {
    let kept = kept(captured);
    for (talk, own) in talks {
        assert_eq!(own.len(), talk.lines, "{}: {own:?}", talk.name);
        let missing: Vec<_> = own.difference(&kept).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", talk.name);
    }
    assert_eq!(kept, *own);
}

/// Captures both ends of all talks, and has another talk that no capture is of.
fn have(lab: &Lab, openssl: &Openssl<'_>, talks: &[Talk]) {
    let (server, client) = (Container::new(lab), Container::new(lab));
    let libraries = ["ssl", "crypto"].map(|name| format!("--lib={}/lib{name}.so.1.1", openssl.library));
    let capture = |container: &Container| {
        let option = container.option();
        let mut options = vec![option.as_str()];
        if !openssl.library.is_empty() {
            options.extend(libraries.each_ref().map(String::as_str));
        }
        Tlsdump::start(lab, &options)
    };
    let captures = [&server, &client].map(capture);
    let sides = ["server", "client"];
    let mut had = [BTreeSet::new(), BTreeSet::new()];
    let mut each = [Vec::new(), Vec::new()];
    for talk in talks {
        openssl.talk(&server, &client, talk, sides);
        openssl.talk(&Host, &Host, talk, ["neighbour server", "neighbour client"]);
        for ((side, had), each) in sides.iter().zip(&mut had).zip(&mut each) {
            let now = lines(lab, side);
            each.push((talk, now.difference(had).cloned().collect()));
            *had = now;
        }
    }
    for ((capture, had), each) in captures.into_iter().zip(&had).zip(&each) {
        compare(&capture.stop(), each, had);
    }
}

#[test]
fn of_openssl() {
    let lab = Lab::new();
    have(&lab, &Openssl::new(&lab), TALKS);
}

#[test]
fn of_openssl_1_1_1() {
    let lab = Lab::with_openssl_1_1();
    have(&lab, &Openssl::old(&lab), TALKS);
}
