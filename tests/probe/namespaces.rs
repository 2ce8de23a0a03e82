//! Mount namespaces and roots of real processes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tlsdump::target::{self, Selector};

use crate::{PROC, Process, is_root, libssl, scan};

#[test]
fn a_root_of_its_own_is_gone_through_by_its_own_paths() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "cd '{}'; mkdir -p root/usr/lib root/bin; cp '{}' root/usr/lib/; cp /bin/sleep root/bin/; \
         for lib in $(ldd /bin/sleep | grep -o '/[^ ]*'); do \
         mkdir -p root$(dirname $lib); cp -L $lib root$lib; done; \
         : > ready; exec chroot root /bin/sleep 600",
        dir.path().display(),
        libssl().display()
    );
    let process = Process::in_namespace(&script, &dir.path().join("ready"));
    let start = Instant::now();
    while fs::read_link(format!("/proc/{}/root", process.pid())).is_ok_and(|root| root == Path::new("/")) {
        assert!(start.elapsed() < Duration::from_secs(20), "chroot");
        std::thread::sleep(Duration::from_millis(10));
    }
    let plan = scan(Path::new(PROC), &[process.pid()]);
    assert_eq!(plan.found.len(), 1, "{:?}", plan.found);
    assert_eq!(plan.found[0].path, Path::new("/usr/lib/libssl.so.3"));
}

#[test]
fn namespaces_have_ids_of_their_own() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sleep = |name: &str| {
        let ready = dir.path().join(name);
        Process::in_namespace(&format!(": > '{}'; exec sleep 600", ready.display()), &ready)
    };
    let (a, b) = (sleep("a"), sleep("b"));
    let proc = Path::new(PROC);
    let all: Vec<_> =
        [a.pid(), b.pid(), std::process::id()].map(|pid| target::namespace_of(proc, pid).unwrap()).into();
    assert!(
        all[0].number != all[1].number && all[1].number != all[2].number && all[0].number != all[2].number
    );
    if all[2].id == 0 {
        println!("SKIP: this kernel doesn't tell the ids of mount namespaces");
    } else {
        assert!(all[0].id != all[1].id && all[1].id != all[2].id && all[0].id != all[2].id, "{all:?}");
        assert!(all.iter().all(|namespace| namespace.id != 0));
    }
    let written = target::parse_mntns(&format!("mnt:[{}]", all[0].number)).unwrap();
    let target = Selector { mntns: vec![written], pids: vec![] }.resolve(proc).unwrap();
    assert_eq!(target.namespaces, [all[0]]);
    assert_eq!(target.processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [a.pid()]);
}

#[test]
fn a_thread_enters_a_namespace_and_the_others_stay() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let other = Process::in_namespace(&format!(": > '{}'; exec sleep 600", ready.display()), &ready);
    let before = (fs::read_link("/proc/thread-self/ns/mnt").unwrap(), std::env::current_dir().unwrap());
    let thread = target::learn_in_namespace(Path::new(PROC), other.pid()).unwrap();
    assert_ne!(thread, std::process::id());
    assert!(!Path::new(PROC).join(format!("self/task/{thread}")).exists(), "the thread has ended");
    let after = (fs::read_link("/proc/thread-self/ns/mnt").unwrap(), std::env::current_dir().unwrap());
    assert_eq!(before, after);
    let own = rustix::process::getpid().as_raw_nonzero().get();
    assert!(target::learn_in_namespace(Path::new(PROC), u32::MAX).is_err());
    assert_eq!(
        target::process(Path::new(PROC), u32::try_from(own).unwrap()).unwrap().pid,
        std::process::id()
    );
}
