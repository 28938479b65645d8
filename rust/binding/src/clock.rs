//! The clocks: the system's, coarse where that is enough, or a Python callable.
//!
//! Rules of this file
//! - Milliseconds since the store's creation. The monotonic clock stands still while the machine sleeps: safe, but a
//!   window then lasts longer.
//! - Coarse (about 4 ns against 16, in steps of 1 to 4 ms, always late) for windows of a second and more; a late
//!   reading only joins an older window within its limit. Precise for shorter windows and for ends that are computed.
//! - A callable is read once for each call, before it; what it raises, the call raises.

use std::time::{SystemTime, UNIX_EPOCH};

use bide_core::window::LATEST_MS;
use bide_core::{Clock, Fixed};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arguments::{kind, number};

const NS_PER_MS: i128 = 1_000_000;

/// The system's clock.
pub struct SystemClock {
    /// The monotonic clock at the store's creation; a reboot may have put that before the clock's own beginning, and
    /// then it wraps.
    pub created_ns: u64,
    /// Whether a lagging reading is good enough.
    pub coarse: bool,
}

impl SystemClock {
    #[inline]
    fn since(&self, now_ns: u64) -> u64 {
        let since_ns = (now_ns.wrapping_sub(self.created_ns) as i64).max(0) as u64;
        (since_ns / 1_000_000).min(LATEST_MS)
    }
}

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> u64 {
        if self.coarse { self.since(coarse_ns()) } else { self.precise() }
    }

    #[inline]
    fn precise(&self) -> u64 {
        self.since(monotonic_ns())
    }

    fn wall_offset(&self) -> u64 {
        unix_ms().wrapping_sub(self.precise())
    }
}

#[cfg(unix)]
#[inline]
fn read_ns(clock: rustix::time::ClockId) -> u64 {
    let reading = rustix::time::clock_gettime(clock);
    (reading.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(reading.tv_nsec as u64)
}

/// The monotonic clock, in nanoseconds.
#[cfg(unix)]
#[inline]
pub fn monotonic_ns() -> u64 {
    read_ns(rustix::time::ClockId::Monotonic)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn coarse_ns() -> u64 {
    read_ns(rustix::time::ClockId::MonotonicCoarse)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_ns() -> u64 {
    monotonic_ns()
}

/// The monotonic clock, in nanoseconds since this process first read it: no process shares another's memory here.
#[cfg(not(unix))]
pub fn monotonic_ns() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Unix time, in milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A callable that gives monotonic seconds, and Unix time by its method `time`, if it has one.
pub struct PythonClock {
    callable: Py<PyAny>,
    created_ns: i128,
    reads_wall: bool,
}

impl PythonClock {
    /// A clock for a store that was created at this reading; `reads_wall` when its windows are on a grid.
    pub fn new(callable: Py<PyAny>, created_ns: u64, reads_wall: bool) -> Self {
        Self { callable, created_ns: i128::from(created_ns as i64), reads_wall }
    }

    /// A first reading, for the creation of a store.
    pub fn first_ns(callable: &Bound<'_, PyAny>) -> PyResult<u64> {
        let reading = nanoseconds(&callable.call0()?)?;
        Ok(reading.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64 as u64)
    }

    /// Reads it.
    pub fn read(&self, py: Python<'_>) -> PyResult<Fixed> {
        let callable = self.callable.bind(py);
        let now = self.milliseconds(&callable.call0()?)?;
        if !self.reads_wall {
            return Ok(Fixed { now, wall_offset: 0 });
        }
        let wall = match callable.getattr_opt("time")? {
            Some(time) => nanoseconds(&time.call0()?)?.div_euclid(NS_PER_MS) as u64,
            None => unix_ms(),
        };
        Ok(Fixed { now, wall_offset: wall.wrapping_sub(now) })
    }

    fn milliseconds(&self, reading: &Bound<'_, PyAny>) -> PyResult<u64> {
        Ok(since_ms(nanoseconds(reading)?, self.created_ns))
    }
}

/// A limiter's clock.
pub enum LimiterClock {
    /// The system's.
    System(SystemClock),
    /// A callable.
    Python(PythonClock),
}

/// A system clock whose reading is held for the next few of many calls, as if their thread had been slow.
pub struct Held<'a> {
    clock: &'a SystemClock,
    now: u64,
}

impl<'a> Held<'a> {
    /// Reads the clock.
    pub fn read(clock: &'a SystemClock) -> Self {
        Self { clock, now: clock.now() }
    }
}

impl Clock for Held<'_> {
    #[inline]
    fn now(&self) -> u64 {
        self.now
    }

    fn precise(&self) -> u64 {
        self.clock.precise()
    }

    fn wall_offset(&self) -> u64 {
        self.clock.wall_offset()
    }
}

/// A clock for one call.
pub enum Reading<'a> {
    /// The system's, read whenever it is needed.
    System(&'a SystemClock),
    /// What a callable gave.
    Fixed(Fixed),
}

impl LimiterClock {
    /// The clock for this call.
    #[inline]
    pub fn read(&self, py: Python<'_>) -> PyResult<Reading<'_>> {
        Ok(match self {
            Self::System(clock) => Reading::System(clock),
            Self::Python(clock) => Reading::Fixed(clock.read(py)?),
        })
    }

    /// A caller's reading of this clock, in seconds, as milliseconds.
    pub fn milliseconds(&self, reading: &Bound<'_, PyAny>) -> PyResult<u64> {
        match self {
            Self::System(clock) => Ok(since_ms(nanoseconds(reading)?, i128::from(clock.created_ns as i64))),
            Self::Python(clock) => clock.milliseconds(reading),
        }
    }
}

impl Clock for Reading<'_> {
    #[inline]
    fn now(&self) -> u64 {
        match self {
            Self::System(clock) => clock.now(),
            Self::Fixed(reading) => reading.now,
        }
    }

    fn precise(&self) -> u64 {
        match self {
            Self::System(clock) => clock.precise(),
            Self::Fixed(reading) => reading.now,
        }
    }

    fn wall_offset(&self) -> u64 {
        match self {
            Self::System(clock) => clock.wall_offset(),
            Self::Fixed(reading) => reading.wall_offset,
        }
    }
}

fn since_ms(now_ns: i128, created_ns: i128) -> u64 {
    now_ns.saturating_sub(created_ns).div_euclid(NS_PER_MS).clamp(0, i128::from(LATEST_MS)) as u64
}

/// A clock's reading in seconds, as the nearest nanosecond.
fn nanoseconds(reading: &Bound<'_, PyAny>) -> PyResult<i128> {
    let Some(seconds) = number(reading) else {
        let kind = kind(reading);
        return Err(PyTypeError::new_err(format!(
            "clock: a reading must be a number of seconds, not {kind}"
        )));
    };
    if !seconds.is_finite() {
        return Err(PyValueError::new_err(format!("clock: a reading must be finite, not {seconds}")));
    }
    Ok((seconds * 1e9 + 0.5).floor() as i128)
}
