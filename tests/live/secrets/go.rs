//! Go's crypto/tls, in which one function gets every secret, whether or not there is a key log.

use super::{kept, lines};
use crate::capture::Tlsdump;
use crate::container::{Container, Host};
use crate::go_program::Gomove;
use crate::lab::Lab;

/// Client and server have their secrets told, though only the client keeps a log; a neighbour's are not.
#[track_caller]
fn secrets(build: &[&str]) {
    let lab = Lab::new();
    let (server, client) = (Container::new(&lab), Container::new(&lab));
    let mut gomove = Gomove::build(&lab, build);
    let captures =
        [&server, &client].map(|container| Tlsdump::begin(&lab, &[&container.option(), &gomove.option()]));
    let captures = captures.map(|capture| capture.armed());
    let versions = ["", "-o"];
    for options in versions {
        let options = format!("{options} -n 2 -t 3");
        let serving = gomove.serve(&server, &options, "server", "r100 w100");
        gomove.keylog = Some(lab.path("own"));
        gomove.ask(&client, &options, "client", "w100 r100", &serving);
        gomove.keylog = None;
        serving.end();
    }
    let serving = gomove.serve(&Host, "", "server", "r100 w100");
    gomove.ask(&Host, "", "client", "w100 r100", &serving);
    serving.end();
    let own = lines(&lab, "own");
    assert_eq!(own.len(), 6 * 4 + 6, "{own:?}");
    for capture in captures {
        assert_eq!(kept(&capture.stop()), own);
    }
}

#[test]
fn of_go() {
    secrets(&[]);
}

#[test]
fn secrets_without_symbols() {
    secrets(&["-ldflags=-s -w"]);
}
