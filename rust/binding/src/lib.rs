//! The Python module `bide._native`.
use pyo3::prelude::*;

/// The limiter's native half.
#[pymodule]
mod _native {}
