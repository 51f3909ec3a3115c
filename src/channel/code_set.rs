//! `http_code`: which status codes count as success.
//!
//! Grammar (vendor API, `VpcHealthConfig.http_code`): items joined by commas,
//! an item is a code or two codes joined by `-`; codes are 100 to 599, ranges
//! are inclusive and ascending; no spaces.

use std::fmt;
use std::sync::Arc;

const LOWEST: u16 = 100;
const HIGHEST: u16 = 599;
const WORDS: usize = ((HIGHEST - LOWEST) as usize).div_ceil(64);

/// A set of status codes that remembers the text it was written as.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CodeSet {
    text: Arc<str>,
    bits: [u64; WORDS],
}

/// Why a text is no code set: which part, as a byte range, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CodeSetError {
    /// Byte range of the offending item in the text.
    pub range: (usize, usize),
    /// What is wrong, one line.
    pub message: String,
}

impl CodeSet {
    /// Reads the documented grammar.
    ///
    /// ```
    /// use vitald::channel::CodeSet;
    ///
    /// let codes = CodeSet::parse("200,201,210-299").expect("the documented grammar");
    /// assert!(codes.contains(201) && codes.contains(250));
    /// assert!(!codes.contains(204));
    /// ```
    ///
    /// # Errors
    /// The first item that breaks the grammar, with its place in the text.
    pub fn parse(text: &str) -> Result<Self, CodeSetError> {
        let mut set = Self { text: text.into(), bits: [0; WORDS] };
        let mut start = 0;
        for item in text.split(',') {
            let range = (start, start + item.len());
            let (low, high) = parse_item(item).map_err(|message| CodeSetError { range, message })?;
            for code in low..=high {
                set.insert(code);
            }
            start += item.len() + 1;
        }
        Ok(set)
    }

    /// Whether a status code is in the set. Codes outside 100 to 599 never are.
    pub fn contains(&self, code: u16) -> bool {
        let Some(offset) = code.checked_sub(LOWEST) else { return false };
        let (word, bit) = (usize::from(offset / 64), offset % 64);
        self.bits.get(word).is_some_and(|bits| bits >> bit & 1 == 1)
    }

    /// The text it was written as.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A bit for each code from 100 on, 64 to a word: the same for all texts of one set.
    pub(super) fn words(&self) -> &[u64] {
        &self.bits
    }

    fn insert(&mut self, code: u16) {
        let offset = code - LOWEST;
        if let Some(bits) = self.bits.get_mut(usize::from(offset / 64)) {
            *bits |= 1 << (offset % 64);
        }
    }
}

impl Default for CodeSet {
    /// `200`, what a check without `http_code` means (docs/vendor-api.md, "VpcHealthConfig").
    fn default() -> Self {
        let mut set = Self { text: "200".into(), bits: [0; WORDS] };
        set.insert(200);
        set
    }
}

impl fmt::Debug for CodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeSet({})", self.text)
    }
}

fn parse_item(item: &str) -> Result<(u16, u16), String> {
    if item.is_empty() {
        return Err("an empty item between commas".to_owned());
    }
    let Some((low, high)) = item.split_once('-') else {
        let code = parse_code(item)?;
        return Ok((code, code));
    };
    let (low, high) = (parse_code(low)?, parse_code(high)?);
    if low > high {
        return Err(format!("the range {item} runs backwards"));
    }
    Ok((low, high))
}

fn parse_code(text: &str) -> Result<u16, String> {
    let is_three_digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(code) if is_three_digits && (LOWEST..=HIGHEST).contains(&code) => Ok(code),
        _ => Err(format!("\"{text}\" is not a status code from 100 to 599")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_examples_hold_what_they_say() {
        let cases: [(&str, &[u16], &[u16]); 5] = [
            ("200", &[200], &[199, 201, 0, 65535]),
            ("200,201,202", &[200, 201, 202], &[203]),
            ("200-299", &[200, 250, 299], &[199, 300]),
            ("201,202,210-299", &[201, 202, 210, 299], &[200, 203, 209, 300]),
            ("100-599", &[100, 163, 164, 599], &[99, 600]),
        ];
        for (text, inside, outside) in cases {
            let set = CodeSet::parse(text).expect(text);
            assert_eq!(set.text(), text);
            for code in inside {
                assert!(set.contains(*code), "{code} in {text}");
            }
            for code in outside {
                assert!(!set.contains(*code), "{code} not in {text}");
            }
        }
    }

    #[test]
    fn breaches_name_their_item() {
        let cases = [
            ("", (0, 0), "an empty item between commas"),
            ("200,", (4, 4), "an empty item between commas"),
            ("200, 201", (4, 8), "\" 201\" is not a status code from 100 to 599"),
            ("200,99", (4, 6), "\"99\" is not a status code from 100 to 599"),
            ("600", (0, 3), "\"600\" is not a status code from 100 to 599"),
            ("+20", (0, 3), "\"+20\" is not a status code from 100 to 599"),
            ("200-", (0, 4), "\"\" is not a status code from 100 to 599"),
            ("200-250-299", (0, 11), "\"250-299\" is not a status code from 100 to 599"),
            ("299-200", (0, 7), "the range 299-200 runs backwards"),
            ("2xx", (0, 3), "\"2xx\" is not a status code from 100 to 599"),
        ];
        for (text, range, message) in cases {
            let error = CodeSet::parse(text).expect_err(text);
            assert_eq!((error.range, error.message.as_str()), (range, message), "{text}");
        }
    }
}
