//! Networks of their own, in which every port is free: also those that belong to a protocol.

use std::ffi::OsStr;
use std::process::Command;

use crate::container::Place;
use crate::lab::Lab;
use crate::process::{Process, wait_until};

/// The loopback interface and nothing else.
const MAKE: &str = "ip link set lo up; echo ready; exec sleep 1000";

/// A network namespace, until it is dropped.
pub(crate) struct Network {
    sleep: Process,
}

/// A place, but with the sockets of a network.
pub(crate) struct Within<'a, P>(pub(crate) &'a Network, pub(crate) &'a P);

impl Network {
    pub(crate) fn new(_: &Lab) -> Self {
        let mut make = Command::new("unshare");
        make.args(["--net", "--", "sh", "-euc", MAKE]);
        let sleep = Process::start(&make);
        sleep.stdout_line("a network", |line| line == "ready");
        Self { sleep }
    }

    /// Waits until `server` listens on `port`, of IPv4 or of both. Looks instead of connecting: a server may
    /// take one client only.
    #[track_caller]
    pub(crate) fn wait_for_listener(&self, port: u16, server: &mut Process) {
        let wanted = format!(":{port:04X} ");
        let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{}/net/{table}", self.sleep.pid()));
        let listens = |line: &str| line.contains(&wanted) && line.contains(":0000 0A ");
        wait_until("the server listens", || {
            assert!(!server.is_over(), "it should serve:\n{server}");
            let mut tables = tables.iter().map(|table| std::fs::read_to_string(table).unwrap());
            tables.any(|table| table.lines().any(listens)).then_some(())
        });
    }
}

impl<P: Place> Place for Within<'_, P> {
    fn command(&self, program: &(impl AsRef<OsStr> + ?Sized)) -> Command {
        let inner = self.1.command(program);
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.sleep.pid().to_string(), "--net", "--"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    }
}
