//! Real threads on the real table: what the model checker's few steps cannot reach, and what ThreadSanitizer and Miri
//! watch. Windows are a few microseconds long, so that a run crosses thousands of edges.
#![cfg(not(loom))]

mod real;

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use bide_core::limiter::Quota;
use bide_core::{Clock, Key, Rule};

const THREADS: usize = 4;
const CALLS: usize = if cfg!(miri) { 60 } else { 200_000 };

/// Microseconds in place of milliseconds; now and then a reading that is late, as a preempted thread's is.
struct Hasty {
    begin: Instant,
    calls: AtomicU64,
}

impl Hasty {
    fn new() -> Self {
        Self { begin: Instant::now(), calls: AtomicU64::new(0) }
    }
}

impl Clock for Hasty {
    fn now(&self) -> u64 {
        let lag = if self.calls.fetch_add(1, Ordering::Relaxed) % 7 == 0 { 5 } else { 0 };
        self.precise().saturating_sub(lag)
    }

    fn precise(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }

    fn wall_offset(&self) -> u64 {
        0
    }
}

fn key(number: usize) -> Key {
    Key::from_hash((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Runs `work` in every thread, with its number; what they return, flattened.
fn in_threads<T: Send>(work: impl Fn(usize) -> Vec<T> + Sync) -> Vec<T> {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (work, barrier) = (&work, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    work(number)
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread ran")).collect()
    })
}

/// How many were admitted in each window of each key.
fn counted(admitted: Vec<(usize, u64)>) -> HashMap<(usize, u64), u64> {
    let mut windows = HashMap::new();
    for window in admitted {
        *windows.entry(window).or_insert(0) += 1;
    }
    windows
}

#[test]
fn one_key_under_more_demand_than_its_limit_gets_exactly_its_limit_in_each_window() {
    const LIMIT: u64 = 20;
    let real = real::Real::new(&[Rule { limit: LIMIT, window_ms: 100, grid: false, learning: false }], 16);
    let (limiter, clock) = (real.limiter(), Hasty::new());
    let admitted = in_threads(|_| {
        let outcomes = (0..CALLS).map(|_| limiter.take(key(0), &clock, 1, None));
        outcomes.filter(|outcome| outcome.allowed).map(|outcome| (0, outcome.ends[0])).collect()
    });
    let windows = counted(admitted);
    let last = *windows.keys().max().expect("some window was used");
    for (window, count) in &windows {
        assert!(*count <= LIMIT, "{count} admitted in {window:?}");
    }
    let full = windows.iter().filter(|(window, count)| **window != last && **count == LIMIT).count();
    // A window in which every thread slept has less demand than its limit; most have more.
    assert!(cfg!(miri) || full > 100, "only {full} of {} windows were used up", windows.len());
}

#[test]
fn keys_that_crowd_each_other_out_of_a_table_admit_no_more_than_their_limit() {
    const LIMIT: u64 = 3;
    let real = real::Real::new(&[Rule { limit: LIMIT, window_ms: 40, grid: false, learning: false }], 4);
    let (limiter, clock) = (real.limiter(), Hasty::new());
    let admitted = in_threads(|thread| {
        (0..CALLS)
            .filter_map(|call| {
                let number = (call * 7 + thread * 3) % 40;
                let outcome = limiter.take(key(number), &clock, 1, None);
                outcome.allowed.then_some((number, outcome.ends[0]))
            })
            .collect()
    });
    for (window, count) in counted(admitted) {
        assert!(count <= LIMIT, "{count} admitted in {window:?}");
    }
    let stats = limiter.stats(&clock);
    assert!(cfg!(miri) || (stats.reused > 1000 && stats.overflowed > 100), "{stats:?}");
}

#[test]
fn replies_and_refunds_among_takes_leave_every_count_within_its_limit() {
    const LIMIT: u64 = 10;
    let real = real::Real::new(&[Rule { limit: LIMIT, window_ms: 200, grid: false, learning: false }], 2);
    let (limiter, clock) = (real.limiter(), Hasty::new());
    in_threads(|thread| {
        for call in 0..CALLS / 2 {
            let key = key((call + thread) % 6);
            let outcome = limiter.take(key, &clock, 1, (call % 3 == 0).then_some(50));
            match call % 5 {
                0 => _ = limiter.settle(key, &clock, &outcome, call as u64 % 3),
                1 => {
                    let end = Some(clock.precise() + call as u64 % 200);
                    let quota = Quota { remaining: Some(call as u64 % 11), end, ..Quota::default() };
                    limiter.sync(key, &clock, &quota, Some(&outcome));
                }
                2 if call % 50 == 2 => limiter.penalize(key, &clock, 30),
                3 if call % 40 == 3 => limiter.reset(key, &clock),
                _ => {}
            }
            assert!(outcome.remaining <= LIMIT);
        }
        Vec::<()>::new()
    });
    // Nobody is stuck: when all windows and penalties are over, every key passes.
    let later = bide_core::Fixed { now: clock.precise() + 1_000_000, wall_offset: 0 };
    for number in 0..6 {
        assert!(limiter.try_acquire(key(number), &later, 1));
    }
}
