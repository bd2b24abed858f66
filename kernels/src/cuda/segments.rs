//! Launches that come again as one graph.
//!
//! A *segment* is what is launched between two things of the stream that are no launches: a decode step from the first layer's
//! attention to the logits is one, if it selects the rows of the step before. Launches wait until their segment ends. One that comes a second
//! time is captured, and the driver is asked for all of it at once from then on. Segments are the same if every kernel, grid
//! and parameter is: whatever else differs between steps, lengths and pages among it, lies in memory.

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::CudaError;
use super::library::{Driver, Opaque, variable};

/// Set to 0, it has every kernel launched by itself: for measuring what graphs save.
const SWITCH: &str = "LMRUN_CUDA_GRAPHS";
/// The fewest launches that are worth a graph.
const MIN_LAUNCHES: usize = 8;
/// Graphs kept; the one that was not used for longest goes first.
pub(super) const MAX_GRAPHS: usize = 64;
/// Segments remembered that came once.
const MAX_SEEN: usize = 4096;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`.
const THREAD_LOCAL: u32 = 1;
/// Words of a launch before its parameters: function, grid, threads and shared memory, number of parameters.
const HEADER_LEN: usize = 4;

/// One kernel's launch.
pub(super) struct Launch<'a> {
    pub(super) function: Opaque,
    pub(super) grid: [u32; 2],
    pub(super) n_threads: u32,
    /// Bytes of dynamic shared memory.
    pub(super) n_shared: u32,
    /// A word a parameter, the parameter in its low bytes.
    pub(super) parameters: &'a [u64],
}

/// A segment that can be launched at once.
struct Graph {
    handle: Opaque,
    /// The number of the replay that last used it.
    last_used: u64,
}

/// The segment at hand, and those of before.
pub(super) struct Segments {
    pub(super) is_on: bool,
    /// The launches that wait, one after another.
    words: Vec<u64>,
    n_launches: usize,
    /// Hashes of segments that came once. If two share one, the later is captured a time early.
    seen: HashSet<u64>,
    graphs: HashMap<Vec<u64>, Graph>,
    n_replays: u64,
}

impl Segments {
    pub(super) fn new() -> Self {
        Self {
            is_on: variable(SWITCH).is_none_or(|value| value.as_os_str() != "0"),
            words: Vec::new(),
            n_launches: 0,
            seen: HashSet::new(),
            graphs: HashMap::new(),
            n_replays: 0,
        }
    }

    /// Adds a launch to the segment at hand.
    pub(super) fn push(&mut self, launch: &Launch<'_>) {
        let pair = |[high, low]: [u32; 2]| u64::from(high) << 32 | u64::from(low);
        self.words.extend([
            launch.function as u64,
            pair(launch.grid),
            pair([launch.n_threads, launch.n_shared]),
            launch.parameters.len() as u64,
        ]);
        self.words.extend(launch.parameters);
        self.n_launches += 1;
    }

    /// Ends the segment at hand: all of it is now the stream's.
    pub(super) fn end(&mut self, driver: &Driver, stream: Opaque) -> Result<(), CudaError> {
        let mut words = std::mem::take(&mut self.words);
        let n_launches = std::mem::take(&mut self.n_launches);
        let result = if self.is_on && n_launches >= MIN_LAUNCHES {
            self.replay(&mut words, driver, stream)
        } else {
            launch_all(&mut words, driver, stream)
        };
        words.clear();
        self.words = words;
        result
    }

    fn replay(
        &mut self,
        words: &mut [u64],
        driver: &Driver,
        stream: Opaque,
    ) -> Result<(), CudaError> {
        if !self.graphs.contains_key(&*words) {
            let mut hasher = DefaultHasher::new();
            words.hash(&mut hasher);
            if self.seen.len() == MAX_SEEN {
                self.seen.clear();
            }
            if self.seen.insert(hasher.finish()) {
                return launch_all(words, driver, stream);
            }
            self.make_room(driver, stream)?;
            let handle = capture(words, driver, stream)?;
            let last_used = 0;
            self.graphs
                .insert(words.to_vec(), Graph { handle, last_used });
        }
        self.n_replays += 1;
        let graph = self.graphs.get_mut(&*words).expect("found or made above");
        graph.last_used = self.n_replays;
        // SAFETY: the graph lives until it is destroyed below, and its kernels' module and memory are those of launches that
        // are asked for now.
        let code = unsafe { (driver.launch_graph)(graph.handle, stream) };
        driver.check("cuGraphLaunch", code)
    }

    /// Drops the graph that was not used for longest, if there are as many as are kept.
    fn make_room(&mut self, driver: &Driver, stream: Opaque) -> Result<(), CudaError> {
        if self.graphs.len() < MAX_GRAPHS {
            return Ok(());
        }
        let oldest = self.graphs.iter().min_by_key(|(_, graph)| graph.last_used);
        let words = oldest.map(|(words, _)| words.clone());
        let graph = words.and_then(|words| self.graphs.remove(&words));
        // SAFETY: the stream is the context's own; what it still runs of the graph is then done, and nobody else has it.
        unsafe {
            driver.check("cuStreamSynchronize", (driver.synchronize)(stream))?;
            let code = graph.map_or(0, |graph| (driver.destroy_executable)(graph.handle));
            driver.check("cuGraphExecDestroy", code)
        }
    }

    /// Forgets all graphs, which nothing of the stream may use any more.
    pub(super) fn forget(&mut self, driver: &Driver) {
        self.seen.clear();
        for (_, graph) in self.graphs.drain() {
            // SAFETY: made by this driver, and nobody else has it. There is nothing to do about a failure.
            let _ = unsafe { (driver.destroy_executable)(graph.handle) };
        }
    }

    /// Graphs, and how often one was launched.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.graphs.len(), self.n_replays)
    }

    /// Launches of the longest graph.
    #[cfg(test)]
    pub(super) fn longest(&self) -> usize {
        let n_launches = |words: &Vec<u64>| {
            let mut rest = words.as_slice();
            let mut n_launches = 0;
            while let Some(([.., n_parameters], after)) = rest.split_first_chunk::<HEADER_LEN>() {
                rest = &after[*n_parameters as usize..];
                n_launches += 1;
            }
            n_launches
        };
        self.graphs.keys().map(n_launches).max().unwrap_or(0)
    }
}

/// Launches every kernel of a segment, to the stream or, while it is captured, to a graph.
fn launch_all(words: &mut [u64], driver: &Driver, stream: Opaque) -> Result<(), CudaError> {
    let mut rest = words;
    while let Some((header, after)) = rest.split_first_chunk_mut::<HEADER_LEN>() {
        let [function, grid, extent, n_parameters] = *header;
        let (parameters, after) = after.split_at_mut(n_parameters as usize);
        let mut pointers: Vec<*mut c_void> = parameters
            .iter_mut()
            .map(|word| (&raw mut *word).cast())
            .collect();
        // SAFETY: the pointers are to as many words as the kernel has parameters, in their order and of their sizes (the
        // emulator runs every one), which it copies before it returns. What the kernel does with the addresses among them
        // is its caller's contract: each is of memory that lives until the stream has passed this launch, for memory and
        // modules end the segment before they go.
        let code = unsafe {
            (driver.launch)(
                function as Opaque,
                (grid >> 32) as u32,
                grid as u32,
                1,
                (extent >> 32) as u32,
                1,
                1,
                extent as u32,
                stream,
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        driver.check("cuLaunchKernel", code)?;
        rest = after;
    }
    Ok(())
}

/// A graph of a segment.
fn capture(words: &mut [u64], driver: &Driver, stream: Opaque) -> Result<Opaque, CudaError> {
    // SAFETY: the stream is the context's own.
    let code = unsafe { (driver.begin_capture)(stream, THREAD_LOCAL) };
    driver.check("cuStreamBeginCapture", code)?;
    let launched = launch_all(words, driver, stream);
    let mut graph = std::ptr::null_mut();
    // SAFETY: the stream is being captured, and is no more after this, whatever failed; `graph` is writable.
    let code = unsafe { (driver.end_capture)(stream, &raw mut graph) };
    launched?;
    driver.check("cuStreamEndCapture", code)?;
    let mut executable = std::ptr::null_mut();
    // SAFETY: the graph is the one just captured, which its executable does not need any more.
    let code = unsafe {
        let code = (driver.instantiate_graph)(&raw mut executable, graph, 0);
        let _ = (driver.destroy_graph)(graph);
        code
    };
    driver.check("cuGraphInstantiate", code)?;
    Ok(executable)
}
