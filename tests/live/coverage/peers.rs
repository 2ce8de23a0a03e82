//! Who is on the other side of the relay, and speaks in clear.

use crate::container::{Host, Place};
use crate::lab::{Lab, find, free_port};
use crate::process::Process;
use crate::servers::wait_for_listener;

/// A web server in clear, whose answers tell which page was asked for.
pub(crate) struct Web {
    _process: Process,
    _lab: Lab,
    /// For HTTP/1.1 and for HTTP/2.
    pub(crate) ports: [u16; 2],
}

impl Web {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let lab = Lab::new();
        let ports = [free_port(), free_port()];
        let large = lab.path("large");
        std::fs::write(&large, large_page()).unwrap();
        // nginx's workers have another user.
        std::fs::set_permissions(lab.directory(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let (directory, large) = (lab.directory().display(), large.display());
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {directory}/{kind};")).concat();
        let [http1, http2] = ports;
        // Over HTTP/2 nginx alone would answer a request before it has read it, which curl can't take.
        let servers = format!(
            "server {{
                listen 127.0.0.1:{http1}; default_type text/plain;
                location ~ /2$ {{ alias {large}; }}
                location / {{ return 200 \"answer to $request_uri\\n\"; }}
            }}
            server {{
                listen 127.0.0.1:{http2} http2;
                location / {{ proxy_pass http://127.0.0.1:{http1}; }}
            }}"
        );
        let file = lab.path("web.conf");
        let settings = format!(
            "daemon off; pid {directory}/web.pid; error_log stderr; events {{}}
            http {{ access_log off; {temporary} {servers} }}"
        );
        std::fs::write(&file, settings).unwrap();
        let mut command = Host.command(&find("nginx").unwrap());
        let process = Process::start(command.args(["-e", "stderr", "-c"]).arg(&file));
        ports.into_iter().for_each(wait_for_listener);
        Self { _process: process, _lab: lab, ports }
    }
}

/// The page that is longer than TLS's records are.
pub(crate) fn large_page() -> String {
    (0..2500).map(|number| format!("line {number:05} of a long answer\n")).collect()
}

/// The pages for servers that serve files: below `directory`, one directory for each mark.
pub(crate) fn pages(directory: &std::path::Path, mark: &str) {
    let directory = directory.join("pages").join(mark);
    std::fs::create_dir_all(&directory).unwrap();
    for (name, text) in [("1", answer(mark, 1)), ("2", large_page()), ("3", answer(mark, 3))] {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

/// What is answered to the request for a page.
pub(crate) fn answer(mark: &str, page: u8) -> String {
    if page == 2 { large_page() } else { format!("answer to /{mark}/{page}\n") }
}
