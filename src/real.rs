//! Real packets, held back until the secrets of their session are known: a reader needs these before the
//! server's hello, and the library derives them only after it.
//!
//! A packet is held from the client's hello on, and goes on when all secrets of the session are there, or
//! after a while without them. What was never begun within the capture can't be decrypted, and is not held.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::event::{Conn, Context, Dir, How, Name, Packet, RANDOM_BYTES, Role, Secret, SecretKind, Tuple};
use crate::flow::{Flow, FlowNames};
use crate::packet;

/// How long packets are held for secrets.
const HOLD_NS: u64 = 3_000_000_000;
/// Most bytes that are held of all sessions.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Most sessions that are known, and most random numbers with secrets.
const SESSIONS_MAX: usize = 65_536;

/// What opens the whole of a session: one of these sets.
const SUFFICIENT: [&[SecretKind]; 2] = [
    &[SecretKind::Master],
    &[
        SecretKind::ClientHandshake,
        SecretKind::ServerHandshake,
        SecretKind::ClientTraffic,
        SecretKind::ServerTraffic,
    ],
];

type Random = [u8; RANDOM_BYTES];

/// Where packets go, with the flow that they are of, and a number that is kept for it, which is 0 at first.
pub type Give<'a, E> = &'a mut dyn FnMut(&Packet<'_>, &Flow, &mut u32) -> Result<(), E>;

#[derive(Debug)]
struct Session {
    flow: Flow,
    /// What [`Give`] keeps.
    kept: u32,
    /// Whether its packets go on at once.
    open: bool,
    random: Option<Random>,
    held: VecDeque<HeldPacket>,
}

#[derive(Debug)]
struct HeldPacket {
    at: u64,
    interface: u32,
    dir: Dir,
    length: u32,
    bytes: Box<[u8]>,
}

/// The sessions whose packets are seen.
#[derive(Debug, Default)]
pub struct Real {
    sessions: HashMap<u64, Session>,
    /// The oldest first.
    order: VecDeque<u64>,
    /// By random number, which secrets are known: a bit for each.
    secrets: HashMap<Random, u32>,
    secrets_order: VecDeque<Random>,
    /// Sessions that hold packets, and since when, the first first.
    waiting: VecDeque<(u64, u64)>,
    held_bytes: usize,
    flows: u64,
    unopened: u64,
    strays: u64,
}

impl Real {
    /// Takes note of whose a session is, and over which connection.
    pub fn learn(&mut self, context: &Context) {
        let Conn { tuple: Some(tuple), how, role, .. } = context.conn else { return };
        match self.sessions.get_mut(&context.session.id) {
            Some(session) => session.flow.task = context.task,
            None => {
                self.flows += 1;
                let flow = flow(self.flows, context, &tuple, how, role);
                let session = Session { flow, kept: 0, open: false, random: None, held: VecDeque::new() };
                self.sessions.insert(context.session.id, session);
                self.order.push_back(context.session.id);
            }
        }
    }

    /// Takes note of a name of a session.
    pub fn name(&mut self, name: &Name<'_>) {
        self.learn(&name.context);
        if let Some(session) = self.sessions.get_mut(&name.context.session.id) {
            session.flow.names.learn(name.what, name.bytes, false);
        }
    }

    /// Takes note of a secret, which is where a reader finds it by now, and gives the packets that have
    /// waited for it.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn secret<E>(&mut self, secret: &Secret<'_>, give: Give<'_, E>) -> Result<(), E> {
        self.learn(&secret.context);
        let random = secret.client_random;
        if !self.secrets.contains_key(&random) {
            self.secrets_order.push_back(random);
            if self.secrets_order.len() > SESSIONS_MAX {
                self.secrets_order.pop_front().iter().for_each(|oldest| {
                    self.secrets.remove(oldest);
                });
            }
        }
        let known = self.secrets.entry(random).or_default();
        *known |= bit(secret.what);
        if !is_sufficient(*known) {
            return Ok(());
        }
        let waiting = self
            .waiting
            .iter()
            .filter(|(_, id)| self.sessions.get(id).is_some_and(|session| session.random == Some(random)));
        let ready: Vec<_> = waiting.map(|(_, id)| *id).collect();
        ready.into_iter().try_for_each(|id| self.open(id, give))
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn packet<E>(&mut self, packet: &Packet<'_>, give: Give<'_, E>) -> Result<(), E> {
        // The record that told of the session came before.
        let Some(session) = self.sessions.get_mut(&packet.session) else {
            self.strays += 1;
            return Ok(());
        };
        if session.open {
            return session.show(packet, give);
        }
        let segment = packet::segment(packet.bytes);
        let is_first = session.held.is_empty();
        let opens = segment.as_ref().is_some_and(|segment| segment.opens);
        if session.random.is_none() {
            session.random = segment.and_then(|segment| packet::client_random(segment.payload));
        }
        let known = session.random.and_then(|random| self.secrets.get(&random));
        let never = is_first && !opens && session.random.is_none();
        let ready = never || known.is_some_and(|known| is_sufficient(*known));
        if is_first && !ready {
            self.waiting.push_back((packet.at, packet.session));
        }
        self.held_bytes += packet.bytes.len();
        session.held.push_back(HeldPacket::new(packet));
        if ready {
            self.open(packet.session, give)?;
        }
        self.relieve(packet.at, give)
    }

    /// It is the time `now`, nanoseconds since 1970: gives what has waited for too
    /// long; at the end of time, all.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn relieve<E>(&mut self, now: u64, give: Give<'_, E>) -> Result<(), E> {
        while let Some((since, id)) = self.waiting.front().copied() {
            let is_over = self.held_bytes > HELD_BYTES_MAX || since.saturating_add(HOLD_NS) <= now;
            if !is_over {
                break;
            }
            self.unopened += 1;
            self.open(id, give)?;
        }
        while self.order.len() > SESSIONS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.open(oldest, give)?;
            self.sessions.remove(&oldest);
        }
        Ok(())
    }

    /// Sessions whose packets went on without all their secrets.
    #[must_use]
    pub fn unopened(&self) -> u64 {
        self.unopened
    }

    /// Packets that were left out, because their session is not known any more.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// The packets of a session wait no longer.
    fn open<E>(&mut self, id: u64, give: Give<'_, E>) -> Result<(), E> {
        self.waiting.retain(|(_, waiting)| *waiting != id);
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        session.open = true;
        for held in std::mem::take(&mut session.held) {
            self.held_bytes -= held.bytes.len();
            session.show(&held.packet(id, session.flow.netns), give)?;
        }
        Ok(())
    }
}

impl Session {
    fn show<E>(&mut self, packet: &Packet<'_>, give: Give<'_, E>) -> Result<(), E> {
        give(packet, &self.flow, &mut self.kept)
    }
}

impl HeldPacket {
    fn new(packet: &Packet<'_>) -> Self {
        let Packet { at, interface, dir, length, bytes, .. } = *packet;
        Self { at, interface, dir, length, bytes: bytes.into() }
    }

    fn packet(&self, session: u64, netns: u32) -> Packet<'_> {
        let Self { at, interface, dir, length, ref bytes } = *self;
        Packet { at, session, netns, interface, dir, length, bytes }
    }
}

fn flow(id: u64, context: &Context, tuple: &Tuple, how: How, role: Role) -> Flow {
    Flow {
        id,
        session: context.session.id,
        local: SocketAddr::new(tuple.local, tuple.local_port),
        remote: SocketAddr::new(tuple.remote, tuple.remote_port),
        local_is_client: role != Role::Server,
        how,
        netns: tuple.netns,
        library: context.session.library,
        task: context.task,
        names: FlowNames::default(),
        other_end: None,
    }
}

fn bit(what: SecretKind) -> u32 {
    1 << what as u32
}

fn is_sufficient(known: u32) -> bool {
    SUFFICIENT.iter().any(|set| set.iter().all(|what| known & bit(*what) != 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;

    use etherparse::PacketBuilder;

    use super::*;
    use crate::event::{Session as SessionId, Task};

    const RANDOM: Random = [7; RANDOM_BYTES];

    fn context(session: u64) -> Context {
        let tuple = Tuple {
            local: [10, 0, 0, 1].into(),
            local_port: 40_000,
            remote: [10, 0, 0, 2].into(),
            remote_port: 443,
            netns: 1,
        };
        Context {
            at: 1,
            session: SessionId { id: session, number: 0, library: 1 },
            task: Task::default(),
            conn: Conn { tuple: Some(tuple), how: How::Nested, role: Role::Client, ..Conn::default() },
        }
    }

    /// A stage and what it gave: times, and whether each was the first of its flow.
    #[derive(Default)]
    struct Stage {
        real: Real,
        given: Vec<(u64, bool)>,
    }

    impl Stage {
        fn see(&mut self, at: u64, opens: bool, payload: &[u8]) {
            let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
            let mut tcp = builder.tcp(40_000, 443, 1, 100);
            if opens {
                tcp = tcp.syn();
            }
            let mut bytes = Vec::new();
            tcp.write(&mut bytes, payload).unwrap();
            let length = bytes.len() as u32;
            let packet =
                Packet { at, session: 5, netns: 1, interface: 1, dir: Dir::Out, length, bytes: &bytes };
            let given = &mut self.given;
            let result: Result<(), Infallible> = self.real.packet(&packet, &mut |packet, _, kept| {
                given.push((packet.at, std::mem::replace(kept, 1) == 0));
                Ok(())
            });
            result.unwrap();
        }

        fn tell(&mut self, what: SecretKind) {
            let secret = Secret { context: context(5), what, client_random: RANDOM, bytes: &[1; 48] };
            let given = &mut self.given;
            let result: Result<(), Infallible> = self.real.secret(&secret, &mut |packet, _, kept| {
                given.push((packet.at, std::mem::replace(kept, 1) == 0));
                Ok(())
            });
            result.unwrap();
        }
    }

    fn hello() -> Vec<u8> {
        [&[22, 3, 1, 0, 90, 1, 0, 0, 86, 3, 3][..], &RANDOM].concat()
    }

    #[test]
    fn packets_wait_for_all_secrets_of_their_session() {
        let mut stage = Stage::default();
        stage.real.learn(&context(5));
        stage.see(1, true, b"");
        stage.see(2, false, &hello());
        for what in SUFFICIENT[1] {
            assert_eq!(stage.given, []);
            stage.tell(*what);
        }
        assert_eq!(stage.given, [(1, true), (2, false)]);
        stage.see(3, false, b"more");
        assert_eq!(stage.given.len(), 3);
        assert_eq!((stage.real.held_bytes, stage.real.unopened()), (0, 0));
    }

    #[test]
    fn secrets_that_are_known_before_hold_nothing_up() {
        let mut stage = Stage::default();
        stage.tell(SecretKind::Master);
        stage.see(1, true, b"");
        assert_eq!(stage.given, []);
        stage.see(2, false, &hello());
        assert_eq!(stage.given.len(), 2);
    }

    #[test]
    fn what_can_never_be_decrypted_does_not_wait() {
        let mut stage = Stage::default();
        stage.real.learn(&context(5));
        stage.see(1, false, b"from the middle");
        assert_eq!(stage.given, [(1, true)]);
    }

    #[test]
    fn secrets_that_do_not_come_are_not_waited_for() {
        let mut stage = Stage::default();
        stage.real.learn(&context(5));
        stage.see(1, true, b"");
        stage.see(2, false, &hello());
        let mut count = 0;
        for now in [HOLD_NS, HOLD_NS + 1] {
            let result: Result<(), Infallible> = stage.real.relieve(now, &mut |_, _, _| {
                count += 1;
                Ok(())
            });
            result.unwrap();
            assert_eq!(count, if now == HOLD_NS { 0 } else { 2 });
        }
        assert_eq!(stage.real.unopened(), 1);
    }

    #[test]
    fn sessions_that_nobody_told_of_have_no_packets() {
        let mut stage = Stage::default();
        stage.see(1, true, b"");
        assert_eq!(stage.given, []);
        assert_eq!((stage.real.held_bytes, stage.real.strays()), (0, 1));
    }
}
