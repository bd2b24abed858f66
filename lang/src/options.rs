//! The options of `gen`, `select`, `fork`, `best`, `model` and `budget`: names and what values they take.

/// Where options stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// `gen(.., option=value)`
    Gen,
    /// `select(.., option=value)`
    Select,
    /// `fork .. with (option=value)`
    Fork,
    /// `best .. with (option=value)`
    Best,
    /// `model ".." with (option=value)`
    Model,
    /// `budget (option=value)`
    Budget,
}

/// What values an option takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptionValue {
    /// A whole number, both bounds inclusive.
    Int(i64, i64),
    /// A number, both bounds inclusive.
    Float(f64, f64),
    /// `true` or `false`.
    Bool,
    /// A time.
    Duration,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A string or a list of strings.
    Strings,
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionSpec {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub value: OptionValue,
    /// One sentence on what it does.
    pub doc: &'static str,
}

/// The options a place takes, in the reference's order.
pub fn options_of(place: Place) -> &'static [OptionSpec] {
    let _ = place;
    &[]
}
