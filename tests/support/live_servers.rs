//! Real TLS servers.

use std::net::SocketAddr;
use std::process::Command;

use crate::container::Place;
use crate::lab::{Lab, find, free_port};
use crate::process::{Process, wait_until};

/// nginx on 127.0.0.1, which answers each request with its own path.
pub(crate) struct Nginx {
    _process: Process,
    port: u16,
}

impl Nginx {
    pub(crate) fn start(lab: &Lab, place: &impl Place) -> Self {
        let port = free_port();
        let process = Process::start(&nginx_command(lab, place, port, "ssl"));
        wait_for_listener(port);
        Self { _process: process, port }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address())
    }
}

/// nginx on 127.0.0.1, which answers each request with its own path; `with` are parameters of `listen`.
pub(crate) fn nginx_command(lab: &Lab, place: &impl Place, port: u16, with: &str) -> Command {
    let (directory, certificate) = (lab.directory().display(), lab.certificate());
    let certificate = certificate.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {directory}/{kind};")).concat();
    let settings = format!(
        "daemon off; pid {directory}/nginx.{port}.pid; error_log stderr; events {{}}
        http {{
            access_log off; {temporary}
            server {{
                listen 127.0.0.1:{port} {with};
                ssl_certificate {certificate}; ssl_certificate_key {certificate};
                ssl_protocols TLSv1.2 TLSv1.3;
                default_type text/plain;
                location / {{ return 200 \"answer to $request_uri for port $remote_port\\n\"; }}
            }}
        }}"
    );
    let file = lab.path(&format!("nginx.{port}.conf"));
    std::fs::write(&file, settings).unwrap();
    let mut command = place.command(&find("nginx").unwrap());
    command.args(["-e", "stderr", "-c"]).arg(&file);
    command
}

/// `openssl s_server`: what is typed goes to the client, what the client says is printed.
pub(crate) fn s_server(lab: &Lab, place: &impl Place) -> (Process, SocketAddr) {
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = place.command("openssl");
    command.args(["s_server", "-quiet", "-accept", &address.to_string(), "-cert"]).arg(lab.certificate());
    let process = Process::start(&command);
    wait_for_listener(port);
    (process, address)
}

/// Looks instead of connecting: a server may take one client only.
#[track_caller]
pub(crate) fn wait_for_listener(port: u16) {
    wait_until("the server listens", || listens(port).then_some(()));
}

/// The same, as long as the server runs.
#[track_caller]
pub(crate) fn wait_for_listener_of(server: &mut Process, port: u16) {
    wait_until("the server listens", || {
        assert!(!server.is_over(), "it should serve:\n{server}");
        listens(port).then_some(())
    });
}

fn listens(port: u16) -> bool {
    [("/proc/net/tcp", 8), ("/proc/net/tcp6", 32)].into_iter().any(|(table, digits)| {
        let wanted = format!(":{port:04X} {:0digits$}:0000 0A ", 0);
        std::fs::read_to_string(table).unwrap().contains(&wanted)
    })
}
