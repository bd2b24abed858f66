//! Pinned memory of the host, through which what is small goes to a GPU and comes back.
//!
//! A copy from or to pageable memory goes through pinned memory of the driver's own, and may wait for the stream; one from or
//! to pinned memory is an entry of the stream like any other. What is staged stays as it is until the stream has been
//! waited for, which every step of a decoder does to read its tokens.

use std::ffi::c_void;

use super::CudaError;
use super::driver::Plain;
use super::library::{Driver, Opaque};

/// Bytes of pinned memory: the masks and numbers of a large batch. What is larger goes by itself.
pub(super) const STAGED_LIMIT: usize = 4 << 20;
/// Where a staged piece may begin: a line of the host's cache.
const ALIGNMENT: usize = 64;

/// Pieces one after another, all forgotten once the stream has been waited for.
pub(super) struct Staging {
    /// Null where there is no memory yet.
    start: *mut u8,
    n_bytes: usize,
    n_used: usize,
}

impl Staging {
    /// No memory at all, for a context that is not open yet.
    pub(super) fn none() -> Self {
        Self {
            start: std::ptr::null_mut(),
            n_bytes: 0,
            n_used: 0,
        }
    }

    /// Pinned memory of the context that is current.
    pub(super) fn new(driver: &Driver) -> Result<Self, CudaError> {
        let mut start = std::ptr::null_mut();
        // SAFETY: `start` is writable, a context is current.
        let code = unsafe { (driver.allocate_host)(&raw mut start, STAGED_LIMIT) };
        driver.check("cuMemAllocHost", code)?;
        Ok(Self {
            start: start.cast(),
            n_bytes: STAGED_LIMIT,
            n_used: 0,
        })
    }

    /// Gives the memory back; nothing of the stream may use it any more.
    pub(super) fn free(&mut self, driver: &Driver) {
        if !self.start.is_null() {
            // SAFETY: it was allocated by this driver, and is freed once: its owner is being dropped.
            let _ = unsafe { (driver.free_host)(self.start.cast()) };
        }
    }

    /// Waits for the stream, after which all pieces are forgotten.
    pub(super) fn wait(&mut self, driver: &Driver, stream: Opaque) -> Result<(), CudaError> {
        // SAFETY: the stream lives as long as the context that has this staging.
        let code = unsafe { (driver.synchronize)(stream) };
        driver.check("cuStreamSynchronize", code)?;
        self.n_used = 0;
        Ok(())
    }

    /// Room for `n_bytes`, at most [`STAGED_LIMIT`], until the stream is next waited for.
    fn reserve(
        &mut self,
        n_bytes: usize,
        driver: &Driver,
        stream: Opaque,
    ) -> Result<*mut u8, CudaError> {
        assert!(n_bytes <= self.n_bytes, "{n_bytes} bytes are not staged");
        if self.n_used + n_bytes > self.n_bytes {
            self.wait(driver, stream)?;
        }
        // SAFETY: within the allocation, by the comparison above.
        let piece = unsafe { self.start.add(self.n_used) };
        self.n_used = (self.n_used + n_bytes).next_multiple_of(ALIGNMENT);
        Ok(piece)
    }

    /// Writes values to an address of the GPU that has room for them.
    pub(super) fn upload<T: Plain>(
        &mut self,
        values: &[T],
        address: u64,
        (driver, stream): (&Driver, Opaque),
    ) -> Result<(), CudaError> {
        let n_bytes = size_of_val(values);
        let piece = self.reserve(n_bytes, driver, stream)?;
        // SAFETY: the piece has room for these bytes and is no part of `values`; the stream reads it, and nothing else
        // has the piece before the stream has been waited for.
        let code = unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr().cast(), piece, n_bytes);
            (driver.upload)(address, piece.cast::<c_void>(), n_bytes, stream)
        };
        driver.check("cuMemcpyHtoD", code)
    }

    /// Fills `values` from an address of the GPU that has as many, once all before it is done.
    pub(super) fn download<T: Plain>(
        &mut self,
        values: &mut [T],
        address: u64,
        (driver, stream): (&Driver, Opaque),
    ) -> Result<(), CudaError> {
        let n_bytes = size_of_val(values);
        let piece = self.reserve(n_bytes, driver, stream)?;
        // SAFETY: the piece has room for these bytes, and is nobody else's before the stream has been waited for.
        let code = unsafe { (driver.download)(piece.cast(), address, n_bytes, stream) };
        driver.check("cuMemcpyDtoH", code)?;
        self.wait(driver, stream)?;
        // SAFETY: the piece holds these bytes now, every pattern of which is a value; nothing was staged since.
        unsafe {
            std::ptr::copy_nonoverlapping(piece, values.as_mut_ptr().cast(), n_bytes);
        }
        Ok(())
    }
}
