//! Items: what they declare, and what they may say.

use crate::Diagnostic;
use crate::ast::*;
use crate::options::Place;
use crate::program::mentions;

use super::scope::{BindingKind, Scopes};
use super::ty::Ty;
use super::{Checker, Global, Home, suggest};

/// The types there are without a declaration.
pub(super) const BUILTIN_TYPES: [&str; 6] = ["string", "int", "float", "bool", "null", "json"];

impl<'p> Checker<'p, '_> {
    /// Enters every item's name, so that a definition may stand below its use.
    pub(super) fn declare(&mut self) {
        let file = self.file;
        let mut seen: Vec<(&'p str, Span)> = Vec::new();
        let (mut model, mut budget) = (None, None);
        self.find_endless();
        for item in &file.items {
            let name = match &item.kind {
                ItemKind::Input { name, ty, .. } => {
                    let global = Global {
                        ty,
                        span: name.span,
                        is_used: false,
                    };
                    self.inputs.entry(&name.text).or_insert(global);
                    name
                }
                ItemKind::Import(import) => {
                    // Refused below; its names are not undefined on top of that.
                    self.lost.extend(
                        import
                            .names
                            .iter()
                            .chain(&import.alias)
                            .map(|name| name.text.as_str()),
                    );
                    continue;
                }
                ItemKind::Type { name, .. } => name,
                ItemKind::Fn(callable) | ItemKind::Part(callable) => {
                    self.callables
                        .entry(&callable.name.text)
                        .or_insert(callable);
                    &callable.name
                }
                ItemKind::Tool(tool) => {
                    self.tools.insert(&tool.name.text);
                    &tool.name
                }
                ItemKind::Model { options, .. } => {
                    self.declare_model(options);
                    self.only_one(&mut model, item.span, "model");
                    continue;
                }
                ItemKind::Budget { .. } => {
                    self.only_one(&mut budget, item.span, "budget");
                    continue;
                }
                _ => continue,
            };
            seen.push((&name.text, name.span));
            self.reserved(item, name);
        }
        seen.sort_by_key(|&(name, span)| (name, span.start));
        for pair in seen.windows(2) {
            if pair[0].0 == pair[1].0 {
                self.duplicate(pair[1].0, pair[1].1, pair[0].1);
            }
        }
    }

    fn only_one(&mut self, first: &mut Option<Span>, span: Span, what: &str) {
        if first.is_some() {
            self.error(
                "E103",
                span,
                format!("a file has one `{what}`, this is a second"),
                "keep one of them",
            );
        }
        *first = first.or(Some(span));
    }

    fn reserved(&mut self, item: &Item, name: &Name) {
        let is_type = matches!(item.kind, ItemKind::Type { .. });
        if is_type && (BUILTIN_TYPES.contains(&name.text.as_str()) || name.text == "call") {
            let message = format!("`{}` is a type of the language", name.text);
            self.error("E103", name.span, message, "choose another name");
        }
        let is_called = matches!(
            item.kind,
            ItemKind::Fn(_) | ItemKind::Part(_) | ItemKind::Tool(_)
        );
        if is_called && crate::library::find(&name.text).is_some() {
            let message = format!("`{}` is a function of the library", name.text);
            self.error("E103", name.span, message, "choose another name");
        }
    }

    pub(super) fn duplicate(&mut self, name: &str, span: Span, first: Span) {
        let line = 1 + self.source[..first.start].matches('\n').count();
        let found = Diagnostic::new(
            "E103",
            span,
            format!("`{name}` is already defined in line {line}"),
        );
        self.report(
            found
                .label("defined again")
                .help("give one of the two another name"),
        );
    }

    fn declare_model(&mut self, options: &[Opt]) {
        for option in options {
            if let ExprKind::Template(template) = &option.value.kind
                && let [TemplatePart::Text(word, _)] = template.parts.as_slice()
            {
                self.is_plain |= option.name.text == "template" && word == "none";
                self.heal_off |= option.name.text == "heal" && word == "off";
            }
        }
    }

    pub(super) fn item(&mut self, item: &'p Item) {
        match &item.kind {
            ItemKind::Import(_) => self.refuse("E903", item.span, "imports"),
            ItemKind::Tool(_) => self.refuse("E901", item.span, "tools"),
            ItemKind::Test { .. } => self.refuse("E904", item.span, "tests"),
            ItemKind::Model { options, .. } => {
                self.options(Place::Model, options);
                self.constants_only(options);
            }
            ItemKind::Budget { options } => {
                self.options(Place::Budget, options);
                self.constants_only(options);
                let tokens = options.iter().find(|option| option.name.text == "tokens");
                self.budget_tokens = tokens.and_then(|option| match option.value.kind {
                    ExprKind::Literal(Literal::Number(Number::Int(tokens))) => Some(tokens),
                    _ => None,
                });
            }
            ItemKind::Input { name, ty, default } => {
                self.declared_type(ty);
                if let Some(default) = default {
                    self.default(name, ty, default);
                }
            }
            ItemKind::Type { name, ty } => {
                self.declared_type(ty);
                if self.endless.contains(name.text.as_str()) {
                    let message =
                        format!("every `{}` would contain another, without end", name.text);
                    let help = "put the inner one into a list (`T[]`), make it `T?`, or give a union a member without it";
                    self.error("E109", name.span, message, help);
                }
            }
            ItemKind::Fn(callable) | ItemKind::Part(callable) => self.signature(callable),
        }
    }

    /// What the language has and this version does not carry out.
    pub(super) fn refuse(&mut self, code: &'static str, span: Span, what: &str) {
        let found = Diagnostic::new(
            code,
            span,
            format!("{what} are not carried out by this version"),
        );
        self.report(
            found
                .label("refused")
                .help("see the reference's section on what is refused for now"),
        );
    }

    fn default(&mut self, name: &Name, ty: &'p Type, default: &'p Expr) {
        self.scopes = Scopes::new();
        let given = self.infer(default);
        let wanted = Ty::of(ty, &self.types);
        self.expect(
            &given,
            &wanted,
            default.span,
            &format!("the default of `{}`", name.text),
        );
        self.constant_in_bounds(default, ty);
    }

    fn constants_only(&mut self, options: &[Opt]) {
        for option in options {
            if super::values::constant(&option.value).is_none() {
                let message = format!("`{}` has to be a constant here", option.name.text);
                self.error(
                    "E402",
                    option.value.span,
                    message,
                    "it is read before the run begins: write the value out",
                );
            }
        }
    }

    fn signature(&mut self, callable: &'p Callable) {
        for (idx, param) in callable.params.iter().enumerate() {
            self.declared_type(&param.ty);
            if let Some(first) = callable.params[..idx]
                .iter()
                .find(|other| other.name.text == param.name.text)
            {
                self.duplicate(&param.name.text, param.name.span, first.name.span);
            }
            if let Some(default) = &param.default {
                self.default(&param.name, &param.ty, default);
            } else if callable.params[..idx]
                .iter()
                .any(|before| before.default.is_some())
            {
                let message = format!(
                    "`{}` has no default and follows one that has",
                    param.name.text
                );
                self.error(
                    "E202",
                    param.name.span,
                    message,
                    "put the parameters with defaults last",
                );
            }
        }
        if let Some(ret) = &callable.ret {
            self.declared_type(ret);
        }
    }

    /// The body of a function or a part: its own names, the inputs, nothing else.
    pub(super) fn callable(&mut self, home: Home<'p>) {
        let (Home::Fn(callable) | Home::Part(callable)) = home else {
            return;
        };
        self.home = home;
        self.scopes = Scopes::new();
        self.ends_in_space = false;
        for param in &callable.params {
            let ty = Ty::of(&param.ty, &self.types);
            self.scopes
                .bind(&param.name.text, BindingKind::Param, ty, param.name.span);
        }
        self.statements(&callable.body);
        if let (Home::Fn(_), Some(ret)) = (home, &callable.ret)
            && !self.scopes.is_dead()
        {
            let wanted = Ty::of(ret, &self.types);
            if !self.judge().fits(&Ty::Null, &wanted) {
                let message = format!(
                    "`{}` can end without returning {wanted}",
                    callable.name.text
                );
                let end = callable.body.span.end;
                let span = Span {
                    start: end.saturating_sub(1),
                    end,
                };
                self.error(
                    "E215",
                    span,
                    message,
                    "end every path with `return` or `fail`",
                );
            }
        }
        self.unused_bindings();
    }

    pub(super) fn unused_bindings(&mut self) {
        let mut unused = Vec::new();
        for binding in &self.scopes.bindings {
            let what = match binding.kind {
                BindingKind::Let | BindingKind::Var => "variable",
                BindingKind::Param => "parameter",
                _ => continue,
            };
            if !binding.is_used
                && !binding.name.starts_with('_')
                && !self.lost.contains(binding.name.as_str())
            {
                unused.push((what, binding.name.clone(), binding.span));
            }
        }
        for (what, name, span) in unused {
            self.unused(what, &name, span);
        }
    }

    fn unused(&mut self, what: &str, name: &str, span: Span) {
        let found = Diagnostic::new("W201", span, format!("the {what} `{name}` is never used"));
        self.report(found.help(format!("remove it, or call it `_{name}`")));
    }

    pub(super) fn unused_items(&mut self) {
        for item in &self.file.items {
            let (what, name) = match &item.kind {
                ItemKind::Input { name, .. } => {
                    if self
                        .inputs
                        .get(name.text.as_str())
                        .is_some_and(|input| input.is_used || input.span != name.span)
                    {
                        continue;
                    }
                    ("input", name)
                }
                ItemKind::Type { name, .. } => ("type", name),
                ItemKind::Fn(callable) => ("function", &callable.name),
                ItemKind::Part(callable) => ("part", &callable.name),
                _ => continue,
            };
            let known =
                self.mentioned.contains(&name.text) || self.lost.contains(name.text.as_str());
            if !known && !name.text.starts_with('_') {
                self.unused(what, &name.text, name.span);
            }
        }
    }

    /// Notes the types a type mentions as used; those never declared are errors.
    pub(super) fn mention(&mut self, ty: &'p Type) {
        let mut names = Vec::new();
        mentions(ty, &mut names);
        self.mentioned.extend(names.into_iter().map(str::to_owned));
    }

    pub(super) fn undefined_type(&mut self, name: &Name) {
        if self.lost.contains(name.text.as_str()) {
            return;
        }
        let declared = self.file.items.iter().filter_map(|item| match &item.kind {
            ItemKind::Type { name, .. } => Some(name.text.as_str()),
            _ => None,
        });
        let help = suggest::help(&name.text, BUILTIN_TYPES.into_iter().chain(declared));
        let help = help.unwrap_or_else(|| {
            "types are string, int, float, bool, null, json, and the file's own".to_owned()
        });
        self.error(
            "E104",
            name.span,
            format!("there is no type `{}`", name.text),
            &help,
        );
    }
}
