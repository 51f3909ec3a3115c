//! How breaches speak: quoting, lists, and "did you mean".
//!
//! Pure text; every reader of this room and `config` use it.

/// Longest part of a user's text that a message repeats, in characters.
const LONGEST_QUOTE: usize = 60;

/// The text in quotes, shortened, with control characters escaped so that a
/// config file cannot write to the terminal.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quote = String::from("\"");
    for (position, character) in text.chars().enumerate() {
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

/// Keys in backquotes, joined by commas.
#[must_use]
pub fn list(keys: &[&str]) -> String {
    let quoted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    quoted.join(", ")
}

/// The known word that was probably meant: the same but for case or `-`, a few
/// typing errors away, or the same with a word more or less (`interval` for
/// `time_interval`).
#[must_use]
pub fn nearest<'w>(written: &str, known: &[&'w str]) -> Option<&'w str> {
    // Nobody mistypes a word this long; keeps the distance cheap on any input.
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
    by_distance
        .or_else(|| known.iter().copied().find(|word| is_part_of(&plain, word) || is_part_of(word, &plain)))
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
}
