//! The secrets of sessions are those that the programs themselves write down when they are asked to.

mod gnutls;
mod go;
mod many;
mod openssl;

use std::collections::BTreeSet;
use std::process::Command;

use crate::capture::{Captured, Tlsdump};
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::process::run;
use crate::servers::Nginx;

/// The lines of a key log, without what is said beside. OpenSSL 3 also writes what follows from others: a
/// reader derives the secrets after a key update itself, and knows no such line.
fn lines(lab: &Lab, name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(lab.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let wanted = |line: &&str| !line.starts_with('#') && !line.contains("_TRAFFIC_SECRET_N ");
    let lines: Vec<_> = text.lines().filter(wanted).map(str::to_owned).collect();
    let set: BTreeSet<_> = lines.iter().cloned().collect();
    assert_eq!(set.len(), lines.len(), "a line twice in {name}:\n{text}");
    set
}

/// The lines of all blocks of secrets of a capture.
fn kept(captured: &Captured) -> BTreeSet<String> {
    captured.capture.secrets.iter().flat_map(|(_, lines)| lines.lines()).map(str::to_owned).collect()
}

/// `curl` to a page of nginx, which writes its secrets to `keys`.
fn curl(lab: &Lab, place: &impl Place, nginx: &Nginx, keys: &str, arguments: &[&str]) -> Command {
    let mut command = place.command("curl");
    command.env("SSLKEYLOGFILE", lab.path(keys)).arg("-sk").args(arguments).arg(nginx.url("/page"));
    command
}

#[test]
fn of_clients() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let (container, neighbour) = (Container::new(&lab), Container::new(&lab));
    let keylog = format!("--keylog={}", lab.path("told").display());
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), &keylog]);
    for arguments in
        [&[][..], &["--tls-max", "1.2"], &["--tls13-ciphers", "TLS_AES_128_GCM_SHA256"], &["--http2"]]
    {
        run(&curl(&lab, &container, &nginx, "own", arguments)).succeeds();
        run(&curl(&lab, &neighbour, &nginx, "neighbour", arguments)).succeeds();
    }
    let captured = tlsdump.stop();
    let own = lines(&lab, "own");
    assert_eq!(own.len(), 3 * 5 + 1, "{own:?}");
    assert_eq!(lines(&lab, "told"), own);
    assert_eq!(kept(&captured), own);
    assert_eq!(captured.conversations.len(), 4);
}

#[test]
fn of_a_server() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let nginx = Nginx::start(&lab, &container);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    for arguments in [&[][..], &["--tls-max", "1.2"]] {
        run(&curl(&lab, &Host, &nginx, "own", arguments)).succeeds();
    }
    assert_eq!(kept(&tlsdump.stop()), lines(&lab, "own"));
}

#[test]
fn of_resumed_sessions() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    // Each page is asked for over a new connection, with the session of the one before.
    let script = "for version in 1_2 1_3; do
        for session in out in; do
            (printf 'GET /page HTTP/1.0\\r\\n\\r\\n'; sleep 0.5) |
                openssl s_client -quiet -tls$version -connect \"$1\" \\
                    -sess_$session \"$2.$version\" -keylogfile \"$3\"
        done
    done";
    let (session, own) = (lab.path("session").display().to_string(), lab.path("own").display().to_string());
    let ended = run(&container.shell(script, &[&nginx.address().to_string(), &session, &own])).succeeds();
    let captured = tlsdump.stop();
    assert_eq!(ended.stdout.matches("answer to /page").count(), 4, "{ended}");
    let own = lines(&lab, "own");
    assert_eq!(own.len(), 2 + 2 * 5, "{own:?}");
    assert_eq!(kept(&captured), own);
}

/// The library writes its records to memory, and the program sends them.
#[test]
fn of_programs_that_send_records_by_themselves() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let (container, neighbour) = (Container::new(&lab), Container::new(&lab));
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let python = "import asyncio, ssl, sys
async def main():
    context = ssl._create_unverified_context()
    context.keylog_filename, context.maximum_version = sys.argv[2], ssl.TLSVersion[sys.argv[3]]
    reader, writer = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]), ssl=context)
    writer.write(b'GET /page HTTP/1.0\\r\\n\\r\\n')
    print(await reader.read())
asyncio.run(main())";
    let node = "require('https').get({ host: '127.0.0.1', port: process.argv[1], path: '/page',
        rejectUnauthorized: false }, answer => answer.pipe(process.stdout))";
    let port = nginx.address().port().to_string();
    for (place, keys) in [(&container, "own"), (&neighbour, "neighbour")] {
        let keys = lab.path(keys).display().to_string();
        for version in ["TLSv1_3", "TLSv1_2"] {
            let mut command = place.command("/usr/bin/python3");
            let ended = run(command.args(["-c", python, &port, &keys, version])).succeeds();
            assert!(ended.stdout.contains("answer to /page"), "{ended}");
            let newest = format!("--tls-max-{}", version.trim_start_matches("TLS").replace('_', "."));
            let mut command = place.command("node");
            command.arg(format!("--tls-keylog={keys}")).args([&newest, "-e", node, &port]);
            let ended = run(&command).succeeds();
            assert!(ended.stdout.contains("answer to /page"), "{ended}");
        }
    }
    let own = lines(&lab, "own");
    assert_eq!(own.len(), 2 * (5 + 1), "{own:?}");
    assert_eq!(kept(&tlsdump.stop()), own);
}

#[test]
fn that_are_not_wanted() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option(), "--no-secrets"]);
    run(&curl(&lab, &container, &nginx, "own", &[])).succeeds();
    let captured = tlsdump.stop();
    assert_eq!(captured.conversations.len(), 1);
    assert_eq!(kept(&captured), BTreeSet::new());
}
