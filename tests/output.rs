//! What the files of a capture are called, and what is left when they can't be written any more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod output;
    pub mod pcapng;
}

use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use support::draw::{Pen, flow, names, noise};
use support::output::{
    block, cut, eventually, expected, give, list, mode, open, part, refusal, replay, write,
};
use support::pcapng;
use tempfile::TempDir;
use tlsdump::event::Dir;
use tlsdump::file::directory::Manners;
use tlsdump::file::output::{Output, Settings};
use tlsdump::file::sink::{Part, Sink as _};
use tlsdump::flow::What;
use tlsdump::frame::Envelope;

#[test]
fn a_file_is_the_owners_alone_and_has_its_name_when_it_is_whole() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng");
    let mut output = open(&path, replay());
    assert_eq!(list(dir.path()), ["out.pcapng.part"]);
    assert_eq!(mode(&dir.path().join("out.pcapng.part")), 0o600);
    part(&mut output, 1, &block(16));
    output.close().unwrap();
    assert_eq!(list(dir.path()), ["out.pcapng"]);
    assert_eq!(fs::read(&path).unwrap(), block(16));
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn the_group_may_read_it_where_that_was_asked() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng");
    let manners = Manners { group_readable: true, sync: true, ..Manners::default() };
    write(&path, Settings { manners, ..replay() });
    assert_eq!(mode(&path), 0o640);
}

#[test]
fn a_file_that_exists_is_replaced_only_where_that_was_asked() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng");
    fs::write(&path, "precious").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let shown = path.display();
    let told = format!("cannot write to {shown}: it exists (--overwrite replaces it)");
    assert_eq!(refusal(&path, replay()), told);
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    let overwrite = || {
        let manners = Manners { overwrite: true, ..Manners::default() };
        Settings { manners, ..replay() }
    };
    let output = open(&path, overwrite());
    assert_eq!(fs::read(&path).unwrap(), b"precious", "until the new one is whole");
    drop(output);
    fs::remove_file(dir.path().join("out.pcapng.part")).unwrap();
    write(&path, overwrite());
    assert_eq!(fs::read(&path).unwrap(), expected());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_file_made_meanwhile_is_kept_and_so_is_the_capture() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng");
    let mut output = open(&path, replay());
    part(&mut output, 1, &block(16));
    fs::write(&path, "precious").unwrap();
    let error = output.close();
    // The thread may have been faster.
    if let Err(error) = error {
        let told = error.to_string();
        assert!(told.contains("out.pcapng was made meanwhile"), "{told}");
        assert!(told.contains("out.pcapng.part"), "{told}");
        assert_eq!(fs::read(dir.path().join("out.pcapng.part")).unwrap(), block(16));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}

#[test]
fn two_captures_of_one_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng");
    let first = open(&path, replay());
    assert!(refusal(&path, replay()).ends_with(": another capture is writing it"));
    drop(first);
    // What a killed capture left is kept.
    let mut next = None;
    eventually(|| {
        next = Output::open(&path, replay(), Box::new(|_| {})).ok();
        next.is_some()
    });
    let mut next = next.unwrap();
    part(&mut next, 1, &block(16));
    next.close().unwrap();
    assert_eq!(list(dir.path()), ["out.pcapng", "out.pcapng.part"]);
    assert_eq!(fs::read(&path).unwrap(), block(16));

    // Parts of another capture get other names.
    let path = dir.path().join("%Y.pcapng");
    let (mut one, mut other) = (open(&path, cut()), open(&path, cut()));
    one.begin(Part { number: 1, at: 0 }).unwrap();
    eventually(|| dir.path().join("1970.pcapng.part").exists());
    part(&mut other, 1, &block(16));
    one.end().unwrap();
    one.close().unwrap();
    other.close().unwrap();
    assert_eq!(fs::read(dir.path().join("1970.pcapng")).unwrap(), b"");
    assert_eq!(fs::read(dir.path().join("1970_00002.pcapng")).unwrap(), block(16));
}

#[test]
fn the_oldest_parts_are_removed() {
    let dir = TempDir::new().unwrap();
    let stranger = dir.path().join("out_00000_19700101000000.pcapng");
    fs::write(&stranger, "precious").unwrap();
    let manners = Manners { keep: Some(3), ..Manners::default() };
    let mut output = open(&dir.path().join("out.pcapng"), Settings { manners, ..cut() });
    for number in 1..=10 {
        part(&mut output, number, &block(16));
        eventually(|| list(dir.path()).iter().any(|name| name.starts_with(&format!("out_{number:05}"))));
        assert!(list(dir.path()).len() <= 3 + 1);
    }
    output.close().unwrap();
    let numbers: Vec<_> = list(dir.path()).iter().map(|name| name[..9].to_owned()).collect();
    assert_eq!(numbers, ["out_00000", "out_00008", "out_00009", "out_00010"]);
}

#[test]
fn ten_thousand_parts() {
    let dir = TempDir::new().unwrap();
    let manners = Manners { keep: Some(7), ..Manners::default() };
    let mut output = open(&dir.path().join("%H.pcapng"), Settings { manners, ..cut() });
    for number in 1..=10_000 {
        part(&mut output, number, &block(16 + number as usize % 4 * 4));
    }
    output.close().unwrap();
    let names = list(dir.path());
    assert_eq!(names.len(), 7);
    assert!(names.iter().all(|name| name.ends_with(".pcapng")));
    assert!(names.last().unwrap().contains("_10000"), "{names:?}");
}

#[test]
fn a_part_that_somebody_removed_is_told_and_the_next_is_there() {
    let dir = TempDir::new().unwrap();
    let (said, heard) = mpsc::channel();
    let say = Box::new(move |line: &str| said.send(line.to_owned()).unwrap());
    let mut output = Output::open(&dir.path().join("%Y.pcapng"), cut(), say).unwrap();
    output.begin(Part { number: 1, at: 0 }).unwrap();
    eventually(|| dir.path().join("1970.pcapng.part").exists());
    fs::remove_file(dir.path().join("1970.pcapng.part")).unwrap();
    output.end().unwrap();
    part(&mut output, 2, &block(16));
    let error = output.close().unwrap_err().to_string();
    assert!(error.contains("somebody has removed") && error.ends_with("while it was written"), "{error}");
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [error]);
    assert_eq!(fs::read(dir.path().join("1970_00002.pcapng")).unwrap(), block(16));
}

#[test]
fn a_directory_that_is_renamed_is_written_to_all_the_same() {
    let dir = TempDir::new().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    fs::create_dir(&before).unwrap();
    let mut output = open(&before.join("%Y.pcapng"), cut());
    part(&mut output, 1, &block(16));
    eventually(|| before.join("1970.pcapng").exists());
    fs::rename(&before, &after).unwrap();
    part(&mut output, 2, &block(32));
    output.close().unwrap();
    assert_eq!(list(&after), ["1970.pcapng", "1970_00002.pcapng"]);
}

#[test]
fn a_command_is_run_for_each_part_without_a_shell() {
    let dir = TempDir::new().unwrap();
    let command = dir.path().join("a command; rm -rf x");
    fs::write(&command, "#!/bin/sh\nsize=$(stat -c %s \"$1\")\necho \"$# $size\" >\"$1.seen\"\n").unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o700)).unwrap();
    let mut output =
        open(&dir.path().join("$(x) %Y.pcapng"), Settings { command: Some(command.into()), ..cut() });
    for number in 1..=20 {
        part(&mut output, number, &block(16));
    }
    output.close().unwrap();
    let seen: Vec<_> = list(dir.path()).into_iter().filter(|name| name.ends_with(".seen")).collect();
    assert_eq!(seen.len(), 20, "{seen:?}");
    assert_eq!(fs::read(dir.path().join("$(x) 1970_00020.pcapng.seen")).unwrap(), b"1 16\n");
}

#[test]
fn a_command_that_fails_is_told() {
    for (command, told) in
        [("/bin/false", "exit status: 1"), ("/nowhere", "cannot run /nowhere: No such file")]
    {
        let dir = TempDir::new().unwrap();
        let (said, heard) = mpsc::channel();
        let say = Box::new(move |line: &str| said.send(line.to_owned()).unwrap());
        let settings = Settings { command: Some(command.into()), ..cut() };
        let mut output = Output::open(&dir.path().join("out"), settings, say).unwrap();
        part(&mut output, 1, &block(16));
        output.close().unwrap();
        let heard: Vec<_> = heard.try_iter().collect();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert!(heard[0].contains(told), "{heard:?}");
    }
}

#[test]
fn a_compressed_part_is_one_frame_and_opens_up_to_its_flush() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.pcapng.zst");
    let mut output = open(&path, Settings { compress: Some(3), ..replay() });
    output.begin(Part { number: 1, at: 0 }).unwrap();
    let blocks: Vec<_> = (0..100).map(|n| block(1000 + 4 * n)).collect();
    let mut given = Vec::new();
    for block in &blocks {
        give(&mut output, block).unwrap();
        given.extend_from_slice(block);
        output.flush().unwrap();
    }
    let draft = dir.path().join("out.pcapng.zst.part");
    // A capture that is killed leaves this.
    let decode = || {
        let mut read = Vec::new();
        let _ = zstd::stream::read::Decoder::new(File::open(&draft).unwrap()).unwrap().read_to_end(&mut read);
        read
    };
    eventually(|| {
        output.flush().unwrap();
        decode() == given
    });
    output.end().unwrap();
    output.close().unwrap();
    let bytes = fs::read(&path).unwrap();
    let frame = zstd::zstd_safe::find_frame_compressed_size(&bytes).unwrap();
    assert_eq!(frame, bytes.len(), "one frame");
    assert_eq!(zstd::decode_all(bytes.as_slice()).unwrap(), given);
}

#[test]
fn links_and_what_is_no_file_are_refused() {
    let dir = TempDir::new().unwrap();
    let (target, link) = (dir.path().join("target"), dir.path().join("link"));
    fs::write(&target, "precious").unwrap();
    symlink(&target, &link).unwrap();
    let shown = link.display();
    let manners = Manners { overwrite: true, ..Manners::default() };
    let told = format!("cannot write to {shown}: it is a symbolic link (name the file that it leads to)");
    assert_eq!(refusal(&link, Settings { manners, ..replay() }), told);
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
    assert!(refusal(&dir.path().join("dangling"), replay()).contains("symbolic link"));
    assert!(refusal(dir.path(), replay()).ends_with("it is a directory"));
    let missing = dir.path().join("missing/out.pcapng");
    let refusal = refusal(&missing, replay());
    assert!(refusal.ends_with(": its directory: No such file or directory (os error 2)"), "{refusal}");
}

/// Set in the process that has a full disk: the directory on it.
const DISK: &str = "TLSDUMP_TEST_SMALL_DISK";
/// Bytes that fit there.
const DISK_BYTES: usize = 1_000 * 1024;

#[test]
fn a_full_disk_is_an_error_and_leaves_a_file_that_opens() {
    if let Some(disk) = env::var_os(DISK) {
        fill(Path::new(&disk), None);
        return fill(Path::new(&disk), Some(1));
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

fn fill(disk: &Path, compress: Option<i32>) {
    let path = disk.join("out.pcapng");
    let names = names();
    let output = open(&path, Settings { compress, ..replay() });
    let mut pen = Pen::new(output, &names, 0, Envelope::Plain);
    let mut a = flow(1, "10.0.0.1:50000", "10.0.0.2:443");
    pen.open(&mut a);
    // Twice what there is room for, none of it like the other, in a length that no page or buffer is a
    // multiple of.
    let length = 9_999;
    let bytes = noise(DISK_BYTES * 2);
    let mut drawn = bytes.chunks(length).map(|bytes| {
        pen.try_draw(&mut a, Dir::Out, What::Data(bytes))?;
        pen.writer.flush(&names)
    });
    let error = match drawn.find_map(Result::err) {
        Some(error) => error,
        None => pen.writer.finish(&names).unwrap_err(),
    };
    let shown = path.display().to_string();
    assert!(matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::FileTooLarge), "{error}");
    let told = error.to_string();
    assert!(told.starts_with(&format!("cannot write to {shown}: ")), "{told}");
    assert!(told.ends_with(&format!("; what it held until then is in {shown}.part")), "{told}");
    let draft = disk.join("out.pcapng.part");
    let left = fs::read(&draft).unwrap();
    let left = match compress {
        None => left,
        Some(_) => {
            let mut read = Vec::new();
            let _ = zstd::stream::read::Decoder::new(left.as_slice()).unwrap().read_to_end(&mut read);
            // A frame that is cut off ends anywhere.
            read.truncate(pcapng::whole_blocks(&read));
            read
        }
    };
    let capture = pcapng::read(&left).unwrap();
    let packets = capture.packets.len();
    let room = DISK_BYTES / (length + 54 + 44);
    assert!(packets <= room + 4, "{packets} packets where {room} have room");
    // What was not written yet when it ended is at most a block of zstd's.
    let missing = if compress.is_some() { (128 << 10) / length + 2 } else { 1 };
    assert!(packets >= room - missing, "{packets} packets where {room} have room");
    fs::remove_file(draft).unwrap();
}
