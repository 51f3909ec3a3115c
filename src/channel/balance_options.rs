//! `[channels.balance]`: how a channel's balancer picks, beyond its strategy.
//!
//! The reader makes them, `catalog` builds balancers with them, `check` and the status show
//! them. `balance` takes the rules by their types here.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::words::FailOpen;

/// `[channels.balance]`: vitald's own options. Each is off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalanceOptions {
    /// What happens when nobody is in rotation.
    pub fail_open: FailOpen,
    /// `slow_start`, 1 s to 1 h: how long a member that has become healthy takes to get its
    /// whole weight.
    pub slow_start: Option<Duration>,
    /// `least` and `samples`: how `wleastconn` compares.
    pub least: LeastRule,
    /// `hash_seed_file`: what `source` and `uri` hash with.
    pub hash_seed: HashSeed,
    /// `hash_function`, of `source` and `uri`.
    pub hash_function: HashFunction,
    /// `source_prefix_v4` and `source_prefix_v6`: how much of an address `source` hashes.
    pub source_prefix: SourcePrefix,
    /// `uri_form`, `uri_query`, `uri_length`, `uri_depth`: how much of a URI `uri` hashes.
    pub uri: UriRule,
    /// `bounded_load_percent`, 100 to 10000: the most open picks that a member of `source` and
    /// `uri` has, in percent of its share.
    pub bounded_load_percent: Option<u16>,
}

impl BalanceOptions {
    /// Every key that differs from its default, with its value, for people; the seed is masked.
    pub fn described(&self) -> Vec<(&'static str, String)> {
        let Self { fail_open, slow_start, least, hash_seed, hash_function, source_prefix, uri, .. } = *self;
        let samples = if let LeastRule::Sampled(samples) = least { Some(samples.to_string()) } else { None };
        let prefix = |bits: u8, whole: u8| (bits != whole).then(|| bits.to_string());
        let whole = SourcePrefix::default();
        let all = [
            ("fail_open", (fail_open == FailOpen::AllEnabled).then(|| "true".to_owned())),
            ("slow_start", slow_start.map(|window| humantime::format_duration(window).to_string())),
            ("least", (least != LeastRule::Exact).then(|| least.word().to_owned())),
            ("samples", samples),
            ("hash_seed_file", (hash_seed != HashSeed::default()).then(|| super::MASK.to_owned())),
            ("hash_function", (hash_function != HashFunction::Fast).then(|| hash_function.word().to_owned())),
            ("source_prefix_v4", prefix(source_prefix.ipv4, whole.ipv4)),
            ("source_prefix_v6", prefix(source_prefix.ipv6, whole.ipv6)),
            ("uri_form", (uri.form != UriForm::AsGiven).then(|| uri.form.word().to_owned())),
            ("uri_query", (uri.query == Query::Included).then(|| "true".to_owned())),
            ("uri_length", uri.length.map(|length| length.to_string())),
            ("uri_depth", uri.depth.map(|depth| depth.to_string())),
            ("bounded_load_percent", self.bounded_load_percent.map(|percent| percent.to_string())),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// The seed of a channel's hashes: a secret, as whoever knows it can aim keys at one member.
/// 0 unless a file gives another.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct HashSeed(pub u128);

impl fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSeed")
    }
}

/// How weighted least connections chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeastRule {
    /// The smallest (open + 1) / weight of all, exactly: k picks without a
    /// release are the D'Hondt seats of k.
    #[default]
    Exact,
    /// Members without an open pick first, in turn, then as [`Exact`](Self::Exact)
    /// (HAProxy's `leastconn`).
    IdleFirst,
    /// The best of this many members drawn at random: no lock, not exact.
    Sampled(NonZeroUsize),
}

impl LeastRule {
    /// The word in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::IdleFirst => "idle_first",
            Self::Sampled(_) => "sampled",
        }
    }
}

/// The hash function of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashFunction {
    /// rapidhash, version 3: a few nanoseconds, a fixed output in every release.
    #[default]
    Fast,
    /// SipHash-1-3: keyed, for requests that hostile clients choose.
    FloodResistant,
}

impl HashFunction {
    /// All functions, the default first.
    pub const ALL: [Self; 2] = [Self::Fast, Self::FloodResistant];

    /// The word in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::FloodResistant => "flood_resistant",
        }
    }
}

/// How many leading bits of a client address are hashed.
///
/// An IPv4 address inside IPv6 (`::ffff:a.b.c.d`) counts as that IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePrefix {
    /// Of an IPv4 address, 0 to 32.
    pub ipv4: u8,
    /// Of an IPv6 address, 0 to 128.
    pub ipv6: u8,
}

impl Default for SourcePrefix {
    /// Whole addresses.
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 128 }
    }
}

impl SourcePrefix {
    /// `/24` and `/64`: one network, one member.
    pub const NETWORK: Self = Self { ipv4: 24, ipv6: 64 };
}

/// Which part of a URI is hashed, after the rules of HAProxy's `balance uri`.
///
/// First `form`, then `length` cuts the URI; then it ends before the `/` that
/// would exceed `depth`, and at the first `?` unless `query` includes it.
/// Nothing is decoded, folded or normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UriRule {
    /// Whether scheme and authority count.
    pub form: UriForm,
    /// Whether the query counts (HAProxy's `whole`).
    pub query: Query,
    /// At most this many bytes (HAProxy's `len`).
    pub length: Option<usize>,
    /// At most this many directory levels (HAProxy's `depth`).
    pub depth: Option<usize>,
}

/// Whether scheme and authority of an absolute URI are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UriForm {
    /// The URI as the request line had it.
    #[default]
    AsGiven,
    /// From the path on; `*` and an authority alone are empty (HAProxy's `path-only`).
    PathOnly,
}

impl UriForm {
    /// All forms, the default first.
    pub const ALL: [Self; 2] = [Self::AsGiven, Self::PathOnly];

    /// The word in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Self::AsGiven => "as_given",
            Self::PathOnly => "path_only",
        }
    }
}

/// Whether the query is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Query {
    /// The key ends before `?`.
    #[default]
    Excluded,
    /// The key goes on to the end.
    Included,
}
