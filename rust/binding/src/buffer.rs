//! Memory that Python owns, borrowed as atomics.
//!
//! Rule of this file: every `unsafe` that touches memory is here.

use std::sync::atomic::AtomicU64;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A writable buffer, held (which also keeps its owner from closing or resizing it) for as long as this lives.
pub struct Buffer {
    held: PyBuffer<u8>,
}

impl Buffer {
    /// Holds the buffer of `object`.
    pub fn hold(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let held = PyBuffer::<u8>::get(object)?;
        if held.readonly() || !held.is_c_contiguous() || !held.buf_ptr().cast::<AtomicU64>().is_aligned() {
            return Err(PyValueError::new_err(
                "buffer must be writable, contiguous and aligned to 8 bytes, such as an mmap",
            ));
        }
        Ok(Self { held })
    }

    /// The buffer's whole words.
    ///
    /// # Safety
    /// The words must not be used after `self` is dropped.
    pub unsafe fn words(&self) -> &'static [AtomicU64] {
        let words = self.held.len_bytes() / size_of::<AtomicU64>();
        // SAFETY: the pointer is aligned, not null and writable for that many words (checked in `hold`; an empty
        // buffer gives no words); the exporter keeps the memory in place while the buffer is held; the caller
        // promises not to use it longer. Any bit pattern is an AtomicU64. Other holders of the same memory are Cores
        // of this or another process, which use it as atomics alone; a caller that writes into it by other means
        // spoils its own counters, and an atomic access of bytes that change under it is still one of a u64.
        unsafe { std::slice::from_raw_parts(self.held.buf_ptr().cast::<AtomicU64>(), words) }
    }
}

/// Asks the processor to fetch the cache line of `word`, and goes on at once.
#[inline]
pub fn prefetch(word: &AtomicU64) {
    // SAFETY: a hint, of an address that is valid.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
            std::ptr::from_ref(word).cast(),
        );
    }
    // SAFETY: as above; `prfm` reads nothing into a register and faults never.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) std::ptr::from_ref(word), options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = word;
}
