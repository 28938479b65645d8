//! Any bytes, as takes of many keys in a table that is far too small: none is admitted beyond its limit.
#![no_main]
#![allow(dead_code, reason = "the oracle has two ways to be run, and each target runs one")]

#[path = "../../core/tests/oracle/mod.rs"]
mod oracle;
#[path = "../../core/tests/real/mod.rs"]
mod real;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::admits_no_more_than_the_limit_when_crowded(bytes));
