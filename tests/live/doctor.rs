//! `tlsdump doctor` finds a machine well on which all other tests capture, and really looks.

use serde_json::Value;

use crate::capture::tlsdump;
use crate::container::{Container, Place};
use crate::lab::Lab;
use crate::process::{Ended, run};

const SELF_TESTS: [&str; 5] = ["load", "write", "read", "socket", "seccomp"];

#[track_caller]
fn report(ended: &Ended) -> Value {
    let report: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
    assert_eq!(report["schema"], 1, "{report:#}");
    report
}

#[track_caller]
fn status<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("no {name} in {report:#}"))["status"].as_str().unwrap()
}

#[test]
fn this_machine_is_well() {
    let _ = Lab::new();
    let ended = run(&tlsdump(&["doctor"])).succeeds();
    let begins = ["ok    ", "warn  "];
    assert!(ended.stdout.lines().all(|line| begins.iter().any(|begin| line.starts_with(begin))), "{ended}");
    assert!(ended.stderr.is_empty(), "{ended}");
    let report = report(&run(&tlsdump(&["doctor", "--json"])).succeeds());
    assert_eq!(report["works"], true);
    for name in SELF_TESTS {
        assert_eq!(status(&report, name), "ok", "{report:#}");
    }
}

/// Containers see other process ids than the kernel.
#[test]
fn a_container_with_process_ids_of_its_own() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let script = "mount -t sysfs sysfs /sys
        exec unshare --pid --fork --mount-proc -- \"$1\" doctor --json";
    let command = container.shell(script, &[env!("CARGO_BIN_EXE_tlsdump")]);
    let report = report(&run(&command).succeeds());
    assert_eq!((status(&report, "pid-namespace"), status(&report, "seccomp")), ("warn", "ok"), "{report:#}");
}

/// What can't work is not said to work: without a loopback, and without the right to load programs.
#[test]
fn what_fails_is_told() {
    let _ = Lab::new();
    let unshared = |options: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(options).args(["--", env!("CARGO_BIN_EXE_tlsdump"), "doctor", "--json"]);
        run(&command)
    };
    let without_loopback = unshared(&["--net"]);
    assert_eq!(without_loopback.status.code(), Some(1), "{without_loopback}");
    let report_of_it = report(&without_loopback);
    assert_eq!((status(&report_of_it, "load"), status(&report_of_it, "capture")), ("ok", "fail"));
    assert!(without_loopback.stdout.contains("127.0.0.1"), "{without_loopback}");

    let in_user_namespace = unshared(&["--user", "--map-root-user"]);
    assert_eq!(in_user_namespace.status.code(), Some(1), "{in_user_namespace}");
    let report = report(&in_user_namespace);
    assert_eq!((status(&report, "user-namespace"), status(&report, "load")), ("fail", "fail"));
}
