//! What a stranger's pattern or schema may cost. Each limit is named in the error that reports it.

/// Bounds on the size of a constraint, at compile time and while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a regex, of a grammar, of all choices together, or of a schema's compact text.
    pub source_bytes: usize,
    /// JSON values within a schema.
    pub schema_nodes: usize,
    /// Nesting of a schema, or of the groups and repetitions of a regex or grammar.
    pub depth: usize,
    /// Sets of schemas that hold at one place, after `anyOf` and `$ref` are followed.
    pub alternatives: usize,
    /// Heap bytes of one regex's NFA, or of those of all terminals of a grammar.
    pub nfa_bytes: usize,
    /// States of one regex's lazily built DFA.
    pub dfa_states: usize,
    /// Heap bytes of one regex's lazily built DFA, or of those of all terminals of a grammar.
    pub dfa_bytes: usize,
    /// States of an automaton that is built whole: that of a regex with lookarounds, and those of
    /// all triggers of structural tags together.
    pub table_states: usize,
    /// Counts times states of a string's pattern with length bounds beside it.
    pub length_cells: usize,
    /// Values at the output's end (from `anyOf`) that are followed side by side.
    pub parses: usize,
    /// Values, or rules of a grammar, open inside each other in the output.
    pub open_values: usize,
    /// Heap bytes of memoised masks, a constraint.
    pub mask_bytes: usize,
    /// Steps of automata that combining patterns may take; bounds the time of it.
    pub compile_steps: usize,
    /// Steps of automata that one mask may take; bounds its time.
    pub mask_steps: usize,
    /// States of the automata of a grammar's rules; also bounds, eight times over, what the rules
    /// that can begin each rule hold together.
    pub grammar_positions: usize,
    /// Terminals of a grammar that one output may stand in side by side.
    pub grammar_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            source_bytes: 1 << 20,
            schema_nodes: 50_000,
            depth: 128,
            alternatives: 4_096,
            nfa_bytes: 24 << 20,
            dfa_states: 65_536,
            dfa_bytes: 32 << 20,
            table_states: 16_384,
            length_cells: 4 << 20,
            parses: 512,
            open_values: 512,
            mask_bytes: 32 << 20,
            compile_steps: 3_000_000,
            mask_steps: 50_000_000,
            grammar_positions: 200_000,
            grammar_threads: 4_096,
        }
    }
}
