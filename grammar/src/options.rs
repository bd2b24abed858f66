//! How the JSON of a schema is spelled, and what a schema may refer to.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

/// Choices of a JSON Schema's constraint that the schema itself leaves open.
#[derive(Clone, Debug, Default)]
pub struct JsonOptions {
    /// In which order an object's members may come.
    pub key_order: KeyOrder,
    /// Where white space may stand.
    pub whitespace: Whitespace,
    /// How numbers may be written.
    pub numbers: NumberSpelling,
    /// Documents that `$ref` may name, by their absolute URI without a fragment.
    pub documents: Arc<HashMap<String, Value>>,
}

/// In which order an object's members may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyOrder {
    /// Declared ones in their order, optional ones left out at will, then others.
    #[default]
    Declared,
    /// Any order.
    Any,
}

/// Where white space may stand in a JSON text. It is never mandatory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Whitespace {
    /// Nowhere.
    #[default]
    Compact,
    /// One space after a comma or colon.
    Spaced,
}

/// How a number of a schema may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NumberSpelling {
    /// Integers without a point; exponents only where nothing bounds the number.
    #[default]
    Plain,
    /// Any way that JSON allows: `1.0` and `1e2` are integers.
    Any,
}

/// How a regex is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RegexSyntax {
    /// ECMA-262, as JSON Schema has it: `\d` and `\w` are ASCII.
    #[default]
    Ecma,
    /// The crate regex's: `\d` and `\w` are Unicode's.
    Rust,
}
