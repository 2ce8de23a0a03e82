//! The two ends that a flow is drawn between, and which of them is the client.

use std::net::{Ipv4Addr, SocketAddr};

use crate::event::{Role, Tuple};

/// First of the ports that systems give to clients by themselves (Linux: `ip_local_port_range`).
const EPHEMERAL_MIN: u16 = 32_768;
/// First port that needs no privilege to listen on.
const UNPRIVILEGED_MIN: u16 = 1024;
/// First client port, and how many of them, of made-up ends.
const MADE_UP_PORTS: (u64, u64) = (40_000, 20_000);
/// Server port of made-up ends.
const MADE_UP_SERVER: u16 = 443;

/// The ends of a conversation, seen from the traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) local_is_client: bool,
}

/// The ends that `tuple` tells. Who is the client is known from `role`; where the program never said, the
/// ports decide:
///
/// 1. exactly one port is ephemeral (32768 and above): that end is the client;
/// 2. else exactly one port is below 1024: that end is the server;
/// 3. else the end with the lower port is the server; with equal ports the local end is the client.
pub(super) fn known(tuple: &Tuple, role: Role) -> Ends {
    let (local, remote) = (tuple.local_port, tuple.remote_port);
    let local_is_client = match role {
        Role::Client => true,
        Role::Server => false,
        Role::Unknown if (local >= EPHEMERAL_MIN) != (remote >= EPHEMERAL_MIN) => local >= EPHEMERAL_MIN,
        Role::Unknown if (local < UNPRIVILEGED_MIN) != (remote < UNPRIVILEGED_MIN) => {
            remote < UNPRIVILEGED_MIN
        }
        Role::Unknown => local >= remote,
    };
    Ends {
        local: SocketAddr::new(tuple.local, local),
        remote: SocketAddr::new(tuple.remote, remote),
        local_is_client,
    }
}

/// Ends for flow number `id` when nothing is known: 198.18.x.y here, 198.19.x.y there (RFC 2544 keeps
/// 198.18.0.0/15 for benchmarks, so no real traffic has them). The client gets a port of 40000 to 59999,
/// the server 443; they come again after 1.3 thousand million flows.
pub(super) fn made_up(id: u64, role: Role) -> Ends {
    let [.., x, y] = id.to_be_bytes();
    let (first, count) = MADE_UP_PORTS;
    // 40000 + 19999 fits in 16 bits.
    let client_port = (first + (id >> 16) % count) as u16;
    let local_is_client = role != Role::Server;
    let (local_port, remote_port) =
        if local_is_client { (client_port, MADE_UP_SERVER) } else { (MADE_UP_SERVER, client_port) };
    Ends {
        local: SocketAddr::new(Ipv4Addr::new(198, 18, x, y).into(), local_port),
        remote: SocketAddr::new(Ipv4Addr::new(198, 19, x, y).into(), remote_port),
        local_is_client,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_client_is_told_by_role_then_by_ports() {
        use Role::{Client, Server, Unknown};
        for (role, local_port, remote_port, local_is_client) in [
            (Client, 443, 50_000, true),
            (Server, 50_000, 443, false),
            (Unknown, 50_000, 443, true),
            (Unknown, 443, 50_000, false),
            (Unknown, 50_000, 8443, true),
            (Unknown, 8443, 32_768, false),
            (Unknown, 32_767, 443, true),
            (Unknown, 443, 2000, false),
            (Unknown, 1023, 1024, false),
            (Unknown, 8443, 5000, true),
            (Unknown, 5000, 8443, false),
            (Unknown, 40_000, 50_000, false),
            (Unknown, 50_000, 40_000, true),
            (Unknown, 80, 443, false),
            (Unknown, 853, 853, true),
        ] {
            let [local, remote] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(Into::into);
            let ends = known(&Tuple { local, local_port, remote, remote_port, netns: 1 }, role);
            assert_eq!(ends.local_is_client, local_is_client, "{role:?} {local_port} {remote_port}");
            assert_eq!((ends.local, ends.remote), ((local, local_port).into(), (remote, remote_port).into()));
        }
    }

    #[test]
    fn made_up_ends_differ_from_flow_to_flow() {
        let ids = (1..300).chain(65_530..65_550).chain([1 << 31, (1 << 31) + 1]);
        let pairs: Vec<_> = ids.map(|id| made_up(id, Role::Unknown)).collect();
        let different: HashSet<_> = pairs.iter().map(|e| (e.local, e.remote)).collect();
        assert_eq!(different.len(), pairs.len());
    }

    #[test]
    fn made_up_ends_follow_from_the_number() {
        let text = |id, role| {
            let Ends { local, remote, local_is_client } = made_up(id, role);
            format!("{local} {remote} {local_is_client}")
        };
        assert_eq!(text(258, Role::Unknown), "198.18.1.2:40000 198.19.1.2:443 true");
        assert_eq!(text(65_537, Role::Client), "198.18.0.1:40001 198.19.0.1:443 true");
        assert_eq!(text(7, Role::Server), "198.18.0.7:443 198.19.0.7:40000 false");
        assert_eq!(text(u64::MAX, Role::Server), "198.18.255.255:443 198.19.255.255:50655 false");
    }
}
