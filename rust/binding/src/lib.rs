//! The Python module `bide._native`: bide-core behind PyO3.
//!
//! Rules of this crate
//! - Classes are frozen and methods take `&self`: no borrow flag, nothing that a second thread can trip over.
//! - The GIL is not released: a call takes nanoseconds, and giving it up and taking it again would cost more.
//! - `unsafe` is in two files: `buffer.rs` (memory that Python owns, as atomics) and `fastcall.rs` (two methods below
//!   PyO3's argument handling); and in one line of `core_class.rs`, which keeps that memory beside what borrows it. Each
//!   use has its SAFETY.
//! - Errors name an argument and say what to pass. They never show a key.

mod arguments;
mod buffer;
mod clock;
mod core_class;
mod fastcall;
mod header_class;
mod outcome;

use pyo3::prelude::*;

/// The limiter's native half.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::core_class::Core;
    #[pymodule_export]
    use crate::header_class::Header;
    #[cfg(unix)]
    #[pymodule_export]
    use crate::header_class::{allocate, lay_over};
    #[pymodule_export]
    use crate::outcome::Outcome;

    /// buffer_size(max_keys, table_count)
    /// --
    ///
    /// The bytes of a store for so many keys and so many limits.
    #[pyfunction]
    fn buffer_size(max_keys: u64, table_count: usize) -> PyResult<usize> {
        let most_keys = bide_core::layout::MAX_KEYS;
        let most_tables = bide_core::layout::MAX_TABLES;
        if !(1..=most_keys).contains(&max_keys) || !(1..=most_tables).contains(&table_count) {
            return Err(PyValueError::new_err(format!(
                "max_keys must be from 1 to {most_keys} and table_count from 1 to {most_tables}"
            )));
        }
        Ok(bide_core::buffer_bytes(max_keys, table_count))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::fastcall::add_methods(module.py())
    }
}
