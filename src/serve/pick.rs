//! `/v1/channels/{name}/pick`: which member would be picked, and why. For debugging.
//!
//! The request counts no pick and changes no order; see `docs/status.md`.

use std::net::IpAddr;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::app::{App, DaemonHandle, QueryPairs, unknown_channel};
use super::http::{PageError, json_line};
use super::status::tier_word;
use crate::balance::Request;
use crate::catalog::Entry;
use crate::channel::Role;

/// What is known of the request that needs a member.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    source: Option<IpAddr>,
    uri: Option<String>,
}

/// `GET /v1/channels/{name}/pick?source=ADDRESS&uri=PATH`.
pub(super) async fn pick<S: DaemonHandle>(
    State(app): State<App<S>>,
    Path(name): Path<String>,
    parameters: QueryPairs,
) -> Result<Response, PageError> {
    let Query(pairs) = parameters.map_err(|rejection| PageError::bad_request(rejection.body_text()))?;
    let asked = read(pairs).map_err(PageError::bad_request)?;
    let snapshot = app.daemon.observe().await?;
    let entry = snapshot.channels.find(&name).ok_or_else(|| unknown_channel(&name))?;
    Ok(json_line(StatusCode::OK, &explain(entry, &asked)))
}

fn read(pairs: Vec<(String, String)>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    for (name, value) in pairs {
        match name.as_str() {
            "source" => {
                let address = value.parse().map_err(|_| format!("source={value}: write an IP address"))?;
                asked.source = Some(address);
            }
            "uri" => asked.uri = Some(value),
            _ => return Err(format!("the parameter \"{name}\" is not known here; known: source and uri")),
        }
    }
    Ok(asked)
}

fn explain(entry: &Entry, asked: &Asked) -> Value {
    let mut request = Request::new();
    if let Some(source) = asked.source {
        request = request.source(source);
    }
    if let Some(uri) = &asked.uri {
        request = request.uri(uri.as_bytes());
    }
    let explanation = entry.balancer.explain_pick(&request);
    let (member, reason) = match explanation.member {
        Ok(view) => {
            let member = entry.member_of(view.id);
            let body = json!({
                "address": view.address.to_string(),
                "group": member.and_then(|member| member.group()),
                "backup": view.standing.role == Role::Backup,
                "weight": view.weight,
                "health": view.standing.health.word(),
            });
            (body, None)
        }
        Err(nobody) => (Value::Null, Some(nobody.to_string())),
    };
    json!({
        "channel": entry.channel().name(),
        "strategy": explanation.strategy.word(),
        "tier": tier_word(explanation.tier),
        // Text, because JSON readers round numbers of 64 bits.
        "key_hash": explanation.key_hash.map(|hash| format!("{hash:016x}")),
        "member": member,
        "reason": reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixture::snapshot;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn parameters_are_read_or_refused_by_name() {
        let asked = read(pairs(&[("source", "::ffff:192.0.2.1"), ("uri", "/a?b=1")])).unwrap();
        assert_eq!(asked.uri.as_deref(), Some("/a?b=1"));
        assert_eq!(read(pairs(&[("source", "web")])), Err("source=web: write an IP address".to_owned()));
        let unknown = "the parameter \"url\" is not known here; known: source and uri";
        assert_eq!(read(pairs(&[("url", "/")])), Err(unknown.to_owned()));
    }

    #[test]
    fn a_pick_is_explained_and_takes_nothing() {
        let snapshot = snapshot();
        let entry = snapshot.channels.find("web").unwrap();
        let asked = Asked { source: Some("192.0.2.1".parse().unwrap()), uri: None };
        let first = explain(entry, &asked);
        assert_eq!(explain(entry, &asked), first);
        assert_eq!((&first["channel"], &first["tier"]), (&json!("web"), &json!("primary")));
        assert!(first["member"]["address"].is_string() && first["reason"].is_null(), "{first}");
        assert_eq!(entry.balancer.total_picks(), 0);
    }
}
