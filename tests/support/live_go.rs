//! Builds `tests/programs/gomove.go` by a real Go, and runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::container::Place;
use crate::lab::{Lab, find, free_port};
use crate::mover::{Moved, SERVER_SEED, sessions};
use crate::process::{Process, run};

/// Where compiled packages are kept between tests.
const CACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/go-cache");

/// The program, built in one way.
pub(crate) struct Gomove<'a> {
    lab: &'a Lab,
    pub(crate) program: PathBuf,
    /// Where it appends its secrets, from the next start on.
    pub(crate) keylog: Option<PathBuf>,
}

/// A server that runs, and where.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
}

/// The Go that is tested: that of `$GO`, else the one that `./dev setup` installs.
fn go() -> PathBuf {
    let go = std::env::var_os("GO").map(PathBuf::from).or_else(|| find("go"));
    go.unwrap_or_else(|| panic!("the live tests need the program go: ./dev setup installs it"))
}

impl<'a> Gomove<'a> {
    /// Builds it with these arguments of `go build`.
    #[track_caller]
    pub(crate) fn build(lab: &'a Lab, arguments: &[&str]) -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/gomove.go");
        let program = lab.path(&format!("gomove{}", arguments.concat().replace(['/', ' '], "")));
        let mut build = Command::new(go());
        // Nothing of the user's settings, and nothing from the network.
        for (name, value) in
            [("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local")]
        {
            build.env(name, value);
        }
        build.env("GOCACHE", CACHE).env("GOPATH", lab.path("go"));
        build.arg("build").args(arguments).arg("-o").arg(&program).arg(source);
        // The first one compiles Go's library, which takes minutes on a busy machine: one at a time.
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock();
        let built = build.output().unwrap();
        drop(one);
        assert!(built.status.success(), "{build:?}: {}", String::from_utf8_lossy(&built.stderr));
        Self { lab, program, keylog: None }
    }

    /// The one that was put there.
    pub(crate) fn at(lab: &'a Lab, program: PathBuf) -> Self {
        Self { lab, program, keylog: None }
    }

    /// tlsdump's option for it.
    pub(crate) fn option(&self) -> String {
        format!("--lib={}", self.program.display())
    }

    fn command(&self, place: &impl Place, options: &str, side: &str, address: SocketAddr) -> Command {
        let mut command = place.command(&self.program);
        command.envs(self.keylog.iter().map(|keylog| ("SSLKEYLOGFILE", keylog)));
        command.args(options.split_whitespace()).args([side, &address.to_string()]);
        command
    }

    /// A server (`server` with steps, or `serve`) on a free port.
    #[track_caller]
    pub(crate) fn serve(&self, place: &impl Place, options: &str, side: &str, steps: &str) -> Server {
        self.serve_at(place, options, side, steps, ([127, 0, 0, 1], free_port()).into())
    }

    #[track_caller]
    pub(crate) fn serve_at(
        &self,
        place: &impl Place,
        options: &str,
        side: &str,
        steps: &str,
        address: SocketAddr,
    ) -> Server {
        let certificate = self.lab.certificate();
        let options = format!("-s {SERVER_SEED} -c {} {options}", certificate.display());
        let process =
            Process::start(self.command(place, &options, side, address).args(steps.split_whitespace()));
        process.stdout_line("the server", |line| line == "listening");
        Server { process, address }
    }

    /// Starts a client.
    #[track_caller]
    pub(crate) fn start(&self, place: &impl Place, options: &str, side: &str, server: &Server) -> Process {
        Process::start(&self.command(place, options, side, server.address))
    }

    /// Runs a client (`client` with steps, or `get`) to its end, and gives what its sessions moved, and all
    /// that it printed.
    #[track_caller]
    pub(crate) fn ask(
        &self,
        place: &impl Place,
        options: &str,
        side: &str,
        steps: &str,
        server: &Server,
    ) -> (Vec<Moved>, String) {
        let mut command = self.command(place, options, side, server.address);
        let ended = run(command.args(steps.split_whitespace())).succeeds();
        (sessions(&ended.stdout), ended.stdout)
    }
}

impl Server {
    /// What its sessions moved.
    #[track_caller]
    pub(crate) fn end(self) -> Vec<Moved> {
        sessions(&self.process.end().succeeds().stdout)
    }
}
