//! What the other end of a connection sees.

use tlsdump::event::{Conn, Role, Tuple};

use super::sim::Emission;

/// Numbers of the sessions at the other ends are higher by this.
pub(crate) const OTHER_END: u64 = 1 << 32;

/// The same as another process at the other end sees it.
pub(crate) fn at_other_end(emission: &Emission) -> Emission {
    let mut other = emission.clone();
    let context = match &mut other {
        Emission::Data { context, dir, .. } => {
            *dir = dir.flip();
            context
        }
        Emission::Close(close) => {
            close.totals.reverse();
            &mut close.context
        }
        Emission::Totals(totals) => {
            totals.totals.reverse();
            &mut totals.context
        }
        Emission::Exit(exit) => {
            exit.task.pid += 1000;
            return other;
        }
        Emission::Clock(_) => return other,
    };
    context.session.id += OTHER_END;
    context.task.pid += 1000;
    let Conn { tuple, role, .. } = &mut context.conn;
    *role = match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
        Role::Unknown => Role::Unknown,
    };
    *tuple = tuple.map(|Tuple { local, local_port, remote, remote_port, netns }| Tuple {
        local: remote,
        local_port: remote_port,
        remote: local,
        remote_port: local_port,
        netns,
    });
    other
}
