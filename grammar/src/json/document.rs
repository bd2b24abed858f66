//! The documents of a schema: which drafts they are written in, what their identifiers name, and
//! where references lead.
//!
//! A resource is a schema with an identifier of its own; references within it are relative to it.
//! Identifiers are looked for only where the draft has schemas, so that an `$id` within an `enum`
//! is what it is: a value.
//!
//! Source: JSON Schema draft 2020-12, Core, sections 8 and 9; drafts 4 to 2019-09 where they differ.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use fluent_uri::{Uri, UriRef};
use foldhash::{HashMap, HashMapExt};
use serde_json::Value;

use crate::json::schema::refuse;
use crate::{GrammarError, Limits};

/// The base of a document without an identifier.
const NO_BASE: &str = "json-schema:///";

/// A version of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Draft {
    Four,
    Six,
    Seven,
    TwentyNineteen,
    TwentyTwenty,
}

impl Draft {
    /// The draft that a `$schema` names, if it is known.
    fn named(name: &Value) -> Option<Self> {
        let name = name.as_str()?;
        let drafts = [
            ("draft-03", Self::Four),
            ("draft-04", Self::Four),
            ("draft-06", Self::Six),
            ("draft-07", Self::Seven),
            ("2019-09", Self::TwentyNineteen),
            ("2020-12", Self::TwentyTwenty),
        ];
        drafts
            .iter()
            .find(|(part, _)| name.contains(part))
            .map(|&(_, draft)| draft)
    }
}

/// Index of a document; 0 is the schema itself.
pub(crate) type DocumentId = u32;
/// Index of a resource.
pub(crate) type ResourceId = u32;

/// A schema with an identifier of its own.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) draft: Draft,
    base: String,
    document: DocumentId,
    pointer: String,
    /// Places by plain-name fragment.
    anchors: HashMap<String, String>,
    /// Those anchors that a dynamic reference may be taken over by.
    dynamic: HashMap<String, String>,
    /// `$recursiveAnchor: true`.
    pub(crate) recursive: bool,
}

/// A place in a document. Each value there is one place, whatever led to it.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) value: &'a Value,
    /// The resource that it belongs to.
    pub(crate) resource: ResourceId,
    document: DocumentId,
    /// Without the leading `#`.
    pointer: Arc<str>,
}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.value, other.value)
    }
}

impl Eq for Place<'_> {}

impl Hash for Place<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self.value, state);
    }
}

/// Where a reference leads, and its fragment if that is a plain name.
pub(crate) type Target<'a> = (Place<'a>, Option<String>);

/// All documents that a schema may reach.
#[derive(Debug)]
pub(crate) struct Documents<'a> {
    roots: Vec<&'a Value>,
    resources: Vec<Resource>,
    by_uri: HashMap<String, ResourceId>,
    /// Resources by document and pointer.
    by_pointer: HashMap<(DocumentId, String), ResourceId>,
    /// The document and pointer of the place that was asked for last.
    looked_for: (DocumentId, String),
    /// Where the references followed so far lead, by the resource that they stand in.
    resolved: HashMap<(ResourceId, &'a str), Target<'a>>,
    /// Whether any resource has a dynamic or recursive anchor.
    pub(crate) has_dynamic: bool,
}

impl<'a> Documents<'a> {
    /// Reads the identifiers of `root` and of the other documents.
    pub(crate) fn new(
        root: &'a Value,
        others: &'a std::collections::HashMap<String, Value>,
        limits: &Limits,
    ) -> Result<Self, GrammarError> {
        let mut documents = Self {
            roots: Vec::new(),
            resources: Vec::new(),
            by_uri: HashMap::new(),
            by_pointer: HashMap::new(),
            looked_for: (0, String::new()),
            resolved: HashMap::new(),
            has_dynamic: false,
        };
        check_size(root, limits)?;
        documents.add(root, NO_BASE);
        let sorted: BTreeMap<&String, &Value> = others.iter().collect();
        for (uri, document) in sorted {
            check_size(document, limits)?;
            documents.add(document, uri);
        }
        Ok(documents)
    }

    /// The root of a document.
    pub(crate) fn root(&self, document: DocumentId) -> Place<'a> {
        self.root_of(self.by_pointer[&(document, String::new())])
    }

    /// The place of a value that stands `path` further within a schema.
    pub(crate) fn within(
        &mut self,
        place: &Place<'a>,
        path: &[&str],
        value: &'a Value,
    ) -> Place<'a> {
        let (_, pointer) = &mut self.looked_for;
        pointer.clear();
        pointer.push_str(&place.pointer);
        path.iter().for_each(|part| push(pointer, part));
        self.looked_for.0 = place.document;
        let own = match self.resources.len() == self.roots.len() {
            true => None,
            false => self.by_pointer.get(&self.looked_for).copied(),
        };
        Place {
            value,
            resource: own.unwrap_or(place.resource),
            document: place.document,
            pointer: self.looked_for.1.as_str().into(),
        }
    }

    /// What stands at a pointer.
    fn at(&self, document: DocumentId, pointer: &str) -> Option<Place<'a>> {
        let value = self.roots[document as usize].pointer(pointer)?;
        let mut outer = pointer;
        loop {
            let key = (document, outer.to_owned());
            if let Some(&resource) = self.by_pointer.get(&key) {
                return Some(Place {
                    value,
                    resource,
                    document,
                    pointer: pointer.into(),
                });
            }
            outer = &outer[..outer.rfind('/').unwrap_or(0)];
        }
    }

    pub(crate) fn resource(&self, id: ResourceId) -> &Resource {
        &self.resources[id as usize]
    }

    /// How an error names a place.
    pub(crate) fn name(&self, place: &Place<'_>) -> String {
        match place.document {
            0 => place.pointer.to_string(),
            _ => {
                let root = self.by_pointer[&(place.document, String::new())];
                format!("({}){}", self.resources[root as usize].base, place.pointer)
            }
        }
    }

    /// Where `reference`, which stands in `resource`, leads.
    pub(crate) fn resolve(
        &mut self,
        resource: ResourceId,
        reference: &'a str,
        at: &str,
    ) -> Result<Target<'a>, GrammarError> {
        if let Some(known) = self.resolved.get(&(resource, reference)) {
            return Ok(known.clone());
        }
        let target = self.follow(resource, reference, at)?;
        self.resolved.insert((resource, reference), target.clone());
        Ok(target)
    }

    fn follow(
        &self,
        resource: ResourceId,
        reference: &str,
        at: &str,
    ) -> Result<Target<'a>, GrammarError> {
        let nothing = || refuse(at, &format!("nothing is known at `{reference}`"));
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let target = if uri.is_empty() {
            resource
        } else {
            let base = &self.resources[resource as usize].base;
            let uri = joined(base, uri).ok_or_else(nothing)?;
            *self.by_uri.get(&uri).ok_or_else(nothing)?
        };
        let target = &self.resources[target as usize];
        let fragment = percent_decoded(fragment).ok_or_else(nothing)?;
        let (pointer, name) = if fragment.is_empty() || fragment.starts_with('/') {
            (format!("{}{fragment}", target.pointer), None)
        } else {
            let pointer = target.anchors.get(&fragment).ok_or_else(nothing)?;
            (pointer.clone(), Some(fragment))
        };
        match self.at(target.document, &pointer) {
            Some(place) => Ok((place, name)),
            None => Err(nothing()),
        }
    }

    /// The place of a dynamic anchor in a resource.
    pub(crate) fn dynamic_anchor(&self, resource: ResourceId, name: &str) -> Option<Place<'a>> {
        let resource = &self.resources[resource as usize];
        self.at(resource.document, resource.dynamic.get(name)?)
    }

    /// The root of a resource.
    pub(crate) fn root_of(&self, resource: ResourceId) -> Place<'a> {
        let resource = &self.resources[resource as usize];
        self.at(resource.document, &resource.pointer)
            .expect("resources are places")
    }

    fn add(&mut self, root: &'a Value, base: &str) {
        let document = self.roots.len() as DocumentId;
        self.roots.push(root);
        let draft = root
            .get("$schema")
            .and_then(Draft::named)
            .unwrap_or(Draft::TwentyTwenty);
        let resource = self.add_resource(document, String::new(), base, draft);
        let mut trail = Trail::default();
        let mut open = vec![(root, ROOT, resource)];
        while let Some((value, at, resource)) = open.pop() {
            let Value::Object(keywords) = value else {
                continue;
            };
            let resource = match keywords.keys().any(|keyword| may_identify(keyword)) {
                true => self.identify(keywords, document, &trail.pointer(at), resource),
                false => resource,
            };
            let draft = self.resources[resource as usize].draft;
            for (keyword, value) in keywords {
                let subschemas = subschemas(keyword, draft);
                if matches!(subschemas, Subschemas::None) {
                    continue;
                }
                let at = trail.push(at, Part::Name(keyword));
                match (subschemas, value) {
                    (Subschemas::One, _) => open.push((value, at, resource)),
                    (Subschemas::List | Subschemas::OneOrList, Value::Array(list)) => {
                        for (idx, value) in list.iter().enumerate() {
                            open.push((value, trail.push(at, Part::Index(idx)), resource));
                        }
                    }
                    (Subschemas::OneOrList, _) => open.push((value, at, resource)),
                    (Subschemas::Map, Value::Object(map)) => {
                        for (name, value) in map {
                            open.push((value, trail.push(at, Part::Name(name)), resource));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn add_resource(
        &mut self,
        document: DocumentId,
        pointer: String,
        base: &str,
        draft: Draft,
    ) -> ResourceId {
        let id = self.resources.len() as ResourceId;
        let plain = base.strip_suffix('#').unwrap_or(base).to_owned();
        self.by_uri.entry(plain.clone()).or_insert(id);
        self.by_pointer.insert((document, pointer.clone()), id);
        self.resources.push(Resource {
            draft,
            base: plain,
            document,
            pointer,
            anchors: HashMap::new(),
            dynamic: HashMap::new(),
            recursive: false,
        });
        id
    }

    /// Reads the identifiers of one schema; the resource that it belongs to.
    fn identify(
        &mut self,
        keywords: &serde_json::Map<String, Value>,
        document: DocumentId,
        pointer: &str,
        resource: ResourceId,
    ) -> ResourceId {
        let outer = &self.resources[resource as usize];
        let named = keywords.get("$schema").and_then(Draft::named);
        let draft = named.unwrap_or(outer.draft);
        let keyword = if draft == Draft::Four { "id" } else { "$id" };
        // Beside a `$ref` nothing else counts before 2019-09.
        let is_hidden = draft <= Draft::Seven && keywords.contains_key("$ref");
        let id = keywords.get(keyword).and_then(Value::as_str);
        let mut resource = resource;
        if let Some(id) = id.filter(|_| !is_hidden) {
            let (uri, fragment) = id.split_once('#').unwrap_or((id, ""));
            if let Some(uri) = joined(&outer.base, uri).filter(|_| !uri.is_empty()) {
                if pointer.is_empty() {
                    self.by_uri.insert(uri.clone(), resource);
                    self.resources[resource as usize].base = uri;
                } else {
                    resource = self.add_resource(document, pointer.to_owned(), &uri, draft);
                }
            }
            if !fragment.is_empty() && draft <= Draft::Seven {
                let anchors = &mut self.resources[resource as usize].anchors;
                anchors.insert(fragment.to_owned(), pointer.to_owned());
            }
        }
        let found = &mut self.resources[resource as usize];
        if draft >= Draft::TwentyNineteen {
            let name = |keyword: &str| keywords.get(keyword).and_then(Value::as_str);
            if let Some(name) = name("$anchor") {
                found.anchors.insert(name.to_owned(), pointer.to_owned());
            }
            if let Some(name) = name("$dynamicAnchor") {
                found.anchors.insert(name.to_owned(), pointer.to_owned());
                found.dynamic.insert(name.to_owned(), pointer.to_owned());
                self.has_dynamic = true;
            }
            let recursive = keywords.get("$recursiveAnchor") == Some(&Value::Bool(true));
            found.recursive |= recursive && draft == Draft::TwentyNineteen;
            self.has_dynamic |= recursive;
        }
        resource
    }
}

/// Whether a schema with this keyword may have an identifier, or be of another draft.
fn may_identify(keyword: &str) -> bool {
    keyword.starts_with('$') || keyword == "id"
}

/// A step of a pointer.
#[derive(Clone, Copy)]
enum Part<'a> {
    Name(&'a str),
    Index(usize),
}

/// The places of a document that were come to, each by a step from one before. Few have an identifier, so few pointers are
/// written out.
#[derive(Default)]
struct Trail<'a>(Vec<(usize, Part<'a>)>);

/// Where a [`Trail`] begins.
const ROOT: usize = usize::MAX;

impl<'a> Trail<'a> {
    fn push(&mut self, from: usize, part: Part<'a>) -> usize {
        self.0.push((from, part));
        self.0.len() - 1
    }

    fn pointer(&self, mut at: usize) -> String {
        let mut parts = Vec::new();
        while let Some(&(from, part)) = self.0.get(at) {
            parts.push(part);
            at = from;
        }
        let mut pointer = String::new();
        for part in parts.iter().rev() {
            match part {
                Part::Name(name) => push(&mut pointer, name),
                Part::Index(idx) => push(&mut pointer, &idx.to_string()),
            }
        }
        pointer
    }
}

enum Subschemas {
    None,
    One,
    List,
    Map,
    OneOrList,
}

/// Where a keyword holds schemas.
fn subschemas(keyword: &str, draft: Draft) -> Subschemas {
    match keyword {
        "items" if draft < Draft::TwentyTwenty => Subschemas::OneOrList,
        "additionalProperties"
        | "additionalItems"
        | "items"
        | "contains"
        | "propertyNames"
        | "not"
        | "if"
        | "then"
        | "else"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contentSchema" => Subschemas::One,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Subschemas::List,
        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas"
        | "dependencies" => Subschemas::Map,
        _ => Subschemas::None,
    }
}

/// `pointer` one step further.
pub(crate) fn child(pointer: &str, name: &str) -> String {
    let mut longer = String::with_capacity(pointer.len() + 1 + name.len());
    longer.push_str(pointer);
    push(&mut longer, name);
    longer
}

/// Takes a pointer one step further.
pub(crate) fn push(pointer: &mut String, name: &str) {
    pointer.push('/');
    if name.contains(['~', '/']) {
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
    } else {
        pointer.push_str(name);
    }
}

/// An absolute URI without a fragment.
fn joined(base: &str, reference: &str) -> Option<String> {
    let reference = UriRef::parse(reference).ok()?;
    let base = Uri::parse(base).ok()?;
    let joined = match reference.resolve_against(&base) {
        Ok(joined) => joined.to_string(),
        Err(_) => return None,
    };
    Some(joined)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = tail;
            }
            (b'%', _) => return None,
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Depth first, so that nothing recursive meets a document that is too deep.
fn check_size(root: &Value, limits: &Limits) -> Result<(), GrammarError> {
    let limit = |limit, allowed| GrammarError::Limit {
        what: "the schema".into(),
        limit,
        allowed,
    };
    let (mut n_values, mut n_bytes) = (0, 0);
    let mut open = vec![(root, 1)];
    while let Some((value, depth)) = open.pop() {
        n_values += 1;
        if depth > limits.depth {
            return Err(limit("depth", limits.depth));
        }
        if n_values > limits.schema_nodes {
            return Err(limit("schema_nodes", limits.schema_nodes));
        }
        match value {
            Value::Array(values) => open.extend(values.iter().map(|value| (value, depth + 1))),
            Value::Object(map) => {
                n_bytes += map.keys().map(|key| key.len() + 4).sum::<usize>();
                open.extend(map.values().map(|value| (value, depth + 1)));
            }
            Value::String(text) => n_bytes += text.len() + 3,
            _ => n_bytes += 5,
        }
        if n_bytes > limits.source_bytes {
            return Err(limit("source_bytes", limits.source_bytes));
        }
    }
    Ok(())
}
