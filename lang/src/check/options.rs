//! Options: known names, admissible values.

use serde_json::Value;

use super::ty::kinds;
use super::{Checker, suggest, values};
use crate::Diagnostic;
use crate::ast::{Expr, Opt};
use crate::options::{OptionSpec, OptionValue, Place, is_planned, options_of};

impl<'p> Checker<'p, '_> {
    /// Checks the options of a place.
    pub(super) fn options(&mut self, place: Place, options: &'p [Opt]) {
        for (idx, option) in options.iter().enumerate() {
            let name = option.name.text.as_str();
            if options[..idx]
                .iter()
                .take(64)
                .any(|other| other.name.text == name)
            {
                self.error(
                    "E403",
                    option.name.span,
                    format!("`{name}` is given twice"),
                    "keep one of them",
                );
            }
            match options_of(place).iter().find(|spec| spec.name == name) {
                Some(spec) => self.option_value(spec, &option.value),
                None if is_planned(place, name) => {
                    self.infer(&option.value);
                    self.refuse("E906", option.name.span, &format!("`{name}` options"));
                }
                None => self.unknown_option(place, option),
            }
        }
        self.option_conflicts(options);
    }

    fn unknown_option(&mut self, place: Place, option: &'p Opt) {
        self.infer(&option.value);
        let name = option.name.text.as_str();
        let word = place.word();
        let names = || options_of(place).iter().map(|spec| spec.name);
        let help = suggest::help(name, names()).unwrap_or_else(|| {
            let names: Vec<&str> = names().collect();
            format!("`{word}` takes {}", names.join(", "))
        });
        let found = Diagnostic::new(
            "E401",
            option.name.span,
            format!("`{word}` has no option `{name}`"),
        );
        self.report(found.help(help));
    }

    fn option_value(&mut self, spec: &OptionSpec, value: &'p Expr) {
        if let Some(constant) = values::constant(value) {
            if spec.name == "method" && constant == "pmi" {
                return self.refuse("E906", value.span, "selects with method=\"pmi\"");
            }
            let is_duration = values::is_duration(value);
            if !admits(spec.value, &constant, is_duration) {
                let message = format!(
                    "`{}` takes {}, given {}",
                    spec.name,
                    wants(spec.value),
                    self.text(value.span)
                );
                self.error("E402", value.span, message, spec.doc);
            }
            return;
        }
        let given = self.infer(value);
        let wanted = match spec.value {
            OptionValue::Int(..) | OptionValue::Duration => kinds::INT,
            OptionValue::Float(..) => kinds::NUMBER,
            OptionValue::BoolOrInt(..) => kinds::BOOL | kinds::INT,
            OptionValue::Word(_) => kinds::STRING,
            OptionValue::Strings => kinds::STRING | kinds::LIST,
        };
        if self.judge().kinds(&given) & wanted == 0 {
            let message = format!("`{}` takes {}, given {given}", spec.name, wants(spec.value));
            self.error("E402", value.span, message, spec.doc);
        }
    }

    fn option_conflicts(&mut self, options: &'p [Opt]) {
        let find = |name: &str| {
            let option = options.iter().find(|option| option.name.text == name)?;
            Some((
                values::constant(&option.value)?.as_i64()?,
                option.value.span,
            ))
        };
        if let (Some((min, span)), Some((max, _))) = (find("min_tokens"), find("max_tokens"))
            && min > max
        {
            let message = format!("min_tokens={min} is above max_tokens={max}");
            self.error("E404", span, message, "lower one or raise the other");
        }
        if let (Some((min, span)), Some(budget)) = (find("min_tokens"), self.budget_tokens)
            && min > budget
        {
            let message =
                format!("min_tokens={min} cannot be met within the budget of {budget} tokens");
            self.error("E405", span, message, "raise `budget (tokens=..)`");
        }
    }
}

fn admits(wanted: OptionValue, value: &Value, is_duration: bool) -> bool {
    let whole = |low: i64, high: i64| {
        !is_duration
            && value
                .as_i64()
                .is_some_and(|given| (low..=high).contains(&given))
    };
    match wanted {
        OptionValue::Int(low, high) => whole(low, high),
        OptionValue::Float(low, high) => {
            !is_duration
                && value
                    .as_f64()
                    .is_some_and(|given| (low..=high).contains(&given))
        }
        OptionValue::BoolOrInt(low, high) => value.is_boolean() || whole(low, high),
        OptionValue::Duration => is_duration && value.as_i64().is_some_and(|given| given > 0),
        OptionValue::Word(words) => value.as_str().is_some_and(|given| words.contains(&given)),
        OptionValue::Strings => {
            let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            text(value)
                || value
                    .as_array()
                    .is_some_and(|texts| (1..=16).contains(&texts.len()) && texts.iter().all(text))
        }
    }
}

fn wants(wanted: OptionValue) -> String {
    match wanted {
        OptionValue::Int(low, i64::MAX) => format!("a whole number from {low}"),
        OptionValue::Int(low, high) => format!("a whole number from {low} to {high}"),
        OptionValue::Float(low, high) => format!("a number from {low} to {high}"),
        OptionValue::BoolOrInt(low, high) => {
            format!("true, false or a whole number from {low} to {high}")
        }
        OptionValue::Duration => "a time, as in 500ms, 10s or 2min".to_owned(),
        OptionValue::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            words.join(" or ")
        }
        OptionValue::Strings => "a text that is not empty, or a list of 1 to 16 of them".to_owned(),
    }
}
