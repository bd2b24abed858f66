//! A GPU, its memory and its kernels, as values that clean up after themselves.
//!
//! All work goes to one stream, in order: memory that a kernel reads may be given back or overwritten by whatever is asked
//! for later. Launches are collected to segments (segments.rs), which end before anything else is asked of the stream.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CudaError;
use super::compile::{Source, kernel_name, text_of};
use super::library::{Driver, Opaque};
use super::segments::{Launch, Segments};
use super::staging::{STAGED_LIMIT, Staging};

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MAX_DYNAMIC_SHARED: c_int = 8;
/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;
/// Dynamic shared memory that needs no leave.
const DEFAULT_DYNAMIC_SHARED: usize = 48 << 10;

impl Driver {
    /// An error for a code other than 0.
    pub(crate) fn check(&self, function: &'static str, code: c_int) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        let mut name = std::ptr::null();
        // SAFETY: `name` is writable.
        let is_known = unsafe { (self.error_name)(code, &raw mut name) } == 0 && !name.is_null();
        let name = if is_known {
            // SAFETY: the driver's names are constant strings that end in a zero.
            let text = unsafe { std::ffi::CStr::from_ptr(name) };
            text.to_string_lossy().into_owned()
        } else {
            "an unknown error".into()
        };
        Err(CudaError::Call {
            function,
            name,
            code,
        })
    }

    /// Starts the driver and counts its GPUs.
    pub(crate) fn n_devices(&self) -> Result<usize, CudaError> {
        // SAFETY: no other condition than flags of 0.
        self.check("cuInit", unsafe { (self.init)(0) })?;
        let mut count = 0;
        // SAFETY: `count` is writable.
        self.check("cuDeviceGetCount", unsafe {
            (self.device_count)(&raw mut count)
        })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The CUDA version that the driver can run, major and minor.
    pub(crate) fn number(&self) -> Result<(i32, i32), CudaError> {
        let mut version = 0;
        // SAFETY: `version` is writable.
        self.check("cuDriverGetVersion", unsafe {
            (self.version)(&raw mut version)
        })?;
        Ok((version / 1000, version % 1000 / 10))
    }

    fn capability(&self, device: c_int) -> Result<(i32, i32), CudaError> {
        let mut numbers = [0; 2];
        for (number, attribute) in numbers.iter_mut().zip(CAPABILITY) {
            // SAFETY: `number` is writable, the device is one of the driver's.
            let code = unsafe { (self.device_attribute)(number, attribute, device) };
            self.check("cuDeviceGetAttribute", code)?;
        }
        Ok((numbers[0], numbers[1]))
    }

    fn name(&self, device: c_int) -> Result<String, CudaError> {
        let mut buffer = [0u8; 256];
        // SAFETY: the buffer has the length it is told.
        let code = unsafe { (self.device_name)(buffer.as_mut_ptr().cast(), 255, device) };
        self.check("cuDeviceGetName", code)?;
        Ok(text_of(&buffer))
    }
}

/// What is on its way to the stream.
struct Queue {
    staging: Staging,
    segments: Segments,
}

/// A GPU that is ready.
pub(crate) struct Context {
    driver: Driver,
    device: c_int,
    handle: Opaque,
    stream: Opaque,
    queue: Mutex<Queue>,
    pub(crate) name: String,
    pub(crate) capability: (i32, i32),
}

// SAFETY: handles of the driver are valid on any thread that has made the context current, as every use here does first;
// the driver's functions may be called from several threads.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Opens GPU `ordinal`, from 0.
    pub(crate) fn open(driver: Driver, ordinal: usize) -> Result<Arc<Self>, CudaError> {
        let n_devices = driver.n_devices()?;
        if ordinal >= n_devices {
            return Err(CudaError::NoDevice {
                asked: ordinal,
                n_devices,
            });
        }
        let mut device = 0;
        // SAFETY: `device` is writable.
        driver.check("cuDeviceGet", unsafe {
            (driver.device)(&raw mut device, ordinal as c_int)
        })?;
        let (name, capability) = (driver.name(device)?, driver.capability(device)?);
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is writable, the device is one of the driver's.
        driver.check("cuDevicePrimaryCtxRetain", unsafe {
            (driver.retain_context)(&raw mut handle, device)
        })?;
        let mut context = Self {
            driver,
            device,
            handle,
            stream: std::ptr::null_mut(),
            queue: Mutex::new(Queue {
                staging: Staging::none(),
                segments: Segments::new(),
            }),
            name,
            capability,
        };
        context.bind()?;
        let stream = &raw mut context.stream;
        // SAFETY: `stream` is writable, the context is current.
        let code = unsafe { (context.driver.create_stream)(stream, NON_BLOCKING) };
        context.driver.check("cuStreamCreate", code)?;
        context.queue().staging = Staging::new(&context.driver)?;
        Ok(Arc::new(context))
    }

    /// Makes this GPU the calling thread's.
    fn bind(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained until this value is dropped.
        let code = unsafe { (self.driver.set_context)(self.handle) };
        self.driver.check("cuCtxSetCurrent", code)
    }

    /// The driver's CUDA version.
    pub(crate) fn driver_number(&self) -> Result<(i32, i32), CudaError> {
        self.driver.number()
    }

    /// Bytes free, and in all.
    pub(crate) fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are writable, the context is current.
        let code = unsafe { (self.driver.memory_info)(&raw mut free, &raw mut total) };
        self.driver.check("cuMemGetInfo", code)?;
        Ok((free, total))
    }

    /// Memory of at least one byte, whose contents are unspecified.
    pub(crate) fn allocate(self: &Arc<Self>, n_bytes: usize) -> Result<Memory, CudaError> {
        self.bind()?;
        let n_bytes = n_bytes.max(1);
        let mut address = 0;
        // SAFETY: `address` is writable, the context is current.
        let code = unsafe { (self.driver.allocate)(&raw mut address, n_bytes) };
        self.driver.check("cuMemAlloc", code)?;
        Ok(Memory {
            context: Arc::clone(self),
            address,
            n_bytes,
        })
    }

    /// Memory with these values in it.
    pub(crate) fn place<T: Plain>(self: &Arc<Self>, values: &[T]) -> Result<Memory, CudaError> {
        let memory = self.allocate(size_of_val(values))?;
        memory.upload(values)?;
        Ok(memory)
    }

    /// Loads a compiled source: all of its kernels that `wanted` names.
    pub(crate) fn load(
        self: &Arc<Self>,
        cubin: &[u8],
        source: Source,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Function>, CudaError> {
        self.bind()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the image is a whole cubin, checked by its sum if it comes from a file.
        let code = unsafe { (self.driver.load_module)(&raw mut handle, cubin.as_ptr().cast()) };
        self.driver.check("cuModuleLoadData", code)?;
        let module = Arc::new(Module {
            context: Arc::clone(self),
            handle,
        });
        let names = source.kernels.iter().filter(|name| is_wanted(name));
        names.map(|name| Function::new(&module, name)).collect()
    }

    /// Asks for a kernel on `grid` blocks of `n_threads`, with `n_shared` bytes of dynamic shared memory. What is wrong with
    /// it is told by what next goes to the stream or comes from it.
    pub(crate) fn launch(
        &self,
        function: &Function,
        grid: [usize; 2],
        n_threads: usize,
        n_shared: usize,
        arguments: &[Argument],
    ) {
        if grid.contains(&0) {
            return;
        }
        let parameters: Vec<u64> = arguments.iter().map(|argument| argument.bits()).collect();
        let count = |n| u32::try_from(n).expect("a batch has fewer blocks than 2^32");
        self.queue().segments.push(&Launch {
            function: function.handle,
            grid: grid.map(count),
            n_threads: n_threads as u32,
            n_shared: n_shared as u32,
            parameters: &parameters,
        });
    }

    /// What is on its way. A panic leaves it whole: with launches, or a piece of memory, that nobody waits for.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on its way, of which all launches are now the stream's; this GPU is the calling thread's.
    fn flushed(&self) -> Result<MutexGuard<'_, Queue>, CudaError> {
        self.bind()?;
        let mut queue = self.queue();
        queue.segments.end(&self.driver, self.stream)?;
        Ok(queue)
    }

    /// Has every kernel launched by itself.
    #[cfg(test)]
    pub(crate) fn without_graphs(&self) {
        self.queue().segments.is_on = false;
    }

    /// Graphs, and how often one was launched.
    #[cfg(test)]
    pub(crate) fn graph_counts(&self) -> (usize, u64) {
        self.queue().segments.counts()
    }

    /// Launches of the longest graph.
    #[cfg(test)]
    pub(crate) fn longest_graph(&self) -> usize {
        self.queue().segments.longest()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // There is nothing to do about a failure here.
        drop(self.flushed());
        // SAFETY: memory and modules hold the context, so none is left; the stream is this value's own.
        unsafe {
            let _ = (self.driver.synchronize)(self.stream);
            let mut queue = self.queue();
            queue.segments.forget(&self.driver);
            queue.staging.free(&self.driver);
            drop(queue);
            let _ = (self.driver.destroy_stream)(self.stream);
            let _ = (self.driver.release_context)(self.device);
        }
    }
}

/// Numbers that can be copied as bytes.
///
/// # Safety
/// Every pattern of bits is a value, and there is no padding.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: a number.
unsafe impl Plain for u8 {}
// SAFETY: a number.
unsafe impl Plain for u16 {}
// SAFETY: a number.
unsafe impl Plain for u32 {}
// SAFETY: a number.
unsafe impl Plain for i32 {}
// SAFETY: a number.
unsafe impl Plain for f32 {}

/// Memory of a GPU.
pub(crate) struct Memory {
    context: Arc<Context>,
    address: u64,
    n_bytes: usize,
}

impl Memory {
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Writes values to its start.
    pub(crate) fn upload<T: Plain>(&self, values: &[T]) -> Result<(), CudaError> {
        let n_bytes = size_of_val(values);
        assert!(
            n_bytes <= self.n_bytes,
            "{n_bytes} bytes to {}",
            self.n_bytes
        );
        if n_bytes == 0 {
            return Ok(());
        }
        let mut queue = self.context.flushed()?;
        let (driver, stream) = (&self.context.driver, self.context.stream);
        if n_bytes <= STAGED_LIMIT {
            return queue.staging.upload(values, self.address, (driver, stream));
        }
        // SAFETY: the memory has room for all of `values`. Pageable memory is read before the call returns.
        let code =
            unsafe { (driver.upload)(self.address, values.as_ptr().cast(), n_bytes, stream) };
        driver.check("cuMemcpyHtoD", code)
    }

    /// Reads the first `n_values` values, once all before it is done.
    pub(crate) fn download<T: Plain + Default>(
        &self,
        n_values: usize,
    ) -> Result<Vec<T>, CudaError> {
        let n_bytes = n_values * size_of::<T>();
        assert!(
            n_bytes <= self.n_bytes,
            "{n_bytes} bytes of {}",
            self.n_bytes
        );
        let mut queue = self.context.flushed()?;
        let mut values = vec![T::default(); n_values];
        let (driver, stream) = (&self.context.driver, self.context.stream);
        if n_bytes <= STAGED_LIMIT {
            queue
                .staging
                .download(&mut values, self.address, (driver, stream))?;
            return Ok(values);
        }
        // SAFETY: both sides have `n_bytes`, and the values stay until the stream has been waited for.
        let code =
            unsafe { (driver.download)(values.as_mut_ptr().cast(), self.address, n_bytes, stream) };
        driver.check("cuMemcpyDtoH", code)?;
        queue.staging.wait(driver, stream)?;
        Ok(values)
    }

    /// Fills it with zeros.
    pub(crate) fn clear(&self) -> Result<(), CudaError> {
        let _queue = self.context.flushed()?;
        let (driver, stream) = (&self.context.driver, self.context.stream);
        // SAFETY: the memory has this length.
        let code = unsafe { (driver.fill)(self.address, 0, self.n_bytes, stream) };
        driver.check("cuMemsetD8", code)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        drop(self.context.flushed());
        // SAFETY: allocated by this context and freed once; the driver waits for what still uses it.
        let _ = unsafe { (self.context.driver.free)(self.address) };
    }
}

/// A loaded cubin.
struct Module {
    context: Arc<Context>,
    handle: Opaque,
}

// SAFETY: as for `Context`.
unsafe impl Send for Module {}
// SAFETY: as for `Context`.
unsafe impl Sync for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        if let Ok(mut queue) = self.context.flushed() {
            let staging = &mut queue.staging;
            let _ = staging.wait(&self.context.driver, self.context.stream);
            queue.segments.forget(&self.context.driver);
        }
        // SAFETY: its functions hold the module, so none is left.
        let _ = unsafe { (self.context.driver.unload_module)(self.handle) };
    }
}

/// A kernel.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    module: Arc<Module>,
    handle: Opaque,
}

// SAFETY: as for `Context`.
unsafe impl Send for Function {}
// SAFETY: as for `Context`.
unsafe impl Sync for Function {}

impl Function {
    fn new(module: &Arc<Module>, name: &'static str) -> Result<Self, CudaError> {
        let (driver, text) = (&module.context.driver, kernel_name(name));
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is writable, the module is alive, the name ends in a zero.
        let code = unsafe { (driver.function)(&raw mut handle, module.handle, text.as_ptr()) };
        driver.check("cuModuleGetFunction", code)?;
        Ok(Self {
            name,
            module: Arc::clone(module),
            handle,
        })
    }

    /// Allows launches with `n_bytes` of dynamic shared memory.
    pub(crate) fn allow_shared(&self, n_bytes: usize) -> Result<(), CudaError> {
        if n_bytes <= DEFAULT_DYNAMIC_SHARED {
            return Ok(());
        }
        let driver = &self.module.context.driver;
        self.module.context.bind()?;
        // SAFETY: the function is alive.
        let code =
            unsafe { (driver.set_attribute)(self.handle, MAX_DYNAMIC_SHARED, n_bytes as c_int) };
        driver.check("cuFuncSetAttribute", code)
    }
}

/// One parameter of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    Address(u64),
    Int(i32),
    Float(f32),
    /// An unsigned number of 64 bits.
    Wide(u64),
}

impl Argument {
    /// The parameter in the low bytes of a word, as a little-endian machine reads it.
    fn bits(self) -> u64 {
        match self {
            Argument::Address(word) | Argument::Wide(word) => word,
            Argument::Int(number) => u64::from(number as u32),
            Argument::Float(number) => u64::from(number.to_bits()),
        }
    }
}

impl From<&Memory> for Argument {
    fn from(memory: &Memory) -> Self {
        Argument::Address(memory.address)
    }
}

impl From<Option<&Memory>> for Argument {
    fn from(memory: Option<&Memory>) -> Self {
        Argument::Address(memory.map_or(0, Memory::address))
    }
}

impl From<usize> for Argument {
    fn from(number: usize) -> Self {
        Argument::Int(i32::try_from(number).expect("shapes and batches are far below 2^31"))
    }
}

impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Argument::Float(number)
    }
}
