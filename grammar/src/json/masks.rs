//! Masks of JSON outputs: within a string, what stays inside is told apart from what may leave.
//!
//! A token without a `"` cannot leave a string, so whether it is legal depends on the string alone:
//! its pattern's state, the half-written code point, the length left. Those masks are shared by all
//! strings that agree on that, whatever surrounds them. Only the few tokens with a `"` are tried
//! against the whole stack.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::json::frame::{Frame, Name, Stack};
use crate::json::machine::{JsonLanguage, Parser, Parses};
use crate::json::string::InteriorKey;
use crate::json::text::Text;
use crate::memo::{MaskMemo, Reach};
use crate::vocabulary::TokenTrie;
use crate::{GrammarError, TokenMask, Vocabulary};

/// The masks found so far for one schema.
#[derive(Debug)]
pub(crate) struct JsonMasks {
    interiors: MaskMemo<Interior>,
    stacks: MaskMemo<Stack>,
}

/// What the inside of a string depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interior {
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

impl Interior {
    /// Whether it means the same in every constraint.
    fn is_common(&self) -> bool {
        match self {
            Self::String(key) => key.is_common(),
            Self::Name(_) => true,
        }
    }
}

/// The part of a stack's mask that depends on the inside of a string alone.
struct Inside {
    reach: Arc<Reach>,
    /// Added to the distances of `reach`, at least and at most, to get those of the whole output.
    offsets: (usize, usize),
}

impl JsonLanguage {
    /// Allows the tokens that some parse can take, if they leave at most `limit` bytes to
    /// completion.
    pub(crate) fn mask(
        &mut self,
        parses: &Parses,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        for stack in parses {
            if let Some(inside) = self.inside(stack, vocabulary)? {
                let (low, high) = inside.offsets;
                if inside.reach.furthest.saturating_add(high) <= limit {
                    mask.union(&inside.reach.mask);
                } else if inside.reach.nearest.saturating_add(low) <= limit {
                    let tokens = vocabulary.unquoted();
                    mask.union(&self.walk(tokens, stack.clone(), vocabulary, limit)?.mask);
                }
            }
            let reach = self.outside(stack, vocabulary)?;
            if reach.furthest <= limit {
                mask.union(&reach.mask);
            } else if reach.nearest <= limit {
                let tokens = outside_tokens(stack, vocabulary);
                mask.union(&self.walk(tokens, stack.clone(), vocabulary, limit)?.mask);
            }
        }
        Ok(())
    }

    /// What the stack as a whole must be asked for.
    fn outside(
        &mut self,
        stack: &Stack,
        vocabulary: &Vocabulary,
    ) -> Result<Arc<Reach>, GrammarError> {
        if let Some(known) = self.masks.stacks.get(vocabulary, stack.clone()) {
            return Ok(known);
        }
        let tokens = outside_tokens(stack, vocabulary);
        let mut reach = self.walk(tokens, stack.clone(), vocabulary, usize::MAX)?;
        if let Frame::Name { members, name } = &stack.top
            && name.text.is_some()
            && name.declared.is_some()
        {
            // Without a quote a declared name goes on where another could not only if it is spelled
            // otherwise.
            let name = Name {
                text: None,
                ..*name
            };
            let top = Frame::Name {
                members: members.clone(),
                name,
            };
            let declared = Stack {
                top,
                outer: stack.outer.clone(),
            };
            let tokens = vocabulary.unquoted();
            let declared = self.walk(tokens, declared, vocabulary, usize::MAX)?;
            reach.mask.union(&declared.mask);
            reach.nearest = reach.nearest.min(declared.nearest);
            reach.furthest = reach.furthest.max(declared.furthest);
        }
        let reach = Arc::new(reach);
        self.masks.stacks.insert(vocabulary, stack.clone(), &reach);
        Ok(reach)
    }

    fn walk(
        &mut self,
        tokens: &TokenTrie,
        stack: Stack,
        vocabulary: &Vocabulary,
        limit: usize,
    ) -> Result<Reach, GrammarError> {
        let mut reach = Reach::new(vocabulary);
        let start: Parses = SmallVec::from_buf([stack]);
        tokens.walk(
            &mut self.parser,
            start,
            |parser, parses, byte| parser.step(parses, byte),
            |parser, token, parses| {
                let distance = parser.distance(parses);
                if distance <= limit {
                    reach.add(token, distance);
                }
            },
        )?;
        Ok(reach)
    }

    fn inside(
        &mut self,
        stack: &Stack,
        vocabulary: &Vocabulary,
    ) -> Result<Option<Inside>, GrammarError> {
        let longest = vocabulary.unquoted().max_depth();
        let outer = stack.outer.as_ref().map_or(0, |outer| outer.cost);
        let (interior, (low, high)) = match &stack.top {
            Frame::String { shape, body } => {
                let strings = self.parser.tables.string(*shape);
                let key = strings.interior_key(*shape, body, longest);
                (
                    Interior::String(key),
                    strings.interior_offsets(body, longest),
                )
            }
            Frame::Name {
                members,
                name: Name {
                    text: Some(text), ..
                },
            } => (Interior::Name(*text), self.parser.name_offsets(members)),
            _ => return Ok(None),
        };
        let known = if interior.is_common() {
            vocabulary.common().get(vocabulary, interior)
        } else {
            self.masks.interiors.get(vocabulary, interior)
        };
        let reach = match known {
            Some(known) => known,
            None => {
                let found = Arc::new(self.interior_reach(&stack.top, vocabulary)?);
                if interior.is_common() {
                    vocabulary.common().insert(vocabulary, interior, &found);
                } else {
                    self.masks.interiors.insert(vocabulary, interior, &found);
                }
                found
            }
        };
        let offsets = (low.saturating_add(outer), high.saturating_add(outer));
        Ok(Some(Inside { reach, offsets }))
    }

    fn interior_reach(
        &mut self,
        top: &Frame,
        vocabulary: &Vocabulary,
    ) -> Result<Reach, GrammarError> {
        let mut reach = Reach::new(vocabulary);
        let Parser { tables, dfas, .. } = &mut self.parser;
        match top {
            Frame::String { shape, body } => {
                let strings = tables.string(*shape);
                vocabulary.unquoted().walk(
                    dfas,
                    *body,
                    |dfas, body, byte| strings.step(*body, byte, dfas),
                    |dfas, token, body| reach.add(token, strings.interior_distance(body, dfas)),
                )?;
            }
            Frame::Name {
                name: Name {
                    text: Some(text), ..
                },
                ..
            } => vocabulary.unquoted().walk(
                &mut reach,
                *text,
                |_, text, byte| Ok::<_, GrammarError>(text.step_canonical(byte)),
                |reach, token, text| reach.add(token, text.distance()),
            )?,
            _ => unreachable!("only strings and names have an inside"),
        }
        Ok(reach)
    }
}

/// The tokens that a stack as a whole must be asked for.
fn outside_tokens<'v>(stack: &Stack, vocabulary: &'v Vocabulary) -> &'v TokenTrie {
    match &stack.top {
        Frame::String { .. }
        | Frame::Name {
            name: Name { text: Some(_), .. },
            ..
        } => vocabulary.quoted(),
        _ => vocabulary.all(),
    }
}
