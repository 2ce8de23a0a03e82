//! What the other tests rely on is as they think.

use std::os::unix::fs::MetadataExt;

use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::mover::{Move, SERVER_SEED, Sum, pattern};
use crate::process::run;

#[test]
fn containers_share_the_inode_of_libssl_and_differ_in_their_namespace() {
    let lab = Lab::new();
    let (a, b) = (Container::new(&lab), Container::new(&lab));
    assert_ne!(a.mntns(), b.mntns());
    let find = "ldd \"$(command -v curl)\" | awk '/libssl/ { print $3 }'";
    let libssl = run(&Host.shell(find, &[])).succeeds().stdout;
    assert!(libssl.starts_with('/'), "{libssl:?}");
    let inside =
        |container: &Container| container.root().join(libssl.trim_start_matches('/')).metadata().unwrap();
    let (on_host, in_a, in_b) = (std::fs::metadata(&libssl).unwrap(), inside(&a), inside(&b));
    assert_eq!((in_a.ino(), in_b.ino()), (on_host.ino(), on_host.ino()));
    assert!(in_a.dev() != in_b.dev() && in_a.dev() != on_host.dev());
}

#[test]
fn the_mover_moves_what_it_says() {
    let lab = Lab::new();
    let container = Container::new(&lab);
    let moved = Move { client: "-s 7", server: "", steps: "w3 r70000 W100000" }.run(&lab, &container);
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!((moved[0].seed, moved[0].layer.as_str()), (7, "only"));
    assert_eq!(moved[0].wrote, Sum::of(&pattern(7, 0, 100_003)));
    assert_eq!(moved[0].read, Sum::of(&pattern(SERVER_SEED, 0, 70_000)));
}
