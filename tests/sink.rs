//! Where a capture can be written to, and what is left when it can't be any more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod pcapng;
}

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::{env, thread};

use support::draw::{Pen, flow, names, noise};
use support::pcapng;
use tempfile::TempDir;
use tlsdump::event::Dir;
use tlsdump::file::sink::{BUFFER_BYTES, Output, Sink};
use tlsdump::flow::What;
use tlsdump::frame::Envelope;

/// Opens, writes two blocks and flushes.
fn write(path: &Path) {
    let mut output = Output::open(path).unwrap();
    output.block(b"one ").unwrap();
    output.block(b"two ").unwrap();
    output.flush().unwrap();
}

fn refusal(path: &Path) -> String {
    format!("{:#}", Output::open(path).unwrap_err())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_file_is_the_owners_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng");
    write(&path);
    assert_eq!(fs::read(&path).unwrap(), b"one two ");
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn an_old_file_is_emptied_and_closed_to_others() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng");
    fs::write(&path, noise(1000)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    write(&path);
    assert_eq!(fs::read(&path).unwrap(), b"one two ");
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn nothing_is_written_before_a_flush_or_a_full_buffer() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng");
    let mut output = Output::open(&path).unwrap();
    let block = noise(BUFFER_BYTES / 4);
    for _ in 0..4 {
        output.block(&block).unwrap();
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    output.block(&block).unwrap();
    assert_eq!(fs::read(&path).unwrap(), block.repeat(4));
    // A block larger than the buffer goes through it as a whole.
    output.block(&noise(BUFFER_BYTES * 2)).unwrap();
    output.flush().unwrap();
    assert_eq!(fs::read(&path).unwrap(), [block.repeat(5), noise(BUFFER_BYTES * 2)].concat());
}

#[test]
fn links_and_what_is_no_file_are_refused() {
    let dir = TempDir::new().unwrap();
    let (target, link) = (dir.path().join("target"), dir.path().join("link"));
    fs::write(&target, "precious").unwrap();
    symlink(&target, &link).unwrap();
    let shown = link.display();
    assert_eq!(
        refusal(&link),
        format!("cannot write to {shown}: it is a symbolic link (name the file that it leads to)")
    );
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
    assert!(refusal(&dir.path().join("dangling")).contains("symbolic link"));
    assert!(refusal(dir.path()).ends_with("Is a directory (os error 21)"));
    let missing = dir.path().join("missing/out.pcapng");
    let shown = missing.display();
    assert_eq!(refusal(&missing), format!("cannot write to {shown}: No such file or directory (os error 2)"));
}

#[test]
fn pipes_and_devices_are_written_to() {
    write(Path::new("/dev/null"));

    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    write(&fifo);
    assert_eq!(reader.join().unwrap(), b"one two ");

    // As a shell's >(command) gives it.
    let (mut reader, writer) = std::io::pipe().unwrap();
    write(&Path::new("/dev/fd").join(writer.as_raw_fd().to_string()));
    drop(writer);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"one two ");
}

#[test]
fn a_reader_that_left_is_told_as_such() {
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || drop(File::open(fifo).unwrap())
    });
    let mut output = Output::open(&fifo).unwrap();
    reader.join().unwrap();
    output.block(b"one ").unwrap();
    let error = output.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let shown = fifo.display();
    assert_eq!(error.to_string(), format!("cannot write to {shown}: Broken pipe (os error 32)"));
}

/// Set in the process that has a full disk: the directory on it.
const DISK: &str = "TLSDUMP_TEST_SMALL_DISK";
/// Bytes that fit there.
const DISK_BYTES: usize = 1_000 * 1024;

#[test]
fn a_full_disk_is_an_error_and_leaves_a_file_that_opens() {
    if let Some(disk) = env::var_os(DISK) {
        return fill(Path::new(&disk));
    }
    // The same test again in processes that can write no more than DISK_BYTES: under a limit on the size of a
    // file, and, where we may mount one, on a small file system.
    run_limited(&["sh", "-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", DISK_BYTES / 512)]);
    if Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        let mount = format!("mount -t tmpfs -o size={DISK_BYTES} none \"${DISK}\" && exec \"$@\"");
        run_limited(&["unshare", "--mount", "sh", "-c", &mount]);
    }
}

/// Runs the test above with the command `limit` before it.
fn run_limited(limit: &[&str]) {
    let dir = TempDir::new().unwrap();
    let output = Command::new(limit[0])
        .args(&limit[1..])
        .arg("sh")
        .arg(env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_is_an_error_and_leaves_a_file_that_opens", "--nocapture"])
        .env(DISK, dir.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{limit:?}: {output:?}");
}

fn fill(disk: &Path) {
    let path = disk.join("out.pcapng");
    let names = names();
    let mut pen = Pen::new(Output::open(&path).unwrap(), &names, 0, Envelope::Plain);
    let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
    pen.open(&mut a);
    // A length that no page or buffer is a multiple of.
    let bytes = noise(9_999);
    // Twice what there is room for.
    let mut draws =
        (0..DISK_BYTES / bytes.len() * 2).map(|_| pen.try_draw(&mut a, Dir::Out, What::Data(&bytes)));
    let error = draws.find_map(Result::err).unwrap();
    let shown = path.display().to_string();
    assert!(matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::FileTooLarge), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot write to {shown}: ")), "{error}");
    let capture = pcapng::read(&fs::read(&path).unwrap()).unwrap();
    let packets = capture.packets.len();
    let room = DISK_BYTES / (bytes.len() + 54 + 44);
    assert!((room - 1..=room + 4).contains(&packets), "{packets} packets where {room} have room");
}
