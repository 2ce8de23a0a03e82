//! Which program goes where in Go's `crypto/tls`.

use libbpf_rs::ProgramMut;

use super::load::Plan;
use super::skel::{OpenTlsdumpProgs, TlsdumpProgs};
use crate::probe::go::{Abi, Site};
use crate::probe::{Found, Hook};

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
        Site::Secret => pick(&progs.go_secret, &progs.go_secret_stack),
    }
}

/// How a program goes from one piece of data to the next.
enum Copies {
    Looped,
    Unrolled,
}

/// Has those programs loaded that the kernel can run. Where it has no `bpf_loop()` its verifier takes seconds
/// for each that copies data, so only those that these libraries need.
pub(super) fn choose(p: &mut OpenTlsdumpProgs<'_>, plan: &Plan, libraries: &[Found]) {
    use Abi::{Registers, Stack};
    use Copies::{Looped, Unrolled};
    let needed =
        |site, abi| libraries.iter().any(|l| l.hooks.iter().any(|(hook, _)| *hook == Hook::Go(site, abi)));
    for (program, site, abi, copies) in [
        (&mut p.go_exit_write, Site::WriteReturn, Registers, Looped),
        (&mut p.go_exit_write_stack, Site::WriteReturn, Stack, Looped),
        (&mut p.go_exit_read, Site::ReadReturn, Registers, Looped),
        (&mut p.go_exit_read_stack, Site::ReadReturn, Stack, Looped),
        (&mut p.go_exit_read_kept, Site::KeptReadReturn, Registers, Looped),
        (&mut p.go_exit_read_kept_stack, Site::KeptReadReturn, Stack, Looped),
        (&mut p.go_exit_write_unrolled, Site::WriteReturn, Registers, Unrolled),
        (&mut p.go_exit_write_unrolled_stack, Site::WriteReturn, Stack, Unrolled),
        (&mut p.go_exit_read_unrolled, Site::ReadReturn, Registers, Unrolled),
        (&mut p.go_exit_read_unrolled_stack, Site::ReadReturn, Stack, Unrolled),
        (&mut p.go_exit_read_kept_unrolled, Site::KeptReadReturn, Registers, Unrolled),
        (&mut p.go_exit_read_kept_unrolled_stack, Site::KeptReadReturn, Stack, Unrolled),
    ] {
        program.set_autoload(match copies {
            Looped => plan.bpf_loop,
            Unrolled => !plan.bpf_loop && needed(site, abi),
        });
    }
}
