//! Naming a container by the control group that its runtime put it in.
//!
//! Runtimes make a control group for each container, with the container's id, 64 hexadecimal digits, in its
//! name: `docker-ID.scope` and `cri-containerd-ID.scope` under systemd, `/docker/ID` or `/kubepods/…/ID`
//! without. Version 1 hierarchies and the one of version 2 have the same names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes that are read of /proc/PID/cgroup.
const CGROUP_BYTES_MAX: u64 = 64 << 10;
/// Digits of a container id.
const ID_DIGITS: usize = 64;
/// Digits by which people call a container, as `docker ps` and `crictl ps` show them.
const SHORT_DIGITS: usize = 12;

/// What is before the id in the name of a container's control group, and whose it is. Where nothing is before
/// it, the directories above tell.
const PREFIXES: [(&str, &str); 6] = [
    ("docker", "docker"),
    ("libpod", "podman"),
    ("cri-containerd", "containerd"),
    ("crio", "cri-o"),
    ("nerdctl", "containerd"),
    ("buildkit", "buildkit"),
];
const PARENTS: [(&str, &str); 3] =
    [("docker", "docker"), ("libpod_parent", "podman"), ("kubepods", "kubernetes")];

/// A container as far as control groups tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerId {
    /// All 64 digits.
    pub id: String,
    /// The runtime, `kubernetes` for a pod's container of unknown runtime, or empty.
    pub runtime: &'static str,
}

impl ContainerId {
    /// The digits by which people call it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..SHORT_DIGITS).unwrap_or(&self.id)
    }
}

/// The container that process `pid` is in, if its control group tells.
#[must_use]
pub fn container_of(proc: &Path, pid: u32) -> Option<ContainerId> {
    let file = File::open(proc.join(pid.to_string()).join("cgroup")).ok()?;
    let mut bytes = Vec::new();
    file.take(CGROUP_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    parse(&String::from_utf8_lossy(&bytes))
}

/// The first line with a container counts; within it the innermost, as containers may run in containers.
fn parse(text: &str) -> Option<ContainerId> {
    text.lines().find_map(|line| {
        // hierarchy:controllers:path, and a path may have colons.
        let path = line.splitn(3, ':').nth(2)?;
        let parts: Vec<_> = path.split('/').collect();
        parts.iter().enumerate().rev().find_map(|(depth, part)| container_in(part, parts.get(..depth)?))
    })
}

fn container_in(part: &str, above: &[&str]) -> Option<ContainerId> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (before, id) = part.split_at_checked(part.len().checked_sub(ID_DIGITS)?)?;
    if !id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    // systemd's name for a group may be in front: `kubepods-besteffort-podUID.slice:cri-containerd:ID`.
    let before = before.trim_end_matches(['-', ':']);
    let before = before.rsplit(':').next().unwrap_or_default();
    // The monitor of a container is not in it.
    if before.ends_with("conmon") {
        return None;
    }
    let by_prefix = PREFIXES.iter().find(|(prefix, _)| *prefix == before);
    let by_parent = || PARENTS.iter().find(|(parent, _)| above.iter().any(|dir| dir.starts_with(parent)));
    let runtime = by_prefix.or_else(by_parent).map_or("", |(_, runtime)| runtime);
    Some(ContainerId { id: id.to_owned(), runtime })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const B: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    #[test]
    fn containers_of_all_runtimes_are_told() {
        for (text, runtime) in [
            (format!("0::/system.slice/docker-{A}.scope\n"), "docker"),
            (format!("12:memory:/docker/{A}\n0::/\n"), "docker"),
            (format!("12:cpu,cpuacct:/user.slice\n4:memory:/docker/{A}\n"), "docker"),
            (format!("0::/machine.slice/libpod-{A}.scope/container\n"), "podman"),
            (format!("9:pids:/libpod_parent/libpod-{A}\n"), "podman"),
            (format!("0::/kubepods.slice/kubepods-pod12_3.slice/cri-containerd-{A}.scope"), "containerd"),
            (format!("0::/system.slice/kubepods-pod12_3.slice:cri-containerd:{A}"), "containerd"),
            (format!("0::/kubepods.slice/kubepods-burstable.slice/x.slice/crio-{A}.scope"), "cri-o"),
            (format!("5:devices:/kubepods/besteffort/pod6f2f/{A}"), "kubernetes"),
            (format!("0::/default/{A}"), ""),
            (format!("0::/docker/{B}/kubepods/besteffort/pod1/cri-containerd-{A}"), "containerd"),
        ] {
            let found = parse(&text).unwrap();
            assert_eq!((found.id.as_str(), found.runtime), (A, runtime), "{text}");
            assert_eq!(found.short(), "0123456789ab");
        }
    }

    #[test]
    fn what_is_no_container_is_none() {
        for text in [
            "0::/".to_owned(),
            String::new(),
            "0::/user.slice/user-1000.slice/session-2.scope".to_owned(),
            format!("0::/machine.slice/libpod-conmon-{A}.scope"),
            format!("0::/machine.slice/crio-conmon-{A}.scope"),
            format!("0::/docker/{}", &A[1..]),
            format!("0::/docker/{}", A.to_uppercase()),
            format!("0:{A}"),
            format!("0::/docker/{}é", &A[1..]),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }
}
