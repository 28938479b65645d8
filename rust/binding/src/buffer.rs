//! Memory that Python owns, borrowed as atomics.
//!
//! Rule of this file: every `unsafe` that touches memory is here.

#[cfg(unix)]
use std::os::fd::{BorrowedFd, RawFd};
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
    pub fn words(&self) -> &[AtomicU64] {
        let words = self.held.len_bytes() / size_of::<AtomicU64>();
        // SAFETY: the pointer is aligned, not null and writable for that many words (checked in `hold`; an empty
        // buffer gives no words); the exporter keeps the memory in place while the buffer is held, and the words are
        // borrowed from `self`, which holds it. Any bit pattern is an AtomicU64. Other holders of the same memory are Cores
        // of this or another process, which use it as atomics alone; a caller that writes into it by other means
        // spoils its own counters, and an atomic access of bytes that change under it is still one of a u64.
        unsafe { std::slice::from_raw_parts(self.held.buf_ptr().cast::<AtomicU64>(), words) }
    }

    /// The same, for who keeps them beside the buffer: the language has no name for that lifetime.
    ///
    /// # Safety
    /// The words must not be used after `self` is dropped.
    pub unsafe fn words_beside(&self) -> &'static [AtomicU64] {
        let words: *const [AtomicU64] = self.words();
        // SAFETY: they live as long as `self`, by this function's contract.
        unsafe { &*words }
    }
}

/// Lays a file over the memory of an anonymous `mmap.mmap`, from the file's beginning, shared: from then on they are the
/// file's. Where another file was, whoever is using the words goes on in the new one.
#[cfg(unix)]
pub fn lay_over(object: &Bound<'_, PyAny>, file: RawFd) -> PyResult<()> {
    use pyo3::exceptions::{PyOSError, PyTypeError};
    use rustix::mm::{MapFlags, ProtFlags, mmap};

    if !object.is_exact_instance(&object.py().import("mmap")?.getattr("mmap")?) {
        return Err(PyTypeError::new_err("a file is laid over an mmap.mmap, nothing else"));
    }
    let buffer = Buffer::hold(object)?;
    // SAFETY: the caller has opened it, and keeps it open for the length of this call.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    let size = rustix::fs::fstat(file).map_err(std::io::Error::from)?.st_size;
    if usize::try_from(size).is_ok_and(|size| size < buffer.held.len_bytes()) {
        return Err(PyOSError::new_err("the file is shorter than the memory"));
    }
    // SAFETY: the pages are the mapping's own, whole, and held: nothing but a store's words is in them, and Python will
    // unmap them and do nothing else. The kernel exchanges them at once: an atomic access of another thread is one of
    // the old word or of the new one. The file is long enough, so that no access is beyond its end.
    unsafe {
        mmap(
            buffer.held.buf_ptr(),
            buffer.held.len_bytes(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::FIXED,
            file,
            0,
        )
    }
    .map_err(std::io::Error::from)?;
    Ok(())
}

/// Has all of a file's size set aside on its disk; whether the file system can do that.
#[cfg(unix)]
pub fn allocate(file: RawFd, size: u64) -> PyResult<bool> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        // SAFETY: as in `lay_over`.
        let file = unsafe { BorrowedFd::borrow_raw(file) };
        match fallocate(file, FallocateFlags::KEEP_SIZE, 0, size) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, size);
        Ok(false)
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
