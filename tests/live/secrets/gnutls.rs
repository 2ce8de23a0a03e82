//! GnuTLS, as client and as server.

use std::collections::BTreeSet;
use std::process::Command;

use super::{kept, lines};
use crate::capture::Tlsdump;
use crate::container::{Container, Host, Place};
use crate::lab::{Lab, free_port};
use crate::process::{Process, run};
use crate::servers::{Nginx, wait_for_listener};

/// Conversations of `gnutls-cli` and `gnutls-serv`: name, priorities, options of server and client, how many
/// lines each side's key log gets.
type Talk = (&'static str, &'static str, &'static str, &'static str, usize);

const TALKS: &[Talk] = &[
    ("1.3 AES-128", "-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM", "", "", 5),
    ("1.3 AES-256", "-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM", "", "", 5),
    ("1.3 ChaCha20", "-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305", "", "", 5),
    ("1.2 AES-128", "-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM", "", "", 1),
    ("1.2 AES-256", "-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-GCM", "", "", 1),
    ("1.2 CBC", "-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC", "", "", 1),
    // As before RFC 7627.
    ("1.2 without extended master secret", "-VERS-ALL:+VERS-TLS1.2:%NO_SESSION_HASH", "", "", 1),
    ("1.1", "-VERS-ALL:+VERS-TLS1.1", "", "", 1),
    // GnuTLS itself tells nothing of the second session, and its master secret is that of the first.
    ("resumed 1.2", "-VERS-ALL:+VERS-TLS1.2", "", "--resume", 1),
    // GnuTLS derives the secrets of early data whether or not there is some.
    ("resumed 1.3", "-VERS-ALL:+VERS-TLS1.3", "", "--resume --waitresumption", 12),
    (
        "early data",
        "-VERS-ALL:+VERS-TLS1.3",
        "--earlydata",
        "--resume --waitresumption --earlydata={early}",
        12,
    ),
    ("both certified", "-VERS-ALL:+VERS-TLS1.3", "--require-client-cert", "{certified}", 5),
];

fn command(lab: &Lab, place: &impl Place, program: &str, keys: &str, options: &str) -> Command {
    let [certificate, early, keys] =
        ["server.pem", "early", keys].map(|name| lab.path(name).display().to_string());
    let certified = format!("--x509certfile={certificate} --x509keyfile={certificate}");
    let options = options.replace("{certified}", &certified).replace("{early}", &early);
    let mut command = place.command(program);
    command.env("SSLKEYLOGFILE", keys).args(options.split_whitespace());
    command
}

#[track_caller]
fn talk(lab: &Lab, server: &impl Place, client: &impl Place, talk: &Talk, keys: [&str; 2]) {
    let (name, priorities, of_server, of_client, _) = talk;
    let port = free_port();
    let options = format!("--echo --port={port} --priority=NORMAL:{priorities} {{certified}} {of_server}");
    let _serving = Process::start(&command(lab, server, "gnutls-serv", keys[0], &options));
    wait_for_listener(port);
    let options = format!("--insecure --port={port} --priority=NORMAL:{priorities} {of_client} 127.0.0.1");
    let mut client = Process::start(&command(lab, client, "gnutls-cli", keys[1], &options));
    client.type_line(name);
    client.stdout_line(name, |line| line == *name);
    client.end();
}

#[test]
fn of_gnutls() {
    let lab = Lab::new();
    std::fs::write(lab.path("early"), "early\n").unwrap();
    let (server, client) = (Container::new(&lab), Container::new(&lab));
    let captures = [&server, &client].map(|container| Tlsdump::begin(&lab, &[&container.option()]));
    let captures = captures.map(|capture| capture.armed());
    let sides = ["server", "client"];
    let mut had = [BTreeSet::new(), BTreeSet::new()];
    let mut each = [Vec::new(), Vec::new()];
    for row in TALKS {
        talk(&lab, &server, &client, row, sides);
        talk(&lab, &Host, &Host, row, ["neighbour server", "neighbour client"]);
        for ((side, had), each) in sides.iter().zip(&mut had).zip(&mut each) {
            let now = lines(&lab, side);
            each.push((row, now.difference(had).cloned().collect::<BTreeSet<_>>()));
            *had = now;
        }
    }
    for ((capture, had), each) in captures.into_iter().zip(&had).zip(each) {
        let kept = kept(&capture.stop());
        for ((name, .., count), own) in each {
            assert_eq!(own.len(), *count, "{name}: {own:?}");
            let missing: Vec<_> = own.difference(&kept).collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
        }
        assert!(had.is_subset(&kept), "{had:?} {kept:?}");
        let further: Vec<_> = kept.difference(had).collect();
        assert_eq!(further.len(), 1, "{further:?}");
        let secret = |line: &str| line.rsplit_once(' ').unwrap().1.to_owned();
        assert!(had.iter().any(|own| secret(own) == secret(further[0])));
    }
}

#[test]
fn of_programs_with_gnutls() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let (container, neighbour) = (Container::new(&lab), Container::new(&lab));
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    for priorities in ["NORMAL", "NORMAL:-VERS-TLS1.3"] {
        let options =
            format!("-q -O /dev/null --no-check-certificate --ciphers={priorities} {}", nginx.url("/page"));
        run(&command(&lab, &container, "wget", "own", &options)).succeeds();
        run(&command(&lab, &neighbour, "wget", "neighbour", &options)).succeeds();
    }
    let own = lines(&lab, "own");
    assert_eq!(own.len(), 5 + 1);
    assert_eq!(kept(&tlsdump.stop()), own);
}
