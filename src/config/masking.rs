//! What no excerpt of a configuration shows: passwords, hashes of passwords, values of
//! request headers, credentials in URLs.
//!
//! A text with errors is shown as it was written, and may be anything. So this looks at
//! its tokens, not at what they mean: in a file that is no TOML, or under a mistyped key,
//! a secret is masked all the same. JSON has the same tokens.

use std::collections::HashMap;
use std::ops::Range;

use toml_parser::Source;
use toml_parser::lexer::{Token, TokenKind};

use super::settings;
use crate::channel::reader;
use crate::channel::violation::{credentials_of, is_like};

/// Keys whose values are secrets, or hold some. Of a header no value is shown, because
/// many are keys to something, marked or not.
const SECRET_KEYS: [&str; 11] = [
    "headers",
    "value",
    "authorization",
    "proxy_authorization",
    "cookie",
    "set_cookie",
    "password",
    "password_hash",
    "secret",
    "secret_key",
    "token",
];

/// How a hash of a password begins, whatever key it stands under.
const HASH: &str = "$argon2";

/// The text with asterisks in the place of secrets. Offsets and lines stay.
pub(super) fn without_secrets(text: &str) -> String {
    let mut masker = Masker { text, expects_key: true, ..Masker::default() };
    Source::new(text).lex().for_each(|token| masker.take(&token));
    masker.end_key(false);
    let mut masked = String::with_capacity(text.len());
    let mut rest = 0;
    for Range { start, end } in masker.masks {
        masked.push_str(text.get(rest..start).unwrap_or_default());
        masked.push_str(&asterisks(text.get(start..end).unwrap_or_default()));
        rest = end;
    }
    masked.push_str(text.get(rest..).unwrap_or_default());
    mask_hashes(&mut masked);
    masked
}

/// Makes every password hash unreadable. Offsets stay.
pub(super) fn mask_hashes(text: &mut String) {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find(HASH)) {
        let start = from + found;
        let hash = text.get(start..).unwrap_or_default();
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"$=,+/-._".contains(b);
        let length = hash.bytes().take_while(is_part).count();
        text.replace_range(start..start + length, &"*".repeat(length));
        from = start + length;
    }
}

fn asterisks(secret: &str) -> String {
    let mut masked = String::with_capacity(secret.len());
    for character in secret.chars() {
        match character {
            '\n' | '\r' => masked.push(character),
            _ => masked.extend(std::iter::repeat_n('*', character.len_utf8())),
        }
    }
    masked
}

/// Reads a text token by token and notes what must not be seen.
#[derive(Default)]
struct Masker<'t> {
    text: &'t str,
    /// In order, without overlaps.
    masks: Vec<Range<usize>>,
    /// Keys that were judged before: in a long file the same few come again and again.
    judged: HashMap<&'t str, bool>,
    /// Brackets and braces that are open.
    depth: usize,
    /// What follows is secret up to the end of this line, or until the bracket closes in
    /// which the key stands: how many were open there.
    secret_from: Option<usize>,
    /// Under a `[header]` that names secrets, all values are.
    is_secret_table: bool,
    is_in_header: bool,
    /// Whether a key may stand here.
    expects_key: bool,
    /// A token that is shown if it turns out to be a key.
    candidate: Option<Range<usize>>,
}

impl<'t> Masker<'t> {
    fn take(&mut self, token: &Token) {
        let range = token.span().start()..token.span().end();
        match token.kind() {
            TokenKind::Whitespace | TokenKind::Eof => {}
            TokenKind::Newline => self.end_line(),
            TokenKind::Comment => {
                self.end_key(false);
                self.comment(range);
            }
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => self.open(token.kind()),
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => self.close(),
            TokenKind::Equals => {
                self.end_key(true);
                self.expects_key = false;
            }
            TokenKind::Dot => {
                self.end_key(true);
                self.expects_key = self.expects_key || self.is_in_header;
            }
            TokenKind::Comma => {
                self.end_key(false);
                self.expects_key = self.depth > 0;
            }
            TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString
            | TokenKind::Atom => self.scalar(range),
        }
    }

    fn end_line(&mut self) {
        self.end_key(false);
        if self.secret_from.is_some_and(|depth| self.depth <= depth) {
            self.secret_from = None;
        }
        self.is_in_header = false;
        self.expects_key = self.expects_key || self.depth == 0;
    }

    fn open(&mut self, kind: TokenKind) {
        self.end_key(false);
        if self.depth == 0 && self.expects_key && kind == TokenKind::LeftSquareBracket {
            (self.is_in_header, self.is_secret_table) = (true, false);
        }
        self.depth += 1;
        self.expects_key = kind == TokenKind::LeftCurlyBracket || self.is_in_header;
    }

    fn close(&mut self) {
        self.end_key(false);
        self.depth = self.depth.saturating_sub(1);
        let is_table_over = self.secret_from == Some(self.depth) && !self.is_in_header;
        if is_table_over || self.secret_from.is_some_and(|depth| self.depth < depth) {
            self.secret_from = None;
        }
        self.expects_key = false;
    }

    /// A string or a word: a key or a value.
    fn scalar(&mut self, range: Range<usize>) {
        let word = self.text.get(range.clone()).unwrap_or_default();
        if let Some(rest) = word.strip_prefix(':').filter(|_| self.depth > 0) {
            // JSON: what was before it is a key.
            self.end_key(true);
            self.expects_key = false;
            if !rest.is_empty() && self.is_secret() {
                self.masks.push(range.start + 1..range.end);
            }
            return;
        }
        self.end_key(false);
        if !self.expects_key {
            return self.value(range);
        }
        if self.names_secrets(word) {
            match self.is_in_header {
                true => self.is_secret_table = true,
                false => self.secret_from = Some(self.secret_from.unwrap_or(self.depth)),
            }
        }
        if self.is_in_header {
            return;
        }
        self.candidate = Some(range);
        // Until a dot, a comma or the next line.
        self.expects_key = false;
    }

    fn value(&mut self, range: Range<usize>) {
        let word = self.text.get(range.clone()).unwrap_or_default();
        let held = word.trim_start_matches(['"', '\'']);
        let start = range.end - held.len();
        if self.is_secret() {
            self.masks.push(range);
        } else if let Some(held) = credentials_of(held) {
            self.masks.push(start + held.start..start + held.end);
        }
    }

    /// The word before this was a key, or it was not.
    fn end_key(&mut self, is_key: bool) {
        let Some(range) = self.candidate.take() else { return };
        let word = self.text.get(range.clone()).unwrap_or_default();
        match (is_key, word.find(':')) {
            (false, _) => self.value(range),
            // A name and its value in one, by mistake.
            (true, Some(colon)) if self.is_secret() => self.masks.push(range.start + colon..range.end),
            (true, _) => self.expects_key = true,
        }
    }

    fn comment(&mut self, range: Range<usize>) {
        let comment = self.text.get(range.clone()).unwrap_or_default();
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        // What was switched off by a `#`, or a header as people write it elsewhere.
        let mut keys = comment.match_indices([':', '=']).filter_map(|(at, _)| {
            let before = comment.get(..at)?.trim_end_matches([' ', '\t', '"', '\'']);
            before.rsplit(|c| !is_of_word(c)).next().filter(|key| !key.is_empty())
        });
        if self.is_secret() || keys.any(|key| self.names_secrets(key)) {
            self.masks.push(range);
        } else if let Some(held) = credentials_of(comment).filter(|_| comment.contains("://")) {
            self.masks.push(range.start + held.start..range.start + held.end);
        }
    }

    fn is_secret(&self) -> bool {
        self.is_secret_table || self.secret_from.is_some()
    }

    /// Whether a key is one whose values are secret, or was meant as one.
    fn names_secrets(&mut self, word: &'t str) -> bool {
        let word = word.trim_matches(['"', '\'', ':']);
        *self.judged.entry(word).or_insert_with(|| {
            let plain = word.to_ascii_lowercase().replace('-', "_");
            let known = || reader::KNOWN_KEYS.iter().chain(&settings::KNOWN_KEYS);
            let is_another = || known().any(|(_, keys)| keys.contains(&plain.as_str()));
            SECRET_KEYS.contains(&plain.as_str())
                || (!plain.ends_with("_file") && !is_another() && is_like(&plain, &SECRET_KEYS))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let texts = [
            "headers = { X-Key = \"SECRET\", Other = 'SECRET' }",
            "headers = {\n  X-Key = \"SECRET\", # SECRET\n}\n",
            "[channels.probe.headers]\nX-Key = \"SECRET\"\nX-Other = \"\"\"\nSECRET = 1\n\"\"\" # SECRET\n",
            "[channels.probe.headers.X-Key]\nfoo = \"SECRET\"\n",
            "probe.headers.X-Key = { value = \"SECRET\", secret = true }",
            "probe = { headers = { X-Key = { value = \"SECRET\" } } }",
            "[probe]\nX-Key = { value = \"SECRET\", secret = true }",
            "haeders = { X-Key = \"SECRET\" }",
            "headers = { X-Key = \"SECRET }",
            "headers = { X-Key = SECRET== }",
            "headers = { \"X-Key: SECRET\" }",
            "headers = { \"X-Key: SECRET\" = 1 }",
            "headers = \"X-Key: SECRET\"",
            "headers = [\"X-Key: SECRET\"]",
            "[headers]\nX-Key = SECRET==\nX-Key SECRET\n",
            "Authorization = \"SECRET\" close = \"fin\"",
            "Authorization: Bearer SECRET",
            "cookie = \"a=SECRET; b=SECRET\"",
            "# Authorization: Bearer SECRET",
            "password = \"SECRET\"",
            "pasword_hash = \"SECRET\"",
            "{\"probe\": {\"headers\": {\n\"X-Key\": \"SECRET\",\n\"Y\":{\"value\":\"SECRET\"}}}}",
            "{\"probe\": {\"headers\": {\"X-Key\" \"SECRET\"",
            "host = \"http://user:SECRET@host\"",
            "host = \"user:SECRET@host\" # http://SECRET@host",
            "key = \"$argon2id$SECRET\"",
        ];
        for text in texts {
            let masked = without_secrets(text);
            assert!(!masked.contains("SECRET"), "{text}\n{masked}");
            assert_eq!(masked.len(), text.len(), "{text}\n{masked}");
            let lines = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
            assert_eq!(lines(&masked), lines(text), "{text}\n{masked}");
        }
    }

    #[test]
    fn the_rest_can_be_read() {
        let texts = [
            "[[channels]]\nname = \"web\"\nport = 8080 # of members\n[channels.probe]\nclose = \"fin\"\n",
            "password_hash_file = \"ops.hash\"\nsecret_file = \"ak.secret\"\n",
            "microservice_labels = [{ label_name = \"app\", label_value = \"web\" }]",
            "{\"name\": \"web\", \"port\": 8080, \"members\": [{\"host\": \"10.0.0.7\"}]}",
            "host = \"me@host\"",
        ];
        for text in texts {
            assert_eq!(without_secrets(text), text);
        }
        let text = "[probe.headers]\nX-Key = \"a\" # b\n\n[tls]\nverify = true\n";
        assert_eq!(without_secrets(text), "[probe.headers]\nX-Key = *** ***\n\n[tls]\nverify = true\n");
        let text = "probe = { headers = { X-Key = \"a\", Y = 1 }, close = \"fin\" }\nport = 1\n";
        let shown = "probe = { headers = { X-Key = ***, Y = * }, close = \"fin\" }\nport = 1\n";
        assert_eq!(without_secrets(text), shown);
        let text = "{\"headers\": {\"X-Key\": \"a\"},\n\"close\": \"fin\"}";
        assert_eq!(without_secrets(text), "{\"headers\": {\"X-Key\": ***},\n\"close\": \"fin\"}");
    }
}
