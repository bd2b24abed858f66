//! The table of codes: what each finding means, at length. Codes are stable: none is given a second meaning.

/// A code and its explanation.
pub(super) const CODES: &[(&str, &str)] = &[
    (
        "E001",
        "The text does not follow the grammar at this place. The message says what could have stood here. Statements need no separator: each begins with a keyword, a name or a string.",
    ),
    (
        "E002",
        "A string is never closed. A one-line string `\"..\"` ends on its line; text of several lines stands between `\"\"\"` and `\"\"\"`; a raw string r#\"..\"# ends with its quote and as many `#` as opened it.",
    ),
    (
        "E003",
        "A bracket is never closed, closes nothing, or closes another than the last one opened.",
    ),
    (
        "E004",
        "Brackets, holes and strings nest at most 128 deep, and the chains of operators, members or branches around one place have at most 256 links: what is deeper belongs into a `let`, a `fn` or a `part`.",
    ),
    (
        "E005",
        "A file has at most 1 MiB. Long texts are inputs: `--arg name=@file`.",
    ),
    (
        "E006",
        "Escapes exist in one-line strings only: \\n \\r \\t \\\\ \\\" \\$ \\u{1F600}. Blocks and raw strings have none.",
    ),
    (
        "E007",
        "Numbers are written 12, 1.5, 2e3, with k (thousand) or m (million) behind, and times 250ms, 10s, 2min. Whole numbers have 64 bits.",
    ),
    (
        "E008",
        "A block `\"\"\"` begins its text on the next line and closes alone on a line. The closer's indentation is removed from every line, so no line may be indented less.",
    ),
    (
        "E009",
        "`:` is always followed by a type, `=` always by a value: `gen(year: /\\d{4}/, max_tokens=8)`.",
    ),
    (
        "E010",
        "Definitions (`fn`, `part`, `type`, `input`, `model`, `budget`, ..) stand at the top level of a file, never inside a block.",
    ),
    (
        "E013",
        "A keyword cannot name a variable, function or type. It may name a field, a key, an option or a member.",
    ),
    (
        "E014",
        "Text stands in double quotes: `user \"Hello\"`. Without them words are names of values.",
    ),
    (
        "E016",
        "This string is read before the program runs and can hold no `${..}`.",
    ),
    (
        "E101",
        "Nothing of this name is in sight. Names come from `let`, `var`, `input`, `gen` and `select`; a `fn` or `part` sees its parameters, the inputs and its own names only, and a branch's names end with it.",
    ),
    (
        "E103",
        "Two definitions of one name in sight of each other. Give one of them another name.",
    ),
    (
        "E104",
        "No type of this name exists: string, int, float, bool, null, json, or one the file declares.",
    ),
    (
        "E105",
        "No function of this name exists: the library's, or a `fn` or `part` of the file. There are no methods.",
    ),
    ("E106", "The record or map has no member of this name."),
    (
        "E107",
        "The name exists and is something else than what is needed here: a type or a function is no value, a part has none.",
    ),
    (
        "E109",
        "Every value of this type would contain another value of it, so none could ever end.",
    ),
    (
        "E110",
        "A generation would overwrite another of the same name on the same path. Outside loops each has a name of its own.",
    ),
    (
        "E111",
        "On some path to this place the generation has not happened. Generate it on every path, or use it only where it is.",
    ),
    (
        "E201",
        "A value certainly is not of the type that is needed here.",
    ),
    (
        "E202",
        "The arguments do not fit the function: too many, too few, or of unknown names.",
    ),
    (
        "E203",
        "The bounds admit nothing: the lower is above the upper. Both are inclusive.",
    ),
    (
        "E204",
        "This type takes no bounds, or not these: lengths have whole bounds from 0, an int has whole ones.",
    ),
    (
        "E205",
        "The regex cannot be turned into an automaton that holds a generation to it. Look-around, back references and the like cannot; the message says what.",
    ),
    (
        "E206",
        "The JSON Schema is no JSON, or has a keyword that cannot be held to. The pointer says which.",
    ),
    (
        "E207",
        "Written out with all its names, the type is too large to be held to.",
    ),
    (
        "E208",
        "The operator does not apply to values of these types.",
    ),
    (
        "E209",
        "A value of another kind is needed here: a bool as a condition, a list after `in`, a number as a score. Nothing is converted silently.",
    ),
    (
        "E210",
        "A `match` has to cover every value its subject can have. Add the missing arm, or `else`.",
    ),
    (
        "E212",
        "The options of a choice or the literals of a union are given twice, are empty, or there are none.",
    ),
    (
        "E213",
        "The options of a `select` are texts, numbers or bools.",
    ),
    (
        "E214",
        "`scores`, `mass` and `logprob` tell about a generation, and take the name that `gen` or `select` bound.",
    ),
    (
        "E215",
        "A function with a declared result ends every path with `return` or `fail`.",
    ),
    (
        "E301",
        "Text, `gen` and `select` append inside a role: `user \"..\"`, `assistant gen(..)`. Only plain completion, `model \"..\" with (template=\"none\")`, appends anywhere.",
    ),
    (
        "E302",
        "The model speaks under `assistant`. Under `system`, `user` and `observe` nothing can be generated.",
    ),
    ("E303", "Roles do not nest, and plain completion has none."),
    (
        "E304",
        "The statement computes a value and drops it. In a role only strings, `gen`, `select` and part calls append: write \"${value}\".",
    ),
    (
        "E305",
        "Branches run at the same time, so what stands outside them is read-only in them. `yield` the value instead.",
    ),
    ("E306", "Only a `var` can be assigned."),
    (
        "E307",
        "`break` and `continue` belong in a `for` or `loop`. A branch cannot leave a loop around it.",
    ),
    (
        "E308",
        "`yield` gives the value of a branch of `fork` or `best`. Elsewhere there is none to give.",
    ),
    (
        "E309",
        "`return` leaves a function or the program. A branch ends with `yield`, and a part has no value.",
    ),
    (
        "E310",
        "`pin` marks what every run begins with: it stands at the top level, and nothing before it depends on an input.",
    ),
    (
        "E311",
        "`gen` and `select` append where they stand and bind a name; they are no values inside other expressions.",
    ),
    ("E401", "No option of this name exists here."),
    (
        "E402",
        "The option does not take this value; the message says what it takes.",
    ),
    ("E403", "An option is given twice."),
    ("E404", "Two options contradict each other."),
    (
        "E405",
        "The budget cannot suffice for what the program asks at least.",
    ),
    (
        "E901",
        "`tool` definitions are part of the language and not carried out by this version.",
    ),
    (
        "E902",
        "`call(..)` types, `call` patterns and `invoke` are part of the language and not carried out by this version.",
    ),
    (
        "E903",
        "`import` is part of the language and not carried out by this version.",
    ),
    (
        "E904",
        "`test` items are part of the language and not carried out by this version.",
    ),
    (
        "E905",
        "`grammar` types are part of the language and not carried out by this version. Use a regex or a record.",
    ),
    (
        "E906",
        "The option is part of the language and not carried out by this version.",
    ),
    (
        "W201",
        "Nothing reads this name. A leading `_` says that this is meant.",
    ),
    ("W202", "Every path ends before this statement."),
    (
        "W203",
        "Spaces at the end of a line of a block are sent to the model and cannot be seen.",
    ),
    (
        "W204",
        "Tokens mostly begin with their space. After text that ends with a space, and with healing off, the model continues from an unusual place.",
    ),
    (
        "W205",
        "The two sides are of types that have no value in common.",
    ),
    (
        "W206",
        "A string without an upper bound in a typed generation can run until the budget ends.",
    ),
    (
        "W207",
        "Fields are generated in the order of their declaration. An answer that comes first cannot follow from reasoning that comes after.",
    ),
    (
        "W208",
        "`///` documents an item or a field, and becomes the description in its schema. Use `//` elsewhere.",
    ),
    (
        "W209",
        "The generation is held to the type, but nothing tells the model what it looks like. Types put no text into the prompt; `${format(T)}` does.",
    ),
    (
        "W210",
        "One option is the beginning of another. Where the turn does not end after the choice, the shorter one is part of the longer one and favoured.",
    ),
    (
        "W211",
        "A character that changes the direction of text makes the source read otherwise than it runs.",
    ),
    ("W212", "The arm is never taken."),
    (
        "L201",
        "A prefix is shared up to its first change. A value at its start keeps all text after it from being shared between runs: put values last.",
    ),
    (
        "L202",
        "Each branch computes what it appends. Text that all of them begin with is computed once where it stands before the `fork`.",
    ),
    (
        "L203",
        "A value that changes with each turn of a loop stands before text that does not. Put it behind.",
    ),
    (
        "L204",
        "A value glued to a word changes how the word is cut into tokens.",
    ),
    (
        "L205",
        "`{{name}}` is text like any other here. Values are inserted by `${name}`.",
    ),
];
