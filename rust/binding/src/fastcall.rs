//! `try_acquire` and `take` as raw methods: METH_FASTCALL | METH_KEYWORDS, below PyO3's argument handling.
//!
//! Why: of the 560 or so instructions of one call PyO3's extraction was about 100, and a positional `cost` cost 8 ns
//! (`benches/README.md` has the numbers of this build). Results that go through memory, as a PyResult does, cost
//! another 4 ns of the 48. Everything else goes by PyO3.
//!
//! Rules of this file: the arguments are borrowed from the caller and nothing of them is kept; errors and panics
//! become Python exceptions; what is not exactly `key` and an optional `cost` goes to the cold path.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use bide_core::window::FULL;
use pyo3::exceptions::{PySystemError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};
use pyo3::{Borrowed, ffi};

use crate::arguments::{self, Given};
use crate::core_class::Core;

type RawMethod = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

const TRY_ACQUIRE: &CStr = c"try_acquire($self, key, cost=1)
--

Takes ``cost`` if every limit has room for it: the fast call.";

const TAKE: &CStr = c"take($self, key, cost=1)
--

Takes ``cost`` if every limit has room for it, and says how things stand.";

/// Puts the methods into `Core`.
pub fn add_methods(py: Python<'_>) -> PyResult<()> {
    add(py, c"try_acquire", try_acquire, TRY_ACQUIRE)?;
    add(py, c"take", take, TAKE)
}

fn add(py: Python<'_>, name: &'static CStr, method: RawMethod, doc: &'static CStr) -> PyResult<()> {
    // Python keeps the definition for as long as the method lives: for ever.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }));
    let class = py.get_type::<Core>();
    // SAFETY: the type is a live heap type and the definition is never freed; the flags are those of the signature.
    let descriptor =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr(PyString::new(py, &name.to_string_lossy()), descriptor)
}

/// `Core.try_acquire(key, cost=1) -> bool`
unsafe extern "C" fn try_acquire(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: Python calls this by the descriptor above, so what it passes is what `call` asks for.
    unsafe {
        call(this, arguments, count, names, |py, core, key, cost| {
            let allowed = core.try_acquire(py, core.key(key)?, cost)?;
            let answer = if allowed { ffi::Py_True() } else { ffi::Py_False() };
            ffi::Py_INCREF(answer);
            Ok(answer)
        })
    }
}

/// `Core.take(key, cost=1) -> Outcome`
unsafe extern "C" fn take(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as in `try_acquire`.
    unsafe {
        call(this, arguments, count, names, |py, core, key, cost| {
            let outcome = core.take(py, core.key(key)?, cost, None)?;
            Ok(Bound::new(py, outcome)?.into_ptr())
        })
    }
}

/// Reads the arguments, calls `method`, and turns what goes wrong into a Python exception.
///
/// # Safety
/// The thread is attached to Python; `this` is a Core (a method descriptor has seen to it); `arguments` holds `count`
/// objects and then as many as `names`, a tuple or null, has; all are borrowed for the length of the call.
// One call of `method`, whatever was passed: one that is called from two places is not inlined. The result becomes a
// pointer in here, because a PyResult of eight words would go through memory.
#[inline(always)]
unsafe fn call(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    method: impl for<'py> Fn(Python<'py>, &Core, &Bound<'py, PyAny>, u64) -> PyResult<*mut ffi::PyObject>,
) -> *mut ffi::PyObject {
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: by this function's contract; the token and the references do not leave the closure.
        unsafe {
            let py = Python::assume_attached();
            let this = Borrowed::from_ptr(py, this).cast_unchecked::<Core>();
            let (key, cost) = if names.is_null() && count == 1 {
                (*arguments, 1)
            } else {
                match read(py, arguments, count, names) {
                    Ok(read) => read,
                    Err(error) => return raise(py, error),
                }
            };
            match method(py, this.get(), &Borrowed::from_ptr(py, key), cost) {
                Ok(answer) => answer,
                Err(error) => raise(py, error),
            }
        }
    }));
    result.unwrap_or_else(|_| panicked())
}

/// The key and the cost, from whatever was passed.
///
/// # Safety
/// As for [`call`].
#[inline(never)]
unsafe fn read(
    py: Python<'_>,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<(*mut ffi::PyObject, u64)> {
    // SAFETY: by this function's contract.
    unsafe {
        let given = |position: usize| Borrowed::from_ptr(py, *arguments.add(position));
        if names.is_null() && count == 2 && given(1).is_exact_instance_of::<PyInt>() {
            // A number that a C long does not hold is none that a cost can be.
            let cost = ffi::PyLong_AsLong(given(1).as_ptr());
            if (1..=FULL as _).contains(&cost) {
                return Ok((*arguments, cost as u64));
            }
            ffi::PyErr_Clear();
        }
        let names = Borrowed::from_ptr_or_opt(py, names).map(|names| names.cast_unchecked::<PyTuple>());
        let names = names.as_deref().map(|names| names.iter_borrowed());
        let positional = (0..count as usize).map(given);
        let named = names.into_iter().flatten().zip((count as usize..).map(given));
        let (key, cost) = sort(positional, named)?;
        Ok((key.as_ptr(), arguments::cost(&Given(cost.map(|cost| cost.to_owned())))?))
    }
}

/// The key and the cost among arguments by position and by name.
#[cold]
fn sort<'a, 'py>(
    positional: impl Iterator<Item = Borrowed<'a, 'py, PyAny>>,
    named: impl Iterator<Item = (Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)>,
) -> PyResult<(Borrowed<'a, 'py, PyAny>, Option<Borrowed<'a, 'py, PyAny>>)> {
    let mut found = [None, None];
    for (position, argument) in positional.enumerate() {
        *found.get_mut(position).ok_or_else(|| PyTypeError::new_err("pass a key and a cost, no more"))? =
            Some(argument);
    }
    for (name, argument) in named {
        let name = name.to_string();
        let position = ["key", "cost"].iter().position(|known| *known == name);
        let place = position.map(|position| &mut found[position]).ok_or_else(|| {
            PyTypeError::new_err(format!("there is no argument {name:?}: pass a key and a cost"))
        })?;
        if place.replace(argument).is_some() {
            return Err(PyTypeError::new_err(format!("{name} was passed twice")));
        }
    }
    let [key, cost] = found;
    Ok((key.ok_or_else(|| PyTypeError::new_err("the key is missing"))?, cost))
}

#[cold]
fn raise(py: Python<'_>, error: PyErr) -> *mut ffi::PyObject {
    error.restore(py);
    ptr::null_mut()
}

#[cold]
fn panicked() -> *mut ffi::PyObject {
    Python::attach(|py| raise(py, PySystemError::new_err("bide._native: a call panicked; please report it")))
}
