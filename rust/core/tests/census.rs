//! What a census tells of a table.
#![cfg(not(loom))]

mod real;

use bide_core::census::{Bucket, census};
use bide_core::layout::Layout;
use bide_core::window::FULL;
use bide_core::{Fixed, Key, Rule};
use real::Real;

const RULE: Rule = Rule { limit: 10, window_ms: 1_000, grid: false, learning: false };

#[test]
fn it_counts_what_lives_and_names_the_fullest_first() {
    let real = Real::new(&[RULE], 1_000);
    let (limiter, at) = (real.limiter(), |now| Fixed { now, wall_offset: 0 });
    let key = |number: u64| Key::from_hash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for number in 1..=9 {
        assert!(limiter.try_acquire(key(number), &at(0), number));
    }
    limiter.penalize(key(100), &at(500), 5_000);
    let look = |now, most| census(real.buffer(), Layout::new(1_000, 1), 0, now, most);
    let bucket = |number: u64, count, end| Bucket { fingerprint: key(number).fingerprint(), count, end };

    let found = look(500, 3);
    assert_eq!((found.live, found.overflowing), (10, 0));
    assert_eq!(found.fullest, [bucket(100, FULL, 5_500), bucket(9, 9, 1_000), bucket(8, 8, 1_000)]);
    assert_eq!(look(1_000, 3).fullest, [bucket(100, FULL, 5_500)]);
    assert_eq!(look(6_000, 3).live, 0);
    assert_eq!(look(500, 0).fullest, []);
}

#[test]
fn it_counts_the_overflow_of_a_table_that_is_too_small() {
    let real = Real::new(&[RULE], 1);
    let limiter = real.limiter();
    for number in 1..20_u64 {
        limiter.try_acquire(Key::from_hash(number << 40), &Fixed { now: 0, wall_offset: 0 }, 1);
    }
    let found = census(real.buffer(), Layout::new(1, 1), 0, 0, 100);
    assert_eq!((found.live, found.overflowing, found.fullest.len()), (4, 1, 4));
}
