//! The formats of JSON Schema as regular languages.
//!
//! A format that is none of these says nothing of the value, as the standard has it. Where a format
//! is not regular, or is larger than anyone writes, the language here is a part of it: what is
//! generated is always of the format.
//!
//! Source: JSON Schema draft 2020-12, Validation, section 7.3; RFC 3339, 5321, 1123, 4291, 3986,
//! 6570, 6901 and 4122; ISO 8601 as RFC 3339's appendix A has it.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;

const YEAR_MONTH_DAY: &str = r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";
const TIME: &str = r"(?:(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[zZ]|[+-](?:[01]\d|2[0-3]):[0-5]\d)|23:59:60(?:\.\d{1,9})?(?:[zZ]|[+-]00:00))";
const LABEL: &str = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
/// A character of an address's local part.
const ATEXT: &str = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]";
const BYTE: &str = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)";
/// Characters of a URI's path segment.
const PCHAR: &str = r"(?:[a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})";
/// The same of an IRI.
const IPCHAR: &str = r"(?:[a-zA-Z0-9._~!$&'()*+,;=:@\u{A0}-\u{D7FF}\u{F900}-\u{FDCF}\u{FDF0}-\u{FFEF}-]|%[0-9a-fA-F]{2})";

/// The strings of a format; `None` if it is not known.
pub(crate) fn hir(name: &str) -> Option<Hir> {
    let pattern = match name {
        "date" => YEAR_MONTH_DAY.to_owned(),
        "time" => TIME.to_owned(),
        "date-time" => format!("{YEAR_MONTH_DAY}[tT]{TIME}"),
        "duration" => duration(),
        "email" | "idn-email" => format!(r"{}@{LABEL}(?:\.{LABEL})*", local_part()),
        "hostname" | "idn-hostname" => format!(r"{LABEL}(?:\.{LABEL}){{0,3}}"),
        "ipv4" => format!(r"{BYTE}(?:\.{BYTE}){{3}}"),
        "ipv6" => ipv6(),
        "uri" => uri(PCHAR),
        "iri" => uri(IPCHAR),
        "uri-reference" => format!("(?:{}|{})", uri(PCHAR), relative(PCHAR)),
        "iri-reference" => format!("(?:{}|{})", uri(IPCHAR), relative(IPCHAR)),
        "uri-template" => uri_template(),
        "uuid" => "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}".to_owned(),
        "json-pointer" => r"(?:/(?:[^/~]|~[01])*)*".to_owned(),
        "relative-json-pointer" => r"(?:0|[1-9]\d*)(?:#|(?:/(?:[^/~]|~[01])*)*)".to_owned(),
        _ => return None,
    };
    let parsed = ParserBuilder::new()
        .build()
        .parse(&format!("(?:{})", pattern.replace(r"\d", "[0-9]")));
    Some(parsed.expect("the constant patterns are well-formed"))
}

/// The local part of an address, of at most 64 characters: with dots it is counted by twos.
fn local_part() -> String {
    format!(r"(?:{ATEXT}{{1,64}}|{ATEXT}(?:\.?{ATEXT}){{0,31}})")
}

fn duration() -> String {
    let time = r"T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S)";
    let date = r"(?:\d+Y(?:\d+M(?:\d+D)?)?|\d+M(?:\d+D)?|\d+D)";
    format!(r"P(?:{date}(?:{time})?|{time}|\d+W)")
}

fn ipv6() -> String {
    let h = "[0-9a-fA-F]{1,4}";
    let last = format!(r"(?:{h}:{h}|{BYTE}(?:\.{BYTE}){{3}})");
    let mut forms = vec![
        format!("(?:{h}:){{6}}{last}"),
        format!("::(?:{h}:){{5}}{last}"),
        format!("(?:{h})?::(?:{h}:){{4}}{last}"),
    ];
    for (before, after) in [(1, 3), (2, 2), (3, 1), (4, 0)] {
        forms.push(format!(
            "(?:(?:{h}:){{0,{before}}}{h})?::(?:{h}:){{{after}}}{last}"
        ));
    }
    forms.push(format!("(?:(?:{h}:){{0,5}}{h})?::{h}"));
    forms.push(format!("(?:(?:{h}:){{0,6}}{h})?::"));
    format!("(?:{})", forms.join("|"))
}

fn authority(pchar: &str) -> String {
    let name = pchar.replace(":@", "");
    let user = pchar.replace(":@", ":");
    format!(r"(?:{user}*@)?(?:\[{}\]|{name}*)(?::\d*)?", ipv6())
}

fn tail(pchar: &str) -> String {
    format!(r"(?:\?(?:{pchar}|[/?])*)?(?:#(?:{pchar}|[/?])*)?")
}

fn uri(pchar: &str) -> String {
    let path = format!("(?:/{pchar}*)*");
    format!(
        "[a-zA-Z][a-zA-Z0-9+.-]*:(?://{}{path}|/?{pchar}+{path}|/?){}",
        authority(pchar),
        tail(pchar)
    )
}

fn relative(pchar: &str) -> String {
    let path = format!("(?:/{pchar}*)*");
    let first = pchar.replace(":@", "@");
    format!(
        "(?://{}{path}|/(?:{pchar}+{path})?|{first}+{path})?{}",
        authority(pchar),
        tail(pchar)
    )
}

fn uri_template() -> String {
    let literal = r#"(?:[^\x00-\x20"'<>%\\^`{|}\x7F]|%[0-9a-fA-F]{2})"#;
    let name = r"(?:[a-zA-Z0-9_]|%[0-9a-fA-F]{2})+(?:\.(?:[a-zA-Z0-9_]|%[0-9a-fA-F]{2})+)*";
    let spec = format!(r"{name}(?::[1-9]\d{{0,3}}|\*)?");
    format!(r"(?:{literal}|\{{[+#./;?&=,!@|]?{spec}(?:,{spec})*\}})*")
}
