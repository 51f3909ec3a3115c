//! `/livez` and `/readyz`: 200 or 503, and a short body that says why.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::routes::{App, json, unavailable};
use super::source::{DaemonHandle, Liveness};
use crate::catalog::Snapshot;
use crate::channel::{CheckStatus, Health};

/// 200 while every driver makes progress. Asks no driver, so it answers even
/// when all of them hang.
pub(super) async fn live<S: DaemonHandle>(State(app): State<App<S>>) -> Response {
    match app.source.liveness() {
        Liveness::Alive => json(StatusCode::OK, &json!({ "status": "alive" })),
        Liveness::Stalled { driver, silent } => {
            let seconds = silent.as_secs_f64();
            let reason = format!("driver {driver} has made no progress for {seconds:.1} s");
            let body = json!({ "status": "stalled", "driver": driver, "seconds": seconds, "reason": reason });
            json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

/// 200 once every member has a verdict, or `ready_within` has passed.
pub(super) async fn ready<S: DaemonHandle>(State(app): State<App<S>>) -> Response {
    let snapshot = match app.source.observe().await {
        Ok(snapshot) => snapshot,
        Err(cause) => return unavailable(&cause),
    };
    if snapshot.ready {
        return json(StatusCode::OK, &json!({ "status": "ready" }));
    }
    let (waiting, probed) = without_verdict(&snapshot);
    let reason = format!("{waiting} of {probed} members have no verdict yet");
    let body =
        json!({ "status": "starting", "without_verdict": waiting, "members": probed, "reason": reason });
    json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// How many probed members are unknown, and how many are probed at all.
fn without_verdict(snapshot: &Snapshot) -> (usize, usize) {
    let (mut waiting, mut probed) = (0, 0);
    for entry in &snapshot.channels.entries {
        let check = entry.channel.health_check();
        if check.is_none_or(|check| check.status() == CheckStatus::Off) {
            continue;
        }
        for member in snapshot.channel(entry).members() {
            probed += 1;
            waiting += usize::from(member.health() == Health::Unknown);
        }
    }
    (waiting, probed)
}
