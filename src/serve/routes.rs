//! Which path of the daemon's own answers what; `/livez` and `/readyz` themselves.

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::json;

use super::app::{App, DaemonHandle, Liveness};
use super::guard::Access;
use super::http::{PageError, json_line, landing_page};
use super::operator::MayOperate;
use super::stream::Writers;
use super::{metrics, operator, pick, status};
use crate::catalog::Snapshot;
use crate::channel::Health;

/// All routes over one daemon that has no management API; `access` says by which hosts it
/// may be asked to reload.
pub fn router<S: DaemonHandle>(daemon: S, access: &Access) -> Router {
    pages(daemon, MayOperate::ThisMachine(access.clone())).route("/", get(landing_page))
}

/// The routes over one daemon but for `/`, which the API shares with the landing page; and
/// who may ask over TCP for what operators
/// do.
pub fn pages<S: DaemonHandle>(daemon: S, may_operate: MayOperate) -> Router {
    let metrics = get(metrics::metrics::<S>).layer(Extension(metrics::ScrapeBuffer::default()));
    Router::new()
        .route("/livez", get(live::<S>))
        .route("/-/healthy", get(live::<S>))
        .route("/readyz", get(ready::<S>))
        .route("/-/ready", get(ready::<S>))
        .route("/metrics", metrics)
        .route("/v1/status", get(status::status::<S>))
        .route("/v1/channels/{name}", get(status::channel::<S>))
        .route("/v1/channels/{name}/pick", get(pick::pick::<S>))
        .route("/v1/reload", post(operator::reload::<S>).layer(Extension(may_operate.clone())))
        .route(
            "/v1/channels/{name}/members/{member}/{action}",
            post(operator::change_member::<S>).layer(Extension(may_operate)),
        )
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(App { daemon, writers: Writers::new() })
}

async fn not_found(uri: Uri) -> PageError {
    PageError::new(StatusCode::NOT_FOUND, format!("nothing is at {}; / lists what there is", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> PageError {
    PageError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

/// 200 while every driver and the control loop make progress. Asks none of them, so it
/// answers even when all of them hang.
async fn live<S: DaemonHandle>(State(app): State<App<S>>) -> Response {
    let (driver, who, silent) = match app.daemon.liveness() {
        Liveness::Alive => return json_line(StatusCode::OK, &json!({ "status": "alive" })),
        Liveness::ControlStalled { silent } => (None, "the control loop".to_owned(), silent),
        Liveness::Stalled { driver, silent } => (Some(driver), format!("driver {driver}"), silent),
    };
    let seconds = silent.as_secs_f64();
    let reason = format!("{who} has made no progress for {seconds:.1} s");
    let body = json!({ "status": "stalled", "driver": driver, "seconds": seconds, "reason": reason });
    json_line(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// 200 once every member has a verdict, or `ready_within` has passed.
async fn ready<S: DaemonHandle>(State(app): State<App<S>>) -> Result<Response, PageError> {
    let snapshot = app.daemon.observe().await?;
    if snapshot.ready {
        return Ok(json_line(StatusCode::OK, &json!({ "status": "ready" })));
    }
    let (waiting, probed) = without_verdict(&snapshot);
    let reason = format!("{waiting} of {probed} members have no verdict yet");
    let body =
        json!({ "status": "starting", "without_verdict": waiting, "members": probed, "reason": reason });
    Ok(json_line(StatusCode::SERVICE_UNAVAILABLE, &body))
}

/// How many probed members are unknown, and how many are probed at all.
fn without_verdict(snapshot: &Snapshot) -> (usize, usize) {
    let (mut waiting, mut probed) = (0, 0);
    for entry in snapshot.channels.entries() {
        if entry.channel().active_check().is_none() {
            continue;
        }
        for member in snapshot.channel(entry).members() {
            probed += 1;
            waiting += usize::from(member.health() == Health::Unknown);
        }
    }
    (waiting, probed)
}
