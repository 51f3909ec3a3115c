//! Query parameters: which channels, and how much of them.
//!
//! A parameter or value that is not known is refused: a mistyped filter that
//! were ignored would answer with everything.

use std::sync::Arc;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::Response;

use super::routes::error;
use crate::catalog::{Channels, Entry};

/// The parameters of a request, decoded, in order.
pub(super) type QueryPairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// How much `/metrics` tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MetricsDetail {
    /// `detail=member`: everything.
    #[default]
    Member,
    /// `detail=channel`: no series with a `member` label.
    Channel,
}

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Names of channels; empty means all.
    channels: Vec<String>,
    /// How much of them.
    pub(super) detail: MetricsDetail,
}

/// Which parameters a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `channel`.
    Channel,
    /// `channel` and `detail`.
    ChannelAndDetail,
}

impl Selection {
    /// Reads the parameters; 400 with a clear text when one is not known.
    #[expect(clippy::result_large_err, reason = "the error is the answer; one per request")]
    pub(super) fn read(parameters: QueryPairs, takes: Takes) -> Result<Self, Response> {
        let Query(parameters) = parameters.map_err(|rejection| bad_request(&rejection.body_text()))?;
        let mut selection = Self::default();
        for (name, value) in parameters {
            match (name.as_str(), value.as_str(), takes) {
                ("channel", _, _) => selection.channels.push(value),
                ("detail", "channel", Takes::ChannelAndDetail) => selection.detail = MetricsDetail::Channel,
                ("detail", "member", Takes::ChannelAndDetail) => selection.detail = MetricsDetail::Member,
                ("detail", _, Takes::ChannelAndDetail) => {
                    return Err(bad_request(&format!("detail={value}: use detail=channel or detail=member")));
                }
                (_, _, takes) => {
                    let known = match takes {
                        Takes::Channel => "channel",
                        Takes::ChannelAndDetail => "channel and detail",
                    };
                    return Err(bad_request(&format!(
                        "the parameter \"{name}\" is not known here; known: {known}"
                    )));
                }
            }
        }
        Ok(selection)
    }

    /// The channels asked for, each once, in name order; 404 when there is none
    /// of a name.
    #[expect(clippy::result_large_err, reason = "the error is the answer; one per request")]
    pub(super) fn entries(&self, channels: &Channels) -> Result<Vec<Arc<Entry>>, Response> {
        if self.channels.is_empty() {
            return Ok(channels.entries.clone());
        }
        let mut names: Vec<&str> = self.channels.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|name| channels.find(name).cloned().ok_or_else(|| unknown_channel(name)))
            .collect()
    }
}

/// 404 for a channel that does not exist.
pub(super) fn unknown_channel(name: &str) -> Response {
    error(StatusCode::NOT_FOUND, &format!("no channel is named \"{name}\""))
}

fn bad_request(text: &str) -> Response {
    error(StatusCode::BAD_REQUEST, text)
}
