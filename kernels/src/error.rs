//! What can go wrong while weights or a key-value pool are placed on a device.

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A matrix part holds more or fewer values than its shape says.
    #[error("a matrix of {n_rows} x {n_cols} holds {given} {unit}, expected {expected}")]
    Shape {
        /// Output rows.
        n_rows: usize,
        /// Input columns.
        n_cols: usize,
        /// What was given, in `unit`s.
        given: usize,
        /// What the shape asks for, in `unit`s.
        expected: usize,
        /// Bytes or values.
        unit: &'static str,
    },
    /// A quantised matrix's rows are not whole blocks.
    #[error("rows of {n_cols} values are no multiple of the block length {block_len}")]
    RaggedRow {
        /// Input columns.
        n_cols: usize,
        /// Values of a block.
        block_len: usize,
    },
    /// A device does not keep keys and values like this.
    #[error("{device} keeps keys and values in {known}, not in {}", given.name())]
    KvFormat {
        /// The device.
        device: &'static str,
        /// What was asked for.
        given: crate::KvFormat,
        /// The formats that it has.
        known: &'static str,
    },
    /// Sums over codes of keys and values would not fit 32 bits.
    #[error("{given} {what}: the CPU keeps keys and values in int8 up to {limit}")]
    KvCodes {
        /// Elements a head, or tokens a page.
        what: &'static str,
        /// How many there are.
        given: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The machine does not give this much memory.
    #[error("cannot allocate {n_bytes} bytes for {what}")]
    Memory {
        /// What it was for.
        what: &'static str,
        /// How much was asked for; `usize::MAX` where it is not even a number of bytes.
        n_bytes: usize,
    },
    /// The GPU cannot be used, or failed.
    #[error(transparent)]
    Cuda(#[from] crate::CudaError),
}
