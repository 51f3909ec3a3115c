//! What texts may hold: names, hosts, paths, headers, lengths.
//!
//! Each rule takes the field it reads, notes a violation there, and answers the
//! text only when it holds.

use std::net::{IpAddr, Ipv6Addr};

use super::super::model::Host;
use super::super::violation::{Rule, Violation, quoted};
use super::context::{ReadContext, ViolationLog};
use super::section::FieldReader;

/// Longest request target we send. The vendor names no limit; servers commonly
/// stop at 8 KiB for the whole request head.
const LONGEST_PATH: usize = 2048;

/// Longest value of a request header: room for a signed token.
const LONGEST_HEADER: usize = 4096;

pub(super) const HEADER_REMEDY: &str = "use visible ASCII characters, spaces and tabs, on one line";

/// Unicode's script Han (Scripts.txt of version 17), first and last of each range.
const HAN: [(char, char); 21] = [
    ('\u{2E80}', '\u{2E99}'),
    ('\u{2E9B}', '\u{2EF3}'),
    ('\u{2F00}', '\u{2FD5}'),
    ('\u{3005}', '\u{3005}'),
    ('\u{3007}', '\u{3007}'),
    ('\u{3021}', '\u{3029}'),
    ('\u{3038}', '\u{303B}'),
    ('\u{3400}', '\u{4DBF}'),
    ('\u{4E00}', '\u{9FFF}'),
    ('\u{F900}', '\u{FA6D}'),
    ('\u{FA70}', '\u{FAD9}'),
    ('\u{16FE2}', '\u{16FE3}'),
    ('\u{16FF0}', '\u{16FF6}'),
    ('\u{20000}', '\u{2A6DF}'),
    ('\u{2A700}', '\u{2B81E}'),
    ('\u{2B820}', '\u{2CEAD}'),
    ('\u{2CEB0}', '\u{2EBE0}'),
    ('\u{2EBF0}', '\u{2EE5D}'),
    ('\u{2F800}', '\u{2FA1D}'),
    ('\u{30000}', '\u{3134A}'),
    ('\u{31350}', '\u{33479}'),
];

/// Whether a character is Chinese: all of Han, with the extension blocks (docs/vendor-api.md,
/// "Names and texts").
fn is_chinese(character: char) -> bool {
    HAN.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

/// A name (docs/vendor-api.md, "Names and texts"): 3 to 64 characters, first a letter
/// or a Chinese character, then also digits, `-`, `_` and `.`.
pub(super) fn name<'d>(field: &FieldReader<'d>, log: &mut ViolationLog) -> Option<&'d str> {
    let text = with_length(field, 3, 64, log)?;
    let is_first = |c: char| c.is_ascii_alphabetic() || is_chinese(c);
    let is_inner = |c: char| is_first(c) || c.is_ascii_digit() || "-_.".contains(c);
    let remedy = "use letters, digits, Chinese characters, `-`, `_` and `.`, the first a letter or Chinese";
    if !text.starts_with(is_first) {
        let first: String = text.chars().take(1).collect();
        let message = format!("`{}` begins with {}", field.key(), quoted(&first));
        report_at(field, 0, first.len(), message, remedy, log);
        return None;
    }
    all_characters(field, text, is_inner, remedy, log)
}

/// `dict_code`: 3 to 64 of letters, digits, `-`, `_`, `.`. Checked, then dropped.
pub(super) fn dict_code(field: &FieldReader<'_>, log: &mut ViolationLog) {
    if let Some(text) = with_length(field, 3, 64, log) {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        all_characters(field, text, is_legal, "use letters, digits, `-`, `_` and `.`", log);
    }
}

/// `ecs_id`: 1 to 64 of letters, digits, `-`, `_`.
pub(super) fn ecs_id<'d>(field: &FieldReader<'d>, log: &mut ViolationLog) -> Option<&'d str> {
    let text = with_length(field, 1, 64, log)?;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    all_characters(field, text, is_legal, "use letters, digits, `-` and `_`", log)
}

/// `ecs_name`: 1 to 64 of letters, digits, Chinese characters, `-`, `_`, `.`.
pub(super) fn ecs_name<'d>(field: &FieldReader<'d>, log: &mut ViolationLog) -> Option<&'d str> {
    let text = with_length(field, 1, 64, log)?;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || is_chinese(c) || "-_.".contains(c);
    let remedy = "use letters, digits, Chinese characters, `-`, `_` and `.`";
    all_characters(field, text, is_legal, remedy, log)
}

/// A label's name or value: 1 to 63, alphanumeric ends, inside also `-`, `_`, `.`.
pub(super) fn label<'d>(field: &FieldReader<'d>, log: &mut ViolationLog) -> Option<&'d str> {
    let text = with_length(field, 1, 63, log)?;
    let is_end = |c: char| c.is_ascii_alphanumeric();
    let remedy = "begin and end with a letter or digit; inside, `-`, `_` and `.` are allowed too";
    if !text.starts_with(is_end) || !text.ends_with(is_end) {
        let message = format!(
            "`{}` is {}, which does not begin and end with a letter or digit",
            field.key(),
            quoted(text)
        );
        field.report(Rule::WrongFormat, message, remedy, log);
        return None;
    }
    all_characters(field, text, |c| is_end(c) || "-_.".contains(c), remedy, log)
}

/// A text of `least` to `most` characters (not bytes).
pub(super) fn with_length<'d>(
    field: &FieldReader<'d>,
    least: usize,
    most: usize,
    log: &mut ViolationLog,
) -> Option<&'d str> {
    let text = field.text(log)?;
    let length = text.chars().count();
    if (least..=most).contains(&length) {
        return Some(text);
    }
    let allowed = if least == 0 { format!("at most {most}") } else { format!("{least} to {most}") };
    let plural = if length == 1 { "" } else { "s" };
    let message = format!("`{}` has {length} character{plural}; {allowed} are allowed", field.key());
    let remedy = if length < least { "write a longer text" } else { "write a shorter text" };
    field.report(Rule::WrongLength, message, remedy, log);
    None
}

/// Refuses the first character that `is_legal` does.
fn all_characters<'d>(
    field: &FieldReader<'_>,
    text: &'d str,
    is_legal: impl Fn(char) -> bool,
    remedy: &str,
    log: &mut ViolationLog,
) -> Option<&'d str> {
    let Some((start, character)) = text.char_indices().find(|(_, c)| !is_legal(*c)) else {
        return Some(text);
    };
    let message = format!("`{}` contains {}", field.key(), quoted(&character.to_string()));
    report_at(field, start, start + character.len_utf8(), message, remedy, log);
    None
}

fn report_at(
    field: &FieldReader<'_>,
    start: usize,
    end: usize,
    message: String,
    remedy: &str,
    log: &mut ViolationLog,
) {
    let place = field.place_within(start, end);
    log.report(Violation { place, ..field.violation(Rule::WrongFormat, message, remedy) });
}

/// The host of a member: like [`host`], but no address at which no server can be.
pub fn member_host(
    field: &FieldReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<Host> {
    let host = host(field, log)?;
    match refusal(&host, context) {
        None => Some(host),
        Some(problem) => {
            let message = format!("`{}` is {}, {problem}", field.key(), quoted(&host.to_string()));
            field.report(Rule::WrongFormat, message, "write an address that a server listens on", log);
            None
        }
    }
}

fn refusal(host: &Host, context: &dyn ReadContext) -> Option<&'static str> {
    match host {
        Host::Ip(address) => context.refusal_of(*address),
        Host::Name(_) => None,
    }
}

/// An IPv4 or IPv6 address (brackets are taken off), or a host name.
pub fn host(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<Host> {
    let text = with_length(field, 1, 255, log)?;
    match parse_host(text) {
        Ok(host) => Some(host),
        Err(problem) => {
            let message = format!("`{}` is {}, which is {}", field.key(), quoted(text), problem.what);
            field.report(Rule::WrongFormat, message, problem.remedy, log);
            None
        }
    }
}

/// A text as the host of a member, if it is one. No violation when it is not.
pub(super) fn host_name(text: &str, context: &dyn ReadContext) -> Option<Host> {
    parse_host(text).ok().filter(|host| refusal(host, context).is_none())
}

/// Why a text is no host.
struct HostProblem {
    what: &'static str,
    remedy: String,
}

/// Whether resolvers read a label as a number: decimal (octal with a leading 0), or
/// hexadecimal after `0x`, where no digit at all is 0.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// Tells addresses from names. The rule for the last label is that of URLs: a
/// host that ends in a number is an IPv4 address or nothing, because resolvers
/// read `10.1` as 10.0.0.1.
fn parse_host(text: &str) -> Result<Host, HostProblem> {
    let problem = |what, remedy: &str| Err(HostProblem { what, remedy: remedy.to_owned() });
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(Host::Ip(address.into())),
            Err(_) => {
                problem("no IPv6 address in brackets", "write an IPv6 address, such as \"2001:db8::7\"")
            }
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Ip(address));
    }
    if text.contains("://") || text.contains('/') {
        return problem("a URL", "write only the host; the port and the path have keys of their own");
    }
    if text.contains('%') {
        return problem(
            "an address with a zone",
            "zones of link-local addresses are not supported; use a global address",
        );
    }
    if let Some((before, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && (!before.contains(':') || before.starts_with('['))
        && parse_host(before).is_ok()
    {
        let remedy = format!("write only the host, \"{before}\"; ports have keys of their own");
        return Err(HostProblem { what: "a host with a port", remedy });
    }
    if text.contains(':') {
        return problem("no IPv6 address", "write an IPv6 address, such as \"2001:db8::7\"");
    }
    if !text.is_ascii() {
        return problem(
            "not ASCII",
            "write an international name in its ASCII form, which begins with \"xn--\"",
        );
    }
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    if labels.clone().next_back().is_some_and(is_number) {
        return problem("no IPv4 address", "write four numbers from 0 to 255, such as \"192.0.2.7\"");
    }
    let is_label = |label: &str| {
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !labels.into_iter().all(is_label) {
        let remedy = "write labels of 1 to 63 letters, digits, `-` and `_`, joined by dots";
        return problem("no host name", remedy);
    }
    Ok(Host::Name(text.into()))
}

/// `[channels.probe] host`: a host, or a host with a port, as in a Host header.
pub(super) fn authority(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<String> {
    let text = with_length(field, 1, 255, log)?;
    let (name, port) = match text.rsplit_once(':') {
        // A colon inside an address without brackets belongs to the address.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let is_port_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    match parse_host(name) {
        Ok(Host::Ip(IpAddr::V6(_))) if !name.starts_with('[') => {
            let message = format!("`{}` is {}, an IPv6 address without brackets", field.key(), quoted(text));
            let remedy = format!("write \"[{name}]\"; a Host header has IPv6 addresses in brackets");
            field.report(Rule::WrongFormat, message, remedy, log);
            None
        }
        Ok(_) if is_port_good => Some(text.to_owned()),
        Ok(_) | Err(_) => {
            let message = format!("`{}` is {}, which no Host header may be", field.key(), quoted(text));
            let remedy = "write a host name or address, if need be with a port: \"app.internal:8080\"";
            field.report(Rule::WrongFormat, message, remedy, log);
            None
        }
    }
}

/// `tls.server_name`: a host name or address, without brackets or port.
pub(super) fn server_name(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<String> {
    // 253 is the longest name that DNS can carry, and SNI with it.
    let text = with_length(field, 1, 253, log)?;
    // A trailing dot is no part of the name in SNI (RFC 6066, 3).
    host(field, log).map(|_| text.trim_matches(['[', ']']).trim_end_matches('.').to_owned())
}

/// `path`: begins with `/` and is an origin-form request target (RFC 9112, 3.2.1):
/// `pchar`, `/` and one query, with `%` only before two hexadecimal digits.
pub(super) fn path(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<String> {
    let text = with_length(field, 1, LONGEST_PATH, log)?;
    if !text.starts_with('/') {
        let message = format!("`path` is {}, which does not begin with \"/\"", quoted(text));
        let remedy = match text.split_once("://").map(|(_, rest)| rest.find('/')) {
            Some(_) => {
                "write only the path; the host is the member, or `host` in [channels.probe]".to_owned()
            }
            None => format!("write {}", quoted(&format!("/{text}"))),
        };
        field.report(Rule::WrongFormat, message, remedy, log);
        return None;
    }
    for (start, character) in text.char_indices() {
        let is_legal = character.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/?".contains(character);
        let is_escape = character == '%'
            && text.get(start + 1..start + 3).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_legal || is_escape {
            continue;
        }
        let end = start + character.len_utf8();
        let message =
            format!("`path` contains {}, which no request target may", quoted(&character.to_string()));
        let remedy = match character {
            '#' => "take the fragment off; it is never sent".to_owned(),
            character => {
                let mut buffer = [0; 4];
                let bytes = character.encode_utf8(&mut buffer).bytes();
                let encoded: String = bytes.map(|byte| format!("%{byte:02X}")).collect();
                format!("percent-encode it: \"{encoded}\"")
            }
        };
        report_at(field, start, end, message, &remedy, log);
        return None;
    }
    Some(text.to_owned())
}

/// Whether a text is a header's name: a token (RFC 9110, 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// A header's value: visible ASCII, spaces and tabs. RFC 9110 also allows other
/// bytes but advises senders against them. It may be a secret, so that no violation
/// repeats any of it.
pub(super) fn header_value(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<String> {
    let text = with_length(field, 0, LONGEST_HEADER, log)?;
    let Some((start, character)) = text.char_indices().find(|(_, c)| !is_of_header(*c)) else {
        return Some(trimmed(text));
    };
    let message = format!("`{}` has a character that no header value may", field.key());
    report_at(field, start, start + character.len_utf8(), message, HEADER_REMEDY, log);
    None
}

/// A header's value that is not in the document but in a file; none when it breaks the rule.
pub(super) fn as_header_value(text: &str) -> Option<String> {
    (text.len() <= LONGEST_HEADER && text.chars().all(is_of_header)).then(|| trimmed(text))
}

fn is_of_header(character: char) -> bool {
    character == '\t' || (' '..='~').contains(&character)
}

fn trimmed(text: &str) -> String {
    text.trim_matches([' ', '\t']).to_owned()
}
