//! One switch: the standard library's atomics, or loom's when the model checker runs (`--cfg loom`).
//!
//! Rules of this file: nothing else in the crate names `std::sync::atomic` or `loom` for what threads share, so that
//! what loom checks is the code that ships. Under loom a thread can also be told to stop for ever before its n-th
//! access: what a kill leaves behind.

#[cfg(not(loom))]
pub use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub use checked::{AtomicU64, fence, stop_after};
#[cfg(loom)]
pub use loom::{hint::spin_loop, sync::atomic::Ordering};

#[cfg(loom)]
mod checked {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use loom::sync::atomic::Ordering;

    loom::thread_local!(static STEPS_LEFT: Cell<Option<usize>> = Cell::new(None));

    loom::lazy_static!(static ref FENCES: Crossing = Crossing::new(););

    struct Stopped;

    /// Runs `work` for so many accesses, then stops it for ever; whether it came to its end.
    pub fn stop_after(steps: usize, work: impl FnOnce()) -> bool {
        STEPS_LEFT.with(|left| left.set(Some(steps)));
        let result = catch_unwind(AssertUnwindSafe(work));
        STEPS_LEFT.with(|left| left.set(None));
        match result {
            Ok(()) => true,
            Err(stop) if stop.is::<Stopped>() => false,
            Err(failure) => resume_unwind(failure),
        }
    }

    fn step() {
        STEPS_LEFT.with(|left| match left.get() {
            None => {}
            Some(0) => resume_unwind(Box::new(Stopped)),
            Some(steps) => left.set(Some(steps - 1)),
        });
    }

    /// Where threads meet in an order that loom must try both ways: a swap that always fails, so that it writes nothing
    /// that could order memory.
    #[derive(Debug)]
    struct Crossing(loom::sync::atomic::AtomicU64);

    impl Crossing {
        fn new() -> Self {
            Self(loom::sync::atomic::AtomicU64::new(0))
        }

        fn cross(&self) {
            let crossed = self.0.compare_exchange(1, 1, Ordering::Relaxed, Ordering::Relaxed);
            debug_assert!(crossed.is_err());
        }
    }

    /// loom's fence, where a thread can also be overtaken or stop: loom's own comes at once after what stands before it.
    pub fn fence(order: Ordering) {
        step();
        FENCES.cross();
        loom::sync::atomic::fence(order);
    }

    /// loom's atomic, counting its thread's accesses.
    ///
    /// loom 0.7 remembers one access of each atomic to find out which orders of two threads it must try. In "load, then
    /// swap" a thread's own load hides the other thread's from the swap, and orders are left out: a test of two threads
    /// came down to one execution. So a load crosses every other load there.
    #[derive(Debug)]
    pub struct AtomicU64 {
        value: loom::sync::atomic::AtomicU64,
        loads: Crossing,
    }

    #[expect(missing_docs, reason = "as in the standard library")]
    impl AtomicU64 {
        #[must_use]
        pub fn new(value: u64) -> Self {
            // The first use of a static orders memory: it must not be a thread's.
            let _ = &*FENCES;
            Self { value: loom::sync::atomic::AtomicU64::new(value), loads: Crossing::new() }
        }

        pub fn load(&self, order: Ordering) -> u64 {
            step();
            self.loads.cross();
            self.value.load(order)
        }

        pub fn store(&self, value: u64, order: Ordering) {
            step();
            self.value.store(value, order);
        }

        pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            step();
            self.value.fetch_add(value, order)
        }

        pub fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
            step();
            self.value.fetch_or(value, order)
        }

        pub fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            step();
            self.value.compare_exchange(current, new, success, failure)
        }
    }
}
