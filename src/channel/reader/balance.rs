//! The rules of `[channels.balance]`, vitald's own table, which API bodies do not have.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::super::balance_options::{
    BalanceOptions, HashFunction, HashSeed, LeastRule, Query, SourcePrefix, UriForm, UriRule,
};
use super::super::violation::Rule;
use super::super::words::{FailOpen, Strategy};
use super::context::{FileProblem, ReadContext, ViolationLog};
use super::section::{Case, DurationLimits, FieldReader, TableReader};

pub(super) const BALANCE_KEYS: [&str; 13] = [
    "fail_open",
    "slow_start",
    "least",
    "samples",
    "hash_seed_file",
    "hash_function",
    "source_prefix_v4",
    "source_prefix_v6",
    "uri_form",
    "uri_query",
    "uri_length",
    "uri_depth",
    "bounded_load_percent",
];

const SLOW_START: DurationLimits =
    DurationLimits { least: Duration::from_secs(1), least_seconds: 1, most_seconds: 3600 };

const SEED_REMEDY: &str = "write 1 to 32 hexadecimal digits into it: openssl rand -hex 16";

/// The strategies that a key is for; none: all of them.
fn strategies_of(key: &str) -> &'static [Strategy] {
    match key {
        "least" | "samples" => &[Strategy::WeightedLeastConnections],
        "hash_seed_file" | "hash_function" | "bounded_load_percent" => {
            &[Strategy::SourceHash, Strategy::UriHash]
        }
        "source_prefix_v4" | "source_prefix_v6" => &[Strategy::SourceHash],
        "uri_form" | "uri_query" | "uri_length" | "uri_depth" => &[Strategy::UriHash],
        _ => &[],
    }
}

/// `strategy` is none where `balance_strategy` is itself a mistake.
pub(super) fn balance_of(
    section: &TableReader<'_>,
    strategy: Option<Strategy>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> BalanceOptions {
    section.refuse_unknown_keys(&BALANCE_KEYS, log);
    for key in BALANCE_KEYS {
        if let (Some(field), Some(strategy)) = (section.field(key), strategy) {
            refuse_without_effect(&field, strategy, log);
        }
    }
    let is_open = section.field("fail_open").and_then(|field| field.boolean(log));
    let functions = HashFunction::ALL.map(|function| (function.word(), function));
    let function = section.field("hash_function").and_then(|field| field.word(&functions, Case::Exact, log));
    let seed = section.field("hash_seed_file").and_then(|field| seed_of(&field, context, log));
    let bounded = section.field("bounded_load_percent");
    BalanceOptions {
        fail_open: if is_open == Some(true) { FailOpen::AllEnabled } else { FailOpen::Closed },
        slow_start: section.field("slow_start").and_then(|field| field.duration(&SLOW_START, log)),
        least: least_of(section, log),
        hash_seed: seed.unwrap_or_default(),
        hash_function: function.unwrap_or_default(),
        source_prefix: source_prefix_of(section, log),
        uri: uri_of(section, log),
        bounded_load_percent: bounded.and_then(|field| field.number(100..=10_000_u16, log)),
    }
}

/// Written for a purpose, and with another strategy it would silently have none.
fn refuse_without_effect(field: &FieldReader<'_>, strategy: Strategy, log: &mut ViolationLog) {
    let strategies = strategies_of(field.key());
    if strategies.is_empty() || strategies.contains(&strategy) {
        return;
    }
    let words: Vec<_> = strategies.iter().map(|strategy| strategy.word()).collect();
    let (key, words) = (field.key(), words.join(" and "));
    let message = format!("`{key}` has no effect on {}: it is for {words}", strategy.word());
    field.report(Rule::Conflict, message, "remove it, or choose another `balance_strategy`", log);
}

/// `least` and `samples`.
fn least_of(section: &TableReader<'_>, log: &mut ViolationLog) -> LeastRule {
    const FEWEST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
    let rules = [LeastRule::Exact, LeastRule::IdleFirst, LeastRule::Sampled(FEWEST)];
    let rules = rules.map(|rule| (rule.word(), rule));
    let least_field = section.field("least");
    let least = least_field.and_then(|field| field.word(&rules, Case::Exact, log));
    let Some(field) = section.field("samples") else { return least.unwrap_or_default() };
    let samples = field.number(2..=64_u8, log).and_then(|samples| NonZeroUsize::new(samples.into()));
    match (least, samples) {
        (Some(LeastRule::Sampled(_)), Some(samples)) => LeastRule::Sampled(samples),
        // A rule that cannot be read is the one mistake.
        (None, _) if least_field.is_some() => LeastRule::default(),
        (least, _) => {
            let least = least.unwrap_or_default();
            if !matches!(least, LeastRule::Sampled(_)) {
                let message = format!("`samples` has no effect while `least` is \"{}\"", least.word());
                field.report(Rule::Conflict, message, "write least = \"sampled\", or remove it", log);
            }
            least
        }
    }
}

fn seed_of(field: &FieldReader<'_>, context: &dyn ReadContext, log: &mut ViolationLog) -> Option<HashSeed> {
    let path = field.text(log)?;
    let seed = context.secret_file(path).and_then(|file| {
        let digits = file.text.trim();
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let seed = u128::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal && digits.len() <= 32);
        seed.map(HashSeed).ok_or_else(|| FileProblem {
            problem: format!("{} holds no hexadecimal number of at most 32 digits", file.path.display()),
            remedy: SEED_REMEDY,
        })
    });
    seed.map_err(|FileProblem { problem, remedy }| {
        field.report(Rule::BadFile, format!("`{}`: {problem}", field.key()), remedy, log);
    })
    .ok()
}

fn source_prefix_of(section: &TableReader<'_>, log: &mut ViolationLog) -> SourcePrefix {
    let whole = SourcePrefix::default();
    let mut bits = |key: &str, most: u8| {
        section.field(key).and_then(|field| field.number(0..=most, log)).unwrap_or(most)
    };
    SourcePrefix { ipv4: bits("source_prefix_v4", whole.ipv4), ipv6: bits("source_prefix_v6", whole.ipv6) }
}

fn uri_of(section: &TableReader<'_>, log: &mut ViolationLog) -> UriRule {
    let forms = UriForm::ALL.map(|form| (form.word(), form));
    let form = section.field("uri_form").and_then(|field| field.word(&forms, Case::Exact, log));
    let query = section.field("uri_query").and_then(|field| field.boolean(log));
    let mut number = |key: &str, most: u16| {
        section.field(key).and_then(|field| field.number(1..=most, log)).map(usize::from)
    };
    UriRule {
        length: number("uri_length", u16::MAX),
        depth: number("uri_depth", 255),
        form: form.unwrap_or_default(),
        query: if query == Some(true) { Query::Included } else { Query::Excluded },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::super::tests::{channel, read, table, text};
    use super::*;
    use crate::channel::document::Kind;

    #[test]
    fn a_balance_table_has_an_option_for_each_of_its_keys() {
        let options = |strategy, keys| {
            let document = channel([("balance_strategy", Kind::Integer(strategy)), ("balance", keys)]);
            *read(&document, Dialect::File).expect("channel").balance()
        };
        let least = options(
            2,
            table([
                ("least", text("sampled")),
                ("samples", Kind::Integer(3)),
                ("slow_start", text("2m")),
                ("fail_open", Kind::Boolean(true)),
            ]),
        );
        assert_eq!(least.least, LeastRule::Sampled(3.try_into().expect("not 0")));
        assert_eq!(least.slow_start, Some(Duration::from_secs(120)));
        let shown = [("fail_open", "true"), ("slow_start", "2m"), ("least", "sampled"), ("samples", "3")];
        assert_eq!(least.described(), shown.map(|(key, value)| (key, value.to_owned())));
        assert_eq!(BalanceOptions::default().described(), []);

        let uri = [
            ("uri_form", text("path_only")),
            ("uri_query", Kind::Boolean(true)),
            ("uri_length", Kind::Integer(64)),
            ("uri_depth", Kind::Integer(2)),
        ];
        let rule =
            UriRule { form: UriForm::PathOnly, query: Query::Included, length: Some(64), depth: Some(2) };
        assert_eq!(options(4, table(uri)).uri, rule);

        let source = options(
            3,
            table([
                ("source_prefix_v4", Kind::Integer(24)),
                ("bounded_load_percent", Kind::Integer(125)),
                ("hash_function", text("flood_resistant")),
                ("hash_seed_file", text("seed")),
            ]),
        );
        assert_eq!(source.source_prefix, SourcePrefix { ipv4: 24, ipv6: 128 });
        assert_eq!(source.bounded_load_percent, Some(125));
        assert_eq!(source.hash_function, HashFunction::FloodResistant);
        assert_eq!(source.hash_seed, HashSeed(0xf00d));
        let long = channel([
            ("balance_strategy", Kind::Integer(3)),
            ("balance", table([("hash_seed_file", text("long"))])),
        ]);
        let expected = [("E015", "balance.hash_seed_file".to_owned())];
        assert_eq!(read(&long, Dialect::File).expect_err("33 digits"), expected);
        let shown = source.described();
        assert!(shown.contains(&("hash_seed_file", "***".to_owned())), "{shown:?}");
        assert!(!format!("{source:?}").contains(&0xf00d.to_string()), "{source:?}");
    }
}
