//! A broken rule, as a value: which field, where, which rule, what to do.
//!
//! Made by the readers of this room; rendered with file, line and caret by
//! `config`, and as `error_code` / `error_msg` by the management API.

use std::fmt;

use super::document::Place;

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
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(PathSegment::Key(key.to_owned()));
        Self(steps)
    }

    /// This path, one array position deeper.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(PathSegment::Index(index));
        Self(steps)
    }

    /// The last key on the way: the JSON name that the vendor's errors print.
    #[must_use]
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
    Syntax,
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
    /// E019: an `ecs` member whose address nothing tells.
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
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Syntax => "E001",
            Self::UnknownKey => "E002",
            Self::Missing => "E003",
            Self::WrongType => "E004",
            Self::OutOfRange => "E005",
            Self::WrongLength => "E006",
            Self::WrongFormat => "E007",
            Self::UnknownWord => "E008",
            Self::TimeoutAboveInterval => "E009",
            Self::DuplicateChannel => "E010",
            Self::DuplicateMember => "E011",
            Self::DuplicateGroup => "E012",
            Self::UnknownGroup => "E013",
            Self::BadCodeSet => "E014",
            Self::BadFile => "E015",
            Self::CertificateKeyMismatch => "E016",
            Self::NoClientCertificate => "E017",
            Self::Conflict => "E018",
            Self::NoAddress => "E019",
        }
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
