//! The limiter's core.
#![forbid(unsafe_code)]
