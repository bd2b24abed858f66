//! Masks of JSON outputs: within a string, what stays inside is told apart from what may leave.
//!
//! A token without a `"` cannot leave a string, so whether it is legal depends on the string alone: its pattern's state,
//! the half-written code point, the length left. Those masks are shared by all strings that agree on that, whatever
//! surrounds them. Only the few tokens with a `"` are tried against the whole stack.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::json::frame::{Frame, Name, Stack};
use crate::json::machine::{JsonLanguage, Parser, Parses};
use crate::json::string::InteriorKey;
use crate::json::text::Text;
use crate::memo::MaskMemo;
use crate::{GrammarError, TokenMask, Vocabulary};

/// The masks found so far for one schema.
#[derive(Debug)]
pub(crate) struct JsonMasks {
    interiors: MaskMemo<Interior>,
    stacks: MaskMemo<Stack>,
}

/// What the inside of a string depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Interior {
    String(InteriorKey),
    /// A member's name that is none of the declared ones.
    Name(Text),
}

impl JsonMasks {
    /// Splits the limit between the two memos.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let half = max_bytes / 2;
        Self {
            interiors: MaskMemo::new(half),
            stacks: MaskMemo::new(half),
        }
    }
}

impl JsonLanguage {
    /// Allows the tokens that some parse can take.
    pub(crate) fn mask(
        &mut self,
        parses: &Parses,
        vocabulary: &Vocabulary,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        for stack in parses {
            let found = match self.masks.stacks.get(vocabulary, stack.clone()) {
                Some(known) => known,
                None => {
                    let found = Arc::new(self.stack_mask(stack, vocabulary)?);
                    self.masks.stacks.insert(vocabulary, stack.clone(), &found);
                    found
                }
            };
            mask.union(&found);
        }
        Ok(())
    }

    fn stack_mask(
        &mut self,
        stack: &Stack,
        vocabulary: &Vocabulary,
    ) -> Result<TokenMask, GrammarError> {
        let longest = vocabulary.unquoted().max_depth();
        let interior = match &stack.top {
            Frame::String { shape, body } => {
                let key = self
                    .parser
                    .tables
                    .string(*shape)
                    .interior_key(*shape, body, longest);
                Some(Interior::String(key))
            }
            Frame::Name {
                name:
                    Name {
                        declared: None,
                        text: Some(text),
                        ..
                    },
                ..
            } => Some(Interior::Name(*text)),
            _ => None,
        };
        let mut found = TokenMask::new(vocabulary.n_tokens());
        let tokens = match interior {
            Some(interior) => {
                found.union(&*self.interior_mask(interior, stack, vocabulary)?);
                vocabulary.quoted()
            }
            None => vocabulary.all(),
        };
        let start: Parses = SmallVec::from_buf([stack.clone()]);
        let parser = &mut self.parser;
        tokens.walk(
            start,
            |parses, byte| parser.step(parses, byte),
            |token, _| found.allow(token),
        )?;
        Ok(found)
    }

    fn interior_mask(
        &mut self,
        interior: Interior,
        stack: &Stack,
        vocabulary: &Vocabulary,
    ) -> Result<Arc<TokenMask>, GrammarError> {
        if let Some(known) = self.masks.interiors.get(vocabulary, interior) {
            return Ok(known);
        }
        let mut found = TokenMask::new(vocabulary.n_tokens());
        let Parser { tables, dfas, .. } = &mut self.parser;
        match (&stack.top, interior) {
            (Frame::String { shape, body }, _) => {
                let strings = tables.string(*shape);
                vocabulary.unquoted().walk(
                    *body,
                    |body, byte| strings.step(*body, byte, dfas),
                    |token, _| found.allow(token),
                )?;
            }
            (_, Interior::Name(text)) => vocabulary.unquoted().walk(
                text,
                |text, byte| Ok::<_, GrammarError>(text.step_canonical(byte)),
                |token, _| found.allow(token),
            )?,
            _ => {}
        }
        let found = Arc::new(found);
        self.masks.interiors.insert(vocabulary, interior, &found);
        Ok(found)
    }
}
