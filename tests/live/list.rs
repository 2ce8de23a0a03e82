//! `tlsdump list`: what is found in a container, who uses it, and what can't be probed.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::capture::tlsdump;
use crate::container::{Container, Host, Place};
use crate::go_program::Gomove;
use crate::lab::Lab;
use crate::process::{Process, run};
use crate::stripped::blind;

/// A program with OpenSSL within, that waits; `static` and stripped it has no function by name, and what
/// tells its functions otherwise is taken from it.
fn stripped(lab: &Lab) -> PathBuf {
    let (source, program) = (lab.path("waits.c"), lab.path("waits"));
    let text = "#include <openssl/ssl.h>\n#include <stdio.h>\n#include <unistd.h>\n\
                int main(void) { puts(OpenSSL_version(OPENSSL_VERSION)); \
                puts(SSL_CTX_new(TLS_method()) ? \"ready\" : \"failed\"); fflush(stdout); \
                for (;;) pause(); }\n";
    std::fs::write(&source, text).unwrap();
    let mut compile = Command::new("gcc");
    // The linker warns of what a static program can't do, which this one doesn't.
    compile.args(["-O1", "-static", "-s", "-w", "-o"]).arg(&program).arg(&source);
    run(compile.args(["-lssl", "-lcrypto"])).succeeds();
    blind(&program);
    program
}

/// What `tlsdump list` with these arguments answers, and whether it found anything.
#[track_caller]
fn list(arguments: &[&str]) -> (Value, bool) {
    let ended = run(&tlsdump(&[&["list", "--json"], arguments].concat()));
    let code = ended.status.code();
    assert!(matches!(code, Some(0 | 1)) && ended.stderr.is_empty(), "{ended}");
    let report: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
    assert_eq!(report["schema"], 1, "{report:#}");
    (report, code == Some(0))
}

/// The only entry of a list that fits.
#[track_caller]
fn only(entries: &Value, fits: impl Fn(&Value) -> bool) -> &Value {
    match entries.as_array().unwrap().iter().filter(|entry| fits(entry)).collect::<Vec<_>>()[..] {
        [entry] => entry,
        ref other => panic!("{} fit of {entries:#}", other.len()),
    }
}

fn uses(entry: &Value, process: &Process) -> bool {
    pids(entry).contains(&process.pid().into())
}

#[track_caller]
fn pids(entry: &Value) -> Vec<u64> {
    entry["processes"].as_array().unwrap().iter().map(|process| process["pid"].as_u64().unwrap()).collect()
}

/// A client that waits for an answer which never comes: mapped is what it will use.
fn waiting(place: &impl Place, program: &str, arguments: &[&str]) -> (Process, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let process = Process::start(place.command(program).args(arguments).arg(url));
    let (connection, _) = listener.accept().unwrap();
    (process, connection)
}

#[test]
fn libraries_of_a_container_and_who_uses_them() {
    let lab = Lab::new();
    let (container, other) = (Container::new(&lab), Container::new(&lab));
    let gomove = Gomove::build(&lab, &["-ldflags=-s -w"]);
    let serving = gomove.serve(&container, "", "serve", "");
    // It is found in its directory before the process that runs it is looked at.
    std::fs::copy(stripped(&lab), container.root().join("usr/local/bin/waits")).unwrap();
    let waits = Process::start(&container.command("/usr/local/bin/waits"));
    waits.stdout_line("the stripped program", |line| line == "ready");
    let curl = waiting(&container, "curl", &["-sk"]);
    let wget = waiting(&container, "wget", &["-qO-"]);
    let stranger = waiting(&other, "curl", &["-sk"]);

    let (report, found) = list(&[&container.option()]);
    assert!(found, "{report:#}");
    // curl has GnuTLS mapped too, for another protocol.
    let openssl = only(&report["found"], |f| f["library"] == "OpenSSL" && uses(f, &curl.0));
    assert!(openssl["path"].as_str().unwrap().contains("/libssl.so"), "{openssl:#}");
    assert_eq!((&openssl["library"], &openssl["program"]), (&"OpenSSL".into(), &false.into()));
    assert!(openssl["functions"].as_array().unwrap().contains(&"SSL_write_ex".into()), "{openssl:#}");
    assert!(!uses(openssl, &stranger.0), "{openssl:#}");
    assert_eq!(openssl["container"]["mntns"], container.mntns());
    let gnutls = only(&report["found"], |f| uses(f, &wget.0));
    assert!(gnutls["path"].as_str().unwrap().contains("/libgnutls.so"), "{gnutls:#}");
    let go = only(&report["found"], |f| f["path"] == gomove.program.to_str().unwrap());
    assert_eq!((&go["library"], &go["program"]), (&"Go crypto/tls".into(), &true.into()));
    assert!(go["version"].as_str().unwrap().starts_with("Go 1."), "{go:#}");
    assert_eq!((pids(go).len(), &go["processes"][0]["mntns"]), (1, &container.mntns().into()));
    let refused = only(&report["not_probed"], |f| uses(f, &waits));
    let why = refused["why"].as_str().unwrap();
    assert!(why.starts_with("has OpenSSL 3.") && why.ends_with("by a known name"), "{why}");

    // The same for people, and all of the machine.
    let table = run(&tlsdump(&["list", &container.option()])).succeeds().stdout;
    let mut lines = table.lines().filter(|line| line.contains(&format!("curl {}", curl.0.pid())));
    assert!(lines.any(|line| line.starts_with("OpenSSL 3") && line.contains("/libssl.so")), "{table}");
    assert!(table.contains(why), "{table}");
    let (report, _) = list(&[]);
    for client in [&curl.0, &stranger.0] {
        only(&report["found"], |f| f["library"] == "OpenSSL" && uses(f, client));
    }
    assert!(only(&report["not_probed"], |f| uses(f, &waits))["why"] == why, "{report:#}");
    let (report, _) = list(&["--pid=0", "--comm=wget"]);
    assert_eq!(only(&report["found"], |f| uses(f, &wget.0))["library"], "GnuTLS");
    let curl_is_shown = report["found"].as_array().unwrap().iter().any(|f| uses(f, &curl.0));
    assert!(!curl_is_shown, "{report:#}");
    drop(serving);
}

#[test]
fn nothing_that_could_be_probed_is_told_with_the_reason() {
    let lab = Lab::new();
    let program = stripped(&lab);
    let name = Path::new("/").join(program.file_name().unwrap());
    let waits = Process::start(Host.command("chroot").arg(lab.directory()).arg(&name));
    waits.stdout_line("the stripped program", |line| line == "ready");
    let pid = format!("--pid={}", waits.pid());
    let (report, found) = list(&[&pid]);
    assert!(!found && report["found"].as_array().unwrap().is_empty(), "{report:#}");
    let refused = only(&report["not_probed"], |_| true);
    assert_eq!((&refused["path"], pids(refused)), (&name.to_str().unwrap().into(), vec![waits.pid().into()]));
    let capture = run(&tlsdump(&[&pid]));
    assert_eq!(capture.status.code(), Some(1), "{capture}");
    assert!(capture.stderr.contains("tlsdump list"), "{capture}");

    // The user may name it.
    let (report, _) = list(&[&format!("--lib={}", program.display()), &pid]);
    let named = only(&report["not_probed"], |f| f["path"] == program.to_str().unwrap());
    assert!(named["why"].as_str().unwrap().starts_with("has OpenSSL 3."), "{named:#}");
    assert_eq!(named["container"], Value::Null);
}
