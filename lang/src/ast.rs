//! The syntax tree of a `.lmp` file, independent of the parser that makes it.
//!
//! Every node carries the [`Span`] of the source bytes it came from, so that a diagnostic, a trace event or an
//! editor can point at it. Items and statements are kept apart; their order relative to each other carries no
//! meaning (a definition may stand below its use), and spans give it back to whoever needs it.

/// A half-open range of byte offsets into the source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// An identifier where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// The identifier's text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// One parsed source file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct File {
    /// Definitions and declarations, in source order.
    pub items: Vec<Item>,
    /// The top-level statements, in source order.
    pub body: Block,
}

/// A sequence of statements.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// The statements, in source order.
    pub stmts: Vec<Stmt>,
    /// From the opening to the closing brace (the whole file for a top-level block).
    pub span: Span,
}

/// A definition or declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The text of the `///` lines above, one string a line, without the marker and one leading space.
    pub docs: Vec<String>,
    /// What is declared.
    pub kind: ItemKind,
    /// The whole item.
    pub span: Span,
}

/// The kinds of item.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemKind {
    /// `import { a, b } from "lib.lmp"` or `import "lib.lmp" as lib`.
    Import(Import),
    /// `model "name" with (..)`.
    Model {
        /// The model's name, path or `hf:` reference.
        name: String,
        /// Default options of every generation.
        options: Vec<Opt>,
    },
    /// `budget (tokens=8k, time=60s)`.
    Budget {
        /// The limits.
        options: Vec<Opt>,
    },
    /// `input name: type = default`.
    Input {
        /// The argument's name.
        name: Name,
        /// Its declared type.
        ty: Type,
        /// The value when no argument is given; without one the argument is required.
        default: Option<Expr>,
    },
    /// `type Name { .. }` or `type Name = ..`.
    Type {
        /// The type's name.
        name: Name,
        /// What it stands for.
        ty: Type,
    },
    /// `tool name(..) -> type = binding`.
    Tool(Tool),
    /// `fn name(..) -> type { .. }`: runs in a fresh context.
    Fn(Callable),
    /// `part name(..) { .. }`: appends to the caller's context.
    Part(Callable),
    /// `test "name" with (..) { .. }`.
    Test {
        /// The test's name.
        name: String,
        /// Its options.
        options: Vec<Opt>,
        /// Its body.
        body: Block,
    },
}

/// An import's two forms.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// The names taken, or none for the `as` form.
    pub names: Vec<Name>,
    /// The file named.
    pub from: String,
    /// The name given to the whole file.
    pub alias: Option<Name>,
}

/// A `fn` or a `part`.
#[derive(Debug, Clone, PartialEq)]
pub struct Callable {
    /// The name called.
    pub name: Name,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// The declared result, of a `fn` alone.
    pub ret: Option<Type>,
    /// The body.
    pub body: Block,
}

/// A tool's declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The name called.
    pub name: Name,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// The declared result.
    pub ret: Option<Type>,
    /// What carries it out.
    pub binding: Binding,
}

/// What carries a tool out.
#[derive(Debug, Clone, PartialEq)]
pub enum Binding {
    /// `run ["program", "arg"]`.
    Run(Expr),
    /// `http get "url" with (..)`.
    Http {
        /// The method, as written.
        method: Name,
        /// The address.
        url: Template,
        /// Options.
        options: Vec<Opt>,
    },
    /// `mcp "server"`.
    Mcp(String),
    /// `host`: the embedding program answers.
    Host,
    /// A body in the language itself.
    Block(Block),
}

/// A parameter of a fn, part or tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: Type,
    /// The value when the argument is left out.
    pub default: Option<Expr>,
}

/// `name=value` in parentheses.
#[derive(Debug, Clone, PartialEq)]
pub struct Opt {
    /// The option's name.
    pub name: Name,
    /// Its value.
    pub value: Expr,
}

/// A type where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Type {
    /// What it is.
    pub kind: TypeKind,
    /// Where it stands.
    pub span: Span,
}

/// The forms of type.
#[derive(Debug, Clone, PartialEq)]
pub enum TypeKind {
    /// `string`, `int`, `float`, `bool`, `json` or a `type` of the program, with optional bounds.
    Named(Name, Option<Bounds>),
    /// `/regex/`: a string that matches as a whole. The text between the slashes, `\/` already `/`.
    Regex(String),
    /// A string, number, boolean or null literal: exactly that value. `null` always comes in this form.
    Literal(Literal),
    /// `{ name: type .. }`.
    Record(Vec<Field>),
    /// `A | B`, two members or more.
    Union(Vec<Type>),
    /// `T[]` with optional bounds on its length.
    List(Box<Type>, Option<Bounds>),
    /// `T?`: the value or null.
    Optional(Box<Type>),
    /// `call(tool, ..)`: a call of one of these tools.
    Call(Vec<Name>),
    /// `schema "{..}"`: a JSON Schema in the source.
    Schema(String),
    /// `grammar "..."`: a grammar in the source.
    Grammar(String),
}

/// `(low..high)`, both inclusive, either absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The smallest allowed.
    pub low: Option<Number>,
    /// The largest allowed.
    pub high: Option<Number>,
    /// Where they stand.
    pub span: Span,
}

/// A record's field.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The `///` lines above it.
    pub docs: Vec<String>,
    /// Its name.
    pub name: Name,
    /// Whether it may be left out (`name?: type`).
    pub optional: bool,
    /// Its type.
    pub ty: Type,
}

/// A number as written: whole numbers stay whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A number with a point or an exponent.
    Float(f64),
}

/// A literal value.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number; a `k` or `m` suffix is already multiplied in (1,000 and 1,000,000).
    Number(Number),
    /// `10s`, `250ms`, `2min`: in milliseconds.
    Duration(u64),
    /// A string without holes.
    String(String),
}

/// Text with holes: what `"..${e}.."` and `"""` blocks become once escapes and indentation are resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Literal text and holes in order; no two literals are neighbours, none is empty.
    pub parts: Vec<TemplatePart>,
    /// The whole string, quotes included.
    pub span: Span,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplatePart {
    /// Text, byte for byte as it will be sent.
    Text(String, Span),
    /// `${expr}`.
    Hole(Box<Expr>),
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Stmt {
    /// What it is.
    pub kind: StmtKind,
    /// The whole statement.
    pub span: Span,
}

/// The four roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Observe,
}

/// The kinds of statement.
#[derive(Debug, Clone, PartialEq)]
pub enum StmtKind {
    /// `let name: type = value` and `var name = value`.
    Let {
        /// Whether it may be assigned again (`var`).
        mutable: bool,
        /// The name bound.
        name: Name,
        /// The declared type.
        ty: Option<Type>,
        /// The value.
        value: Expr,
    },
    /// `role { .. }` or `role expr`; the short form is a block of one emitting expression statement.
    Role {
        /// Whose turn.
        role: Role,
        /// What it holds.
        body: Block,
    },
    /// `if c { .. } else { .. }`; `else if` is a block of one `if`.
    If {
        /// The condition.
        condition: Expr,
        /// When it holds.
        then: Block,
        /// When it does not.
        otherwise: Option<Block>,
    },
    /// `for x in xs { .. }`.
    For {
        /// The name bound each time.
        name: Name,
        /// The list.
        list: Expr,
        /// The body.
        body: Block,
    },
    /// `loop max n { .. }`.
    Loop {
        /// The most turns it takes.
        max: Expr,
        /// The body.
        body: Block,
    },
    /// `match e { pat => .. }`.
    Match {
        /// What is matched.
        subject: Expr,
        /// The arms, tried in order.
        arms: Vec<Arm>,
    },
    /// `attempt n { .. } retry e { .. } else { .. }`.
    Attempt {
        /// How many tries.
        tries: i64,
        /// What is tried.
        body: Block,
        /// What follows a failure, and the name the error is bound to.
        retry: Option<(Name, Block)>,
        /// When every try failed.
        otherwise: Option<Block>,
    },
    /// `return e`.
    Return(Option<Expr>),
    /// `yield e`: a fork branch's value.
    Yield(Expr),
    /// `assert c, "message"`.
    Assert(Expr, Option<Template>),
    /// `fail e`.
    Fail(Expr),
    /// `pin "name"`.
    Pin(Option<String>),
    /// `break`.
    Break,
    /// `continue`.
    Continue,
    /// `name = e`, `name += e`.
    Assign {
        /// The variable.
        name: Name,
        /// Whether the value is added to the old one.
        add: bool,
        /// The value.
        value: Expr,
    },
    /// An expression in statement position: strings, `gen`, `select` and part calls append; others only run.
    Expr(Expr),
}

/// One arm of a `match`.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// What it takes.
    pub pattern: Pattern,
    /// What it does (a single statement is a block of one).
    pub body: Block,
}

/// What an arm takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// The form.
    pub kind: PatternKind,
    /// Where it stands.
    pub span: Span,
}

/// The forms of pattern.
#[derive(Debug, Clone, PartialEq)]
pub enum PatternKind {
    /// Exactly this value.
    Literal(Literal),
    /// A member type of the subject's union (`call` too), optionally bound: `Final f`.
    Type(Name, Option<Name>),
    /// `else` or `_`: anything.
    Else,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// The whole expression.
    pub span: Span,
}

/// The kinds of expression.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A literal that is no string.
    Literal(Literal),
    /// A string, with or without holes.
    Template(Template),
    /// `/regex/`, as the right side of `matches`.
    Regex(String),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `{ a: 1, "b c": 2 }`
    Map(Vec<(Name, Expr)>),
    /// A name: a variable, an input, a generation, or (in an argument) a type.
    Name(String),
    /// `f(a, b, name=c)`: a library function, a fn or a part.
    Call {
        /// The name called.
        callee: Name,
        /// Arguments by position.
        args: Vec<Expr>,
        /// Arguments by name.
        named: Vec<Opt>,
    },
    /// `x.name`
    Member(Box<Expr>, Name),
    /// `x[i]`
    Index(Box<Expr>, Box<Expr>),
    /// `-x`, `!x`
    Unary(UnaryOp, Box<Expr>),
    /// `a + b`
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `[e for x in xs if c]`
    Comprehension {
        /// The element.
        element: Box<Expr>,
        /// The name bound.
        name: Name,
        /// The list.
        list: Box<Expr>,
        /// Which are kept.
        condition: Option<Box<Expr>>,
    },
    /// `gen(name: type, option=value)`
    Gen(Gen),
    /// `select(name: options, option=value)`
    Select(Select),
    /// `fork x in xs with (..) { .. }` or `fork n { .. }`
    Fork(Fork),
    /// `best n by score with (..) { .. }`
    Best(Best),
}

/// A generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Gen {
    /// The name it binds; an anonymous one is only its value.
    pub name: Option<Name>,
    /// The type that constrains it; text without one.
    pub ty: Option<Type>,
    /// Its options.
    pub options: Vec<Opt>,
}

/// A choice among options.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// The name it binds.
    pub name: Option<Name>,
    /// The options: a list of strings.
    pub choices: Box<Expr>,
    /// Its options.
    pub options: Vec<Opt>,
}

/// Branches over the context so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Fork {
    /// The name bound in each branch, when the fork runs over a list.
    pub name: Option<Name>,
    /// The list, or the number of branches.
    pub over: Box<Expr>,
    /// Its options.
    pub options: Vec<Opt>,
    /// What each branch does.
    pub body: Block,
}

/// Best of n: the winner's context goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// How many are tried.
    pub n: Box<Expr>,
    /// The score, evaluated in each branch; the largest wins.
    pub by: Box<Expr>,
    /// Its options.
    pub options: Vec<Opt>,
    /// What each branch does.
    pub body: Block,
}

/// Prefix operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Negate,
    /// `!`
    Not,
}

/// Infix operators, weakest first: `??`, `||`, `&&`, comparisons, `+ -`, `* / %`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `??`: the right side where the left is null.
    Coalesce,
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `matches`: whole-string regex match.
    Matches,
    /// `in`: membership of a list, a key of a map, a substring.
    In,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}
