//! A real limiter over its own memory, for tests.

use bide_core::layout::{CALLERS, Layout, Origin};
use bide_core::sync::AtomicU64;
use bide_core::{Header, Limiter, Rule};

/// A real limiter over its own memory.
pub struct Real {
    buffer: Vec<AtomicU64>,
    rules: Vec<Rule>,
    /// The keys that it is made for.
    pub max_keys: u64,
}

impl Real {
    /// A limiter of these rules.
    pub fn new(rules: &[Rule], max_keys: u64) -> Self {
        let words = Layout::new(max_keys, rules.len()).words();
        let buffer = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { buffer, rules: rules.to_vec(), max_keys }
    }

    /// Its memory.
    #[allow(dead_code, reason = "not every test that uses this module looks into it")]
    pub fn buffer(&self) -> &[AtomicU64] {
        &self.buffer
    }

    /// It, at work.
    pub fn limiter(&self) -> Limiter<'_> {
        let windows: Vec<u64> = self.rules.iter().map(|rule| rule.window_ms).collect();
        let origin = || Origin { secret: [1, 2], created_unix_ms: 0, boot: CALLERS, base_ns: 0 };
        let (header, _) =
            Header::open(&self.buffer, self.max_keys, &windows, origin).expect("the buffer fits");
        Limiter::new(&self.buffer, Layout::new(self.max_keys, windows.len()), &self.rules, header.counters())
    }
}
