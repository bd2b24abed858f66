//! The library: every function a program may call without defining it.

/// A library function's name, parameters and result, as the checker and the reference read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The name called.
    pub name: &'static str,
    /// Parameters in order: name and type. A type that ends in `?` may be left out. Besides the language's types there
    /// are `type` (a type's name), `generation` and `selection` (the name a `gen` or `select` bound).
    pub params: &'static [(&'static str, &'static str)],
    /// The result's type; `element` is that of the list given.
    pub result: &'static str,
    /// One sentence on what it does.
    pub doc: &'static str,
}

type Params = &'static [(&'static str, &'static str)];

const fn signature(
    name: &'static str,
    params: Params,
    result: &'static str,
    doc: &'static str,
) -> Signature {
    Signature {
        name,
        params,
        result,
        doc,
    }
}

const TEXT: Params = &[("text", "string")];
const VALUE: Params = &[("value", "json")];
const ITEMS: Params = &[("items", "list")];

/// The whole library, in the reference's order. The names of `range`'s parameters follow its form with two arguments;
/// with one, that one is the end.
pub const LIBRARY: &[Signature] = &[
    signature(
        "format",
        &[("type", "type")],
        "string",
        "The type written out for a prompt, doc comments included.",
    ),
    signature(
        "scores",
        &[("choice", "selection")],
        "scores",
        "Each option's share of probability; they sum to 1.",
    ),
    signature(
        "mass",
        &[("choice", "selection")],
        "float",
        "The model's total probability on the options.",
    ),
    signature(
        "logprob",
        &[("generation", "generation")],
        "float",
        "The log-probability of the generated tokens.",
    ),
    signature(
        "len",
        &[("of", "string | list | map")],
        "int",
        "Characters of a string, items of a list or map.",
    ),
    signature(
        "join",
        &[("items", "list"), ("between", "string?")],
        "string",
        "The items' texts in a row, with the separator between them.",
    ),
    signature(
        "split",
        &[("text", "string"), ("at", "string")],
        "string[]",
        "The pieces between the separators.",
    ),
    signature("trim", TEXT, "string", "Without white space at both ends."),
    signature("upper", TEXT, "string", "In capitals."),
    signature("lower", TEXT, "string", "In small letters."),
    signature(
        "replace",
        &[("text", "string"), ("old", "string"), ("new", "string")],
        "string",
        "Every occurrence of the old text replaced by the new.",
    ),
    signature(
        "indent",
        &[("text", "string"), ("by", "int")],
        "string",
        "So many spaces before every line but the first.",
    ),
    signature(
        "string",
        VALUE,
        "string",
        "A value's text: strings as they are, all else as compact JSON.",
    ),
    signature(
        "int",
        &[("value", "string | number | bool")],
        "int",
        "The whole number a text writes; a float without its fraction.",
    ),
    signature(
        "float",
        &[("value", "string | number")],
        "float",
        "The number a text writes.",
    ),
    signature("json", TEXT, "json", "The value that a JSON text writes."),
    signature(
        "range",
        &[("from", "int"), ("to", "int?")],
        "int[]",
        "The whole numbers from the first up to, not including, the second; with one argument, from 0.",
    ),
    signature("keys", &[("of", "map")], "string[]", "A map's keys."),
    signature("values", &[("of", "map")], "json[]", "A map's values."),
    signature("sum", ITEMS, "element", "The items added up; 0 for none."),
    signature(
        "min",
        ITEMS,
        "element",
        "The smallest item, of numbers or of strings.",
    ),
    signature(
        "max",
        ITEMS,
        "element",
        "The largest item, of numbers or of strings.",
    ),
    signature(
        "mode",
        ITEMS,
        "element",
        "The most frequent item; of several, the first.",
    ),
    signature(
        "top",
        &[("of", "map")],
        "string",
        "The key with the largest number; of several, the first.",
    ),
    signature("abs", &[("of", "number")], "number", "Without its sign."),
    signature(
        "round",
        &[("of", "number")],
        "int",
        "The nearest whole number; halves away from zero.",
    ),
];

/// The function of this name.
pub(crate) fn find(name: &str) -> Option<&'static Signature> {
    LIBRARY.iter().find(|signature| signature.name == name)
}
