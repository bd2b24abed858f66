//! Schemas read keyword by keyword into forms. What is malformed is refused with its JSON pointer.
//!
//! A schema is read when it is first reached, so an unused definition costs nothing and may hold
//! anything. A keyword that no draft knows is an annotation, as the standard has it, unless it looks
//! like a slip of the pen.
//!
//! Source: JSON Schema draft 2020-12, Core and Validation; drafts 4 to 2019-09 where they differ.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use serde_json::{Map, Value};

use crate::json::decimal::OnGrid;
use crate::json::document::{Documents, Draft, Place, ResourceId, Target, child, push};
use crate::json::form::{Bounds, FALSE, Form, FormId, Forms, Members, SchemaId, TRUE, types};
use crate::json::judge::Reader;
use crate::json::keywords::{
    check_annotation, map, read_bounds, read_multiple, read_names, read_types,
};
use crate::json::patterns::Patterns;
use crate::json::unevaluated;
use crate::json::values::{Values, exactly};
use crate::{GrammarError, JsonOptions, Limits, NumberSpelling};

/// Schemas within each other that must be read at once, for what they evaluate.
const MAX_NESTED_READS: usize = 64;

/// A schema that was reached: its place, and the resources passed through on the way, where those
/// matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Location<'a> {
    place: Place<'a>,
    scope: Arc<[ResourceId]>,
}

/// The schemas reached so far.
#[derive(Debug)]
pub(crate) struct Schemas<'a> {
    documents: Documents<'a>,
    pub(crate) forms: Forms,
    pub(crate) patterns: Patterns,
    locations: Vec<Location<'a>>,
    ids: HashMap<Location<'a>, SchemaId>,
    /// What each schema says, once it was asked for. [n_locations]
    read: Vec<Option<FormId>>,
    n_nested: usize,
    /// Whether an integer may be written as `1.0`.
    any_number: bool,
}

/// Keywords that only mean something together, as bits: those of one group.
const LENGTH: u8 = 1;
const N_ITEMS: u8 = 2;
const N_MEMBERS: u8 = 4;
const MEMBERS: u8 = 8;
const ITEMS: u8 = 16;
const UNEVALUATED: u8 = 32;

/// The group of a keyword; 0 if it has none.
fn group(keyword: &str) -> u8 {
    match keyword {
        "minLength" | "maxLength" => LENGTH,
        "minItems" | "maxItems" => N_ITEMS,
        "minProperties" | "maxProperties" => N_MEMBERS,
        "properties" | "patternProperties" | "additionalProperties" => MEMBERS,
        "items" | "prefixItems" | "additionalItems" => ITEMS,
        "unevaluatedProperties" | "unevaluatedItems" => UNEVALUATED,
        _ => 0,
    }
}

/// The forms of an array's first items, and of the rest.
type ItemForms = (Vec<FormId>, Option<FormId>);

/// One schema on its way to a form.
struct Reading<'a> {
    keywords: &'a Map<String, Value>,
    location: Location<'a>,
    draft: Draft,
    parts: Vec<FormId>,
}

impl<'a> Schemas<'a> {
    /// Checks the documents' size; the root gets id 0.
    pub(crate) fn new(
        root: &'a Value,
        options: &'a JsonOptions,
        limits: &Limits,
    ) -> Result<Self, GrammarError> {
        let documents = Documents::new(root, &options.documents, limits)?;
        let mut schemas = Self {
            documents,
            forms: Forms::new(),
            patterns: Patterns::new(limits),
            locations: Vec::new(),
            ids: HashMap::new(),
            read: Vec::new(),
            n_nested: 0,
            any_number: options.numbers == NumberSpelling::Any,
        };
        let place = schemas.documents.root(0);
        schemas.id(place, &Arc::from([]));
        Ok(schemas)
    }

    /// What the schema says.
    pub(crate) fn form(&mut self, id: SchemaId) -> Result<FormId, GrammarError> {
        if let Some(known) = self.read[id as usize] {
            return Ok(known);
        }
        let location = self.locations[id as usize].clone();
        if self.n_nested >= MAX_NESTED_READS {
            return Err(GrammarError::Limit {
                what: format!("#{}", self.documents.name(&location.place)),
                limit: "references",
                allowed: MAX_NESTED_READS,
            });
        }
        self.n_nested += 1;
        let form = self.read_schema(location);
        self.n_nested -= 1;
        let form = form?;
        self.read[id as usize] = Some(form);
        Ok(form)
    }

    /// Whether an integer may be written as `1.0`.
    pub(crate) fn any_number(&self) -> bool {
        self.any_number
    }

    /// What was read, without the documents.
    pub(crate) fn into_parts(self) -> (Forms, Patterns, Vec<Option<FormId>>) {
        (self.forms, self.patterns, self.read)
    }

    /// How errors name a schema.
    pub(crate) fn pointer(&self, id: SchemaId) -> String {
        self.documents.name(&self.locations[id as usize].place)
    }

    fn id(&mut self, place: Place<'a>, scope: &Arc<[ResourceId]>) -> SchemaId {
        let mut scope = Arc::clone(scope);
        if self.documents.has_dynamic {
            let resource = place.resource;
            if !scope.contains(&resource) {
                scope = scope.iter().copied().chain([resource]).collect();
            }
        }
        let location = Location { place, scope };
        if let Some(&id) = self.ids.get(&location) {
            return id;
        }
        let id = self.locations.len() as SchemaId;
        self.ids.insert(location.clone(), id);
        self.locations.push(location);
        self.read.push(None);
        id
    }

    fn read_schema(&mut self, location: Location<'a>) -> Result<FormId, GrammarError> {
        let at = self.documents.name(&location.place);
        match location.place.value {
            Value::Bool(true) => Ok(TRUE),
            Value::Bool(false) => Ok(FALSE),
            Value::Object(keywords) => {
                let draft = self.documents.resource(location.place.resource).draft;
                let mut reading = Reading {
                    keywords,
                    location,
                    draft,
                    parts: Vec::new(),
                };
                self.read_keywords(&mut reading, at)
            }
            _ => Err(refuse(&at, "a schema is an object or a boolean")),
        }
    }

    fn read_keywords(
        &mut self,
        reading: &mut Reading<'a>,
        mut at: String,
    ) -> Result<FormId, GrammarError> {
        let keywords = reading.keywords;
        if reading.draft <= Draft::Seven
            && let Some(reference) = keywords.get("$ref")
        {
            return self.reference(reading, &child(&at, "$ref"), reference);
        }
        let n_bytes = at.len();
        let mut groups = 0;
        for (keyword, value) in keywords {
            push(&mut at, keyword);
            let part = match self.assertion(reading, keyword, value, &at)? {
                Some(part) => Some(part),
                None => self.applicator(reading, keyword, value, &at)?,
            };
            match part {
                Some(part) => reading.parts.push(part),
                None => check_annotation(keyword, &at)?,
            }
            groups |= group(keyword);
            at.truncate(n_bytes);
        }
        self.grouped(reading, groups, &at)?;
        let parts = std::mem::take(&mut reading.parts);
        let form = self.forms.and(parts);
        if groups & UNEVALUATED == 0 || reading.draft < Draft::TwentyNineteen {
            return Ok(form);
        }
        let [members, items] = ["unevaluatedProperties", "unevaluatedItems"].map(|keyword| {
            let value = keywords.get(keyword);
            value.map(|value| self.schema(reading, &[keyword], value))
        });
        unevaluated::bound(self, form, members, items, &at)
    }

    /// Keywords that say something by themselves.
    fn assertion(
        &mut self,
        reading: &Reading<'a>,
        keyword: &str,
        value: &'a Value,
        at: &str,
    ) -> Result<Option<FormId>, GrammarError> {
        let form = match keyword {
            "type" => return self.types(reading, at, value).map(Some),
            "enum" => {
                let values = value
                    .as_array()
                    .ok_or_else(|| refuse(at, "`enum` is an array"))?;
                let form = exactly(&mut self.forms, values, self.any_number);
                Form::Mute(form)
            }
            "const" => {
                let values = std::slice::from_ref(value);
                Form::Mute(exactly(&mut self.forms, values, self.any_number))
            }
            "pattern" => self.pattern(reading, at, value)?,
            "format" => {
                let name = value
                    .as_str()
                    .ok_or_else(|| refuse(at, "`format` is a string"))?;
                match self.patterns.format(name) {
                    Some(pattern) => Form::Format(pattern),
                    None if name == "regex" => {
                        let (form, negated) = (self.forms.add(Form::Regex), false);
                        Form::Guard { form, negated }
                    }
                    None => Form::True,
                }
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                return self.bound(reading, keyword, value, at).map(Some);
            }
            "multipleOf" => Form::Multiple {
                of: read_multiple(at, value)?,
                negated: false,
            },
            "required" if value.is_array() => {
                let names = read_names(at, value)?;
                if names.is_empty() {
                    return Ok(Some(TRUE));
                }
                Form::Required(names)
            }
            // Draft 3 marked a property as required within it.
            "required" if value.is_boolean() => Form::True,
            "required" => return Err(refuse(at, "an array of property names is needed")),
            "uniqueItems" => match value.as_bool() {
                Some(true) => Form::Unique,
                Some(false) => Form::True,
                None => return Err(refuse(at, "`uniqueItems` is a boolean")),
            },
            _ => return Ok(None),
        };
        Ok(Some(self.forms.add(form)))
    }

    fn types(
        &mut self,
        reading: &Reading<'a>,
        at: &str,
        value: &Value,
    ) -> Result<FormId, GrammarError> {
        let types = read_types(at, value)?;
        let form = self.forms.types(types);
        if reading.draft > Draft::Four || types & types::NUMBER != types::INTEGER {
            return Ok(form);
        }
        let unpointed = self.forms.add(Form::Unpointed);
        Ok(self.forms.and([form, unpointed]))
    }

    /// Where a string is asked for, a pattern of few words is a list of values.
    fn pattern(
        &mut self,
        reading: &Reading<'a>,
        at: &str,
        value: &Value,
    ) -> Result<Form, GrammarError> {
        let source = value
            .as_str()
            .ok_or_else(|| refuse(at, "`pattern` is a string"))?;
        let (pattern, negated) = (self.patterns.regex(source, at)?, false);
        let of_strings = reading.keywords.get("type") == Some(&Value::from("string"));
        let words = self.patterns.words(pattern);
        let Some(words) = words.filter(|words| of_strings && !words.is_empty()) else {
            return Ok(Form::Text { pattern, negated });
        };
        let values = words.iter().map(|word| word.as_str().into());
        let values = Arc::new(Values::new(values));
        Ok(Form::Values { values, negated })
    }

    fn bound(
        &mut self,
        reading: &Reading<'a>,
        keyword: &str,
        value: &Value,
        at: &str,
    ) -> Result<FormId, GrammarError> {
        // In draft 4 the exclusive ones are booleans beside the others.
        let beside = |keyword: &str| reading.keywords.get(keyword) == Some(&Value::Bool(true));
        let number = match value {
            Value::Number(number) => OnGrid::new(number),
            Value::Bool(_) if keyword.starts_with("exclusive") => return Ok(TRUE),
            _ => return Err(refuse(at, "a number is needed")),
        };
        let (lowest, highest) = match keyword {
            "minimum" if beside("exclusiveMinimum") => (Some(number.floor + 1), None),
            "minimum" => (Some(number.ceil), None),
            "exclusiveMinimum" => (Some(number.floor + 1), None),
            "maximum" if beside("exclusiveMaximum") => (None, Some(number.ceil - 1)),
            "maximum" => (None, Some(number.floor)),
            _ => (None, Some(number.ceil - 1)),
        };
        Ok(self.forms.add(Form::Range { lowest, highest }))
    }

    /// Keywords that hold schemas, or stand alone among those of their kind.
    fn applicator(
        &mut self,
        reading: &Reading<'a>,
        keyword: &str,
        value: &'a Value,
        at: &str,
    ) -> Result<Option<FormId>, GrammarError> {
        let form = match keyword {
            "$ref" => self.reference(reading, at, value)?,
            "$dynamicRef" => self.dynamic_reference(reading, at, value)?,
            "$recursiveRef" => self.recursive_reference(reading, at)?,
            "allOf" => {
                let parts = self.schema_list(reading, keyword, at, value)?;
                self.forms.and(parts)
            }
            "anyOf" => {
                let parts = self.schema_list(reading, keyword, at, value)?;
                self.forms.add(Form::Any(parts))
            }
            "oneOf" => match self.schema_list(reading, keyword, at, value)?.as_slice() {
                [single] => *single,
                parts => self.forms.add(Form::One(parts.to_vec())),
            },
            "not" => {
                let form = self.schema(reading, &[keyword], value);
                let not = self.forms.not(form);
                self.forms.add(Form::Mute(not))
            }
            "if" if reading.draft >= Draft::Seven => self.conditional(reading),
            "propertyNames" => {
                let form = self.schema(reading, &[keyword], value);
                self.forms.add(Form::Names(form))
            }
            "dependentRequired" | "dependentSchemas" | "dependencies" => {
                let mut each = Vec::new();
                for (name, value) in map(at, value)? {
                    let at = child(at, name);
                    each.push(self.dependent(reading, (keyword, name), &at, value)?);
                }
                self.forms.and(each)
            }
            _ => return Ok(None),
        };
        Ok(Some(form))
    }

    fn conditional(&mut self, reading: &Reading<'a>) -> FormId {
        let mut branch = |keyword: &str| match reading.keywords.get(keyword) {
            Some(value) => self.schema(reading, &[keyword], value),
            None => TRUE,
        };
        let (condition, then, other) = (branch("if"), branch("then"), branch("else"));
        let not = self.forms.not(condition);
        let not = self.forms.add(Form::Mute(not));
        let (then, other) = (
            self.forms.and([condition, then]),
            self.forms.and([not, other]),
        );
        self.forms.or([then, other])
    }

    fn dependent(
        &mut self,
        reading: &Reading<'a>,
        (keyword, name): (&str, &str),
        at: &str,
        value: &'a Value,
    ) -> Result<FormId, GrammarError> {
        let name: Arc<str> = Arc::from(name);
        if value.is_array() && keyword != "dependentSchemas" {
            let needs = read_names(at, value)?;
            return Ok(match needs.is_empty() {
                true => TRUE,
                false => self.forms.add(Form::Dependent { name, needs }),
            });
        }
        let form = self.schema(reading, &[keyword, &name], value);
        let absent = self.forms.absent(&name);
        // Of other values than objects the schema evaluates nothing.
        let object = self.forms.types(types::OBJECT);
        let there = self.forms.add(Form::Required(vec![name]));
        let there = self.forms.and([object, there, form]);
        Ok(self.forms.or([absent, there]))
    }

    /// Keywords that only mean something together.
    fn grouped(
        &mut self,
        reading: &mut Reading<'a>,
        groups: u8,
        at: &str,
    ) -> Result<(), GrammarError> {
        let keywords = reading.keywords;
        for (group, low, high, form) in [
            (
                LENGTH,
                "minLength",
                "maxLength",
                Form::Length as fn(Bounds) -> Form,
            ),
            (N_ITEMS, "minItems", "maxItems", Form::NItems),
            (N_MEMBERS, "minProperties", "maxProperties", Form::NMembers),
        ] {
            if groups & group != 0
                && let Some(bounds) = read_bounds(keywords, low, high, at)?
            {
                reading.parts.push(self.forms.add(form(bounds)));
            }
        }
        if groups & MEMBERS != 0
            && let Some(members) = self.members(reading, at)?
        {
            reading.parts.push(self.forms.add(Form::Members(members)));
        }
        if groups & ITEMS != 0
            && let Some((prefix, rest)) = self.items(reading, at)?
        {
            reading
                .parts
                .push(self.forms.add(Form::Items { prefix, rest }));
        }
        if let Some(value) = keywords.get("contains")
            && reading.draft >= Draft::Six
        {
            let form = self.schema(reading, &["contains"], value);
            let mut bounds = Bounds { min: 1, max: None };
            if reading.draft >= Draft::TwentyNineteen
                && let Some(given) = read_bounds(keywords, "minContains", "maxContains", at)?
            {
                let min = keywords.get("minContains").map_or(1, |_| given.min);
                bounds = Bounds { min, ..given };
            }
            reading
                .parts
                .push(self.forms.add(Form::Contains { form, bounds }));
        }
        Ok(())
    }

    fn members(
        &mut self,
        reading: &Reading<'a>,
        at: &str,
    ) -> Result<Option<Members>, GrammarError> {
        let keywords = reading.keywords;
        let mut members = Members {
            names: Vec::new(),
            patterns: Vec::new(),
            rest: None,
        };
        if let Some(value) = keywords.get("properties") {
            for (name, value) in map(&child(at, "properties"), value)? {
                let form = self.schema(reading, &["properties", name], value);
                members.names.push((Arc::from(name.as_str()), form));
            }
        }
        if let Some(value) = keywords.get("patternProperties") {
            let at = child(at, "patternProperties");
            for (source, value) in map(&at, value)? {
                let pattern = self.patterns.regex(source, &child(&at, source))?;
                let form = self.schema(reading, &["patternProperties", source], value);
                let Some(words) = self.patterns.words(pattern) else {
                    members.patterns.push((pattern, form));
                    continue;
                };
                for word in words.iter() {
                    match members.names.iter_mut().find(|(name, _)| **name == **word) {
                        Some((_, known)) => *known = self.forms.and([*known, form]),
                        None => members.names.push((Arc::from(word.as_str()), form)),
                    }
                }
            }
        }
        if let Some(value) = keywords.get("additionalProperties") {
            members.rest = Some(self.schema(reading, &["additionalProperties"], value));
        }
        let is_empty = members.names.is_empty() && members.patterns.is_empty();
        Ok((!is_empty || members.rest.is_some()).then_some(members))
    }

    fn items(
        &mut self,
        reading: &Reading<'a>,
        at: &str,
    ) -> Result<Option<ItemForms>, GrammarError> {
        let keywords = reading.keywords;
        let (list, rest) = match (keywords.get("prefixItems"), keywords.get("items")) {
            (None, Some(Value::Array(_))) => ("items", "additionalItems"),
            _ => ("prefixItems", "items"),
        };
        let mut prefix = Vec::new();
        if let Some(value) = keywords.get(list)
            && (list == "items" || reading.draft >= Draft::TwentyTwenty)
        {
            prefix = match value.as_array() {
                Some(items) if items.is_empty() => Vec::new(),
                _ => self.schema_list(reading, list, &child(at, list), value)?,
            };
        }
        let value = keywords.get(rest);
        let rest = value.map(|value| self.schema(reading, &[rest], value));
        Ok((!prefix.is_empty() || rest.is_some()).then_some((prefix, rest)))
    }

    /// The form of a schema, which stands `path` further within the one that is read.
    fn schema(&mut self, reading: &Reading<'a>, path: &[&str], value: &'a Value) -> FormId {
        match value {
            Value::Bool(true) => TRUE,
            Value::Bool(false) => FALSE,
            _ => {
                let place = self.documents.within(&reading.location.place, path, value);
                let id = self.id(place, &reading.location.scope);
                self.forms.add(Form::Schema(id))
            }
        }
    }

    fn schema_list(
        &mut self,
        reading: &Reading<'a>,
        keyword: &str,
        at: &str,
        value: &'a Value,
    ) -> Result<Vec<FormId>, GrammarError> {
        match value.as_array() {
            Some(list) if !list.is_empty() => Ok(list
                .iter()
                .enumerate()
                .map(|(idx, value)| self.schema(reading, &[keyword, &idx.to_string()], value))
                .collect()),
            _ => Err(refuse(at, "an array of at least one schema is needed")),
        }
    }

    fn reference(
        &mut self,
        reading: &Reading<'a>,
        at: &str,
        value: &'a Value,
    ) -> Result<FormId, GrammarError> {
        let (place, _) = self.resolved(reading, at, value)?;
        let id = self.id(place, &reading.location.scope);
        Ok(self.forms.add(Form::Schema(id)))
    }

    /// Where a reference leads by itself, and its fragment if that is a plain name.
    fn resolved(
        &mut self,
        reading: &Reading<'a>,
        at: &str,
        value: &'a Value,
    ) -> Result<Target<'a>, GrammarError> {
        let reference = value
            .as_str()
            .ok_or_else(|| refuse(at, "a reference is a string"))?;
        let resource = reading.location.place.resource;
        self.documents.resolve(resource, reference, at)
    }

    /// A reference to a dynamic anchor leads to the outermost resource on the way that has it.
    fn dynamic_reference(
        &mut self,
        reading: &Reading<'a>,
        at: &str,
        value: &'a Value,
    ) -> Result<FormId, GrammarError> {
        let (mut place, name) = self.resolved(reading, at, value)?;
        let scope = Arc::clone(&reading.location.scope);
        let target = place.resource;
        if let Some(name) = name
            && self.documents.dynamic_anchor(target, &name).is_some()
        {
            let mut anchors = scope.iter().chain([&target]);
            place = anchors
                .find_map(|&resource| self.documents.dynamic_anchor(resource, &name))
                .unwrap_or(place);
        }
        let id = self.id(place, &scope);
        Ok(self.forms.add(Form::Schema(id)))
    }

    /// Draft 2019-09's `$recursiveRef: "#"`.
    fn recursive_reference(
        &mut self,
        reading: &Reading<'a>,
        at: &str,
    ) -> Result<FormId, GrammarError> {
        let resource = reading.location.place.resource;
        let (mut place, _) = self.documents.resolve(resource, "#", at)?;
        let scope = Arc::clone(&reading.location.scope);
        if self.documents.resource(resource).recursive {
            let recursive = |&&id: &&ResourceId| self.documents.resource(id).recursive;
            if let Some(&outermost) = scope.iter().find(recursive) {
                place = self.documents.root_of(outermost);
            }
        }
        let id = self.id(place, &scope);
        Ok(self.forms.add(Form::Schema(id)))
    }
}

impl Reader for Schemas<'_> {
    fn forms(&self) -> &Forms {
        &self.forms
    }

    fn patterns(&mut self) -> &mut Patterns {
        &mut self.patterns
    }

    fn read(&mut self, schema: SchemaId) -> Result<FormId, GrammarError> {
        self.form(schema)
    }
}

/// A refusal at a place.
pub(crate) fn refuse(pointer: &str, message: &str) -> GrammarError {
    GrammarError::Schema {
        pointer: format!("#{pointer}"),
        message: message.to_owned(),
    }
}
