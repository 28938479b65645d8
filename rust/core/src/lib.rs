//! The limiter's core: a keyed counter of fixed windows in a flat buffer of atomics, without locks.
//!
//! Theory of operation
//! - One 64-bit word holds one key's window, and one compare-and-swap changes it ([`window`] is the arithmetic,
//!   [`cell`] the swap). A denial writes nothing.
//! - A [`table`] is one limit: slots of {id, word}, four to a cache line. A slot is given to another key only when
//!   its window has ended. A key that finds no room counts in its home line's overflow word, where it may be
//!   refused early and is never admitted beyond its limit.
//! - A [`limiter`] is several tables under one hash: all or nothing.
//! - The buffer is borrowed ([`layout`] says what lies where): anonymous shared memory, or a file. Nothing else is
//!   kept, so that processes that share the buffer share the counters, and one that is killed between any two steps
//!   leaves nothing that another cannot finish.
//!
//! Rules of this crate: no `unsafe`; no lock; no clock of its own (a [`Clock`] is handed in); memory orderings
//! live in `cell.rs` alone, each with its reason; nothing here knows Python.
#![forbid(unsafe_code)]

pub mod cell;
pub mod census;
pub mod clock;
pub mod key;
pub mod layout;
pub mod limiter;
pub mod siphash;
pub mod sync;
pub mod table;
pub mod window;

pub use clock::{Clock, Fixed};
pub use key::{Key, Keyer};
pub use layout::{Facts, Header, Layout, LayoutError, buffer_bytes};
pub use limiter::{Limiter, Outcome, Quota, Stats};
pub use window::Rule;
