//! The types the checker reasons with.
//!
//! Inference is modest on purpose: it only has to find what is certainly wrong. `Any` fits everything; a type that
//! would grow past a bound becomes `Any`, so that no program makes the checker slow.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::ast::{Literal, Number, Type, TypeKind};
use crate::program::Types;

/// The most nodes of one inferred type.
const MAX_SIZE: usize = 64;

/// The most comparisons of one question about types.
const MAX_STEPS: u32 = 1_000;

/// Sets of the kinds a value can have, one bit each.
pub(super) mod kinds {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const BOOL: u8 = 2;
    pub(crate) const INT: u8 = 4;
    pub(crate) const FLOAT: u8 = 8;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const LIST: u8 = 32;
    pub(crate) const MAP: u8 = 64;
    pub(crate) const NUMBER: u8 = INT | FLOAT;
    pub(crate) const ALL: u8 = 127;
}

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ty {
    /// Nothing is known.
    Any,
    Null,
    Bool,
    Int,
    Float,
    String,
    Literal(Literal),
    /// A list and its elements' type; none for the empty list.
    List(Option<Rc<Ty>>),
    /// A map with values of one type under any keys.
    Map(Rc<Ty>),
    Record(Rc<Vec<FieldTy>>),
    Union(Rc<Vec<Ty>>),
    /// A declared type, looked up when it is needed: it may contain itself.
    Named(Rc<str>),
}

/// A record's field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FieldTy {
    pub(super) name: String,
    pub(super) optional: bool,
    pub(super) ty: Ty,
}

impl Ty {
    /// A declared type.
    pub(super) fn of(ty: &Type, types: &Types<'_>) -> Ty {
        match &ty.kind {
            TypeKind::Named(name, _) => match name.text.as_str() {
                "string" => Ty::String,
                "int" => Ty::Int,
                "float" => Ty::Float,
                "bool" => Ty::Bool,
                "null" => Ty::Null,
                other if types.get(other).is_some() => Ty::Named(other.into()),
                _ => Ty::Any,
            },
            TypeKind::Regex(_) => Ty::String,
            TypeKind::Literal(literal) => Ty::Literal(literal.clone()),
            TypeKind::Record(fields) => Ty::Record(Rc::new(
                fields
                    .iter()
                    .map(|field| FieldTy {
                        name: field.name.text.clone(),
                        optional: field.optional,
                        ty: Ty::of(&field.ty, types),
                    })
                    .collect(),
            )),
            TypeKind::Union(members) => Ty::Union(Rc::new(
                members.iter().map(|member| Ty::of(member, types)).collect(),
            )),
            TypeKind::List(element, _) => Ty::List(Some(Rc::new(Ty::of(element, types)))),
            TypeKind::Optional(inner) => Ty::Union(Rc::new(vec![Ty::of(inner, types), Ty::Null])),
            TypeKind::Call(_) | TypeKind::Schema(_) | TypeKind::Grammar(_) => Ty::Any,
        }
    }

    pub(super) fn list(element: Ty) -> Ty {
        Ty::List(Some(Rc::new(element))).bounded()
    }

    /// Nodes, counted no further than past the bound.
    fn size(&self, most: usize) -> usize {
        if most == 0 {
            return 1;
        }
        let inner: Box<dyn Iterator<Item = &Ty>> = match self {
            Ty::List(Some(inner)) | Ty::Map(inner) => Box::new(std::iter::once(inner.as_ref())),
            Ty::Record(fields) => Box::new(fields.iter().map(|field| &field.ty)),
            Ty::Union(members) => Box::new(members.iter()),
            _ => return 1,
        };
        let mut size = 1;
        for ty in inner {
            if size > most {
                break;
            }
            size += ty.size(most - size.min(most));
        }
        size
    }

    /// The type, or `Any` where it is too large to reason with.
    pub(super) fn bounded(self) -> Ty {
        if self.size(MAX_SIZE) > MAX_SIZE {
            Ty::Any
        } else {
            self
        }
    }

    /// A value of one type or the other.
    pub(super) fn or(self, other: Ty) -> Ty {
        if self == other {
            return self;
        }
        let mut members: Vec<Ty> = Vec::new();
        for ty in [self, other] {
            match ty {
                Ty::Any => return Ty::Any,
                Ty::Union(inner) => members.extend(inner.iter().cloned()),
                ty => members.push(ty),
            }
        }
        let mut distinct: Vec<Ty> = Vec::new();
        for member in members {
            if !distinct.contains(&member) {
                distinct.push(member);
            }
        }
        Ty::Union(Rc::new(distinct)).bounded()
    }
}

/// Answers questions about types, within a bound of work each.
pub(super) struct Judge<'t, 'p> {
    types: &'t Types<'p>,
    steps: Cell<u32>,
}

impl<'t, 'p> Judge<'t, 'p> {
    pub(super) fn new(types: &'t Types<'p>) -> Judge<'t, 'p> {
        Judge {
            types,
            steps: Cell::new(MAX_STEPS),
        }
    }

    /// Whether the work is used up; the answer is then the one that accuses nobody.
    fn tired(&self) -> bool {
        self.steps.set(self.steps.get().saturating_sub(1));
        self.steps.get() == 0
    }

    /// What a declared name stands for.
    pub(super) fn resolve(&self, ty: &Ty) -> Ty {
        let mut ty = ty.clone();
        for _ in 0..64 {
            let Ty::Named(name) = &ty else { return ty };
            match self.types.get(name) {
                Some((definition, _)) => ty = Ty::of(definition, self.types),
                None => return Ty::Any,
            }
        }
        Ty::Any
    }

    /// The kinds a value of the type can have.
    pub(super) fn kinds(&self, ty: &Ty) -> u8 {
        if self.tired() {
            return kinds::ALL;
        }
        match ty {
            Ty::Any => kinds::ALL,
            Ty::Null | Ty::Literal(Literal::Null) => kinds::NULL,
            Ty::Bool | Ty::Literal(Literal::Bool(_)) => kinds::BOOL,
            Ty::Int | Ty::Literal(Literal::Number(Number::Int(_)) | Literal::Duration(_)) => {
                kinds::INT
            }
            Ty::Float | Ty::Literal(Literal::Number(Number::Float(_))) => kinds::FLOAT,
            Ty::String | Ty::Literal(Literal::String(_)) => kinds::STRING,
            Ty::List(_) => kinds::LIST,
            Ty::Map(_) | Ty::Record(_) => kinds::MAP,
            Ty::Union(members) => members
                .iter()
                .fold(0, |all, member| all | self.kinds(member)),
            Ty::Named(_) => self.kinds(&self.resolve(ty)),
        }
    }

    /// Whether a value of the first type may be one of the second.
    pub(super) fn fits(&self, given: &Ty, wanted: &Ty) -> bool {
        if self.tired() {
            return true;
        }
        match (given, wanted) {
            (Ty::Any, _) | (_, Ty::Any) => true,
            (Ty::Named(a), Ty::Named(b)) if a == b => true,
            (Ty::Named(_), _) => self.fits(&self.resolve(given), wanted),
            (_, Ty::Named(_)) => self.fits(given, &self.resolve(wanted)),
            (Ty::Union(members), _) => members.iter().any(|member| self.fits(member, wanted)),
            (_, Ty::Union(members)) => members.iter().any(|member| self.fits(given, member)),
            (Ty::Literal(a), Ty::Literal(b)) => same(a, b),
            (Ty::Literal(literal), Ty::Int) => match literal {
                Literal::Number(Number::Float(value)) => value.fract() == 0.0,
                _ => self.kinds(given) & kinds::INT != 0,
            },
            (Ty::List(None), Ty::List(_)) | (Ty::List(_), Ty::List(None)) => true,
            (Ty::List(Some(a)), Ty::List(Some(b))) | (Ty::Map(a), Ty::Map(b)) => self.fits(a, b),
            (Ty::Record(given), Ty::Record(wanted)) => self.misfit(given, wanted).is_none(),
            (Ty::Record(given), Ty::Map(wanted)) => {
                given.iter().all(|field| self.fits(&field.ty, wanted))
            }
            (Ty::Map(_), Ty::Record(_)) => true,
            _ => {
                let (given, wanted) = (self.kinds(given), self.kinds(wanted));
                let wanted = if wanted & kinds::FLOAT != 0 {
                    wanted | kinds::INT
                } else {
                    wanted
                };
                given & wanted != 0
            }
        }
    }

    /// Why a record cannot be another: the first field that is missing, unknown or of another type.
    pub(super) fn misfit(&self, given: &[FieldTy], wanted: &[FieldTy]) -> Option<String> {
        for want in wanted {
            match given.iter().find(|field| field.name == want.name) {
                Some(field) if !self.fits(&field.ty, &want.ty) => {
                    return Some(format!("`{}` is {}, not {}", want.name, field.ty, want.ty));
                }
                None if !want.optional => return Some(format!("`{}` is missing", want.name)),
                _ => {}
            }
        }
        let unknown = given
            .iter()
            .find(|field| !wanted.iter().any(|want| want.name == field.name));
        unknown.map(|field| format!("`{}` is no field of it", field.name))
    }

    /// The members of a type that is a union, or the type alone; names resolved, nested unions flattened.
    pub(super) fn members(&self, ty: &Ty) -> Vec<Ty> {
        let mut out = Vec::new();
        self.gather(ty, &mut out);
        out
    }

    fn gather(&self, ty: &Ty, out: &mut Vec<Ty>) {
        match ty {
            Ty::Union(members) => members.iter().for_each(|member| self.gather(member, out)),
            Ty::Named(_) if self.tired() => out.push(Ty::Any),
            Ty::Named(_) => match self.resolve(ty) {
                union @ Ty::Union(_) => self.gather(&union, out),
                // A record keeps its name: that is what an arm names.
                _ => out.push(ty.clone()),
            },
            Ty::Bool => out.extend([true, false].map(|value| Ty::Literal(Literal::Bool(value)))),
            _ => out.push(ty.clone()),
        }
    }
}

/// Whether two literals are the same value; numbers by value.
pub(super) fn same(a: &Literal, b: &Literal) -> bool {
    let number = |literal: &Literal| match literal {
        Literal::Number(Number::Int(value)) => Some(*value as f64),
        Literal::Number(Number::Float(value)) => Some(*value),
        Literal::Duration(value) => Some(*value as f64),
        _ => None,
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ty::Any => out.write_str("json"),
            Ty::Null => out.write_str("null"),
            Ty::Bool => out.write_str("bool"),
            Ty::Int => out.write_str("int"),
            Ty::Float => out.write_str("float"),
            Ty::String => out.write_str("string"),
            Ty::Literal(literal) => {
                write!(out, "{}", crate::program::schema::literal_value(literal))
            }
            Ty::List(None) => out.write_str("[]"),
            Ty::List(Some(inner)) if matches!(**inner, Ty::Union(_)) => write!(out, "({inner})[]"),
            Ty::List(Some(inner)) => write!(out, "{inner}[]"),
            Ty::Map(_) => out.write_str("a map"),
            Ty::Record(fields) => {
                let names: Vec<&str> = fields
                    .iter()
                    .map(|field| field.name.as_str())
                    .take(6)
                    .collect();
                let more = if fields.len() > 6 { ", .." } else { "" };
                write!(out, "{{ {}{more} }}", names.join(", "))
            }
            Ty::Union(members) => {
                for (idx, member) in members.iter().take(6).enumerate() {
                    write!(out, "{}{member}", if idx == 0 { "" } else { " | " })?;
                }
                out.write_str(if members.len() > 6 { " | .." } else { "" })
            }
            Ty::Named(name) => out.write_str(name),
        }
    }
}
