//! Calls: the library, functions, parts.

use crate::Diagnostic;
use crate::ast::*;
use crate::library::{self, LIBRARY, Signature};
use crate::program::mentions;

use super::scope::BindingKind;
use super::ty::{Ty, kinds};
use super::{Checker, suggest};

impl<'p> Checker<'p, '_> {
    /// Checks a call; `emits` says that it stands where a part may append.
    pub(super) fn call(
        &mut self,
        callee: &'p Name,
        args: &'p [Expr],
        named: &'p [Opt],
        span: Span,
        emits: bool,
    ) -> Ty {
        let name = callee.text.as_str();
        if let Some(&callable) = self.callables.get(name) {
            self.mentioned.insert(name.to_owned());
            self.arguments(callable, args, named, span);
            if self.parts.contains_key(name) {
                if emits {
                    self.part_call(callee);
                } else {
                    let help = "call it as a statement: a part appends to the conversation";
                    self.error(
                        "E107",
                        callee.span,
                        format!("`{name}` is a part and has no value"),
                        help,
                    );
                }
                return Ty::Null;
            }
            return callable
                .ret
                .as_ref()
                .map_or(Ty::Any, |ret| Ty::of(ret, &self.types));
        }
        if let Some(signature) = library::find(name) {
            return self.library_call(signature, callee, args, named);
        }
        args.iter().for_each(|arg| drop(self.infer(arg)));
        named.iter().for_each(|arg| drop(self.infer(&arg.value)));
        self.unknown_function(callee);
        Ty::Any
    }

    fn unknown_function(&mut self, callee: &'p Name) {
        let name = callee.text.as_str();
        if name == "invoke" || self.tools.contains(name) {
            return self.refuse("E902", callee.span, "calls of tools");
        }
        if self.lost.contains(name) {
            return;
        }
        let names = self
            .callables
            .keys()
            .copied()
            .chain(LIBRARY.iter().map(|signature| signature.name));
        let help = suggest::help(name, names);
        let help = help
            .unwrap_or_else(|| "functions are the library's and the file's own `fn`s".to_owned());
        self.error(
            "E105",
            callee.span,
            format!("there is no function `{name}`"),
            &help,
        );
    }

    fn arguments(
        &mut self,
        callable: &'p Callable,
        args: &'p [Expr],
        named: &'p [Opt],
        span: Span,
    ) {
        let name = &callable.name.text;
        let mut given = vec![false; callable.params.len()];
        for (idx, arg) in args.iter().enumerate() {
            let ty = self.infer(arg);
            if let Some(param) = callable.params.get(idx) {
                given[idx] = true;
                self.argument(param, name, &ty, arg.span);
            }
        }
        if args.len() > callable.params.len() {
            let message = format!(
                "`{name}` takes {}, given {}",
                count(callable.params.len()),
                args.len()
            );
            self.error(
                "E202",
                args[callable.params.len()].span,
                message,
                "leave the others out",
            );
        }
        for option in named {
            let ty = self.infer(&option.value);
            match callable
                .params
                .iter()
                .position(|param| param.name.text == option.name.text)
            {
                Some(idx) if given[idx] => {
                    let message = format!("`{}` is given twice", option.name.text);
                    self.error("E202", option.name.span, message, "keep one of them");
                }
                Some(idx) => {
                    given[idx] = true;
                    self.argument(&callable.params[idx], name, &ty, option.value.span);
                }
                None => {
                    let params = callable.params.iter().map(|param| param.name.text.as_str());
                    let help = suggest::help(&option.name.text, params).unwrap_or_default();
                    let message = format!("`{name}` has no parameter `{}`", option.name.text);
                    self.error("E202", option.name.span, message, &help);
                }
            }
        }
        let missing: Vec<String> = callable
            .params
            .iter()
            .zip(given)
            .filter(|(param, given)| !given && param.default.is_none())
            .map(|(param, _)| format!("`{}`", param.name.text))
            .collect();
        if !missing.is_empty() {
            self.error(
                "E202",
                span,
                format!("`{name}` is not given {}", missing.join(", ")),
                "",
            );
        }
    }

    fn argument(&mut self, param: &'p Param, callee: &str, given: &Ty, span: Span) {
        let wanted = Ty::of(&param.ty, &self.types);
        self.expect(
            given,
            &wanted,
            span,
            &format!("`{}` of `{callee}`", param.name.text),
        );
    }

    fn library_call(
        &mut self,
        signature: &'static Signature,
        callee: &'p Name,
        args: &'p [Expr],
        named: &'p [Opt],
    ) -> Ty {
        if let Some(option) = named.first() {
            let message = format!("`{}` takes its arguments by position", signature.name);
            self.error("E202", option.name.span, message, "");
        }
        let least = signature
            .params
            .iter()
            .filter(|(_, ty)| !ty.ends_with('?'))
            .count();
        if !(least..=signature.params.len()).contains(&args.len()) {
            let params: Vec<String> = signature
                .params
                .iter()
                .map(|(name, ty)| format!("{name}: {ty}"))
                .collect();
            let message = format!(
                "`{}` takes ({}), given {}",
                signature.name,
                params.join(", "),
                count(args.len())
            );
            self.error("E202", callee.span, message, signature.doc);
        }
        let mut first = Ty::Any;
        for (idx, arg) in args.iter().enumerate() {
            let ty = match signature.params.get(idx).map(|(_, wanted)| *wanted) {
                Some("type") => self.type_argument(arg),
                Some(wanted @ ("generation" | "selection")) => {
                    self.record_argument(signature.name, wanted, arg)
                }
                Some(wanted) => {
                    let given = self.infer(arg);
                    self.library_argument(signature, idx, wanted, &given, arg.span);
                    given
                }
                None => self.infer(arg),
            };
            if idx == 0 {
                first = ty;
            }
        }
        self.result(signature, &first)
    }

    fn library_argument(
        &mut self,
        signature: &Signature,
        idx: usize,
        wanted: &str,
        given: &Ty,
        span: Span,
    ) {
        let wanted = wanted.trim_end_matches('?');
        let allowed = wanted.split(" | ").fold(0, |all, kind| {
            all | match kind {
                "string" => kinds::STRING,
                "int" => kinds::INT,
                "number" => kinds::NUMBER,
                "bool" => kinds::BOOL,
                "list" => kinds::LIST,
                "map" => kinds::MAP,
                _ => kinds::ALL,
            }
        });
        if self.judge().kinds(given) & allowed == 0 {
            let param = signature.params[idx].0;
            let message = format!(
                "`{param}` of `{}` must be {wanted}, this is {given}",
                signature.name
            );
            self.error("E201", span, message, signature.doc);
        }
    }

    /// `format(T)`: the name of a type.
    fn type_argument(&mut self, arg: &'p Expr) -> Ty {
        let ExprKind::Name(name) = &arg.kind else {
            self.error(
                "E202",
                arg.span,
                "`format` takes the name of a type",
                "declare it: `type Answer { .. }`",
            );
            return Ty::Any;
        };
        self.mentioned.insert(name.clone());
        if let Some((ty, _)) = self.types.get(name) {
            // What is written out shows the types inside as well.
            let mut waiting = vec![name.as_str()];
            mentions(ty, &mut waiting);
            while let Some(shown) = waiting.pop() {
                if self.shown.insert(shown.to_owned())
                    && let Some((ty, _)) = self.types.get(shown)
                {
                    mentions(ty, &mut waiting);
                }
            }
        } else if !super::items::BUILTIN_TYPES.contains(&name.as_str()) {
            self.undefined_type(&Name {
                text: name.clone(),
                span: arg.span,
            });
        }
        Ty::Any
    }

    /// `scores(x)`, `mass(x)`, `logprob(x)`: the name that a generation bound.
    fn record_argument(&mut self, function: &str, wanted: &str, arg: &'p Expr) -> Ty {
        let kind = match &arg.kind {
            ExprKind::Name(name) => {
                let ty = self.infer(arg);
                let Some(id) = self.scopes.find(name) else {
                    if self.inputs.contains_key(name.as_str()) {
                        self.no_record(function, wanted, arg.span);
                    }
                    return ty;
                };
                self.scopes.bindings[id].kind
            }
            _ => {
                self.infer(arg);
                BindingKind::Let
            }
        };
        let fits = match wanted {
            "selection" => kind == BindingKind::Select,
            _ => matches!(kind, BindingKind::Gen | BindingKind::Select),
        };
        if !fits {
            self.no_record(function, wanted, arg.span);
        }
        Ty::Any
    }

    fn no_record(&mut self, function: &str, wanted: &str, span: Span) {
        let by = if wanted == "selection" {
            "`select`"
        } else {
            "`gen` or `select`"
        };
        let found = Diagnostic::new(
            "E214",
            span,
            format!("`{function}` takes a name that {by} bound"),
        );
        self.report(found.help("a copy in a variable does not know how it was generated"));
    }

    fn result(&mut self, signature: &Signature, first: &Ty) -> Ty {
        match signature.result {
            "string" => Ty::String,
            "int" => Ty::Int,
            "float" => Ty::Float,
            "string[]" => Ty::list(Ty::String),
            "int[]" => Ty::list(Ty::Int),
            "json[]" => Ty::list(Ty::Any),
            "scores" => Ty::Map(std::rc::Rc::new(Ty::Float)),
            "number" => Ty::Int.or(Ty::Float),
            "element" => match self.judge().resolve(first) {
                Ty::List(Some(element)) if signature.name == "sum" => widened(&element),
                Ty::List(Some(element)) => (*element).clone(),
                _ => Ty::Any,
            },
            _ => Ty::Any,
        }
    }
}

/// The sum of literals is no literal.
fn widened(ty: &Ty) -> Ty {
    match ty {
        Ty::Int | Ty::Literal(Literal::Number(Number::Int(_))) => Ty::Int,
        Ty::Float | Ty::Literal(Literal::Number(Number::Float(_))) => Ty::Int.or(Ty::Float),
        _ => Ty::Any,
    }
}

fn count(n: usize) -> String {
    match n {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        n => format!("{n} arguments"),
    }
}
