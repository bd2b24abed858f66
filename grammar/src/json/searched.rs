//! Masks of strings in which words are searched for, of whatever number may come.
//!
//! What counts of such a string is which of the words came. So a token goes on unless it completes a word: one that it holds
//! whole, or one that is half written. All other tokens need not be followed.

use crate::json::automaton::Automaton;
use crate::json::frame::Frame;
use crate::json::machine::{JsonLanguage, Parser};
use crate::json::text::BOUNDARY;
use crate::memo::Reach;
use crate::{GrammarError, TokenId, Vocabulary};

impl JsonLanguage {
    /// Adds those tokens of whole characters that stand for themselves that the top string takes, if it is of this kind.
    pub(super) fn searched(
        &mut self,
        top: &Frame,
        vocabulary: &Vocabulary,
        reach: &mut Reach,
    ) -> Result<bool, GrammarError> {
        let Parser {
            tables, verdicts, ..
        } = &mut self.parser;
        let automata = verdicts.patterns.automata.as_mut_slice();
        let Frame::String { shape, body } = top else {
            return Ok(false);
        };
        let (strings, body) = tables.string(*shape).inside(body, false);
        let Some((pattern, _)) = strings.pattern else {
            return Ok(false);
        };
        let Automaton::Product(product, _) = &mut automata[pattern as usize] else {
            return Ok(false);
        };
        if body.text != BOUNDARY || strings.max.is_some() {
            return Ok(false);
        }
        let Some(missing) = product.missing_words(body.state)? else {
            return Ok(false);
        };
        let [plain, _] = vocabulary.unquoted();
        let mut completing: Vec<TokenId> = Vec::new();
        for word in &missing.words {
            completing.extend(vocabulary.holding(word));
        }
        for end in &missing.ends {
            completing.extend(plain.beginning_with(end));
        }
        let mut mask = plain.all(vocabulary.n_tokens()).clone();
        for token in completing {
            let mut body = Some(body);
            for &byte in vocabulary.bytes(token).unwrap_or_default() {
                body = match body {
                    Some(body) => strings.step(body, byte, automata)?,
                    None => break,
                };
            }
            if body.is_none() {
                mask.forbid(token);
            }
        }
        reach.mask.many().union(&mask);
        Ok(true)
    }
}
