//! The library: every function a program may call without defining it.

/// A library function's name, parameters and result, as the checker and the reference read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The name called.
    pub name: &'static str,
    /// Parameters in order: name and type; a type that ends in `?` may be left out.
    pub params: &'static [(&'static str, &'static str)],
    /// The result's type.
    pub result: &'static str,
    /// One sentence on what it does.
    pub doc: &'static str,
}

/// The whole library, in the reference's order.
pub const LIBRARY: &[Signature] = &[];
