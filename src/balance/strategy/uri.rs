//! URI hash: requests for one URI go to one member.
//!
//! This file turns a URI into a key, by rules that are those of HAProxy's
//! `balance uri`; `key_table` finds the key's member.

use crate::balance::hash::Hashing;
use crate::balance::options::{Query, UriForm, UriRule};

impl Hashing {
    /// The hash of what the URI rule leaves of a URI.
    #[inline(always)]
    pub(in crate::balance) fn uri(&self, uri: &[u8]) -> u64 {
        self.bytes(self.uri.key(uri))
    }
}

impl UriRule {
    /// The part of `uri` that is hashed.
    #[must_use]
    #[inline(always)]
    pub fn key<'a>(&self, uri: &'a [u8]) -> &'a [u8] {
        let uri = match self.form {
            UriForm::AsGiven => uri,
            UriForm::PathOnly => from_path(uri),
        };
        let uri = match self.length {
            Some(length) => uri.get(..length).unwrap_or(uri),
            None => uri,
        };
        match (self.depth, self.query) {
            (None, Query::Included) => uri,
            (None, Query::Excluded) => before_query(uri),
            (Some(depth), query) => within_depth(uri, depth, query),
        }
    }
}

/// Drops scheme and authority.
fn from_path(uri: &[u8]) -> &[u8] {
    if uri.first() == Some(&b'/') {
        return uri;
    }
    let authority = uri.windows(3).position(|part| part == b"://").map(|scheme| scheme + 3);
    let rest = authority.and_then(|start| uri.get(start..)).unwrap_or_default();
    rest.iter().position(|&byte| byte == b'/').and_then(|path| rest.get(path..)).unwrap_or_default()
}

/// Everything before the first `?`.
#[inline(always)]
fn before_query(uri: &[u8]) -> &[u8] {
    // Sixteen bytes at a time: keys are short, and most have no query at all. The last
    // sixteen overlap those before.
    let marked = |bytes: &[u8; 16]| bytes.iter().fold(false, |found, byte| found | (*byte == b'?'));
    let is_plain = match uri.last_chunk() {
        Some(last) => !marked(last) && !uri.as_chunks().0.iter().any(marked),
        None => !uri.contains(&b'?'),
    };
    if is_plain { uri } else { cut_at_query(uri) }
}

#[cold]
fn cut_at_query(uri: &[u8]) -> &[u8] {
    let end = uri.iter().position(|&byte| byte == b'?').unwrap_or(uri.len());
    uri.get(..end).unwrap_or(uri)
}

/// Stops before the `/` that opens one level too many.
fn within_depth(uri: &[u8], depth: usize, query: Query) -> &[u8] {
    let mut slashes = 0;
    let end = uri.iter().position(|&byte| match byte {
        b'/' => {
            slashes += 1;
            slashes > depth
        }
        b'?' => query == Query::Excluded,
        _ => false,
    });
    end.and_then(|end| uri.get(..end)).unwrap_or(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_rules_follow_haproxy() {
        let default = UriRule::default();
        let whole = UriRule { query: Query::Included, ..default };
        let depth = |depth| UriRule { depth: Some(depth), ..default };
        let length = |length| UriRule { length: Some(length), ..default };
        let path = UriRule { form: UriForm::PathOnly, ..default };
        let table: &[(UriRule, &str, &str)] = &[
            (default, "/a/b?c=d", "/a/b"),
            (default, "/a/long/path/without/any/query", "/a/long/path/without/any/query"),
            (default, "/a/long/path/with/a?query=behind?it", "/a/long/path/with/a"),
            (default, "?", ""),
            (default, "http://h/a?b", "http://h/a"),
            (whole, "/a/b?c=d", "/a/b?c=d"),
            (depth(1), "/a/b/c", "/a"),
            (depth(2), "/a/b/c", "/a/b"),
            (depth(2), "/a?x/b/c", "/a"),
            (depth(9), "/a/b/c", "/a/b/c"),
            (UriRule { depth: Some(1), ..whole }, "/a?x/b", "/a?x"),
            (length(3), "/a/b/c", "/a/"),
            (length(99), "/a", "/a"),
            (UriRule { depth: Some(1), ..length(4) }, "/a/b/c", "/a"),
            (path, "http://host:80/a?b", "/a"),
            (path, "/a?b", "/a"),
            (path, "*", ""),
            (path, "host:443", ""),
            (path, "http://host", ""),
        ];
        for (rule, uri, expected) in table {
            assert_eq!(rule.key(uri.as_bytes()), expected.as_bytes(), "{rule:?} of {uri}");
        }
    }
}
