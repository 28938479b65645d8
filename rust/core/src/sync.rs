//! One switch: the standard library's atomics, or loom's when the model checker runs (`--cfg loom`).
//!
//! Rule of this file: nothing else in the crate names `std::sync` or `loom`, so that what loom checks is the code
//! that ships.

#[cfg(not(loom))]
pub use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};
