//! Which processes are captured: options of one kind OR, of different kinds AND.

use std::process::Command;

use rustix::process::Signal;

use crate::capture::{Captured, Starting, Tlsdump};
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::process::{Process, run};
use crate::servers::Nginx;

/// A user that nobody else on the machine is.
const STRANGER: u32 = 43_210;
/// A copy of curl under a name that nothing else has.
const OTHER_CURL: &str = "curl-by-stealth";

/// A curl that waits for a line before it makes its request.
struct Client {
    process: Process,
    container: usize,
    uid: u32,
    comm: &'static str,
}

impl Client {
    fn path(&self) -> String {
        format!("/{}/{}/{}", self.container, self.uid, self.comm)
    }
}

/// One for each container, user and name.
fn clients(lab: &Lab, nginx: &Nginx, containers: &[Container; 2]) -> Vec<Client> {
    run(Command::new("chmod").arg("755").arg(lab.directory())).succeeds();
    let other = lab.path(OTHER_CURL).display().to_string();
    run(&Host.shell("cp \"$(command -v curl)\" \"$1\"", &[&other])).succeeds();
    let mut clients = Vec::new();
    for (number, container) in containers.iter().enumerate() {
        for uid in [0, STRANGER] {
            for (comm, program) in [("curl", "curl"), (OTHER_CURL, other.as_str())] {
                let id = uid.to_string();
                let url = nginx.url(&format!("/{number}/{uid}/{comm}"));
                let mut command = container.command("setpriv");
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", "sh", "-euc"]);
                // All of this is one process, so that its number is known before its request.
                let script = "echo ready; read -r line; exec \"$1\" -sk --fail -o /dev/null \"$2\"";
                let process = Process::start_with(
                    command.args([script, "sh", program, &url]),
                    std::process::Stdio::piped(),
                    std::process::Stdio::piped(),
                );
                process.stdout_line("a client", |line| line == "ready");
                clients.push(Client { process, container: number, uid, comm });
            }
        }
    }
    clients
}

/// tlsdump's options, and which clients they choose.
type Row = (Vec<String>, Box<dyn Fn(&Client) -> bool>);

fn rows(containers: &[Container; 2], pids: &[u32]) -> Vec<Row> {
    let [a, b] = [0, 1].map(|number: usize| containers[number].option());
    let [root, stranger] = ["--uid=0".to_owned(), format!("--uid={STRANGER}")];
    let [curl, other] = ["--comm=curl".to_owned(), format!("--comm={OTHER_CURL}")];
    let [first, last] = [pids[0], pids[pids.len() - 1]];
    let [first_option, last_option] = [first, last].map(|pid| format!("--pid={pid}"));
    let is = move |client: &Client, pid: u32| client.process.pid() == pid;
    let row = |options: &[&String], chooses: Box<dyn Fn(&Client) -> bool>| {
        (options.iter().map(|&option| option.clone()).collect(), chooses)
    };
    // --uid=0 and --comm=curl never stand alone: other tests' processes have them too.
    vec![
        row(&[&a], Box::new(|c| c.container == 0)),
        row(&[&stranger], Box::new(|c| c.uid == STRANGER)),
        row(&[&other], Box::new(|c| c.comm == OTHER_CURL)),
        row(&[&first_option, &last_option], Box::new(move |c| is(c, first) || is(c, last))),
        row(&[&a, &b], Box::new(|_| true)),
        row(&[&a, &root, &stranger], Box::new(|c| c.container == 0)),
        row(&[&a, &root], Box::new(|c| c.container == 0 && c.uid == 0)),
        row(&[&a, &curl], Box::new(|c| c.container == 0 && c.comm == "curl")),
        row(&[&root, &other], Box::new(|c| c.uid == 0 && c.comm == OTHER_CURL)),
        row(&[&b, &stranger, &curl], Box::new(|c| c.container == 1 && c.uid == STRANGER && c.comm == "curl")),
        row(&[&a, &first_option], Box::new(move |c| is(c, first))),
        row(&[&b, &"--pid=0".to_owned()], Box::new(|c| c.container == 1)),
        row(&[&last_option, &other], Box::new(move |c| is(c, last))),
    ]
}

/// The paths of the requests in a capture, sorted.
fn requested(captured: &Captured) -> Vec<String> {
    let requests = captured.conversations.iter().map(|c| String::from_utf8_lossy(c.written().bytes()));
    let mut paths: Vec<_> = requests.filter_map(|r| Some(r.split(' ').nth(1)?.to_owned())).collect();
    paths.sort();
    paths
}

#[test]
fn one_kind_widens_and_different_kinds_narrow() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let containers = [Container::new(&lab), Container::new(&lab)];
    let mut clients = clients(&lab, &nginx, &containers);
    let pids: Vec<_> = clients.iter().map(|client| client.process.pid()).collect();
    let rows = rows(&containers, &pids);
    // All at the same time.
    let starting = rows.iter().map(|(options, _)| {
        let options: Vec<_> = options.iter().map(String::as_str).chain(["--buffer=1M"]).collect();
        Tlsdump::begin(&lab, &options)
    });
    let captures = starting.collect::<Vec<_>>().into_iter().map(Starting::armed).collect::<Vec<_>>();
    clients.iter_mut().for_each(|client| client.process.type_line("go"));
    let chosen: Vec<_> = rows.iter().map(|(_, chooses)| paths(&clients, chooses)).collect();
    clients.into_iter().for_each(|client| drop(client.process.end().succeeds()));
    captures.iter().for_each(|tlsdump| tlsdump.signal(Signal::INT));
    for ((tlsdump, (options, _)), chosen) in captures.into_iter().zip(&rows).zip(chosen) {
        assert!(!chosen.is_empty(), "{options:?} chooses nobody");
        assert_eq!(requested(&tlsdump.stop()), chosen, "{options:?}");
    }
}

/// What the clients that are chosen will ask for, sorted.
fn paths(clients: &[Client], chooses: impl Fn(&Client) -> bool) -> Vec<String> {
    let mut paths: Vec<_> = clients.iter().filter(|client| chooses(client)).map(Client::path).collect();
    paths.sort();
    paths
}
