//! `Core`: a limiter's primitives, as the Python class that the public one inherits.
//!
//! Rules of this file: it reads arguments, hands them to bide-core, and makes objects of the answers; it decides
//! nothing. `try_acquire` and `take` are in `fastcall.rs`.

use std::sync::atomic::{AtomicU64, Ordering};

use bide_core::layout::{self, CALLERS, MAX_TABLES};
use bide_core::window::{FULL, MAX_WINDOW_MS};
use bide_core::{Clock, Header, Key, Keyer, Layout, Limiter, Quota, Rule};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::arguments::{self, Given, kind, milliseconds_up, seconds, stated};
use crate::buffer::{Buffer, prefetch};
use crate::clock::{Held, LimiterClock, PythonClock, Reading, SystemClock, monotonic_ns, unix_ms};
use crate::outcome::Outcome;

/// How many keys `try_acquire_many` fetches ahead: enough to cover a miss of the last cache, few enough to stay in the
/// first.
const AHEAD: usize = 16;
/// How many keys of `try_acquire_many` share a reading of the clock: microseconds' worth.
const KEYS_OF_A_READING: usize = 64;

/// A limiter's primitives over a buffer.
#[pyclass(frozen, subclass, module = "bide._native")]
pub struct Core {
    // Before the buffer, so that it is dropped first: it borrows from it.
    limiter: Limiter<'static>,
    keyer: Keyer,
    clock: LimiterClock,
    max_keys: u64,
    /// Whose clock the store is on, as its header says ...
    tenant: &'static AtomicU64,
    /// ... and as this Core took it to be. When they differ, `follow` is called to put that right.
    expected_tenant: u64,
    follow: Option<Py<PyAny>>,
    _buffer: Buffer,
}

impl Core {
    /// The fingerprint of a key.
    #[inline(always)]
    pub fn key(&self, object: &Bound<'_, PyAny>) -> PyResult<Key> {
        self.follow_if_moved(object.py())?;
        arguments::key(&self.keyer, object)
    }

    /// Every call looks whether its store has been replaced: one load of a line that nobody writes.
    #[inline(always)]
    fn follow_if_moved(&self, py: Python<'_>) -> PyResult<()> {
        // Relaxed: what is done on the strength of it begins with a system call.
        if self.tenant.load(Ordering::Relaxed) == self.expected_tenant {
            return Ok(());
        }
        self.follow(py)
    }

    #[cold]
    fn follow(&self, py: Python<'_>) -> PyResult<()> {
        match &self.follow {
            Some(follow) => follow.call0(py).map(drop),
            None => Err(PyValueError::new_err("the store has been replaced: make a new limiter")),
        }
    }

    /// Takes and says only whether.
    #[inline(always)]
    pub fn try_acquire(&self, py: Python<'_>, key: Key, cost: u64) -> PyResult<bool> {
        match &self.clock {
            LimiterClock::System(clock) => Ok(self.limiter.try_acquire(key, clock, cost)),
            LimiterClock::Python(clock) => self.try_acquire_by(py, clock, key, cost),
        }
    }

    #[cold]
    fn try_acquire_by(&self, py: Python<'_>, clock: &PythonClock, key: Key, cost: u64) -> PyResult<bool> {
        Ok(self.limiter.try_acquire(key, &clock.read(py)?, cost))
    }

    /// Takes.
    pub fn take(
        &self,
        py: Python<'_>,
        key: Key,
        cost: u64,
        probe_timeout_ms: Option<u64>,
    ) -> PyResult<Outcome> {
        let inner = match &self.clock {
            LimiterClock::System(clock) => self.limiter.take(key, clock, cost, probe_timeout_ms),
            LimiterClock::Python(clock) => self.limiter.take(key, &clock.read(py)?, cost, probe_timeout_ms),
        };
        Ok(Outcome::new(inner, key, self.keyer.origin()))
    }

    fn read(&self, py: Python<'_>) -> PyResult<Reading<'_>> {
        self.clock.read(py)
    }
}

fn rules(limits: &[(u64, u64)], grid: bool, learning: bool) -> PyResult<Vec<Rule>> {
    if !(1..=MAX_TABLES).contains(&limits.len()) {
        return Err(PyValueError::new_err(format!(
            "limits must be from 1 to {MAX_TABLES} pairs of (limit, window_ms)"
        )));
    }
    limits
        .iter()
        .map(|&(limit, window_ms)| match (1..=FULL).contains(&limit) && (1..=MAX_WINDOW_MS).contains(&window_ms) {
            true => Ok(Rule { limit, window_ms, grid, learning }),
            false => Err(PyValueError::new_err(format!(
                "limits: a limit is from 1 to 67,000,000 and a window from 1 ms to 366 days, not {limit} and {window_ms} ms"
            ))),
        })
        .collect()
}

/// A secret from the system.
pub fn random() -> PyResult<[u64; 2]> {
    let word = || {
        getrandom::u64()
            .map_err(|error| PyOSError::new_err(format!("the system gives no random numbers: {error}")))
    };
    Ok([word()?, word()?])
}

#[pymethods]
impl Core {
    /// Args: buffer: writable memory of at least ``buffer_size(max_keys, len(limits))`` bytes, zeroed or used by a Core
    /// before. limits: pairs of (limit, window in milliseconds). name: sets the keys of one Core apart from another's on
    /// the same buffer. grid: windows begin on the grid of Unix time. learn: the limit is unknown. clock: monotonic
    /// seconds when called; None is the system's. tenant: whose clock the store is on, 1 for one without a file; follow:
    /// called, without arguments, when the store's tenant is another one. clock_offset_ns: how far the system's clock is
    /// ahead of the store's in this process.
    #[new]
    #[pyo3(signature = (buffer, limits, *, max_keys, name = vec![], grid = false, learn = false, clock = None,
                        tenant = CALLERS, clock_offset_ns = 0, follow = None))]
    #[expect(clippy::too_many_arguments, reason = "they are keyword arguments of Python")]
    fn new(
        buffer: &Bound<'_, PyAny>,
        limits: Vec<(u64, u64)>,
        max_keys: u64,
        name: Vec<u8>,
        grid: bool,
        learn: bool,
        clock: Option<Bound<'_, PyAny>>,
        tenant: u64,
        clock_offset_ns: i64,
        follow: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let rules = rules(&limits, grid, learn)?;
        if !(1..=layout::MAX_KEYS).contains(&max_keys) {
            return Err(PyValueError::new_err(format!(
                "max_keys must be from 1 to {}, not {max_keys}",
                layout::MAX_KEYS
            )));
        }
        let buffer = Buffer::hold(buffer)?;
        // SAFETY: what uses the words, the limiter, lives and is dropped inside the Core that also holds the buffer.
        let words: &'static [AtomicU64] = unsafe { buffer.words_beside() };
        let windows: Vec<u64> = rules.iter().map(|rule| rule.window_ms).collect();
        let origin = layout::Origin {
            secret: random()?,
            created_unix_ms: unix_ms(),
            boot: CALLERS,
            base_ns: match &clock {
                // A store that is there has a time 0.
                _ if words.first().is_some_and(|magic| magic.load(Ordering::Relaxed) != 0) => 0,
                Some(callable) => PythonClock::first_ns(callable)?,
                None => monotonic_ns(),
            },
        };
        let (header, origin) = Header::open(words, max_keys, &windows, || origin)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let clock = match clock {
            Some(callable) => LimiterClock::Python(PythonClock::new(callable.unbind(), origin.base_ns, grid)),
            None => LimiterClock::System(SystemClock {
                created_ns: origin.base_ns.wrapping_add_signed(clock_offset_ns),
                coarse: windows.iter().all(|&window| window >= 1_000),
            }),
        };
        let layout = Layout::new(max_keys, rules.len());
        Ok(Self {
            limiter: Limiter::new(words, layout, &rules, header.counters()),
            keyer: Keyer::new(origin.secret, &name),
            clock,
            max_keys,
            tenant: header.tenant(),
            expected_tenant: tenant,
            follow,
            _buffer: buffer,
        })
    }

    /// Takes as ``take`` does, but lets a key that no reply has aligned yet through alone.
    #[pyo3(signature = (key, cost = Given(None), probe_timeout = Given(None)), text_signature = "($self, key, cost=1, probe_timeout=30.0)")]
    fn contact(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        cost: Given<'_>,
        probe_timeout: Given<'_>,
    ) -> PyResult<Outcome> {
        let timeout_ms = match &probe_timeout.0 {
            None => bide_core::window::PROBE_TIMEOUT_MS,
            Some(object) => seconds(object, "probe_timeout")?,
        };
        self.take(py, self.key(key)?, arguments::cost(&cost)?, Some(timeout_ms))
    }

    /// How a key stands; takes nothing.
    fn peek(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Outcome> {
        let key = self.key(key)?;
        Ok(Outcome::new(self.limiter.peek(key, &self.read(py)?), key, self.keyer.origin()))
    }

    /// Takes ``cost`` for each of many keys; the answers as a list.
    #[pyo3(signature = (keys, cost = Given(None)), text_signature = "($self, keys, cost=1)")]
    fn try_acquire_many<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        cost: Given<'_>,
    ) -> PyResult<Bound<'py, PyList>> {
        if keys.is_instance_of::<PyString>() || keys.is_instance_of::<PyBytes>() {
            return Err(PyTypeError::new_err(format!("keys must be a list of keys, not one {}", kind(keys))));
        }
        let cost = arguments::cost(&cost)?;
        // A tuple, so that nobody takes a key away meanwhile; all fingerprints first, so that a bad key takes nothing.
        let objects = match keys.cast_exact::<PyTuple>() {
            Ok(keys) => keys.clone(),
            Err(_) => py.get_type::<PyTuple>().call1((keys,))?.cast_into::<PyTuple>()?,
        };
        let mut keys = Vec::with_capacity(objects.len());
        for object in objects.iter_borrowed() {
            keys.push(self.key(&object)?);
        }
        let refused = match &self.clock {
            LimiterClock::System(clock) => self.take_each(&keys, clock, cost),
            LimiterClock::Python(clock) => {
                let clock = clock.read(py)?;
                (0..keys.len()).filter(|&at| !self.limiter.try_acquire(keys[at], &clock, cost)).collect()
            }
        };
        answers(py, keys.len(), &refused)
    }

    /// Gives back what an outcome took, once; whether a window it came from still ran.
    fn refund(&self, py: Python<'_>, key: &Bound<'_, PyAny>, outcome: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.settle_to(py, key, outcome, 0)
    }

    /// Corrects what an outcome took to what it really cost, once; whether a window it came from still ran.
    fn settle(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        outcome: &Bound<'_, PyAny>,
        actual: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        self.settle_to(py, key, outcome, arguments::whole(actual, 0, "actual")?)
    }

    /// Aligns a key to what the server said.
    #[pyo3(signature = (key, quota, now = None, outcome = None))]
    fn sync(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        quota: &Bound<'_, PyAny>,
        now: Option<&Bound<'_, PyAny>>,
        outcome: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let key = self.key(key)?;
        let outcome = outcome.map(Outcome::of).transpose()?;
        let clock = self.read(py)?;
        let now = match now {
            Some(reading) => self.clock.milliseconds(reading)?,
            None => clock.precise(),
        };
        let reset_after_ms =
            stated(quota, "reset_after")?.map(milliseconds_up).filter(|&reset| reset <= MAX_WINDOW_MS);
        let quota = Quota {
            remaining: stated(quota, "remaining")?.map(|remaining| remaining as u64),
            end: reset_after_ms.map(|reset| now + reset),
            reset_after_ms,
            window_ms: stated(quota, "window")?.map(|window| (window * 1_000.0).round() as u64),
        };
        self.limiter.sync(key, &clock, &quota, outcome.map(|outcome| outcome.get().inner()));
        Ok(())
    }

    /// Lets nobody pass with this key for so long, nor before its running window ends.
    #[pyo3(signature = (key, seconds), text_signature = "($self, key, seconds)")]
    fn penalize(&self, py: Python<'_>, key: &Bound<'_, PyAny>, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let (key, milliseconds) = (self.key(key)?, arguments::seconds(seconds, "seconds")?);
        self.limiter.penalize(key, &self.read(py)?, milliseconds);
        Ok(())
    }

    /// Forgets a key: as if it had never been seen.
    fn reset(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.limiter.reset(self.key(key)?, &self.read(py)?);
        Ok(())
    }

    /// The counters at this instant, as a ``bide.Stats``.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.follow_if_moved(py)?;
        let stats = self.limiter.stats(&self.read(py)?);
        py.import("bide.limiter._limit")?.getattr("Stats")?.call1((
            stats.live,
            self.max_keys,
            stats.reused,
            stats.overflowed,
            stats.denied,
        ))
    }
}

impl Core {
    fn settle_to(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        outcome: &Bound<'_, PyAny>,
        actual: u64,
    ) -> PyResult<bool> {
        let (key, outcome) = (self.key(key)?, Outcome::of(outcome)?);
        let clock = self.read(py)?;
        Ok(match outcome.get().spend(key, self.keyer.origin()) {
            Some(taken) => self.limiter.settle(key, &clock, taken, actual),
            None => false,
        })
    }

    /// The positions of the keys that were refused. Lines are fetched long before they are needed, and the system's
    /// clock is read for every few keys.
    fn take_each(&self, keys: &[Key], clock: &SystemClock, cost: u64) -> Vec<usize> {
        let mut refused = Vec::new();
        keys.iter().take(AHEAD).for_each(|&key| self.fetch(key));
        for begin in (0..keys.len()).step_by(KEYS_OF_A_READING) {
            let clock = Held::read(clock);
            for at in begin..keys.len().min(begin + KEYS_OF_A_READING) {
                if let Some(&later) = keys.get(at + AHEAD) {
                    self.fetch(later);
                }
                if !self.limiter.try_acquire(keys[at], &clock, cost) {
                    refused.push(at);
                }
            }
        }
        refused
    }

    #[inline]
    fn fetch(&self, key: Key) {
        for table in self.limiter.tables() {
            prefetch(table.home(key));
        }
    }
}

/// The answers as a list: it is made of the commoner one, and the others are put into it, which costs a third of putting
/// each of them in.
fn answers<'py>(py: Python<'py>, count: usize, refused: &[usize]) -> PyResult<Bound<'py, PyList>> {
    let mostly = refused.len() * 2 <= count;
    let list = PyList::new(py, [mostly])?.as_sequence().repeat(count)?.cast_into::<PyList>()?;
    if mostly {
        for &at in refused {
            list.set_item(at, false)?;
        }
    } else {
        let mut refused = refused.iter().peekable();
        for at in 0..count {
            if refused.next_if_eq(&&at).is_none() {
                list.set_item(at, true)?;
            }
        }
    }
    Ok(list)
}
