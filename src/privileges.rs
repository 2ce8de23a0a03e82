//! Giving up privileges once they are not needed any more (`-Z`).

use anyhow::{Context as _, Result};
use nix::unistd::{User, initgroups, setgid, setuid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Becomes `user` for good, with its groups: of root's rights and capabilities nothing is left. To be called
/// before other threads are there that hold something of them open.
///
/// # Errors
/// There is no such user, or this process may not become it.
pub fn give_up(user: &str) -> Result<()> {
    let told = || format!("-Z {user}");
    let found = User::from_name(user).with_context(told)?;
    let found = found.with_context(|| format!("-Z {user}: there is no such user"))?;
    let name = std::ffi::CString::new(user).with_context(told)?;
    let switched =
        initgroups(&name, found.gid).and_then(|()| setgid(found.gid)).and_then(|()| setuid(found.uid));
    switched.with_context(|| format!("-Z {user}: cannot become that user"))?;
    // Those that did not come with user 0, or were to be kept, stay when the user changes.
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, none).with_context(|| format!("-Z {user}: cannot give up capabilities"))
}
