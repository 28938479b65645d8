//! The floor of every comparison: a method of a shared frozen object, called with one argument, that does nothing.

use pyo3::prelude::*;

/// Nothing.
#[pyclass(frozen)]
struct Noop;

#[pymethods]
impl Noop {
    #[new]
    fn new() -> Self {
        Self
    }

    /// Takes a key and returns True.
    fn call(&self, _key: &Bound<'_, PyAny>) -> bool {
        true
    }
}

#[pymodule(gil_used = false)]
fn noop(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Noop>()
}
