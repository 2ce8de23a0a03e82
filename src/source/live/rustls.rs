//! Which program goes where in rustls.

use libbpf_rs::ProgramMut;

use super::load::Plan;
use super::skel::TlsdumpProgs;
use crate::probe::rustls::Site;

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
