//! `Header`: what a store's buffer says of itself, and the few steps by which one is opened, moved and looked at; and the
//! two system calls for its file that Python lacks.
//!
//! Rules of this file: it does what it is told; `stores/file.py` knows in which order, and under which lock. The secret
//! is never handed out.

use bide_core::census::census;
use bide_core::layout::{self, Facts};
use bide_core::window::{FULL, LATEST_MS, PROBING};
use bide_core::{Keyer, Layout};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::buffer::Buffer;
use crate::core_class::random;

/// The header at the beginning of a buffer.
#[pyclass(frozen, module = "bide._native")]
pub struct Header {
    buffer: Buffer,
}

impl Header {
    fn read(&self) -> PyResult<(layout::Header<'_>, Facts)> {
        layout::Header::read(self.buffer.words()).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

#[pymethods]
impl Header {
    /// The header of a buffer that holds one: the first 4096 bytes of it are enough. Raises ValueError when it does not.
    #[new]
    fn new(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        let header = Self { buffer: Buffer::hold(buffer)? };
        header.read()?;
        Ok(header)
    }

    /// Makes a store of a zeroed buffer that is large enough.
    #[staticmethod]
    #[pyo3(signature = (buffer, windows_ms, *, max_keys, tenant, base_ns, unix_ms))]
    fn make(
        buffer: &Bound<'_, PyAny>,
        windows_ms: Vec<u64>,
        max_keys: u64,
        tenant: u64,
        base_ns: i64,
        unix_ms: u64,
    ) -> PyResult<Self> {
        let origin = layout::Origin {
            secret: random()?,
            created_unix_ms: unix_ms,
            boot: tenant,
            base_ns: base_ns as u64,
        };
        let header = Self { buffer: Buffer::hold(buffer)? };
        layout::Header::open(header.buffer.words(), max_keys, &windows_ms, || origin)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(header)
    }

    #[getter]
    fn max_keys(&self) -> PyResult<u64> {
        Ok(self.read()?.1.max_keys)
    }

    #[getter]
    fn windows_ms(&self) -> PyResult<Vec<u64>> {
        Ok(self.read()?.1.windows_ms)
    }

    #[getter]
    fn created_unix_ms(&self) -> PyResult<u64> {
        Ok(self.read()?.1.origin.created_unix_ms)
    }

    /// The boot that the store's time is counted in.
    #[getter]
    fn boot(&self) -> PyResult<u64> {
        Ok(self.read()?.1.origin.boot)
    }

    /// That boot's clock at the store's time 0.
    #[getter]
    fn base_ns(&self) -> PyResult<i64> {
        Ok(self.read()?.1.origin.base_ns as i64)
    }

    /// Unix time minus the store's, as the latest opener found it.
    #[getter]
    fn unix_offset_ms(&self) -> PyResult<i64> {
        Ok(self.read()?.1.unix_offset_ms as i64)
    }

    /// The latest store time that an opener saw.
    #[getter]
    fn seen_ms(&self) -> PyResult<u64> {
        Ok(self.read()?.1.seen_ms)
    }

    /// Whose clock the store is on now.
    #[getter]
    fn tenant(&self) -> PyResult<u64> {
        // Acquire: what its writer did before, is read after.
        Ok(self.read()?.0.tenant().load(std::sync::atomic::Ordering::Acquire))
    }

    /// A number that tells this store from others; says nothing of its secret.
    #[getter]
    fn identity(&self) -> PyResult<u64> {
        Ok(Keyer::new(self.read()?.1.origin.secret, b"").origin())
    }

    /// Refused, reused, overflowed.
    #[getter]
    fn counters(&self) -> PyResult<[u64; 3]> {
        Ok(self.read()?.0.counters().sums())
    }

    /// Takes the store over into another boot: under a lock.
    fn adopt(&self, boot: u64, now_ns: i64, unix_ms: u64) -> PyResult<()> {
        self.read()?.0.adopt(boot, now_ns as u64, unix_ms);
        Ok(())
    }

    /// Notes what time it is: what the next boot goes on from.
    fn note(&self, now_ms: u64, unix_ms: u64) -> PyResult<()> {
        self.read()?.0.note(now_ms, unix_ms);
        Ok(())
    }

    /// Begins the store's time anew, where nobody counts by it yet.
    fn restart(&self, now_ns: i64, unix_ms: u64) -> PyResult<()> {
        self.read()?.0.restart(now_ns as u64, unix_ms);
        Ok(())
    }

    /// Tells everybody who uses the store that another one takes its place.
    fn mark_replaced(&self) -> PyResult<()> {
        self.read()?.0.mark_replaced();
        Ok(())
    }

    /// Makes the store anew in a zeroed buffer: the same secret, the same clock, no counters.
    fn renew(&self, buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (header, facts) = self.read()?;
        let new = Self { buffer: Buffer::hold(buffer)? };
        let words = new.buffer.words();
        if words.len() < Layout::new(facts.max_keys, facts.windows_ms.len()).words() {
            return Err(PyValueError::new_err("the buffer is too small"));
        }
        header.renew(words);
        Ok(new)
    }

    /// For each table: its window, how many keys and overflow counters live at ``now_ms``, and its fullest buckets.
    fn census<'py>(&self, py: Python<'py>, now_ms: u64, most: usize) -> PyResult<Bound<'py, PyList>> {
        let (_, facts) = self.read()?;
        let layout = Layout::new(facts.max_keys, facts.windows_ms.len());
        let words = self.buffer.words();
        if words.len() < layout.words() {
            return Err(PyValueError::new_err("the buffer does not hold the whole store"));
        }
        let tables = PyList::empty(py);
        for (number, &window_ms) in facts.windows_ms.iter().enumerate() {
            let found = census(words, layout, number, now_ms, most);
            let fullest = PyList::empty(py);
            for bucket in found.fullest {
                let told = PyDict::new(py);
                told.set_item("fingerprint", format!("{:012x}", bucket.fingerprint))?;
                told.set_item("count", bucket.count.min(FULL))?;
                told.set_item(
                    "state",
                    match bucket.count {
                        ..FULL => "counting",
                        FULL => "held",
                        PROBING => "probing",
                        _ => "syncing",
                    },
                )?;
                told.set_item("reset_after", bucket.end.saturating_sub(now_ms) as f64 / 1_000.0)?;
                fullest.append(told)?;
            }
            let table = PyDict::new(py);
            table.set_item("window", window_ms as f64 / 1_000.0)?;
            table.set_item("live", found.live)?;
            table.set_item("overflowing", found.overflowing)?;
            table.set_item("fullest", fullest)?;
            tables.append(table)?;
        }
        Ok(tables)
    }

    /// The version of the layout.
    #[classattr]
    const VERSION: u64 = layout::VERSION;
    /// The store's time at which its clock ends.
    #[classattr]
    const LATEST_MS: u64 = LATEST_MS;
    /// The tenant of a store on a caller's clock.
    #[classattr]
    const CALLERS: u64 = layout::CALLERS;
    /// The tenant of a store that another one took the place of.
    #[classattr]
    const REPLACED: u64 = layout::REPLACED;
}

/// lay_over(buffer, file)
/// --
///
/// Lays a file over the memory of an anonymous ``mmap.mmap``, shared, in place of what was there.
#[cfg(unix)]
#[pyfunction]
pub fn lay_over(buffer: &Bound<'_, PyAny>, file: i32) -> PyResult<()> {
    crate::buffer::lay_over(buffer, file)
}

/// allocate(file, size)
/// --
///
/// Has the system set aside all that a file of this size needs on its disk, without changing what is in it; whether it
/// can do that there. Raises OSError when there is no room.
#[cfg(unix)]
#[pyfunction]
pub fn allocate(file: i32, size: u64) -> PyResult<bool> {
    crate::buffer::allocate(file, size)
}
