//! What the core asks of a clock.
//!
//! Rules of this file: milliseconds since the store's creation, at most [`LATEST_MS`](crate::window::LATEST_MS).
//! A reading may lag (a coarse clock, a preempted thread); it must not run ahead, because a window that ends early
//! admits too much. Readings that happen one after another do not fall: a key's first window begins after its
//! slot's last owner ended, and that is what keeps a stopped thread's swap from fitting (see `cell.rs`).

/// A monotonic clock that also knows Unix time.
pub trait Clock {
    /// Now; may lag by a few milliseconds where that is faster.
    fn now(&self) -> u64;

    /// Now, exactly: for ends that are computed from it. A lagging reading would let them come early.
    fn precise(&self) -> u64 {
        self.now()
    }

    /// Unix time minus [`precise`](Self::precise), in milliseconds, wrapping.
    fn wall_offset(&self) -> u64;
}

/// One reading, held fast: what an injected clock gave, or a test's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// The reading.
    pub now: u64,
    /// Unix time minus the reading, wrapping.
    pub wall_offset: u64,
}

impl Clock for Fixed {
    fn now(&self) -> u64 {
        self.now
    }

    fn wall_offset(&self) -> u64 {
        self.wall_offset
    }
}
