//! Benches only: `cargo bench` in this folder, or `make bench-rust`.
