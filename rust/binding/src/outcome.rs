//! `Outcome`: what a call came to, as a frozen Python object without a dict.
//!
//! Rules of this file: the public fields are of one instant and make the value (equality, hash, repr); what it was
//! taken from is private, and names the key by its fingerprint alone.

use std::sync::atomic::{AtomicBool, Ordering};

use bide_core::{Key, limiter};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::{PyFloat, PyTuple};

use crate::arguments::kind;

/// What one call came to, all of the same instant; true when allowed. A value: it does not change.
#[pyclass(frozen, module = "bide._native")]
pub struct Outcome {
    inner: limiter::Outcome,
    key: Key,
    /// The store and the limiter's name.
    origin: u64,
    spent: AtomicBool,
}

impl Outcome {
    /// What `inner` says, for this key of that limiter.
    pub fn new(inner: limiter::Outcome, key: Key, origin: u64) -> Self {
        Self { inner, key, origin, spent: AtomicBool::new(!inner.allowed || inner.cost == 0) }
    }

    /// The object as an outcome.
    pub fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, Self>> {
        object.cast::<Self>().map_err(|_| {
            PyTypeError::new_err(format!("outcome must be what take() returned, not {}", kind(object)))
        })
    }

    /// What was taken.
    pub fn inner(&self) -> &limiter::Outcome {
        &self.inner
    }

    /// What was taken, once, if it was taken for this key of that limiter.
    // Relaxed: one of several threads is to win, and nothing is passed between them.
    pub fn spend(&self, key: Key, origin: u64) -> Option<&limiter::Outcome> {
        let is_mine = self.key == key && self.origin == origin;
        (is_mine && !self.spent.swap(true, Ordering::Relaxed)).then_some(&self.inner)
    }

    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let numbers = (self.limit(), self.remaining(), self.reset_after(), self.retry_after());
        (self.allowed(), numbers.0, numbers.1, numbers.2, numbers.3, self.probing()).into_pyobject(py)
    }
}

fn seconds(milliseconds: u64) -> f64 {
    if milliseconds == limiter::NEVER { f64::INFINITY } else { milliseconds as f64 / 1_000.0 }
}

#[pymethods]
impl Outcome {
    /// Whether the call may go on; for ``peek``, whether one of cost 1 would.
    #[getter]
    fn allowed(&self) -> bool {
        self.inner.allowed
    }

    /// The tightest limit: of those that allow, the one with the least remaining; of those that refuse, the one with
    /// the longest wait. A learning limiter, which has no number of its own, says 67,000,000.
    #[getter]
    fn limit(&self) -> u64 {
        self.inner.limit
    }

    /// What is left of that limit in its window, after this call.
    #[getter]
    fn remaining(&self) -> u64 {
        self.inner.remaining
    }

    /// Seconds until that window ends; 0.0 when none runs.
    #[getter]
    fn reset_after(&self) -> f64 {
        seconds(self.inner.reset_after_ms)
    }

    /// Seconds until it is worth asking again: 0.0 when allowed, ``inf`` when the cost is above a limit and can never
    /// pass.
    #[getter]
    fn retry_after(&self) -> f64 {
        seconds(self.inner.retry_after_ms)
    }

    /// This is a key's first request, let through alone (allowed), or that one is still out (refused: look again soon,
    /// rather than after ``retry_after``).
    #[getter]
    fn probing(&self) -> bool {
        self.inner.probing
    }

    fn __bool__(&self) -> bool {
        self.inner.allowed
    }

    fn __richcmp__(&self, other: &Self, operator: CompareOp, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let equal = || self.fields(py)?.eq(other.fields(py)?);
        match operator {
            CompareOp::Eq => Ok(equal()?.into_pyobject(py)?.to_owned().into_any().unbind()),
            CompareOp::Ne => Ok((!equal()?).into_pyobject(py)?.to_owned().into_any().unbind()),
            _ => Ok(py.NotImplemented()),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.fields(py)?.hash()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let flag = |flag: bool| if flag { "True" } else { "False" };
        let number = |seconds: f64| PyFloat::new(py, seconds).repr().map(|text| text.to_string());
        let probing = if self.probing() { ", probing=True" } else { "" };
        Ok(format!(
            "Outcome(allowed={}, limit={}, remaining={}, reset_after={}, retry_after={}{probing})",
            flag(self.allowed()),
            self.limit(),
            self.remaining(),
            number(self.reset_after())?,
            number(self.retry_after())?,
        ))
    }
}
