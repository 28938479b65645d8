//! Any bytes, as steps of the limiter beside the naive oracle: they say the same at every step.
#![no_main]
#![allow(dead_code, reason = "the oracle has two ways to be run, and each target runs one")]

#[path = "../../core/tests/oracle/mod.rs"]
mod oracle;
#[path = "../../core/tests/real/mod.rs"]
mod real;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::agrees_with_the_oracle(bytes));
