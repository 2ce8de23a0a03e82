//! Kernels on which a return probe can kill the probed program.
//!
//! From Linux 6.11 on x86-64 a probed function returns through a system call, uretprobe(), which the kernel
//! makes the program do ("uprobe: Add uretprobe syscall to speed up return probe"). Seccomp filters that were
//! made before don't know it, and kill, or make the call fail, which is as bad. Since 6.14, and in fixed
//! versions before, seccomp lets it pass ("seccomp: passthrough uretprobe systemcall without filtering").

use std::ops::RangeInclusive;

/// Numbers that no system call of x86-64 had before: what no filter of then knows. uretprobe() is 335.
pub(super) const UNKNOWN_CALLS: RangeInclusive<u32> = 335..=423;

/// Whether a kernel may have it: only the self-test tells. `release` and `machine` are those of uname(2).
#[must_use]
pub fn is_possible(release: &str, machine: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    let version: (Option<u32>, Option<u32>) = (numbers.next().flatten(), numbers.next().flatten());
    machine == "x86_64" && matches!(version, (Some(6), Some(11..=13)))
}

/// What a capture says on such a kernel.
#[must_use]
pub fn warning(release: &str) -> String {
    format!(
        "warning: Linux {release} may kill probed programs that have a seccomp filter, as containers do: \
         `tlsdump doctor` tells whether"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_versions_may_have_it() {
        assert!(warning("6.12.1").contains("Linux 6.12.1 may kill"));
        for (release, machine, possible) in [
            ("6.11.0-21-generic", "x86_64", true),
            ("6.12.22+bpo-amd64", "x86_64", true),
            ("6.13", "x86_64", true),
            ("6.12.1", "aarch64", false),
            ("6.1.0-18-amd64", "x86_64", false),
            ("6.10.9", "x86_64", false),
            ("6.14.1", "x86_64", false),
            ("5.12.1", "x86_64", false),
            ("16.12", "x86_64", false),
            ("", "x86_64", false),
        ] {
            assert_eq!(is_possible(release, machine), possible, "{release} {machine}");
        }
    }
}
