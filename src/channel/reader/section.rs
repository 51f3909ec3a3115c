//! The tools every rule uses: one table and one field.
//!
//! A [`TableReader`] is a table and its path; a [`FieldReader`] is one of its
//! values. Each typed reader of a field notes a violation and answers `None`
//! when the value will not do, so that rules read on and nothing is reported
//! twice. `config` reads its own tables with the same tools.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::document::{Kind, Map, Place, Value};
use super::super::violation::{FieldPath, PathSegment, Rule, Violation, list, nearest, quoted};
use super::context::{Dialect, ViolationLog};
use super::foreign_keys::{self, ForeignRemedy};

/// The way from the document's root to a value. Becomes a [`FieldPath`] only
/// when a rule is broken: a clean document allocates no paths.
#[derive(Debug, Clone, Copy)]
pub enum Trail<'t> {
    /// The document itself.
    Root,
    /// A key of the table before it.
    Key(&'t Trail<'t>, &'t str),
    /// A position of the array before it.
    Index(&'t Trail<'t>, usize),
}

impl Trail<'_> {
    /// The same way, owned.
    pub fn to_path(self) -> FieldPath {
        let mut steps = Vec::new();
        let mut rest = self;
        loop {
            match rest {
                Trail::Root => break,
                Trail::Key(before, key) => {
                    steps.push(PathSegment::Key(key.to_owned()));
                    rest = *before;
                }
                Trail::Index(before, index) => {
                    steps.push(PathSegment::Index(index));
                    rest = *before;
                }
            }
        }
        steps.reverse();
        FieldPath(steps)
    }
}

/// A table being read, and what a person calls it ("member", "channel").
#[derive(Debug, Clone, Copy)]
pub struct TableReader<'d> {
    table: &'d Map,
    place: Place,
    trail: Trail<'d>,
    noun: &'static str,
}

impl<'d> TableReader<'d> {
    /// The document's root as a section.
    pub fn root(document: &'d Value, noun: &'static str, log: &mut ViolationLog) -> Option<Self> {
        FieldReader::document(document, noun).section(noun, log)
    }

    /// The key's value, unless it is absent or `null`.
    pub fn field<'s>(&'s self, key: &'s str) -> Option<FieldReader<'s>> {
        let value = &self.table.get(key)?.value;
        if value.kind == Kind::Null {
            return None;
        }
        Some(FieldReader { value, trail: Trail::Key(&self.trail, key), key })
    }

    /// The key's value. Notes a violation with `remedy` when the key is absent.
    pub fn required<'s>(
        &'s self,
        key: &'s str,
        remedy: &str,
        log: &mut ViolationLog,
    ) -> Option<FieldReader<'s>> {
        let field = self.field(key);
        if field.is_none() {
            self.report_missing(key, remedy, log);
        }
        field
    }

    /// Like [`TableReader::field`], with an empty string counting as absent: API
    /// clients clear a string by sending `""`.
    pub fn filled<'s>(&'s self, key: &'s str) -> Option<FieldReader<'s>> {
        self.field(key).filter(|field| !matches!(&field.value.kind, Kind::String(text) if text.is_empty()))
    }

    /// Notes that a key is missing.
    pub fn report_missing(&self, key: &str, remedy: &str, log: &mut ViolationLog) {
        // An empty or null value is as good as none, and a better place to point at.
        let place = self.table.get(key).map_or(self.place, |entry| entry.value.place);
        let path = Trail::Key(&self.trail, key).to_path();
        if log.meant.contains(&path) {
            return;
        }
        log.report(Violation {
            rule: Rule::Missing,
            path,
            place,
            message: format!("this {} has no `{key}`", self.noun),
            remedy: remedy.to_owned(),
            related: None,
        });
    }

    /// In files, notes every key that is not in `known`; API bodies may carry any.
    pub fn refuse_unknown_keys(&self, known: &[&str], log: &mut ViolationLog) {
        self.refuse_unknown_keys_with(known, &|_| None, log);
    }

    /// The same, with remedies for keys that are known to stand elsewhere.
    pub fn refuse_unknown_keys_with(
        &self,
        known: &[&str],
        special: &dyn Fn(&str) -> Option<String>,
        log: &mut ViolationLog,
    ) {
        if log.dialect == Dialect::Api {
            return;
        }
        for entry in &self.table.entries {
            let key = &*entry.key;
            if known.contains(&key) {
                continue;
            }
            let (remedy, meant) = self.remedy_of_unknown(key, known, special);
            if let Some(meant) = meant {
                log.meant.insert(Trail::Key(&self.trail, meant).to_path());
            }
            log.report(Violation {
                rule: Rule::UnknownKey,
                path: Trail::Key(&self.trail, key).to_path(),
                place: entry.key_place,
                message: format!("this {} knows no key {}", self.noun, quoted(key)),
                remedy,
                related: None,
            });
        }
    }

    /// What to do about an unknown key, and the key of this table that was meant: what
    /// other tools call so comes before what is merely spelled alike.
    fn remedy_of_unknown<'k>(
        &self,
        key: &str,
        known: &[&'k str],
        special: &dyn Fn(&str) -> Option<String>,
    ) -> (String, Option<&'k str>) {
        if let Some(remedy) = special(key) {
            return (remedy, None);
        }
        if let Some(ForeignRemedy { text, meant }) = foreign_keys::remedy_of(key, self.noun, known) {
            return (text, meant);
        }
        // `member_port` of a member is its `port`.
        let own = key.strip_prefix(self.noun).and_then(|rest| rest.strip_prefix('_'));
        let near = known.iter().copied().find(|word| Some(*word) == own).or_else(|| nearest(key, known));
        match near {
            Some(near) => (format!("did you mean `{near}`?"), Some(near)),
            None => (format!("the keys here are {}", list(known)), None),
        }
    }

    /// Every key and value, for tables whose keys the user chooses.
    pub fn entries<'s>(&'s self) -> impl Iterator<Item = (&'s str, Place, FieldReader<'s>)> {
        self.table.entries.iter().map(|entry| {
            let trail = Trail::Key(&self.trail, &entry.key);
            (&*entry.key, entry.key_place, FieldReader { value: &entry.value, trail, key: &entry.key })
        })
    }

    /// Where the section stands: its header or braces.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The way to the section.
    pub fn path(&self) -> FieldPath {
        self.trail.to_path()
    }

    /// Whether nothing is written in it.
    pub fn is_empty(&self) -> bool {
        self.table.entries.iter().all(|entry| entry.value.kind == Kind::Null)
    }
}

/// One value of a section, being read.
#[derive(Debug, Clone, Copy)]
pub struct FieldReader<'d> {
    value: &'d Value,
    trail: Trail<'d>,
    key: &'d str,
}

impl<'d> FieldReader<'d> {
    /// A value that is read by itself, as if it stood under `key` at the root.
    pub fn alone(value: &'d Value, key: &'d str) -> Self {
        Self { value, trail: Trail::Key(&Trail::Root, key), key }
    }

    /// A whole document; `noun` is what a person calls it.
    pub fn document(value: &'d Value, noun: &'d str) -> Self {
        Self { value, trail: Trail::Root, key: noun }
    }

    /// The key it stands under.
    pub fn key(&self) -> &'d str {
        self.key
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        self.value.place
    }

    /// What was written, untyped.
    pub fn kind(&self) -> &'d Kind {
        &self.value.kind
    }

    /// Notes a violation at this field.
    pub fn report(&self, rule: Rule, message: String, remedy: impl Into<String>, log: &mut ViolationLog) {
        log.report(self.violation(rule, message, remedy));
    }

    /// A violation at this field, still to be reported.
    pub fn violation(&self, rule: Rule, message: String, remedy: impl Into<String>) -> Violation {
        let (path, place) = (self.trail.to_path(), self.place());
        Violation { rule, path, place, message, remedy: remedy.into(), related: None }
    }

    /// The place of a part of this string, when it was written without escapes;
    /// else the whole value's.
    pub fn place_within(&self, start: usize, end: usize) -> Place {
        let whole = self.place();
        let Kind::String(text) = &self.value.kind else { return whole };
        // A quote on each side and nothing escaped: offsets carry over.
        if whole.end - whole.start != text.len() + 2 {
            return whole;
        }
        // Nothing is shown as the character it should stand before: a comma or the quote.
        Place { start: whole.start + 1 + start, end: whole.start + 1 + end.max(start + 1) }
    }

    /// A string.
    pub fn text(&self, log: &mut ViolationLog) -> Option<&'d str> {
        if let Kind::String(text) = &self.value.kind {
            return Some(text);
        }
        // The entries are not repeated: they may be secrets.
        let remedy = match self.value.kind {
            Kind::Array(_) => "write one string in quotes, without brackets",
            _ => "write it in quotes",
        };
        self.report_type("a string", remedy, log);
        None
    }

    /// What a string says, if `parse` takes it; else it is "no NOUN".
    pub fn parsed<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
        noun: &str,
        remedy: &str,
        log: &mut ViolationLog,
    ) -> Option<T> {
        let text = self.text(log)?;
        let parsed = parse(text);
        if parsed.is_none() {
            let message = format!("`{}` is {}, which is no {noun}", self.key, quoted(text));
            self.report(Rule::WrongFormat, message, remedy, log);
        }
        parsed
    }

    /// `true` or `false`.
    pub fn boolean(&self, log: &mut ViolationLog) -> Option<bool> {
        if let Kind::Boolean(value) = self.value.kind {
            return Some(value);
        }
        self.report_type("true or false", "write true or false, without quotes", log);
        None
    }

    /// A whole number within a range, whose bounds fit `T`.
    pub fn number<T>(&self, range: RangeInclusive<T>, log: &mut ViolationLog) -> Option<T>
    where
        T: Copy + Into<i128> + TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let remedy = format!("write a number from {} to {}", range.start(), range.end());
        let Kind::Integer(value) = self.value.kind else {
            self.report_type("a whole number", &remedy, log);
            return None;
        };
        if let Ok(value) = T::try_from(value)
            && range.contains(&value)
        {
            return Some(value);
        }
        let message = format!("`{}` is {value}, outside {} to {}", self.key, range.start(), range.end());
        self.report(Rule::OutOfRange, message, remedy, log);
        None
    }

    /// A duration: whole seconds, or in files also a string such as `"500ms"`.
    pub fn duration(&self, limits: &DurationLimits, log: &mut ViolationLog) -> Option<Duration> {
        let longest = Duration::from_secs(limits.most_seconds);
        match (&self.value.kind, log.dialect) {
            (Kind::Integer(_), Dialect::Api) => {
                let range = limits.least_seconds..=limits.most_seconds;
                self.number(range, log).map(Duration::from_secs)
            }
            (Kind::Integer(seconds), Dialect::File) => {
                // Below the range when negative, above it when too big for u64.
                let duration = match u64::try_from(*seconds) {
                    Ok(seconds) => Some(Duration::from_secs(seconds)),
                    Err(_) => None,
                };
                duration
                    .filter(|duration| (limits.least..=longest).contains(duration))
                    .or_else(|| self.report_duration(format!("{seconds}s"), limits, log))
            }
            (Kind::String(text), Dialect::File) => match humantime::parse_duration(text) {
                Ok(duration) if (limits.least..=longest).contains(&duration) => Some(duration),
                Ok(_) => self.report_duration(quoted(text), limits, log),
                Err(_) => {
                    let message = format!("`{}` is {}, which is no duration", self.key, quoted(text));
                    let remedy = "write whole seconds as a number, or a string such as \"500ms\" or \"2s\"";
                    self.report(Rule::WrongFormat, message, remedy, log);
                    None
                }
            },
            (_, Dialect::File) => {
                let remedy = "write whole seconds as a number, or a string such as \"500ms\"";
                self.report_type("a duration", remedy, log);
                None
            }
            (_, Dialect::Api) => {
                let remedy =
                    format!("write seconds from {} to {}", limits.least_seconds, limits.most_seconds);
                self.report_type("a whole number of seconds", &remedy, log);
                None
            }
        }
    }

    /// One of a fixed list of numbers.
    pub fn choice<T: Copy>(&self, choices: &[(i128, T)], meaning: &str, log: &mut ViolationLog) -> Option<T> {
        let Kind::Integer(number) = self.value.kind else {
            self.report_type("a whole number", meaning, log);
            return None;
        };
        let found = choices.iter().find(|(candidate, _)| *candidate == number).map(|(_, value)| *value);
        if found.is_none() {
            let numbers: Vec<String> = choices.iter().map(|(number, _)| number.to_string()).collect();
            let message = format!("`{}` is {number}, not one of {}", self.key, numbers.join(", "));
            self.report(Rule::OutOfRange, message, meaning, log);
        }
        found
    }

    /// One of a fixed list of words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)], case: Case, log: &mut ViolationLog) -> Option<T> {
        let text = self.text(log)?;
        let is_word = |word: &str| match case {
            Case::Exact => word == text,
            Case::Any => word.eq_ignore_ascii_case(text),
        };
        let found = words.iter().find(|(word, _)| is_word(word)).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.report_word(text, &known, log);
        }
        found
    }

    /// Notes a word that is none of those known.
    pub fn report_word(&self, text: &str, known: &[&str], log: &mut ViolationLog) {
        let message = format!("`{}` is {}, not one of {}", self.key, quoted(text), known.join(", "));
        let remedy = match nearest(text, known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {}", known.join(", ")),
        };
        self.report(Rule::UnknownWord, message, remedy, log);
    }

    /// A table.
    pub fn section(&self, noun: &'static str, log: &mut ViolationLog) -> Option<TableReader<'d>> {
        if let Kind::Table(table) = &self.value.kind {
            return Some(TableReader { table, place: self.place(), trail: self.trail, noun });
        }
        self.report_type("a table", "write its keys as a table", log);
        None
    }

    /// A list, item by item. `null` items are wrong wherever they stand.
    pub fn items<'s>(
        &'s self,
        log: &mut ViolationLog,
    ) -> Option<impl Iterator<Item = FieldReader<'s>> + use<'s>> {
        if let Kind::Array(items) = &self.value.kind {
            let items = items.iter().enumerate();
            return Some(items.map(|(index, value)| FieldReader {
                value,
                trail: Trail::Index(&self.trail, index),
                key: self.key,
            }));
        }
        self.report_type("a list", "write a list of entries", log);
        None
    }

    /// Notes a value of another type than the field's.
    pub fn report_type(&self, expected: &str, remedy: &str, log: &mut ViolationLog) {
        let what = match self.trail {
            Trail::Root => format!("a {}", self.key),
            Trail::Key(..) => format!("`{}`", self.key),
            Trail::Index(..) => format!("an entry of `{}`", self.key),
        };
        let message = format!("{what} must be {expected}, not {}", self.value.kind.with_article());
        self.report(Rule::WrongType, message, remedy, log);
    }

    fn report_duration<T>(
        &self,
        written: String,
        limits: &DurationLimits,
        log: &mut ViolationLog,
    ) -> Option<T> {
        let least = humantime::format_duration(limits.least);
        let range = format!("{least} to {}s", limits.most_seconds);
        let message = format!("`{}` is {written}, outside {range}", self.key);
        self.report(Rule::OutOfRange, message, format!("write a duration from {range}"), log);
        None
    }
}

/// The bounds of a duration field. The API takes whole seconds only, so its
/// lower bound is one of seconds; files may go below with a string.
#[derive(Debug, Clone, Copy)]
pub struct DurationLimits {
    /// Shortest duration in a file.
    pub least: Duration,
    /// Fewest seconds in an API body.
    pub least_seconds: u64,
    /// Most seconds, in both.
    pub most_seconds: u64,
}

/// Whether a word's case matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// It does.
    Exact,
    /// It does not.
    Any,
}
