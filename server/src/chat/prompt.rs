//! Messages to prompt tokens, such that no text of a client becomes a control token.
//!
//! Wherever a client's string holds the text of a special token, that text is replaced by a *mark* before the template
//! runs: a character that the request does not hold, the token's number, and the character again. In the rendered
//! prompt the special texts are therefore the template's own, and what stands at a mark is put back as plain text.

use lmrun_engine::{ModelError, Specials, TokenId};
use serde_json::Value;

use super::tools::{Tool, as_plain_messages};
use crate::error::ApiError;
use crate::model::Model;

/// The private-use characters of which one becomes the mark; a request that holds them all is refused.
const MARKS: std::ops::RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';

/// The prompt's tokens. `specials` are the special tokens' texts, longest first.
pub(crate) fn tokens(
    model: &dyn Model,
    specials: &[String],
    messages: Vec<Value>,
    tools: &[Tool],
) -> Result<Vec<TokenId>, ApiError> {
    let Some(template) = model.template() else {
        let message = "the model has no chat template: it cannot chat";
        return Err(ApiError::unsupported("messages", message));
    };
    let knows_tools = template.contains("tools");
    let messages = if knows_tools {
        messages
    } else {
        as_plain_messages(messages, tools)
    };
    let shown = tools
        .iter()
        .map(|tool| tool.shown.clone())
        .collect::<Vec<_>>();
    let mut messages = Value::Array(messages);
    let mut shown = Value::Array(shown);
    let marker = Marker::new(specials, &format!("{messages}{shown}")).ok_or_else(|| {
        ApiError::invalid(
            "messages",
            "the messages hold every private-use character of plane 15",
        )
    })?;
    marker.mark_value(&mut messages);
    marker.mark_value(&mut shown);
    let offers_tools = knows_tools && !tools.is_empty();
    let text = model
        .render(&messages, offers_tools.then_some(&shown))
        .map_err(refuse)?;
    let segments = marker.segments(&text);
    Ok(segments
        .iter()
        .flat_map(|(specials, text)| model.encode(text, *specials))
        .collect())
}

fn refuse(error: ModelError) -> ApiError {
    let message = match error {
        ModelError::TemplateRaised(message) => message,
        _ => "the model's chat template cannot render these messages".to_owned(),
    };
    ApiError::invalid("messages", message)
}

/// Marks special texts and finds them again.
pub(super) struct Marker<'a> {
    specials: &'a [String],
    mark: char,
    /// Whether a special text begins with this byte.
    begins: [bool; 256],
}

impl<'a> Marker<'a> {
    /// A marker for strings whose JSON is within `request`; none if that holds every possible mark.
    pub(super) fn new(specials: &'a [String], request: &str) -> Option<Self> {
        let mut begins = [false; 256];
        specials
            .iter()
            .for_each(|text| begins[usize::from(text.as_bytes()[0])] = true);
        let mark = MARKS.into_iter().find(|&mark| !request.contains(mark))?;
        Some(Self {
            specials,
            mark,
            begins,
        })
    }

    /// Marks every string and key of `value`.
    pub(super) fn mark_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.marked(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark_value(item)),
            Value::Object(map) => {
                let fields = std::mem::take(map).into_iter();
                *map = fields
                    .map(|(name, mut value)| {
                        self.mark_value(&mut value);
                        (self.marked(&name), value)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn marked(&self, text: &str) -> String {
        let mut marked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((start, idx)) = self.find(rest) {
            marked.push_str(&rest[..start]);
            marked.push(self.mark);
            marked.push_str(&idx.to_string());
            marked.push(self.mark);
            rest = &rest[start + self.specials[idx].len()..];
        }
        marked + rest
    }

    /// The first special text: where it begins, and which.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let bytes = text.as_bytes();
        (0..bytes.len())
            .filter(|&at| self.begins[usize::from(bytes[at])])
            .find_map(|at| {
                let is_here = |special: &String| bytes[at..].starts_with(special.as_bytes());
                self.specials.iter().position(is_here).map(|idx| (at, idx))
            })
    }

    /// The rendered text in pieces to tokenise: each is either the template's own with its special tokens, or the
    /// stretch between two special tokens that holds a mark, with what was marked put back.
    pub(super) fn segments(&self, rendered: &str) -> Vec<(Specials, String)> {
        let mut segments = Vec::new();
        let mut own = String::new();
        let mut rest = rendered;
        loop {
            let found = self.find(rest);
            let (start, special) =
                found.map_or((rest.len(), ""), |(at, idx)| (at, &*self.specials[idx]));
            let stretch = &rest[..start];
            if stretch.contains(self.mark) {
                segments.push((Specials::Parse, std::mem::take(&mut own)));
                segments.push((Specials::AsText, self.restored(stretch)));
            } else {
                own.push_str(stretch);
            }
            own.push_str(special);
            if found.is_none() {
                segments.push((Specials::Parse, own));
                segments.retain(|(_, text)| !text.is_empty());
                return segments;
            }
            rest = &rest[start + special.len()..];
        }
    }

    /// Every second piece between marks is a number, unless a template cut a string within a mark.
    fn restored(&self, stretch: &str) -> String {
        let pieces = stretch.split(self.mark).enumerate();
        pieces
            .map(|(idx, piece)| match piece.parse::<usize>() {
                Ok(special) if idx % 2 == 1 => {
                    self.specials.get(special).map_or(piece, String::as_str)
                }
                _ => piece,
            })
            .collect()
    }
}
