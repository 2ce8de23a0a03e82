//! Not one byte of a neighbour, though all share the file that is probed; and nothing is missing.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::capture::{Captured, Tlsdump, tlsdump};
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::mover::Move;
use crate::process::{Process, run};
use crate::servers::Nginx;

/// `$3` requests to `$1/$2/1`, `$1/$2/2`, …, eight at a time. Prints path and local port of each.
const CURLS: &str = "
    seq $3 | xargs -P 8 -I N curl -sk --fail --max-time 60 -o /dev/null -H \"X-Mark: $2\" \\
        -w \"/$2/N %{local_port}\\n\" \"$1/$2/N\"";

/// Starts that many requests at `place`, all marked.
fn requests(place: &impl Place, nginx: &Nginx, mark: &str, count: usize) -> Process {
    Process::start(&place.shell(CURLS, &[&nginx.url(""), mark, &count.to_string()]))
}

/// The local port of each path.
fn ports(printed: &str) -> HashMap<String, u16> {
    let pairs = printed.lines().map(|line| line.split_once(' ').unwrap());
    pairs.map(|(path, port)| (path.to_owned(), port.parse().unwrap())).collect()
}

/// Each request that was made is there with its answer and its addresses.
#[track_caller]
fn has_requests(captured: &Captured, nginx: &Nginx, made: &HashMap<String, u16>) {
    for (path, &port) in made {
        let conversation = captured.that_wrote(&format!("GET {path} HTTP/1.1\r\n"));
        let local = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(captured.ends(conversation), (local, nginx.address()), "{path}");
        assert_eq!(captured.value(conversation, "tuple"), "nested");
        let answer = String::from_utf8_lossy(conversation.read().bytes());
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\nanswer to {path} for port {port}\n")), "{path}: {answer}");
        assert_eq!((conversation.written().lost(), conversation.read().lost()), (0, 0), "{path}");
    }
}

#[test]
fn one_of_two_busy_containers_is_captured_and_nothing_else() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let (a, b) = (Container::new(&lab), Container::new(&lab));
    let tlsdump = Tlsdump::start(&lab, &[&a.option()]);
    let [in_a, in_b] = [(&a, "alpha"), (&b, "beta")].map(|(place, mark)| requests(place, &nginx, mark, 100));
    let on_host = requests(&Host, &nginx, "gamma", 30);
    let made = ports(&in_a.end().succeeds().stdout);
    in_b.end().succeeds();
    on_host.end().succeeds();
    let captured = tlsdump.stop();

    assert_eq!((made.len(), captured.conversations.len()), (100, 100));
    has_requests(&captured, &nginx, &made);
    assert!(captured.mentions("alpha") && !captured.mentions("beta") && !captured.mentions("gamma"));
}

#[test]
fn two_of_three_containers_are_captured() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    let [a, b, c] = [(); 3].map(|()| Container::new(&lab));
    let tlsdump = Tlsdump::start(&lab, &[&a.option(), &format!("--mntns=mnt:[{}]", b.mntns())]);
    let wanted = [requests(&a, &nginx, "alpha", 30), requests(&b, &nginx, "beta", 30)];
    let unwanted = requests(&c, &nginx, "gamma", 30);
    let made: HashMap<_, _> = wanted.into_iter().flat_map(|p| ports(&p.end().succeeds().stdout)).collect();
    unwanted.end().succeeds();
    let captured = tlsdump.stop();

    assert_eq!((made.len(), captured.conversations.len()), (60, 60));
    has_requests(&captured, &nginx, &made);
    assert!(!captured.mentions("gamma"));
    assert_eq!(captured.capture.interfaces.len(), 2, "one for each container");
    for (mark, container) in [("alpha", &a), ("beta", &b)] {
        let conversation = captured.that_wrote(&format!("GET /{mark}/1 "));
        assert_eq!(captured.value(conversation, "mntns"), container.mntns().to_string());
        let interface = &captured.capture.interfaces[captured.first_packet(conversation).interface];
        assert!(format!("{interface:?}").contains(&format!("mnt:[{}]", container.mntns())), "{interface:?}");
    }
}

#[test]
fn each_of_200_curls_of_a_few_milliseconds_is_captured() {
    let lab = Lab::new();
    let nginx = Nginx::start(&lab, &Host);
    // When tlsdump is armed nothing runs in it but its sleep.
    let container = Container::new(&lab);
    let tlsdump = Tlsdump::start(&lab, &[&container.option()]);
    let one_by_one = CURLS.replace("-P 8", "-P 1");
    let made = run(&container.shell(&one_by_one, &[&nginx.url(""), "short", "200"])).succeeds();
    let captured = tlsdump.stop();

    let made = ports(&made.stdout);
    assert_eq!((made.len(), captured.conversations.len()), (200, 200));
    has_requests(&captured, &nginx, &made);
}

#[test]
fn a_namespace_that_nobody_is_in_is_an_error() {
    let lab = Lab::new();
    let file = lab.path("none.pcapng");
    let ended = run(tlsdump(&["--mntns=4026599999", "-w"]).arg(&file));
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    assert_eq!(ended.stderr, "tlsdump: no process is in mount namespace 4026599999 (see: lsns -t mnt)");
    assert!(!file.exists(), "nothing was captured");
}

#[test]
fn a_namespace_that_gets_the_number_of_a_dead_one_is_not_captured() {
    /// The kernel gives the lowest number that is free, so those that came instead are kept for a while.
    /// Another test may have taken it, and gives it back when it ends.
    const ATTEMPTS: usize = 300;
    const KEPT: usize = 30;
    let lab = Lab::new();
    let first = Container::new(&lab);
    let (number, option) = (first.mntns(), first.option());
    let tlsdump = Tlsdump::start(&lab, &[&option]);
    let step = |container: &Container, seed: &str| {
        let moved = Move { client: seed, server: "", steps: "w1000 r1000" }.run(&lab, container);
        moved.into_iter().next().unwrap()
    };
    let of_first = step(&first, "-s 1");
    drop(first);

    let mut others = VecDeque::new();
    let again = (0..ATTEMPTS).find_map(|_| {
        let container = Container::new(&lab);
        if container.mntns() == number {
            return Some(container);
        }
        others.push_back(container);
        if others.len() > KEPT {
            others.pop_front();
        }
        None
    });
    let again =
        again.unwrap_or_else(|| panic!("number {number} was not used again in {ATTEMPTS} namespaces"));
    step(&again, "-s 2");
    let captured = tlsdump.stop();

    captured.is_exact(&of_first);
    assert_eq!(captured.conversations.len(), 1, "only the first's:\n{captured}");
}
