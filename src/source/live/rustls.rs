//! Which program goes where in rustls.

use libbpf_rs::ProgramMut;

use super::load::Plan;
use super::skel::{OpenTlsdumpProgs, TlsdumpProgs};
use crate::probe::rustls::Site;
use crate::probe::{Found, Hook};

/// The program where a function begins.
pub(super) fn at_entry<'p, 'obj>(progs: &'p TlsdumpProgs<'obj>, site: Site) -> &'p ProgramMut<'obj> {
    match site {
        Site::WriteSlice => &progs.rustls_enter_write_slice,
        Site::WriteChunks => &progs.rustls_enter_write_chunks,
        Site::ReadClient => &progs.rustls_read_client,
        Site::ReadServer => &progs.rustls_read_server,
        Site::Encrypt => &progs.rustls_enter_encrypt,
        Site::FinishClient => &progs.rustls_finish_client,
        Site::FinishServer => &progs.rustls_finish_server,
        Site::NewKeys => &progs.rustls_new_keys,
        Site::Shutdown => &progs.rustls_shutdown,
        Site::Close => &progs.rustls_close,
    }
}

/// The program where it returns, if that matters.
pub(super) fn at_return<'p, 'obj>(
    progs: &'p TlsdumpProgs<'obj>,
    site: Site,
    plan: &Plan,
) -> Option<&'p ProgramMut<'obj>> {
    Some(match site {
        Site::WriteSlice | Site::WriteChunks if plan.bpf_loop => &progs.rustls_exit_write,
        Site::WriteSlice | Site::WriteChunks => &progs.rustls_exit_write_unrolled,
        Site::Encrypt => &progs.rustls_exit_encrypt,
        Site::FinishClient | Site::FinishServer => &progs.rustls_exit_finish,
        Site::ReadClient | Site::ReadServer | Site::NewKeys | Site::Shutdown | Site::Close => return None,
    })
}

/// Has that program loaded which the kernel can run; the one without `bpf_loop()` only if one of these
/// libraries needs it, as its verifier takes long for it.
pub(super) fn choose(p: &mut OpenTlsdumpProgs<'_>, plan: &Plan, libraries: &[Found]) {
    let is_needed = libraries.iter().any(|l| l.hooks.iter().any(|(hook, _)| matches!(hook, Hook::Rustls(_))));
    p.rustls_exit_write.set_autoload(plan.bpf_loop);
    p.rustls_exit_write_unrolled.set_autoload(!plan.bpf_loop && is_needed);
}
