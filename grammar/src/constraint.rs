//! A compiled language of outputs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cfg::expr::Grammar;
use crate::cfg::machine::CfgLanguage;
use crate::cfg::terminal::Terminal;
use crate::cfg::{gbnf, lark};
use crate::json::machine::JsonLanguage;
use crate::language::{Language, RegexLanguage};
use crate::literals::LiteralTrie;
use crate::memo::MaskMemo;
use crate::regex::dfa::Dfa;
use crate::regex::parser::Flags;
use crate::regex::syntax::{self, Whole};
use crate::{GrammarError, JsonOptions, Limits, RegexSyntax, StructuralTags};

/// A language of outputs: what a generation must match as a whole. Immutable and cheap to clone;
/// clones share the automaton, which is built as outputs visit it, and the masks found so far.
#[derive(Clone)]
pub struct Constraint {
    language: Arc<Mutex<Language>>,
    prefix: Arc<[u8]>,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = String::from_utf8_lossy(&self.prefix);
        f.debug_struct("Constraint")
            .field("prefix", &prefix)
            .finish_non_exhaustive()
    }
}

impl Constraint {
    /// The strings that match `pattern`, in ECMA-262 syntax, as a whole: `a|b` is `^(a|b)$`.
    ///
    /// # Errors
    /// `Regex` for a malformed or unsupported pattern, `Limit`, and `Empty` if nothing matches.
    pub fn regex(pattern: &str, limits: &Limits) -> Result<Self, GrammarError> {
        Self::regex_with(pattern, RegexSyntax::Ecma, limits)
    }

    /// The strings that match `pattern`, in the given syntax, as a whole.
    ///
    /// # Errors
    /// As [`Constraint::regex`].
    pub fn regex_with(
        pattern: &str,
        syntax: RegexSyntax,
        limits: &Limits,
    ) -> Result<Self, GrammarError> {
        let whole = match syntax {
            RegexSyntax::Ecma => syntax::parse_whole(pattern, Flags::default(), limits)?,
            RegexSyntax::Rust => Whole::Hir(syntax::parse_rust(pattern, limits)?),
        };
        match whole {
            Whole::Hir(hir) => Self::from_hir(&hir, limits),
            Whole::Table(table) => {
                if table.is_empty() {
                    return Err(GrammarError::Empty {
                        reason: "the regex matches nothing".into(),
                    });
                }
                Self::grammar(Grammar::of_terminal(Terminal::Table(table)), limits)
            }
        }
    }

    /// Exactly the strings of `options`.
    ///
    /// # Errors
    /// `Limit` if they are too long together, `Empty` if there are none.
    pub fn choices<S: AsRef<str>>(options: &[S], limits: &Limits) -> Result<Self, GrammarError> {
        let n_bytes: usize = options.iter().map(|option| option.as_ref().len()).sum();
        if n_bytes > limits.source_bytes {
            return Err(GrammarError::Limit {
                what: "the choices".into(),
                limit: "source_bytes",
                allowed: limits.source_bytes,
            });
        }
        let options: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        if options.is_empty() {
            return Err(GrammarError::Empty {
                reason: "there are no choices".into(),
            });
        }
        Ok(Self::new(Language::Choices(LiteralTrie::new(&options))))
    }

    /// The compact JSON texts that satisfy `schema`.
    ///
    /// # Errors
    /// `Schema` with a JSON pointer for a malformed or unsupported schema, `Limit`, and `Empty` if nothing satisfies it.
    pub fn json_schema(schema: &serde_json::Value, limits: &Limits) -> Result<Self, GrammarError> {
        Self::json_schema_with(schema, &JsonOptions::default(), limits)
    }

    /// The JSON texts that satisfy `schema`, spelled as `options` say.
    ///
    /// # Errors
    /// As [`Constraint::json_schema`].
    pub fn json_schema_with(
        schema: &serde_json::Value,
        options: &JsonOptions,
        limits: &Limits,
    ) -> Result<Self, GrammarError> {
        Ok(Self::new(Language::Json(Box::new(JsonLanguage::new(
            schema, options, limits,
        )?))))
    }

    /// The texts that a grammar in Lark's dialect derives from its rule `start`.
    ///
    /// A text is legal if some derivation yields it: there is no lexer that takes the longest
    /// match, and what `%ignore` names may stand around each terminal. Terminals are regexes in
    /// ECMA-262 syntax, and `%json { ... }` stands for the texts that satisfy a JSON Schema.
    ///
    /// # Errors
    /// `Grammar` with its line and column for a malformed or unsupported grammar, `Limit`, and
    /// `Empty` if it derives nothing.
    pub fn lark(source: &str, limits: &Limits) -> Result<Self, GrammarError> {
        Self::grammar(lark::parse(source, limits)?, limits)
    }

    /// The texts that a grammar in GBNF, llama.cpp's dialect, derives from its rule `root`.
    ///
    /// # Errors
    /// As [`Constraint::lark`].
    pub fn gbnf(source: &str, limits: &Limits) -> Result<Self, GrammarError> {
        Self::grammar(gbnf::parse(source, limits)?, limits)
    }

    /// Free text with constrained spans in it.
    ///
    /// # Errors
    /// `Tags` if triggers and tags do not fit together, `Limit`, and `Empty` if nothing satisfies
    /// them.
    pub fn structural_tags(tags: &StructuralTags, limits: &Limits) -> Result<Self, GrammarError> {
        Self::grammar(tags.grammar(limits)?, limits)
    }

    fn grammar(grammar: Grammar, limits: &Limits) -> Result<Self, GrammarError> {
        let language = CfgLanguage::new(grammar, limits)?;
        Ok(Self::new(Language::Cfg(Box::new(language))))
    }

    /// Any UTF-8 text.
    pub fn text() -> Self {
        let hir = regex_syntax::parse("(?s:.)*").expect("the constant pattern is well-formed");
        Self::from_hir(&hir, &Limits::default()).expect("the pattern is small and matches text")
    }

    /// The outputs that begin with `prefix` and then satisfy `self` (token healing). A second
    /// prefix goes before the first.
    pub fn with_prefix(self, prefix: &[u8]) -> Self {
        let prefix = prefix.iter().chain(self.prefix.iter()).copied().collect();
        Self {
            language: self.language,
            prefix,
        }
    }

    fn from_hir(hir: &regex_syntax::hir::Hir, limits: &Limits) -> Result<Self, GrammarError> {
        let (dfa, start) = Dfa::new(hir, limits)?;
        let memo = MaskMemo::new(limits.mask_bytes);
        Ok(Self::new(Language::Regex(Box::new(RegexLanguage {
            dfa,
            start,
            memo,
        }))))
    }

    fn new(language: Language) -> Self {
        Self {
            language: Arc::new(Mutex::new(language)),
            prefix: Arc::default(),
        }
    }

    /// Heap bytes, roughly: they grow while the constraint is used.
    pub fn n_bytes(&self) -> usize {
        self.locked().n_bytes()
    }

    /// What every output begins with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The language, for one operation on an output whose bytes, without the prefix, are `text`.
    pub(crate) fn language(&self, text: &[u8]) -> MutexGuard<'_, Language> {
        let mut language = self.locked();
        language.begin(text);
        language
    }

    /// The language, within an operation that began with [`Constraint::language`]. A panic
    /// elsewhere leaves only a memo behind, so a poisoned lock is still good.
    pub(crate) fn locked(&self) -> MutexGuard<'_, Language> {
        self.language.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
