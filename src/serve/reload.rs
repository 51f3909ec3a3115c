//! `POST /v1/reload`, and who may send it.
//!
//! Whoever may open the Unix socket may reload. Over TCP it takes an administrator's
//! login where there is a management API; where there is none, nobody can log in, and
//! peers on this machine may reload. A browser on this machine is such a peer. The extra
//! header keeps other sites' pages out: they would need a preflight, which is never
//! granted. The `Host` check keeps out pages whose own name was pointed at 127.0.0.1 (DNS
//! rebinding); it is that of `guard`, which asks it of fewer listeners. `guard` has looked
//! at `Origin` before.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::app::{App, DaemonHandle, ReloadFault};
use super::auth::{AuthGate, client_of};
use super::guard::Access;
use super::http::{BodyReader, PageError, SMALL_BODY, json_line};
use super::peer::{ConnectionInfo, PeerAddress};

const ACTION: &str = "x-vitald-action";

/// Who may ask over TCP for a reload.
#[derive(Debug, Clone)]
pub enum MayReload {
    /// Processes of this machine that ask a host of this server's: there are no accounts.
    ThisMachine(Access),
    /// Administrators who prove to this gate who they are.
    Administrators(AuthGate),
}

/// 200 with what changed; 401 and 403 when the sender may not; 422 when the configuration
/// was refused, and 503 when it could not be read: the old one stays.
pub(super) async fn reload<S: DaemonHandle>(
    State(app): State<App<S>>,
    Extension(may_reload): Extension<MayReload>,
    request: Request,
) -> Result<Response, PageError> {
    let (mut parts, body) = request.into_parts();
    let ConnectionInfo { peer, network, .. } = ConnectionInfo::of(&parts.extensions);
    if peer != PeerAddress::UnixSocket {
        may_reload.admit(&mut parts).await?;
    }
    // A body means nothing here, but one that breaks the rules of chunks may be read in
    // another way by a proxy: nothing is done for such a request.
    BodyReader::of_unproven().read_secret(body, SMALL_BODY, network).await.map_err(|_| {
        PageError::new(StatusCode::BAD_REQUEST, "the body did not arrive whole: a reload takes none")
    })?;
    let summary =
        app.daemon.reload(client_of(&mut parts.extensions)).await.map_err(|fault| match (fault, peer) {
            (ReloadFault::Refused { full, .. }, PeerAddress::UnixSocket) => {
                PageError::new(StatusCode::UNPROCESSABLE_ENTITY, &*full)
            }
            (ReloadFault::Refused { brief, .. }, PeerAddress::Network(_)) => {
                PageError::new(StatusCode::UNPROCESSABLE_ENTITY, &*brief)
            }
            (ReloadFault::Unavailable(text), _) => PageError::new(StatusCode::SERVICE_UNAVAILABLE, text),
        })?;
    let body = json!({
        "result": "reloaded",
        "channels": summary.channels,
        "members": summary.members,
        "channels_added": summary.channels_added,
        "channels_removed": summary.channels_removed,
        "channels_changed": summary.channels_changed,
        "added": summary.added,
        "removed": summary.removed,
        "changed": summary.changed,
        "restarted": summary.restarted,
    });
    Ok(json_line(StatusCode::OK, &body))
}

impl MayReload {
    /// Whether a request that came over TCP may reload; if not, what to do instead. Whoever
    /// has proved who they are is noted among the extensions.
    async fn admit(&self, parts: &mut Parts) -> Result<(), PageError> {
        let forbidden = |remedy| PageError::new(StatusCode::FORBIDDEN, remedy);
        refuse_other_sites(&parts.headers).map_err(forbidden)?;
        match self {
            Self::ThisMachine(access) => admit_local(parts, access).map_err(forbidden),
            Self::Administrators(gate) => {
                let admitted = gate.admit_administrator(parts).await;
                parts.extensions.insert(admitted.map_err(|fault| {
                    let (status, _) = fault.answer();
                    let remedy = "A reload over TCP takes an administrator's login";
                    PageError::new(status, format!("{fault} {remedy}"))
                })?);
                Ok(())
            }
        }
    }
}

/// A page of another site cannot send the header without a preflight.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.get(ACTION).is_none_or(|action| action != "reload") {
        return Err("the header \"X-Vitald-Action: reload\" is missing: add it");
    }
    Ok(())
}

/// Without accounts: whether the peer is on this machine, and asked it by a name of its own.
fn admit_local(parts: &Parts, access: &Access) -> Result<(), &'static str> {
    let connection = ConnectionInfo::of(&parts.extensions);
    if !connection.is_local() {
        return Err("only a client on this machine may reload: send the request from there, \
                    or send the daemon SIGHUP");
    }
    if !access.is_named_by(&parts.uri, &parts.headers, &connection) {
        return Err(
            "the Host header names another machine: send the request to 127.0.0.1, [::1], localhost \
                    or the address that is listened on, or name the host in [server] hosts",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
