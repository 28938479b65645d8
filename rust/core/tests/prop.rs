//! The real limiter beside the naive oracle, on any sequence of operations.
#![cfg(not(loom))]

mod oracle;
mod real;

use proptest::collection::vec;
use proptest::prelude::*;

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 3 } else { count },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn it_says_what_the_oracle_says(rules in any::<u8>(), steps in vec(any::<[u8; 4]>(), 0..120)) {
        oracle::agrees_with_the_oracle(&[&[rules], steps.as_flattened()].concat());
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn crowded_it_admits_no_more_than_the_limit(size in any::<u8>(), steps in vec(any::<[u8; 4]>(), 0..400)) {
        oracle::admits_no_more_than_the_limit_when_crowded(&[&[size], steps.as_flattened()].concat());
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn its_hash_is_siphash_1_3(secret in any::<[u64; 2]>(), octets in vec(any::<u8>(), 0..80)) {
        let oracle = siphasher::sip::SipHasher13::new_with_keys(secret[0], secret[1]);
        prop_assert_eq!(bide_core::siphash::SipHash13::new(secret).hash(&octets), oracle.hash(&octets));
    }
}
