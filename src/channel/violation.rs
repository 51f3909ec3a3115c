//! A broken rule, as a value: which field, where, which rule, what to do; and how
//! its texts quote, list and guess what was meant.
//!
//! Made by the readers of this room and of `config`; rendered with file, line and
//! caret by `config`, and as `error_code` / `error_msg` by the management API.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::document::Place;
use super::probe_header::MASK;

/// One step of the way from the document's root to a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathSegment {
    /// A key of a table.
    Key(String),
    /// A position in an array, counted from 0.
    Index(usize),
}

/// The way from the document's root to a field, printed as `members[1].weight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(pub Vec<PathSegment>);

impl FieldPath {
    /// This path, one key deeper.
    pub fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(PathSegment::Key(key.to_owned()));
        Self(steps)
    }

    /// The last key on the way: the JSON name that the vendor's errors print.
    pub fn field(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            PathSegment::Key(key) => Some(key.as_str()),
            PathSegment::Index(_) => None,
        })
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                PathSegment::Key(key) if position == 0 => write!(f, "{key}")?,
                PathSegment::Key(key) => write!(f, ".{key}")?,
                PathSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Which rule was broken. The code (`E012`) is stable and documented in
/// `docs/config.md`; the management API maps the variant to the vendor's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// E001: the text is not TOML or JSON.
    Syntax = 1,
    /// E002: a key that no table of this kind has.
    UnknownKey,
    /// E003: a required key is missing.
    Missing,
    /// E004: the value has another type than the field.
    WrongType,
    /// E005: a number or duration outside the documented range.
    OutOfRange,
    /// E006: text with too many or too few characters.
    WrongLength,
    /// E007: text with characters or a form the field does not allow.
    WrongFormat,
    /// E008: a word that is not one of the field's values.
    UnknownWord,
    /// E009: `timeout` above `time_interval`.
    TimeoutAboveInterval,
    /// E010: two channels of one name.
    DuplicateChannel,
    /// E011: two members of one group with one address.
    DuplicateMember,
    /// E012: two groups of one name.
    DuplicateGroup,
    /// E013: a member names a group the channel does not have.
    UnknownGroup,
    /// E014: `http_code` does not follow its grammar.
    BadCodeSet,
    /// E015: a file that cannot be read, or does not hold what it should.
    BadFile,
    /// E016: a certificate and a key that do not belong together.
    CertificateKeyMismatch,
    /// E017: `enable_client_ssl` without a client certificate.
    NoClientCertificate,
    /// E018: two fields that contradict each other.
    Conflict,
    /// E019: an `ecs` member without an address.
    NoAddress,
}

impl Rule {
    /// All rules, in the order of their codes.
    pub const ALL: [Self; 19] = [
        Self::Syntax,
        Self::UnknownKey,
        Self::Missing,
        Self::WrongType,
        Self::OutOfRange,
        Self::WrongLength,
        Self::WrongFormat,
        Self::UnknownWord,
        Self::TimeoutAboveInterval,
        Self::DuplicateChannel,
        Self::DuplicateMember,
        Self::DuplicateGroup,
        Self::UnknownGroup,
        Self::BadCodeSet,
        Self::BadFile,
        Self::CertificateKeyMismatch,
        Self::NoClientCertificate,
        Self::Conflict,
        Self::NoAddress,
    ];

    /// The stable code, as printed and documented.
    pub fn code(self) -> String {
        format!("E{:03}", self as u8)
    }
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// The field, from the root of the channel (or of the file).
    pub path: FieldPath,
    /// Where the offending text stands.
    pub place: Place,
    /// What is wrong, one line, without the place.
    pub message: String,
    /// What to do about it, one line.
    pub remedy: String,
    /// A second place that explains the first, with its own short text: the
    /// other of two duplicates, the interval that a timeout exceeds.
    pub related: Option<(Place, String)>,
}

/// Longest part of a user's text that a message repeats, in characters.
const LONGEST_QUOTE: usize = 60;

/// The text in quotes, shortened, with control characters escaped so that a
/// config file cannot write to the terminal, and the credentials of a URL masked.
pub fn quoted(text: &str) -> String {
    let mut quote = String::from("\"");
    let credentials = credentials_of(text);
    let masked = credentials.map(|Range { start, end }| {
        let (before, after) = (text.get(..start), text.get(end..));
        [before.unwrap_or_default(), MASK, after.unwrap_or_default()].concat()
    });
    for (position, character) in masked.as_deref().unwrap_or(text).chars().enumerate() {
        if position == LONGEST_QUOTE {
            quote.push_str("...");
            break;
        }
        if character == '\'' {
            quote.push('\'');
        } else {
            quote.extend(character.escape_debug());
        }
    }
    quote.push('"');
    quote
}

/// Whether a character steers a terminal, or the order in which others are shown.
pub fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The text with `\u001b` in the place of such a character, as strings of JSON and TOML have
/// it, so that they stay what they are. Line ends stay, tabs and carriage returns become
/// spaces.
pub fn without_controls(text: &str) -> Cow<'_, str> {
    let is_left = |character: char| character == '\n' || !is_control(character);
    if text.chars().all(is_left) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\t' | '\r' => safe.push(' '),
            character if is_left(character) => safe.push(character),
            character => safe.push_str(&format!("\\u{:04x}", u32::from(character))),
        }
    }
    Cow::Owned(safe)
}

/// Where a URL, or what was meant as one, has a user name and password: before its last
/// `@`, because people write `/` into passwords, which no URL may hold unescaped.
pub fn credentials_of(text: &str) -> Option<Range<usize>> {
    let end = text.rfind('@')?;
    let before = text.get(..end)?;
    match before.find("://") {
        Some(scheme) => Some(scheme + 3..end),
        None => before.contains(':').then_some(0..end),
    }
}

/// Keys in backquotes, joined by commas.
pub fn list(keys: &[&str]) -> String {
    let quoted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    quoted.join(", ")
}

/// The known word that was probably meant: the same but for case or `-`, a few
/// typing errors away, or the same with a word more or less (`interval` for
/// `time_interval`).
pub fn nearest<'w>(written: &str, known: &[&'w str]) -> Option<&'w str> {
    // No key is this long; the limit keeps the distance cheap on any input.
    if written.len() > 64 {
        return None;
    }
    let plain = written.to_ascii_lowercase().replace('-', "_");
    let by_distance = known
        .iter()
        .map(|word| (strsim::osa_distance(&plain, &word.to_ascii_lowercase()), *word))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, word)| *distance <= (word.len().min(plain.len()) / 3).min(3))
        .map(|(_, word)| word);
    // A part of several says nothing; and what says more than a key says something else:
    // `health_port` is not `port`.
    let mut longer = known.iter().copied().filter(|word| is_part_of(&plain, word));
    by_distance.or_else(|| longer.next().filter(|_| longer.next().is_none()))
}

/// Whether what was written is like one of these words, or has one of them in it.
pub fn is_like(written: &str, known: &[&str]) -> bool {
    let plain = written.to_ascii_lowercase().replace('-', "_");
    nearest(written, known).is_some()
        || plain.len() <= 64 && known.iter().any(|word| is_part_of(word, &plain) || is_part_of(&plain, word))
}

/// Whether `part` is, but for a slip, the first or last words of `whole`.
fn is_part_of(part: &str, whole: &str) -> bool {
    if part.len() < 4 {
        return false;
    }
    whole.match_indices('_').any(|(at, _)| {
        let (before, after) = (whole.get(..at), whole.get(at + 1..));
        [before, after].into_iter().flatten().any(|words| strsim::osa_distance(part, words) <= part.len() / 6)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_what_was_meant_and_nothing_else() {
        let known = ["name", "port", "time_interval", "timeout", "threshold_normal", "member_group_weight"];
        let cases = [
            ("Port", Some("port")),
            ("prot", Some("port")),
            ("intervall", Some("time_interval")),
            ("interval", Some("time_interval")),
            ("time-interval", Some("time_interval")),
            ("treshold_normal", Some("threshold_normal")),
            ("weight", Some("member_group_weight")),
            ("color", None),
            ("health_port", None),
            ("port_name", None),
            ("threshold", Some("threshold_normal")),
            ("", None),
            ("x", None),
        ];
        for (written, expected) in cases {
            assert_eq!(nearest(written, &known), expected, "{written}");
        }
    }

    #[test]
    fn quotes_are_short_and_harmless() {
        assert_eq!(quoted("a'b\"c\n\u{1b}[31m"), r#""a'b\"c\n\u{1b}[31m""#);
        assert_eq!(quoted(&"x".repeat(100)).len(), 65);
    }

    #[test]
    fn quotes_hold_no_credentials_of_urls() {
        let cases = [
            ("http://user:pass@host/x", r#""http://***@host/x""#),
            ("https://token@host", r#""https://***@host""#),
            ("http://user:pa/ss@host", r#""http://***@host""#),
            ("user:pass@host:80", r#""***@host:80""#),
            ("http://host:80/x", r#""http://host:80/x""#),
            ("me@host", r#""me@host""#),
        ];
        for (text, shown) in cases {
            assert_eq!(quoted(text), shown);
        }
        let long = format!("http://user:{}@host/", "p".repeat(100));
        assert_eq!(quoted(&long), r#""http://***@host/""#);
    }
}
