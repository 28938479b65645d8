//! A store's header: what it tells, what it refuses, and how time goes on over a reboot.
#![cfg(not(loom))]

use bide_core::layout::{CALLERS, Facts, Header, Layout, LayoutError, Origin, REPLACED};
use bide_core::sync::{AtomicU64, Ordering};
use bide_core::window::LATEST_MS;
use proptest::prelude::*;

const WINDOWS: [u64; 2] = [1_000, 60_000];
const MS: u64 = 1_000_000;

fn zeroed() -> Vec<AtomicU64> {
    (0..Layout::new(10, WINDOWS.len()).words()).map(|_| AtomicU64::new(0)).collect()
}

fn origin() -> Origin {
    Origin { secret: [7, 8], created_unix_ms: 1_700_000_000_000, boot: 1_001, base_ns: 500 * MS }
}

fn made() -> Vec<AtomicU64> {
    let buffer = zeroed();
    Header::open(&buffer, 10, &WINDOWS, origin).expect("it is made");
    buffer
}

fn facts(buffer: &[AtomicU64]) -> Facts {
    Header::read(buffer).expect("it is whole").1
}

/// The store's time when that boot's clock shows `now_ns`.
fn time_of(buffer: &[AtomicU64], now_ns: u64) -> u64 {
    now_ns.wrapping_sub(facts(buffer).origin.base_ns) / MS
}

#[test]
fn the_first_opener_makes_it_and_later_ones_find_what_it_wrote() {
    let buffer = made();
    let other = || Origin { secret: [9, 9], boot: 2_002, ..origin() };
    let (header, found) = Header::open(&buffer, 10, &WINDOWS, other).expect("it is the same store");
    assert_eq!(found, origin());
    assert_eq!(header.tenant().load(Ordering::Relaxed), 1_001);
    assert_eq!((facts(&buffer).windows_ms, facts(&buffer).max_keys), (WINDOWS.to_vec(), 10));
}

#[test]
fn another_store_is_told_apart() {
    let buffer = made();
    let open = |max_keys, windows: &[u64]| Header::open(&buffer, max_keys, windows, origin).err();
    assert_eq!(open(10, &[60_000, 1_000]), Some(LayoutError::Windows(WINDOWS.to_vec())));
    assert_eq!(open(10, &[1_000]), Some(LayoutError::Windows(WINDOWS.to_vec())));
    assert_eq!(open(11, &WINDOWS), Some(LayoutError::MaxKeys(10)));
    assert_eq!(open(10_000_000, &WINDOWS), Some(LayoutError::MaxKeys(10)));
    let words = buffer.len();
    assert_eq!(
        Header::open(&buffer[..words - 1], 10, &WINDOWS, origin).err(),
        Some(LayoutError::TooSmall { needed: words * 8, given: words * 8 - 8 })
    );
    assert!(matches!(Header::read(&buffer[..511]).err(), Some(LayoutError::TooSmall { .. })));
    assert!(matches!(
        Header::open(&zeroed()[..511], 10, &WINDOWS, origin).err(),
        Some(LayoutError::TooSmall { .. })
    ));
    buffer[1].store(1 << 32 | 2, Ordering::Relaxed);
    assert_eq!(open(10, &WINDOWS), Some(LayoutError::Version(1)));
    buffer[0].store(1, Ordering::Relaxed);
    assert_eq!(open(10, &WINDOWS), Some(LayoutError::Foreign));
}

proptest! {
    #[test]
    fn a_header_with_one_wrong_bit_among_what_is_made_once_is_refused(word in 0_usize..24, bit in 0_u32..64) {
        let buffer = made();
        buffer[word].fetch_xor(1 << bit, Ordering::Relaxed);
        prop_assert!(Header::read(&buffer).is_err());
    }

    #[test]
    fn after_a_reboot_time_goes_on_by_the_wall_and_never_backwards(
        seen_ms in 0_u64..1 << 37,
        gone_ms in -(1_i64 << 37)..1 << 37,
        now_ns in 0_u64..1 << 60,
    ) {
        let buffer = made();
        let header = Header::read(&buffer).expect("it is whole").0;
        let unix_ms = 1_700_000_000_000 + seen_ms;
        header.note(seen_ms, unix_ms);
        header.adopt(2_002, now_ns, unix_ms.wrapping_add_signed(gone_ms));
        let expected = (seen_ms as i64 + gone_ms.max(0)).clamp(0, LATEST_MS as i64) as u64;
        prop_assert_eq!(time_of(&buffer, now_ns), expected);
        prop_assert_eq!(header.tenant().load(Ordering::Relaxed), 2_002);
    }
}

#[test]
fn an_opener_of_the_same_boot_changes_no_clock() {
    let buffer = made();
    let header = Header::read(&buffer).expect("it is whole").0;
    header.adopt(1_001, 10_000 * MS, 0);
    assert_eq!(facts(&buffer).origin, origin());
}

#[test]
fn one_that_was_killed_before_it_named_the_tenant_is_helped_by_the_next() {
    let buffer = made();
    let header = Header::read(&buffer).expect("it is whole").0;
    header.adopt(2_002, 3_000 * MS, 1_700_000_060_000);
    let base_ns = facts(&buffer).origin.base_ns;
    header.tenant().store(1_001, Ordering::Relaxed);
    header.adopt(2_002, 9_000 * MS, 1_700_000_099_000);
    assert_eq!(header.tenant().load(Ordering::Relaxed), 2_002);
    assert_eq!(facts(&buffer).origin.base_ns, base_ns, "whoever opened it in between goes by that clock");
}

#[test]
fn one_that_was_killed_before_it_named_the_boot_is_done_again() {
    let buffer = made();
    let header = Header::read(&buffer).expect("it is whole").0;
    buffer[33].store(1, Ordering::Relaxed);
    header.adopt(2_002, 3_000 * MS, 1_700_000_060_000);
    assert_eq!(time_of(&buffer, 3_000 * MS), 60_000);
}

#[test]
fn a_mark_of_replacement_stays_whoever_opens_it() {
    let buffer = made();
    let header = Header::read(&buffer).expect("it is whole").0;
    header.mark_replaced();
    header.adopt(2_002, 0, 0);
    assert_eq!(header.tenant().load(Ordering::Relaxed), REPLACED);
}

#[test]
fn the_one_that_takes_its_place_has_its_secret_its_clock_and_no_counts() {
    let buffer = made();
    let header = Header::read(&buffer).expect("it is whole").0;
    header.counters().denied();
    buffer[600].store(42, Ordering::Relaxed);
    header.mark_replaced();
    let new = zeroed();
    header.renew(&new);
    assert_eq!(facts(&new), facts(&buffer));
    let (header, _) = Header::open(&new, 10, &WINDOWS, origin).expect("it fits the same limiters");
    assert_eq!(header.tenant().load(Ordering::Relaxed), 1_001);
    assert_eq!(header.counters().sums(), [0, 0, 0]);
    assert!(new[512..].iter().all(|word| word.load(Ordering::Relaxed) == 0));
}

#[test]
fn a_store_without_a_file_is_its_callers() {
    let buffer = zeroed();
    let origin = || Origin { boot: CALLERS, ..origin() };
    let (header, _) = Header::open(&buffer, 10, &WINDOWS, origin).expect("it is made");
    assert_eq!(header.tenant().load(Ordering::Relaxed), CALLERS);
}

#[test]
fn time_can_begin_anew_before_anybody_counts_by_it() {
    let buffer = made();
    let header = Header::read(&buffer).expect("it is whole").0;
    header.note(LATEST_MS, 1_900_000_000_000);
    header.restart(7_000 * MS, 1_900_000_000_000);
    assert_eq!(time_of(&buffer, 7_001 * MS), 1);
    header.adopt(2_002, 0, 1_900_000_000_005);
    assert_eq!(time_of(&buffer, 0), 5, "and the next boot goes on from there");
}
