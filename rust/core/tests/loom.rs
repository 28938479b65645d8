//! The model checker on the code that ships: every interleaving, and every value that the memory model lets a load
//! see, up to a bound of preemptions. `make test-rust` runs it at bound 2, `make proof` at 3 and with the tests of
//! three threads. Run by hand: `RUSTFLAGS="--cfg loom" cargo test --release -p bide-core --test loom`.
//!
//! Rules of this file: a test names the situation; what must hold is checked from what the calls gave, by `Ledger`.
//! Lines have one slot here, so that a table of n lines has n slots and a run of n. Times: a window is 10 long.
#![cfg(loom)]

use std::sync::Mutex;

use bide_core::layout::Counters;
use bide_core::sync::{AtomicU64, stop_after};
use bide_core::table::{Applied, Table};
use bide_core::window::{self, Reply};
use bide_core::{Fixed, Key, Limiter, Rule};
use loom::sync::Arc;
use loom::thread;

const WINDOW: u64 = 10;
const A: Key = Key::from_hash(0xa << 16);
const B: Key = Key::from_hash(0xb << 16);
const C: Key = Key::from_hash(0xc << 16);

/// One table's memory.
struct Memory {
    slots: Vec<AtomicU64>,
    overflow: Vec<AtomicU64>,
    touched: Vec<AtomicU64>,
    limit: u64,
    window_ms: u64,
}

impl Memory {
    fn new(lines: usize, limit: u64) -> Self {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        Self { slots: zeros(2 * lines), overflow: zeros(lines), touched: zeros(1), limit, window_ms: WINDOW }
    }

    fn table(&self) -> Table<'_> {
        let rule = Rule { limit: self.limit, window_ms: self.window_ms, grid: false, learning: false };
        Table::new(rule, &self.slots, &self.overflow, &self.touched, Counters::none())
    }

    fn take(&self, key: Key, now: u64) -> Applied {
        self.table().take(key, &at(now), 1)
    }
}

fn at(now: u64) -> Fixed {
    Fixed { now, wall_offset: 0 }
}

/// Every admission: whose, and the end of the window that it was counted in.
#[derive(Default)]
struct Ledger(Mutex<Vec<(u64, u64)>>);

impl Ledger {
    fn note(&self, key: Key, applied: Applied) -> bool {
        if applied.written {
            self.0.lock().unwrap().push((key.hash(), window::end_of(applied.word)));
        }
        applied.written
    }

    fn admitted(&self, key: Key) -> usize {
        self.0.lock().unwrap().iter().filter(|&&(whose, _)| whose == key.hash()).count()
    }

    /// Those in the windows with these ends, which are one window's before and after a reply moved its end. (A late
    /// reading may open another one after them, when the slot has gone.)
    fn admitted_in(&self, key: Key, ends: &[u64]) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|(whose, end)| *whose == key.hash() && ends.contains(end))
            .count()
    }

    /// In no window more than its limit.
    fn check(&self, limit: usize) {
        let ledger = self.0.lock().unwrap();
        for entry in ledger.iter() {
            let same = ledger.iter().filter(|other| *other == entry).count();
            assert!(same <= limit, "{same} admitted where {limit} may, in the window ending at {}", entry.1);
        }
    }
}

/// A table and its ledger, shared by the threads of a model.
struct World {
    memory: Memory,
    ledger: Ledger,
}

impl World {
    fn new(lines: usize, limit: u64) -> Arc<Self> {
        Arc::new(Self { memory: Memory::new(lines, limit), ledger: Ledger::default() })
    }

    fn take(&self, key: Key, now: u64) -> bool {
        self.ledger.note(key, self.memory.take(key, now))
    }
}

/// Runs a model with two or more threads, each of which gets the world; then `check` in the end.
fn model(
    lines: usize,
    limit: u64,
    prepare: impl Fn(&World) + Sync + Send + 'static,
    threads: &'static [fn(&World)],
    check: impl Fn(&World) + Sync + Send + 'static,
) {
    loom::model(move || {
        let world = World::new(lines, limit);
        prepare(&world);
        let spawned: Vec<_> = threads[1..]
            .iter()
            .map(|&work| {
                let world = world.clone();
                thread::spawn(move || work(&world))
            })
            .collect();
        threads[0](&world);
        for thread in spawned {
            thread.join().unwrap();
        }
        check(&world);
        world.ledger.check(limit as usize);
    });
}

#[test]
fn two_threads_that_enter_one_key_admit_one_of_two() {
    static THREADS: [fn(&World); 2] = [|world| _ = world.take(A, 0), |world| _ = world.take(A, 0)];
    model(2, 1, |_| {}, &THREADS, |world| assert_eq!(world.ledger.admitted(A), 1));
}

#[test]
fn two_threads_that_hit_one_key_admit_exactly_the_limit() {
    static THREADS: [fn(&World); 2] = [
        |world| {
            world.take(A, 1);
            world.take(A, 1);
        },
        |world| {
            world.take(A, 1);
            world.take(A, 1);
        },
    ];
    model(1, 3, |world| _ = world.take(A, 0), &THREADS, |world| assert_eq!(world.ledger.admitted(A), 3));
}

#[test]
fn a_late_reading_does_not_rewind_a_window() {
    // At 9 the window runs, at 10 it has ended: whichever comes first, in no window more than one.
    static THREADS: [fn(&World); 2] = [
        |world| {
            world.take(A, 9);
            world.take(A, 9);
        },
        |world| {
            world.take(A, 10);
            world.take(A, 9);
        },
    ];
    model(1, 1, |world| _ = world.take(A, 0), &THREADS, |world| assert!(world.ledger.admitted(A) <= 2));
}

#[test]
fn a_claim_against_the_owners_last_take_forgets_no_count() {
    // B wants A's slot at 10; A, by a clock that is late, still counts in the window that ends at 10.
    static THREADS: [fn(&World); 2] = [
        |world| _ = world.take(B, 10),
        |world| {
            world.take(A, 9);
            world.take(A, 9);
        },
    ];
    model(1, 2, |world| _ = world.take(A, 0), &THREADS, |_| {});
}

#[test]
fn a_claim_against_the_owners_roll_over_forgets_no_count() {
    static THREADS: [fn(&World); 2] = [
        |world| _ = world.take(B, 10),
        |world| {
            world.take(A, 10);
            world.take(A, 10);
        },
    ];
    model(
        2,
        1,
        |world| _ = world.take(A, 0),
        &THREADS,
        |world| {
            // Once at 0, once in the window from 10 on, wherever its slot is then.
            assert!(world.ledger.admitted(A) <= 2);
            assert!(!world.take(A, 11));
        },
    );
}

#[test]
fn two_keys_that_want_one_ended_slot_both_find_room() {
    static THREADS: [fn(&World); 2] = [|world| _ = world.take(B, 10), |world| _ = world.take(C, 10)];
    model(
        2,
        1,
        |world| _ = world.take(A, 0),
        &THREADS,
        |world| {
            assert_eq!((world.ledger.admitted(B), world.ledger.admitted(C)), (1, 1));
            assert!(!world.take(B, 11) && !world.take(C, 11));
        },
    );
}

#[test]
fn a_new_owner_is_not_refused_by_the_old_owners_count() {
    // A's window is used up and ends at 10. B's second caller is late: by its reading that window still runs.
    static THREADS: [fn(&World); 2] = [|world| _ = world.take(B, 10), |world| _ = world.take(B, 9)];
    let use_up = |world: &World| {
        world.take(A, 0);
        world.take(A, 0);
    };
    model(1, 2, use_up, &THREADS, |world| assert_eq!(world.ledger.admitted(B), 2));
}

#[test]
fn a_slot_that_goes_to_another_key_and_back_counts_for_the_right_one() {
    static THREADS: [fn(&World); 2] = [
        |world| {
            world.take(B, 10);
            world.take(A, 20);
        },
        |world| _ = world.take(A, 9),
    ];
    model(1, 2, |world| _ = world.take(A, 0), &THREADS, |_| {});
}

/// C's slot, the first, is live at 9 and ended at 10: one thread goes on to the second slot, the other takes the first.
#[test]
fn two_threads_that_enter_one_key_by_different_readings_admit_one_of_two() {
    static THREADS: [fn(&World); 2] = [|world| _ = world.take(A, 9), |world| _ = world.take(A, 10)];
    model(
        2,
        1,
        |world| _ = world.take(C, 0),
        &THREADS,
        |world| {
            assert_eq!(world.ledger.admitted(A), 1);
            assert!(!world.take(A, 11));
        },
    );
}

/// A's word was (30, 1); a reply lowers its end to 22, and A uses its window up.
fn lower_and_use_up(world: &World) {
    sync(world, A, 19, 1, 22);
    world.take(A, 21);
}

fn sync(world: &World, key: Key, now: u64, remaining: u64, end: u64) {
    let reply = Reply { remaining: Some(remaining), end: Some(end), cost: 1, taken_end: None };
    world.memory.table().sync(key, &at(now), &reply);
}

/// After that B gets the slot at 22, and by a reply comes to (30, 1) too. Meanwhile `stale`, which saw A's word, goes on.
fn after_a_lowered_end(stale: fn(&World)) {
    static LOWER: fn(&World) = |world| {
        lower_and_use_up(world);
        sync(world, B, 22, 1, 30);
        world.take(B, 22);
        world.take(B, 24);
        world.take(B, 26);
    };
    let threads: &'static [fn(&World)] = Box::leak(Box::new([LOWER, stale]));
    model(
        1,
        2,
        |world| _ = world.take(A, 20),
        threads,
        |world| {
            assert!(world.ledger.admitted_in(A, &[22, 30]) <= 2, "A's window has been used up");
            assert!(world.ledger.admitted(B) <= 1, "the server would have admitted B once");
        },
    );
}

#[test]
fn a_stale_take_after_a_lowered_end_is_not_counted_as_the_old_owners() {
    after_a_lowered_end(|world| _ = world.take(A, 19));
}

#[test]
fn a_stale_refund_after_a_lowered_end_gives_the_new_owner_nothing() {
    after_a_lowered_end(|world| _ = world.memory.table().settle(A, &at(19), 30, 1, 0, false));
}

#[test]
fn a_stale_reply_after_a_lowered_end_gives_the_new_owner_nothing() {
    after_a_lowered_end(|world| sync(world, A, 19, 2, 24));
}

#[test]
fn a_reply_that_realigns_a_key_loses_no_count() {
    // The end goes from 10 to 8: what is taken before and after it is one window's.
    static THREADS: [fn(&World); 2] = [
        |world| sync(world, A, 1, 9, 8),
        |world| {
            world.take(A, 1);
            world.take(A, 1);
        },
    ];
    model(
        1,
        2,
        |world| _ = world.take(A, 0),
        &THREADS,
        |world| {
            assert!(world.ledger.admitted(A) <= 2);
            assert!(!world.take(A, 7) || world.ledger.admitted(A) <= 2);
        },
    );
}

#[test]
fn a_penalty_holds_against_every_take_that_comes_after_it() {
    static THREADS: [fn(&World); 2] = [
        |world| {
            world.memory.table().penalize(A, &at(1), 25);
            assert!(!world.take(A, 24));
        },
        |world| {
            world.take(A, 1);
            sync(world, A, 1, 2, 9);
        },
    ];
    model(1, 3, |world| _ = world.take(A, 0), &THREADS, |world| assert!(!world.take(A, 24)));
}

#[test]
fn a_refund_against_a_take_gives_back_exactly_once() {
    static THREADS: [fn(&World); 2] = [
        |world| assert!(world.memory.table().settle(A, &at(1), 10, 1, 0, false)),
        |world| _ = world.take(A, 1),
    ];
    model(
        1,
        2,
        |world| _ = world.take(A, 0),
        &THREADS,
        |world| {
            // Two were let in and one came back, or one was and came back.
            let taken = world.ledger.admitted(A) as u64;
            let left = 2 - (taken - 1);
            assert_eq!(window::count_of(world.memory.table().read(A, 1).0), 2 - left);
        },
    );
}

#[test]
fn a_probe_is_one_callers_alone() {
    static THREADS: [fn(&World); 2] = [
        |world| {
            world.ledger.note(A, world.memory.table().contact(A, &at(0), 1, 30));
        },
        |world| {
            world.ledger.note(A, world.memory.table().contact(A, &at(0), 1, 30));
        },
    ];
    model(2, 2, |_| {}, &THREADS, |world| assert_eq!(world.ledger.admitted(A), 1));
}

/// The only slot is C's until 10. At 9 A is admitted by the overflow (until 19), at 10 it could have C's slot: it must
/// not be admitted by both.
#[test]
fn the_overflow_and_a_fresh_slot_do_not_both_admit() {
    static THREADS: [fn(&World); 2] = [|world| _ = world.take(A, 9), |world| _ = world.take(A, 10)];
    model(
        1,
        1,
        |world| _ = world.take(C, 0),
        &THREADS,
        |world| {
            assert_eq!(world.ledger.admitted(A), 1);
            assert!(!world.take(A, 11));
        },
    );
}

#[test]
fn a_key_that_waits_for_the_overflow_to_end_has_its_slot_then() {
    static THREADS: [fn(&World); 2] = [|world| _ = world.take(A, 18), |world| _ = world.take(A, 19)];
    model(
        1,
        1,
        |world| {
            world.take(C, 0);
            world.take(A, 9);
        },
        &THREADS,
        |world| {
            assert_eq!(world.ledger.admitted(A), 2);
            assert!(!world.take(A, 20));
        },
    );
}

#[test]
fn what_is_refunded_to_the_overflow_is_refunded_once() {
    static THREADS: [fn(&World); 2] = [
        |world| assert!(world.memory.table().settle(A, &at(1), 11, 1, 0, true)),
        |world| {
            world.take(B, 2);
            world.take(B, 2);
        },
    ];
    model(
        1,
        2,
        |world| {
            world.take(C, 0);
            world.take(A, 1);
        },
        &THREADS,
        |world| assert!((1..=2).contains(&world.ledger.admitted(B))),
    );
}

#[test]
fn of_two_limits_both_or_none_are_taken() {
    loom::model(|| {
        let memory = Arc::new([Memory::new(1, 1), Memory { window_ms: 20, ..Memory::new(1, 2) }]);
        let take = |memory: &[Memory; 2]| {
            let limiter = Limiter::over(memory.iter().map(Memory::table).collect(), Counters::none());
            limiter.take(A, &at(0), 1, None).allowed
        };
        let other = memory.clone();
        let thread = thread::spawn(move || take(&other));
        let admitted = u64::from(take(&memory)) + u64::from(thread.join().unwrap());
        assert!(admitted <= 1);
        for table in memory.iter().map(Memory::table) {
            assert_eq!(window::count_of(table.read(A, 0).0), admitted);
        }
    });
}

/// Stops the first thread for ever before each of its accesses in turn. The other one is never stuck, the limit holds
/// (the stopped call may have taken one), and when all windows are over everybody finds room again.
fn stopped_anywhere(lines: usize, limit: u64, prepare: fn(&World), victim: fn(&World), other: fn(&World)) {
    for steps in 0.. {
        let finished = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = finished.clone();
        loom::model(move || {
            let world = World::new(lines, limit);
            prepare(&world);
            let theirs = world.clone();
            let seen = seen.clone();
            let thread = thread::spawn(move || {
                if stop_after(steps, || victim(&theirs)) {
                    seen.store(true, std::sync::atomic::Ordering::Relaxed);
                }
            });
            other(&world);
            thread.join().unwrap();
            other(&world);
            world.ledger.check(limit as usize);
            assert!(world.take(A, 100) && world.take(B, 100), "someone is stuck behind what a kill left");
        });
        if finished.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(steps > 2, "nothing was stopped");
            return;
        }
    }
}

#[test]
fn a_thread_that_stops_while_it_enters_a_key_is_in_nobodys_way() {
    stopped_anywhere(2, 1, |_| {}, |world| _ = world.take(A, 0), |world| _ = world.take(A, 0));
}

#[test]
fn a_thread_that_stops_while_it_claims_a_slot_is_in_nobodys_way() {
    stopped_anywhere(
        1,
        2,
        |world| _ = world.take(A, 0),
        |world| _ = world.take(B, 10),
        |world| {
            world.take(A, 9);
        },
    );
}

#[test]
fn a_thread_that_stops_in_the_overflow_is_in_nobodys_way() {
    stopped_anywhere(
        1,
        1,
        |world| _ = world.take(C, 0),
        |world| _ = world.take(A, 9),
        |world| _ = world.take(A, 10),
    );
}

#[test]
fn a_thread_that_stops_while_it_writes_a_reply_is_in_nobodys_way() {
    stopped_anywhere(
        1,
        2,
        |world| _ = world.take(A, 0),
        |world| sync(world, A, 1, 9, 8),
        |world| _ = world.take(A, 1),
    );
}

#[test]
fn a_thread_that_stops_while_it_gives_back_is_in_nobodys_way() {
    stopped_anywhere(
        1,
        2,
        |world| _ = world.take(A, 0),
        |world| _ = world.memory.table().settle(A, &at(1), 10, 1, 0, false),
        |world| _ = world.memory.take(A, 1),
    );
}

mod three_threads {
    use super::*;

    #[test]
    fn a_stale_take_is_not_fooled_by_a_word_that_a_third_thread_wrote() {
        // One thread gives A's slot to B, another one writes B's word, which is what A's had been.
        static THREADS: [fn(&World); 3] = [
            |world| _ = world.take(A, 19),
            |world| {
                lower_and_use_up(world);
                world.take(B, 20);
            },
            |world| _ = world.take(B, 20),
        ];
        model(
            1,
            2,
            |world| _ = world.take(A, 20),
            &THREADS,
            |world| {
                // The thread that takes B may come first and count in the overflow: then A's slot stays A's.
                assert!(world.ledger.admitted(A) <= 2);
            },
        );
    }

    #[test]
    #[ignore = "long: make proof"]
    fn two_that_hit_and_one_that_claims_forget_no_count() {
        static THREADS: [fn(&World); 3] =
            [|world| _ = world.take(A, 9), |world| _ = world.take(A, 9), |world| _ = world.take(B, 10)];
        model(1, 2, |world| _ = world.take(A, 0), &THREADS, |_| {});
    }

    #[test]
    #[ignore = "long: make proof"]
    fn three_that_hit_one_key_admit_exactly_the_limit() {
        static THREADS: [fn(&World); 3] =
            [|world| _ = world.take(A, 1), |world| _ = world.take(A, 1), |world| _ = world.take(A, 1)];
        model(1, 3, |world| _ = world.take(A, 0), &THREADS, |world| assert_eq!(world.ledger.admitted(A), 3));
    }

    #[test]
    #[ignore = "long: make proof"]
    fn two_that_enter_one_key_and_one_that_enters_another_find_room() {
        static THREADS: [fn(&World); 3] =
            [|world| _ = world.take(A, 0), |world| _ = world.take(A, 0), |world| _ = world.take(B, 0)];
        model(
            3,
            1,
            |_| {},
            &THREADS,
            |world| {
                assert_eq!((world.ledger.admitted(A), world.ledger.admitted(B)), (1, 1));
            },
        );
    }
}
