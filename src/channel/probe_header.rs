//! One request header of a channel's probes, and whether its value may be shown.
//!
//! The reader of `probe` makes it and `probe` sends it. A secret value has no text form
//! here; whoever prints a request writes [`MASK`] in its place.

use std::fmt;
use std::path::PathBuf;

/// What stands where a secret value would.
pub const MASK: &str = "***";

/// Headers whose values are credentials, marked as such or not (RFC 9110, 11.6.2 and
/// 11.7.2; RFC 6265, 4.2).
const CREDENTIALS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// A secret that was read from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A request header: its name, and what is sent. Names compare without case.
#[derive(Clone, PartialEq, Eq)]
pub struct ProbeHeader {
    name: String,
    content: HeaderContent,
}

/// What a header sends, and where that is from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum HeaderContent {
    /// Written where everybody may see it.
    Plain(String),
    /// Written in the configuration, as a secret.
    Secret(String),
    /// In a file of its own.
    File(SecretFile),
    /// Nothing is sent under this name.
    LeftOut,
}

impl ProbeHeader {
    /// A header with a value that may be shown, unless such headers carry credentials.
    pub fn plain(name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        let is_credential = CREDENTIALS.iter().any(|credential| name.eq_ignore_ascii_case(credential));
        let content = if is_credential { HeaderContent::Secret(value) } else { HeaderContent::Plain(value) };
        Self { name, content }
    }

    /// A header whose value is never shown.
    pub fn secret(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), content: HeaderContent::Secret(value.into()) }
    }

    /// A header whose value is what a file holds; never shown.
    pub fn of_file(name: impl Into<String>, file: SecretFile) -> Self {
        Self { name: name.into(), content: HeaderContent::File(file) }
    }

    /// No header of this name, whoever else would send one.
    pub fn left_out(name: impl Into<String>) -> Self {
        Self { name: name.into(), content: HeaderContent::LeftOut }
    }

    /// The name, as written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the header of that name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value to send, secret or not; none when the header is left out.
    pub fn value(&self) -> Option<&str> {
        match &self.content {
            HeaderContent::Plain(value) | HeaderContent::Secret(value) => Some(value),
            HeaderContent::File(file) => Some(&file.text),
            HeaderContent::LeftOut => None,
        }
    }

    /// Whether the value must not be shown.
    pub fn is_secret(&self) -> bool {
        matches!(self.content, HeaderContent::Secret(_) | HeaderContent::File(_))
    }

    pub(super) fn content(&self) -> &HeaderContent {
        &self.content
    }
}

impl fmt::Debug for ProbeHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.is_secret() { Some(MASK) } else { self.value() };
        f.debug_struct("ProbeHeader").field("name", &self.name).field("value", &value).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_value_has_no_text_form() {
        let file = SecretFile { path: "key".into(), text: "hidden-value".to_owned() };
        let secret = [
            ProbeHeader::plain("AUTHORIZATION", "hidden-value"),
            ProbeHeader::plain("cookie", "hidden-value"),
            ProbeHeader::plain("Proxy-Authorization", "hidden-value"),
            ProbeHeader::secret("X-Key", "hidden-value"),
            ProbeHeader::of_file("X-Key", file.clone()),
        ];
        for header in secret {
            assert_eq!((header.value(), header.is_secret()), (Some("hidden-value"), true));
            let text = format!("{header:?} {header:#?} {file:?}");
            assert!(!text.contains("hidden-value") && text.contains(MASK), "{text}");
        }
        let shown = format!("{:?}", [ProbeHeader::plain("X-Probe", "yes"), ProbeHeader::left_out("Accept")]);
        assert!(shown.contains("yes") && shown.contains("None"), "{shown}");
    }
}
