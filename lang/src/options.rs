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

impl Place {
    /// The word that opens it in the source.
    pub fn word(self) -> &'static str {
        match self {
            Place::Gen => "gen",
            Place::Select => "select",
            Place::Fork => "fork",
            Place::Best => "best",
            Place::Model => "model",
            Place::Budget => "budget",
        }
    }
}

/// What values an option takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptionValue {
    /// A whole number, both bounds inclusive.
    Int(i64, i64),
    /// A number, both bounds inclusive.
    Float(f64, f64),
    /// `true`, `false` or a whole number, both bounds inclusive.
    BoolOrInt(i64, i64),
    /// A time.
    Duration,
    /// One of these words, as a string.
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

const fn option(name: &'static str, value: OptionValue, doc: &'static str) -> OptionSpec {
    OptionSpec { name, value, doc }
}

use OptionValue::{BoolOrInt, Duration, Float, Int, Strings, Word};

/// The most tokens any option names.
const MAX_TOKENS: i64 = 1 << 24;

const HEAL: OptionSpec = option(
    "heal",
    Word(&["auto", "off"]),
    "Whether the last tokens before may be given back so that text and generation join as one.",
);

const GEN: &[OptionSpec] = &[
    option(
        "max_tokens",
        Int(1, MAX_TOKENS),
        "The most tokens it takes; without it, to the end of the turn.",
    ),
    option(
        "min_tokens",
        Int(0, MAX_TOKENS),
        "The fewest tokens before the turn may end.",
    ),
    option(
        "temperature",
        Float(0.0, 100.0),
        "0 takes the most probable token; larger values vary more.",
    ),
    option(
        "top_p",
        Float(0.0, 1.0),
        "Sample from the most probable tokens that together have this share.",
    ),
    option(
        "top_k",
        Int(0, MAX_TOKENS),
        "Sample from so many of the most probable tokens; 0 is all.",
    ),
    option(
        "min_p",
        Float(0.0, 1.0),
        "Leave out tokens less probable than this share of the most probable one.",
    ),
    option(
        "repetition_penalty",
        Float(0.01, 100.0),
        "Divides the scores of tokens that occurred; 1 changes nothing.",
    ),
    option(
        "presence_penalty",
        Float(-100.0, 100.0),
        "Taken off the score of a token that occurred.",
    ),
    option(
        "frequency_penalty",
        Float(-100.0, 100.0),
        "Taken off the score of a token for each time it occurred.",
    ),
    option(
        "seed",
        Int(0, i64::MAX),
        "The seed of its sampling; without it, derived from the run's.",
    ),
    option(
        "stop",
        Strings,
        "Ends before this text, or the first of these texts; the text is not kept.",
    ),
    option(
        "logprobs",
        BoolOrInt(0, 20),
        "How many alternatives are told with each token.",
    ),
    HEAL,
];

const SELECT: &[OptionSpec] = &[
    option(
        "method",
        Word(&["sum", "mean", "greedy"]),
        "How options are scored: exact log-probability, its mean over tokens, or token by token.",
    ),
    HEAL,
];

const LIMIT: OptionSpec = option(
    "limit",
    Int(1, 1 << 20),
    "The most branches that run at the same time.",
);
const TIMEOUT: OptionSpec = option("timeout", Duration, "The longest a branch may take.");
const ON_ERROR: OptionSpec = option(
    "on_error",
    Word(&["fail", "null"]),
    "Whether a failed branch fails all, or is null.",
);

const FORK: &[OptionSpec] = &[
    LIMIT,
    TIMEOUT,
    option(
        "first",
        Int(1, 1 << 20),
        "Keep the first so many branches to end and cancel the rest.",
    ),
    ON_ERROR,
];

const BEST: &[OptionSpec] = &[LIMIT, TIMEOUT, ON_ERROR];

const TEMPLATE: OptionSpec = option(
    "template",
    Word(&["auto", "none"]),
    "`none` is plain completion: no roles, text appends anywhere.",
);

const MODEL: &[OptionSpec] = &[
    TEMPLATE, GEN[0], GEN[1], GEN[2], GEN[3], GEN[4], GEN[5], GEN[6], GEN[7], GEN[8], GEN[9],
    GEN[10], GEN[11], HEAL,
];

const BUDGET: &[OptionSpec] = &[
    option(
        "tokens",
        Int(1, i64::MAX),
        "The most tokens the whole run may generate.",
    ),
    option("time", Duration, "The longest the whole run may take."),
];

/// The options a place takes, in the reference's order.
pub fn options_of(place: Place) -> &'static [OptionSpec] {
    match place {
        Place::Gen => GEN,
        Place::Select => SELECT,
        Place::Fork => FORK,
        Place::Best => BEST,
        Place::Model => MODEL,
        Place::Budget => BUDGET,
    }
}

/// Options the language has and this version does not carry out.
pub(crate) fn is_planned(place: Place, name: &str) -> bool {
    matches!(
        (place, name),
        (Place::Gen | Place::Model, "stop_regex")
            | (Place::Budget, "tool_calls")
            | (Place::Fork | Place::Best, "budget")
    )
}
