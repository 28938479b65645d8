//! The hot path without Python: bide's table, governor's keyed limiter and a bare counter in a dashmap, on the same keys,
//! by one thread and by two. `make bench-rust`.
//!
//! Rules of this file
//! - One contender is one closure: a key in, whether it may go out. Every answer is checked to be yes; limits are far.
//! - Contenders take turns, a short slice each, round after round, so that whatever the machine does meanwhile falls on
//!   all of them; the best slice counts, per call, the loop and the fetching of the key included.
//! - With two threads both run the same contender at once; a slice is over when both are.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bide_core::layout::Origin;
use bide_core::{Clock, Header, Keyer, Layout, Limiter, Rule};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use governor::{Quota, RateLimiter};
use rustix::time::{ClockId, clock_gettime};

const LIMIT: u64 = 67_000_000;
const WINDOW_MS: u64 = 3_600_000;
/// Calls of a slice: few where one thread looks for a quiet moment, many where two threads are to be at it together.
const CALLS: [usize; 2] = [4_000, 100_000];
const ROUNDS: [usize; 2] = [400, 40];
const SIZES: [usize; 4] = [1, 1_000, 100_000, 1_000_000];

/// The coarse monotonic clock, as the Python module reads it for windows of a second and more.
struct Coarse {
    created_ns: u64,
}

fn nanoseconds(clock: ClockId) -> u64 {
    let reading = clock_gettime(clock);
    reading.tv_sec as u64 * 1_000_000_000 + reading.tv_nsec as u64
}

impl Clock for Coarse {
    fn now(&self) -> u64 {
        (nanoseconds(ClockId::MonotonicCoarse).saturating_sub(self.created_ns)) / 1_000_000
    }

    fn wall_offset(&self) -> u64 {
        0
    }
}

type Ask<'a> = Box<dyn Fn(&[&str]) -> usize + Sync + 'a>;

/// Everybody, each over its own state for so many keys. A contender is given a slice of keys, so that the call through
/// the box is not in what is measured.
fn contenders(keys: usize) -> Vec<(&'static str, Ask<'static>)> {
    let max_keys = keys.max(1_000) as u64;
    let layout = Layout::new(max_keys, 1);
    let buffer: &'static [AtomicU64] =
        (0..layout.words()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
    let origin = Origin {
        secret: [1, 2],
        created_unix_ms: 0,
        boot: bide_core::layout::CALLERS,
        base_ns: nanoseconds(ClockId::Monotonic),
    };
    let (header, origin) = Header::open(buffer, max_keys, &[WINDOW_MS], || origin).expect("a zeroed buffer");
    let rule = Rule { limit: LIMIT, window_ms: WINDOW_MS, grid: false, learning: false };
    let limiter = Limiter::new(buffer, layout, &[rule], header.counters());
    let (keyer, clock) = (Keyer::new(origin.secret, b""), Coarse { created_ns: origin.base_ns });

    let quota = Quota::per_second(NonZeroU32::MAX).allow_burst(NonZeroU32::MAX);
    let governor = RateLimiter::<String, _, _>::dashmap(quota);

    let counters = DashMap::<String, u64>::new();

    vec![
        (
            "bide",
            Box::new(move |asked: &[&str]| {
                asked.iter().filter(|key| limiter.try_acquire(keyer.key(key.as_bytes()), &clock, 1)).count()
            }) as Ask,
        ),
        (
            "governor",
            // It looks a key up by a String of its own.
            Box::new(move |asked: &[&str]| {
                let mut name = String::with_capacity(64);
                asked
                    .iter()
                    .filter(|key| {
                        name.clear();
                        name.push_str(key);
                        governor.check_key(&name).is_ok()
                    })
                    .count()
            }),
        ),
        (
            "a counter in a dashmap",
            Box::new(move |asked: &[&str]| {
                asked
                    .iter()
                    .filter(|&&key| {
                        let Some(mut count) = counters.get_mut(key) else {
                            return counters.insert(key.to_owned(), 1).is_none();
                        };
                        *count += 1;
                        *count <= LIMIT
                    })
                    .count()
            }),
        ),
    ]
}

/// A small generator of our own (xorshift), so that every contender gets the same keys.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// The time of a slice by so many threads, each with keys of its own choice.
fn slice(ask: &Ask, choices: &[Vec<&str>]) -> Duration {
    if let [asked] = choices {
        let began = Instant::now();
        assert_eq!(black_box(ask(asked)), asked.len());
        return began.elapsed();
    }
    let barrier = Barrier::new(choices.len() + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = choices
            .iter()
            .map(|asked| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let began = Instant::now();
                    assert_eq!(black_box(ask(asked)), asked.len());
                    began.elapsed()
                })
            })
            .collect();
        barrier.wait();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a contender's thread"))
            .max()
            .expect("a thread")
    })
}

fn beside_each_other(criterion: &mut Criterion) {
    println!("ns per call, the best of many slices in turn; with two threads of the slower one:");
    for (threads, calls, rounds) in [(1, CALLS[0], ROUNDS[0]), (2, CALLS[1], ROUNDS[1])] {
        for size in SIZES {
            let names: Vec<String> = (0..size).map(|number| format!("Bearer-token-{number:08x}")).collect();
            let everybody = contenders(size);
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            everybody.iter().for_each(|(_, ask)| assert_eq!(ask(&all), size));
            let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
            let mut best = vec![Duration::MAX; everybody.len()];
            for _ in 0..rounds {
                let choices: Vec<Vec<&str>> =
                    (0..threads).map(|_| (0..calls).map(|_| all[draw.below(size)]).collect()).collect();
                for (best, (_, ask)) in best.iter_mut().zip(&everybody) {
                    *best = (*best).min(slice(ask, &choices));
                }
            }
            let per_call = |time: &Duration| time.as_nanos() as f64 / calls as f64;
            let bide = per_call(&best[0]);
            for (best, (name, _)) in best.iter().zip(&everybody) {
                let ns = per_call(best);
                println!(
                    "{threads} thread(s), {size:>9} keys  {name:<24} {ns:>8.1}   bide / it {:.2}",
                    bide / ns
                );
            }
        }
    }
    // One contender alone under criterion's own statistics: for a comparison of two versions of bide.
    let (name, ask) = contenders(1_000).swap_remove(0);
    let names: Vec<String> = (0..1_000).map(|number| format!("Bearer-token-{number:08x}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    criterion.bench_with_input(
        BenchmarkId::new(name, "1,000 keys, a thousand calls"),
        &all,
        |bencher, all| {
            bencher.iter(|| ask(black_box(all)));
        },
    );
}

criterion_group! {
    name = limiter;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_secs(3));
    targets = beside_each_other
}
criterion_main!(limiter);
