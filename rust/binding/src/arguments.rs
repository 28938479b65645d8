//! What callers pass, read: keys, costs, seconds, and what a server stated.
//!
//! Rules of this file: a mistake is a TypeError or ValueError of one line that says what to pass, in the words of the
//! pure twin. A key is in none of them. What a server stated never raises: what is unusable counts as not stated.

use bide_core::window::{FULL, MAX_WINDOW_MS};
use bide_core::{Key, Keyer};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};

/// An argument that may be left out. It takes anything, so that the messages are ours.
pub struct Given<'py>(pub Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(object.to_owned())))
    }
}

/// The fingerprint of a key, of `str` or `bytes` exactly.
#[inline(always)]
pub fn key(keyer: &Keyer, object: &Bound<'_, PyAny>) -> PyResult<Key> {
    let octets = if let Ok(text) = object.cast_exact::<PyString>() {
        text.to_str().ok().map(str::as_bytes)
    } else {
        object.cast_exact::<PyBytes>().ok().map(|octets| octets.as_bytes())
    };
    match octets {
        Some(octets) => Ok(keyer.key(octets)),
        None => Err(not_a_key(object)),
    }
}

#[cold]
fn not_a_key(object: &Bound<'_, PyAny>) -> PyErr {
    if object.is_exact_instance_of::<PyString>() {
        // The error that Python gives carries the key.
        return PyValueError::new_err("key holds a lone surrogate: it cannot be encoded as UTF-8");
    }
    PyTypeError::new_err(format!("key must be str or bytes, not {}", kind(object)))
}

/// A cost from 1.
#[inline]
pub fn cost(object: &Given<'_>) -> PyResult<u64> {
    match &object.0 {
        None => Ok(1),
        Some(object) => whole(object, 1, "cost"),
    }
}

/// A whole number from `least` to the largest limit.
pub fn whole(object: &Bound<'_, PyAny>, least: u64, name: &str) -> PyResult<u64> {
    let Some(index) = index(object)? else {
        return Err(PyTypeError::new_err(format!("{name} must be a whole number, not {}", kind(object))));
    };
    match index.extract::<u64>() {
        Ok(number) if (least..=FULL).contains(&number) => Ok(number),
        _ => Err(PyValueError::new_err(format!(
            "{name} must be a whole number from {least} to 67,000,000, not {}",
            index.str()?
        ))),
    }
}

/// The int that an object stands for, if it does.
fn index<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if object.is_exact_instance_of::<PyInt>() {
        return Ok(Some(object.clone()));
    }
    match object.getattr_opt("__index__")? {
        Some(_) if object.is_instance_of::<PyBool>() => Ok(None),
        Some(index) => index.call0().map(Some),
        None => Ok(None),
    }
}

/// Seconds above 0 and at most 366 days, as milliseconds rounded up.
pub fn seconds(object: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    let Some(seconds) = number(object) else {
        return Err(PyTypeError::new_err(format!(
            "{name} must be a number of seconds, not {}",
            kind(object)
        )));
    };
    if !(seconds > 0.0 && seconds <= MAX_WINDOW_MS as f64 / 1_000.0) {
        return Err(PyValueError::new_err(format!(
            "{name} must be seconds above 0, at most 366 days, not {}",
            object.str()?
        )));
    }
    Ok(milliseconds_up(seconds))
}

/// A field of what a server stated, if it is usable.
pub fn stated(quota: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<f64>> {
    let Some(value) = quota.getattr_opt(name)? else { return Ok(None) };
    Ok(number(&value).filter(|value| (0.0..1e15).contains(value)))
}

/// A float or an int (not a bool) as a float, infinite when no float holds it; None for anything else.
pub fn number(object: &Bound<'_, PyAny>) -> Option<f64> {
    let is_number = object.is_instance_of::<PyFloat>() || object.is_instance_of::<PyInt>();
    (is_number && !object.is_instance_of::<PyBool>()).then(|| object.extract().unwrap_or(f64::INFINITY))
}

/// Rounded up, but for what a float adds by itself: 1.001 s is 1001 ms.
pub fn milliseconds_up(seconds: f64) -> u64 {
    ((seconds * 1e9 + 0.5).floor() as u128).div_ceil(1_000_000) as u64
}

/// The name of an object's type.
pub fn kind(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string())
}
