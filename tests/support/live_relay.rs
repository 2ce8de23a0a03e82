//! Drives `tests/programs/relay.py`, the peer of programs under test: it speaks TLS with them, in clear with
//! a server or client behind it, and knows every byte and both addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::container::{Host, Place};
use crate::lab::Lab;
use crate::process::{Process, wait_until};
use crate::services::PYTHON;

/// A running relay.
pub(crate) struct Relay {
    process: Process,
    directory: PathBuf,
}

/// A connection that the relay had with a program under test.
pub(crate) struct Relayed {
    /// The port of the relay that it went through.
    pub(crate) port: u16,
    pub(crate) relay: SocketAddr,
    pub(crate) program: SocketAddr,
    /// What the program wrote, and what it was given to read.
    pub(crate) written: Vec<u8>,
    pub(crate) read: Vec<u8>,
}

impl Relay {
    /// Takes TLS connections on `ports`, and hands them on to the first of `backends`, or to the second where
    /// HTTP/2 was chosen; but nothing before [`Self::open`]. `style` is how TLS begins.
    #[track_caller]
    pub(crate) fn for_clients(lab: &Lab, style: &str, backends: &[u16], ports: &[u16]) -> Self {
        let backends = backends.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let arguments = [&[backends], &ports[..]].concat();
        Self::start(lab, ["serve", style], &arguments, &ports)
    }

    /// Takes connections in clear on the first of each pair of ports, and hands them on by TLS to the second.
    #[track_caller]
    pub(crate) fn for_servers(lab: &Lab, style: &str, pairs: &[(u16, u16)]) -> Self {
        let ports: Vec<_> = pairs.iter().map(|(port, _)| port.to_string()).collect();
        let arguments: Vec<_> = pairs.iter().map(|(port, server)| format!("{port}:{server}")).collect();
        Self::start(lab, ["connect", style], &arguments, &ports)
    }

    #[track_caller]
    fn start(lab: &Lab, [side, style]: [&str; 2], arguments: &[String], ports: &[String]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let directory = lab.path(&format!("relay{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&directory).unwrap();
        let mut command = Host.command(PYTHON);
        command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/relay.py"), side]);
        command.arg(lab.certificate()).arg(&directory).arg(style).args(arguments);
        let process = Process::start(&command);
        for port in ports {
            process.stdout_line("the relay", |line| line == format!("listening {port}"));
        }
        Self { process, directory }
    }

    /// Waits until bytes of a client are held at each of `ports`.
    #[track_caller]
    pub(crate) fn holds(&self, clients: &mut [(u16, Process)]) {
        for (port, client) in clients {
            let line = format!("holding {port}");
            wait_until("a client speaks", || {
                let held = self.process.has_printed(&line);
                assert!(held || !client.is_over(), "nothing came to\n{}\nfrom\n{client}", self.process);
                held.then_some(())
            });
        }
    }

    /// Lets everything through.
    pub(crate) fn open(&mut self) {
        self.process.type_line("");
    }

    /// Ends it after the last connection.
    #[track_caller]
    pub(crate) fn end(self) -> Vec<Relayed> {
        let printed = self.process.end().succeeds().stdout;
        let connections = printed.lines().filter_map(|line| line.strip_prefix("connection "));
        let parse = |line: &str| {
            let fields: Vec<_> = line.split(' ').collect();
            let [number, port, relay, program] = fields[..] else { panic!("{line:?}") };
            let bytes = |kind: &str| std::fs::read(self.directory.join(format!("{number}.{kind}"))).unwrap();
            let (relay, program) = (relay.parse().unwrap(), program.parse().unwrap());
            let (written, read) = (bytes("read"), bytes("wrote"));
            Relayed { port: port.parse().unwrap(), relay, program, written, read }
        };
        connections.map(parse).collect()
    }
}
