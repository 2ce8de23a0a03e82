//! The envelope that is none: plaintext straight in TCP.

use crate::event::Dir;
use crate::flow::What;

use super::tcp::Pen;

/// Draws what happens in a flow; lost bytes become a gap in the sequence numbers.
pub(super) fn draw<E>(pen: &mut Pen<'_, E>, dir: Dir, what: What<'_>) -> Result<(), E> {
    if matches!(what, What::Data(_) | What::Gap(_)) {
        pen.reintroduce()?;
    }
    match what {
        What::Open => pen.handshake(dir, None),
        What::Data(bytes) => pen.data(dir, bytes),
        What::Gap(lost) => pen.gap(dir, lost),
        What::Fin => pen.fin(dir, &[]),
        What::Reset => pen.reset(dir),
    }
}
