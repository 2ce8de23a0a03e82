//! Where records come from: the kernel, or a recorded stream.
//!
//! Live capture and replay differ in nothing but which [`Source`] is built: every fact that the later stages
//! need is a record of its own in the stream.

pub mod held;
pub mod live;
pub mod stream;

/// A source of records.
pub trait Source {
    /// Appends whole records to `batch`. May wait a short time for the first one, never for more than that.
    ///
    /// # Errors
    /// What was read before the error stays in `batch` and is good.
    fn fill(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<State>;
}

/// Whether a source will give more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Call again.
    Open,
    /// There will be no more.
    End,
}
