//! One inode is probed once, however many containers show it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{PROC, Process, is_root, libssl, named, scan};

/// The directories of two containers of one image.
struct Image {
    dir: TempDir,
    files: PathBuf,
}

impl Image {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("layer, one");
        fs::create_dir(&files).unwrap();
        fs::copy(libssl(), files.join("libssl.so.3")).unwrap();
        Self { dir, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A process to which /usr/local/lib is a container's overlay on the image.
    fn container(&self, name: &str, lower: &str, then: &str) -> Process {
        self.container_with(name, lower, "redirect_dir=off,metacopy=off", then)
    }

    fn container_with(&self, name: &str, lower: &str, options: &str, then: &str) -> Process {
        let dir = self.dir.path().display();
        let ready = self.path(&format!("{name}.ready"));
        let script = format!(
            "cd '{dir}'; mkdir {name}.up {name}.work; \
             mount -t overlay o /usr/local/lib \
             -o \"lowerdir={lower},upperdir=$PWD/{name}.up,workdir=$PWD/{name}.work,{options}\"; \
             {then}; : > '{}'; exec sleep 600",
            ready.display()
        );
        Process::in_namespace(&script, &ready)
    }

    /// The image's layer as mount(8) wants it.
    fn lower(&self) -> String {
        self.files.display().to_string().replace(',', "\\\\,")
    }
}

/// What the scan of some processes finds at /usr/local/lib/libssl.so.3.
fn local(processes: &[&Process]) -> Vec<(u64, u64)> {
    let pids: Vec<_> = processes.iter().map(|process| process.pid()).collect();
    let plan = scan(Path::new(PROC), &pids);
    let found = plan.found.iter().filter(|found| found.path == Path::new("/usr/local/lib/libssl.so.3"));
    found.map(|found| (found.id.device, found.id.inode)).collect()
}

#[test]
fn containers_of_one_image_share_one_inode() {
    if !is_root() {
        return;
    }
    let image = Image::new();
    let a = image.container("a", &image.lower(), ":");
    let b = image.container("b", &image.lower(), ":");
    let layer = fs::metadata(image.files.join("libssl.so.3")).unwrap();
    assert_eq!(local(&[&a, &b]), [(layer.dev(), layer.ino())]);
    // The layers are told from the container's own mounts, so one alone gives the same.
    assert_eq!(local(&[&b]), [(layer.dev(), layer.ino())]);
    let seen = |p: &Process| {
        let path = format!("/proc/{}/root/usr/local/lib/libssl.so.3", p.pid());
        fs::metadata(path).unwrap().dev()
    };
    assert_ne!(seen(&a), seen(&b), "else this test shows nothing");
}

#[test]
fn a_container_that_changed_its_copy_has_an_inode_of_its_own() {
    if !is_root() {
        return;
    }
    let image = Image::new();
    let a = image.container("a", &image.lower(), ":");
    let b = image.container("b", &image.lower(), "printf x >> /usr/local/lib/libssl.so.3");
    let layer = fs::metadata(image.files.join("libssl.so.3")).unwrap();
    let copy = fs::metadata(image.path("b.up/libssl.so.3")).unwrap();
    assert_eq!(local(&[&a, &b]), [(layer.dev(), layer.ino()), (copy.dev(), copy.ino())]);
}

#[test]
fn a_file_that_an_upper_layer_hides_is_not_taken_for_the_one_shown() {
    if !is_root() {
        return;
    }
    let image = Image::new();
    // The same length and the same times, in a layer above.
    let other = image.path("other");
    fs::create_dir(&other).unwrap();
    let script = format!("cp -p '{}/libssl.so.3' '{}'", image.files.display(), other.display());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let lower = format!("{}:{}", other.display(), image.lower());
    let a = image.container("a", &lower, ":");
    let b = image.container("b", &image.lower(), ":");
    let above = fs::metadata(other.join("libssl.so.3")).unwrap();
    let below = fs::metadata(image.files.join("libssl.so.3")).unwrap();
    assert_eq!(local(&[&a, &b]), [(above.dev(), above.ino()), (below.dev(), below.ino())]);
}

#[test]
fn a_renamed_directory_is_not_looked_for_under_its_new_name_below() {
    if !is_root() {
        return;
    }
    let image = Image::new();
    for name in ["one", "two"] {
        fs::create_dir(image.files.join(name)).unwrap();
        fs::copy(libssl(), image.files.join(name).join("libssl.so.3")).unwrap();
    }
    let rename = "cd /usr/local/lib; rm -r two; mv one two; cd /";
    let a = image.container_with("a", &image.lower(), "redirect_dir=on", rename);
    assert!(!image.path("a.up/two/libssl.so.3").exists(), "else this test shows nothing");
    let plan = scan(Path::new(PROC), &[a.pid()]);
    let found = named(&plan, "lib/two/libssl.so.3");
    let hidden = fs::metadata(image.files.join("two/libssl.so.3")).unwrap();
    assert_eq!(found.len(), 1);
    assert_ne!((found[0].id.device, found[0].id.inode), (hidden.dev(), hidden.ino()));
}

#[test]
fn attributes_alone_in_the_upper_layer_are_not_the_file() {
    if !is_root() {
        return;
    }
    let image = Image::new();
    let change = "chmod 700 /usr/local/lib/libssl.so.3";
    let a = image.container_with("a", &image.lower(), "metacopy=on", change);
    let attributes = fs::metadata(image.path("a.up/libssl.so.3")).unwrap();
    assert!(attributes.blocks() < 64, "else this test shows nothing");
    assert_ne!(local(&[&a]), [(attributes.dev(), attributes.ino())]);
}

/// As with a runtime that keeps its containers' own layers where only it sees them.
#[test]
fn a_lower_layer_tells_enough_when_the_upper_is_out_of_sight() {
    if !is_root() {
        return;
    }
    let image = Image::new();
    let hidden = |name: &str, then: &str| {
        let ready = image.path(&format!("{name}.ready"));
        let script = format!(
            "cd '{}'; mkdir -p tmp; mount -t tmpfs t tmp; mkdir tmp/up tmp/work; \
             mount -t overlay o /usr/local/lib \
             -o \"lowerdir={},upperdir=$PWD/tmp/up,workdir=$PWD/tmp/work\"; \
             {then}; : > '{}'; exec sleep 600",
            image.dir.path().display(),
            image.lower(),
            ready.display()
        );
        Process::in_namespace(&script, &ready)
    };
    let layer = fs::metadata(image.files.join("libssl.so.3")).unwrap();
    let (a, b) =
        (hidden("a", ":"), hidden("b", "touch -r /usr/local/lib/libssl.so.3 /usr/local/lib/libssl.so.3"));
    let found = local(&[&a, &b]);
    assert_eq!(found.len(), 2, "the second has a copy of its own, with all times but that of the copying");
    assert_eq!(found[0], (layer.dev(), layer.ino()));
}

#[test]
fn without_sight_of_the_layers_each_container_counts() {
    if !is_root() {
        return;
    }
    let image = Image::new();
    // Layers on a file system that only the container's own namespace has.
    let hidden = |name: &str| {
        let ready = image.path(&format!("{name}.ready"));
        let script = format!(
            "cd '{}'; mkdir -p tmp; mount -t tmpfs t tmp; cp 'layer, one/libssl.so.3' tmp; \
             mount -t overlay -o \"lowerdir=$PWD/tmp:/usr/local/lib\" o /usr/local/lib; \
             : > '{}'; exec sleep 600",
            image.dir.path().display(),
            ready.display()
        );
        Process::in_namespace(&script, &ready)
    };
    let (a, b) = (hidden("a"), hidden("b"));
    assert_eq!(local(&[&a, &b]).len(), 2);
}
