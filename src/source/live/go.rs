//! Which program goes where in Go's `crypto/tls`.

use libbpf_rs::ProgramMut;

use super::load::Plan;
use super::skel::TlsdumpProgs;
use crate::probe::go::{Abi, Site};

/// The program of a place.
pub(super) fn program<'p, 'obj>(
    progs: &'p TlsdumpProgs<'obj>,
    site: Site,
    abi: Abi,
    plan: &Plan,
) -> &'p ProgramMut<'obj> {
    let registers = abi == Abi::Registers;
    let pick = |in_registers, on_stack| if registers { in_registers } else { on_stack };
    match site {
        Site::WriteReturn if plan.bpf_loop => pick(&progs.go_exit_write, &progs.go_exit_write_stack),
        Site::WriteReturn => pick(&progs.go_exit_write_unrolled, &progs.go_exit_write_unrolled_stack),
        Site::ReadReturn if plan.bpf_loop => pick(&progs.go_exit_read, &progs.go_exit_read_stack),
        Site::ReadReturn => pick(&progs.go_exit_read_unrolled, &progs.go_exit_read_unrolled_stack),
        Site::KeptReadReturn if plan.bpf_loop => {
            pick(&progs.go_exit_read_kept, &progs.go_exit_read_kept_stack)
        }
        Site::KeptReadReturn => {
            pick(&progs.go_exit_read_kept_unrolled, &progs.go_exit_read_kept_unrolled_stack)
        }
        Site::HandshakeReturn => &progs.go_exit_handshake,
        Site::Write => pick(&progs.go_enter_write, &progs.go_enter_write_stack),
        Site::Read => pick(&progs.go_enter_read, &progs.go_enter_read_stack),
        Site::Client => pick(&progs.go_client, &progs.go_client_stack),
        Site::Server => pick(&progs.go_server, &progs.go_server_stack),
        Site::Close => pick(&progs.go_close, &progs.go_close_stack),
        Site::CloseWrite => pick(&progs.go_close_write, &progs.go_close_write_stack),
    }
}
