//! What goes to the outputs besides what is drawn: secrets, and real packets.

use std::io;

use crate::event::{Context, Name, Packet, Secret};
use crate::flow::Flow;
use crate::frame::Frame;
use crate::names::Names;
use crate::real::{Give, Real};

use super::{Drawing, Outputs, Stop, counted};

impl Drawing {
    /// Takes note of whose a session is.
    pub(super) fn learn(&mut self, context: &Context) {
        self.real.iter_mut().for_each(|real| real.learn(context));
    }

    /// Takes note of a name of a session.
    pub(super) fn name(&mut self, name: &Name<'_>) {
        self.real.iter_mut().for_each(|real| real.name(name));
    }

    /// Hands a secret to whom it may concern, and then the packets that it opens. The parts to come get it
    /// from [`Self::tell_secrets`].
    pub(super) fn secret(&mut self, secret: &Secret<'_>, names: &Names) {
        self.attempt(|drawing| drawing.tell(secret));
        self.with_real(names, |real, give| real.secret(secret, give));
    }

    fn tell(&mut self, secret: &Secret<'_>) -> io::Result<()> {
        let Some(line) = self.secrets.learn(secret) else { return Ok(()) };
        if let Some(keylog) = &mut self.outputs.keylog {
            keylog.append(&line)?;
        }
        let Outputs { file: Some(file), secrets: true, .. } = &mut self.outputs else {
            self.secrets.told(secret.context.session.id);
            return Ok(());
        };
        // Where the file takes nothing, the next part gets it.
        if file.part().is_some() && file.part() == self.secrets_in && !file.is_full() {
            file.secrets(&line)?;
            self.secrets.told(secret.context.session.id);
        }
        Ok(())
    }

    /// Sees to it that the part that is being written has the secrets of all sessions that go on.
    pub(super) fn tell_secrets(&mut self) -> io::Result<()> {
        let Outputs { file: Some(file), secrets: true, .. } = &mut self.outputs else { return Ok(()) };
        let part = file.part();
        if part.is_some() && part != self.secrets_in {
            self.secrets_in = part;
            file.secrets(&self.secrets.head())?;
        }
        Ok(())
    }

    /// Whether there is more than one part.
    pub(super) fn is_cut(&self) -> bool {
        self.secrets_in.is_some_and(|part| part > 1)
    }

    /// Takes a real packet.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, names: &Names) {
        self.with_real(names, |real, give| real.packet(packet, give));
    }

    /// It is the time `now`: real packets that have waited for too long wait no longer.
    pub(super) fn relieve(&mut self, now: u64, names: &Names) {
        self.with_real(names, |real, give| real.relieve(now, give));
    }

    fn with_real(&mut self, names: &Names, act: impl FnOnce(&mut Real, Give<'_, Stop>) -> Result<(), Stop>) {
        let Some(mut real) = self.real.take_if(|_| self.stop.is_none()) else { return };
        self.stop =
            act(&mut real, &mut |packet, flow, part| self.write_real(packet, flow, part, names)).err();
        self.real = Some(real);
    }

    /// Writes a real packet; `shown` is the part of the capture that had the one before of its flow.
    fn write_real(
        &mut self,
        packet: &Packet<'_>,
        flow: &Flow,
        shown: &mut u32,
        names: &Names,
    ) -> Result<(), Stop> {
        let Outputs { file: Some(file), .. } = &mut self.outputs else { return Ok(()) };
        if file.is_full() {
            self.unwritten.0 += 1;
            self.unwritten.1 += packet.bytes.len() as u64;
            return Ok(());
        }
        let part = file.turn(packet.at, packet.bytes.len(), names)?;
        self.tell_secrets()?;
        let Outputs { file: Some(file), count, flush_each, .. } = &mut self.outputs else { return Ok(()) };
        let frame = Frame {
            at: packet.at,
            flow,
            dir: packet.dir,
            headers: packet.bytes,
            payload: &[],
            cut: packet.length.saturating_sub(packet.bytes.len() as u32),
            introduce: std::mem::replace(shown, part) != part,
            note: None,
            secrets: None,
        };
        file.frame(&frame, names)?;
        if *flush_each {
            file.flush(names)?;
        }
        counted(&mut self.packets, *count)
    }
}
