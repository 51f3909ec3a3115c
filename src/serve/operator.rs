//! What operators ask of the daemon: `POST /v1/reload`, and `POST
//! /v1/channels/{name}/members/{member}/{action}`; and who may send it.
//!
//! Whoever may open the Unix socket may. Over TCP it takes an administrator's
//! login where there is a management API; where there is none, nobody can log in, and
//! peers on this machine may. A browser on this machine is such a peer. The extra
//! header keeps other sites' pages out: they would need a preflight, which is never
//! granted. The `Host` check keeps out pages whose own name was pointed at 127.0.0.1 (DNS
//! rebinding); it is that of `guard`, which asks it of fewer listeners. `guard` has looked
//! at `Origin` before.

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::app::{App, DaemonHandle, QueryPairs, ReloadFault};
use super::auth::{AuthGate, client_of};
use super::guard::Access;
use super::http::{BodyReader, PageError, SMALL_BODY, json, json_line};
use super::peer::{ConnectionInfo, PeerAddress};
use super::status::{OverrideBody, group_of};
use crate::catalog::{Client, Fault, MemberAction, MemberChange, MemberChangeError, MemberChanged};
use crate::channel::MemberStatus;

const ACTION: &str = "x-vitald-action";

/// Who may ask over TCP for what operators do.
#[derive(Debug, Clone)]
pub enum MayOperate {
    /// Processes of this machine that ask a host of this server's: there are no accounts.
    ThisMachine(Access),
    /// Administrators who prove to this gate who they are.
    Administrators(AuthGate),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Reload,
    ChangeMember,
}

impl Operation {
    /// What the header says.
    fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::ChangeMember => "member",
        }
    }

    /// What it is called in errors.
    fn name(self) -> &'static str {
        match self {
            Self::Reload => "a reload",
            Self::ChangeMember => "a change of a member",
        }
    }
}

/// 200 with what changed; 401 and 403 when the sender may not; 422 when the configuration
/// was refused, and 503 when it could not be read: the old one stays.
pub(super) async fn reload<S: DaemonHandle>(
    State(app): State<App<S>>,
    Extension(may_operate): Extension<MayOperate>,
    request: Request,
) -> Result<Response, PageError> {
    let (client, peer) = may_operate.enter(request, Operation::Reload).await?;
    let summary = app.daemon.reload(client).await.map_err(|fault| match (fault, peer) {
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

/// 200 with the member as it is now; 400 for a weight that is none, 404 for an unknown
/// channel, member or action, 409 when several members are meant or the channel does not
/// allow it, 503 when the change could not be made durable: nothing has changed.
pub(super) async fn change_member<S: DaemonHandle>(
    State(app): State<App<S>>,
    Extension(may_operate): Extension<MayOperate>,
    Path((channel, member, action)): Path<(String, String, String)>,
    parameters: QueryPairs,
    request: Request,
) -> Result<Response, PageError> {
    let (client, _) = may_operate.enter(request, Operation::ChangeMember).await?;
    let action = action_of(&action, parameters)?;
    let change = MemberChange { channel, member, action, who: client.name.to_string() };
    match app.daemon.change_member(change, client).await {
        Ok(changed) => Ok(json(StatusCode::OK, &ChangedBody::of(&changed))),
        Err(fault) => Err(refusal(&fault)),
    }
}

/// The action of a path; only a weight takes a parameter.
fn action_of(word: &str, parameters: QueryPairs) -> Result<MemberAction, PageError> {
    let action = match word {
        "enable" => MemberAction::Enable,
        "disable" => MemberAction::Disable,
        "drain" => MemberAction::Drain,
        "weight" => return weight_of(parameters).map(MemberAction::Weigh),
        "reset" => MemberAction::Reset,
        _ => {
            let text = format!("no action is called \"{word}\": use enable, disable, drain, weight or reset");
            return Err(PageError::new(StatusCode::NOT_FOUND, text));
        }
    };
    let parameters = parameters.map_err(|rejection| PageError::bad_request(rejection.body_text()))?;
    match parameters.first() {
        Some((name, _)) => Err(PageError::bad_request(format!("the parameter \"{name}\" is not known here"))),
        None => Ok(action),
    }
}

fn weight_of(parameters: QueryPairs) -> Result<u16, PageError> {
    let parameters = parameters.map_err(|rejection| PageError::bad_request(rejection.body_text()))?;
    let weight = match parameters.as_slice() {
        [(name, weight)] if name == "weight" && weight.bytes().all(|byte| byte.is_ascii_digit()) => {
            weight.parse().ok()
        }
        _ => None,
    };
    weight.ok_or_else(|| PageError::bad_request(format!("{}: add ?weight=NUMBER", MemberChangeError::Weight)))
}

fn refusal(fault: &Fault) -> PageError {
    match fault {
        Fault::MemberChange(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::CONFLICT);
            PageError::new(status, error.to_string())
        }
        Fault::NotStored(why) => {
            let text = format!("the change could not be stored, nothing has changed: {why}");
            PageError::new(StatusCode::SERVICE_UNAVAILABLE, text)
        }
        Fault::Unavailable(why) => PageError::new(StatusCode::SERVICE_UNAVAILABLE, why.clone()),
        // The API's own rules refuse it.
        fault => {
            let details = fault.details().into_iter().map(|detail| format!(" {}.", detail.problem));
            PageError::new(StatusCode::CONFLICT, details.fold(fault.message(), |text, more| text + &more))
        }
    }
}

/// A member after a change.
#[derive(Serialize)]
struct ChangedBody<'c> {
    channel: &'c str,
    member: String,
    group: Option<&'c str>,
    enabled: Option<bool>,
    weight: Option<u16>,
    r#override: Option<OverrideBody<'c>>,
}

impl<'c> ChangedBody<'c> {
    fn of(changed: &'c MemberChanged) -> Self {
        Self {
            channel: &changed.channel,
            member: changed.member.address(),
            group: group_of(&changed.member),
            enabled: changed.in_effect.map(|(status, _)| status == MemberStatus::Enabled),
            weight: changed.in_effect.map(|(_, weight)| weight),
            r#override: changed.kept.as_deref().map(OverrideBody::of),
        }
    }
}

impl MayOperate {
    /// Who asks, and from where, if they may. A body means nothing to an operation, but one
    /// that breaks the rules of chunks may be read in another way by a proxy: nothing is
    /// done for such a request.
    async fn enter(&self, request: Request, asked: Operation) -> Result<(Client, PeerAddress), PageError> {
        let (mut parts, body) = request.into_parts();
        let ConnectionInfo { peer, network, .. } = ConnectionInfo::of(&parts.extensions);
        if peer != PeerAddress::UnixSocket {
            self.admit(&mut parts, asked).await?;
        }
        BodyReader::of_unproven().read_secret(body, SMALL_BODY, network).await.map_err(|_| {
            let text = format!("the body did not arrive whole: {} takes none", asked.name());
            PageError::new(StatusCode::BAD_REQUEST, text)
        })?;
        Ok((client_of(&mut parts.extensions), peer))
    }

    /// Whether a request that came over TCP may ask for it; if not, what to do instead.
    /// Whoever has proved who they are is noted among the extensions.
    async fn admit(&self, parts: &mut Parts, asked: Operation) -> Result<(), PageError> {
        let forbidden = |remedy| PageError::new(StatusCode::FORBIDDEN, remedy);
        refuse_other_sites(&parts.headers, asked).map_err(forbidden)?;
        match self {
            Self::ThisMachine(access) => admit_local(parts, access, asked).map_err(forbidden),
            Self::Administrators(gate) => {
                let admitted = gate.admit_administrator(parts).await;
                parts.extensions.insert(admitted.map_err(|fault| {
                    let (status, _) = fault.answer();
                    let name = asked.name();
                    PageError::new(
                        status,
                        format!("{fault} It takes an administrator's login for {name} over TCP"),
                    )
                })?);
                Ok(())
            }
        }
    }
}

/// A page of another site cannot send the header without a preflight.
fn refuse_other_sites(headers: &HeaderMap, asked: Operation) -> Result<(), String> {
    if headers.get(ACTION).is_none_or(|action| action != asked.word()) {
        return Err(format!("the header \"X-Vitald-Action: {}\" is missing: add it", asked.word()));
    }
    Ok(())
}

/// Without accounts: whether the peer is on this machine, and asked it by a name of its own.
fn admit_local(parts: &Parts, access: &Access, asked: Operation) -> Result<(), String> {
    let connection = ConnectionInfo::of(&parts.extensions);
    if !connection.is_local() {
        let or = match asked {
            Operation::Reload => ", or send the daemon SIGHUP",
            Operation::ChangeMember => "",
        };
        let name = asked.name();
        return Err(format!("{name} takes a client on this machine: send the request from there{or}"));
    }
    if !access.is_named_by(&parts.uri, &parts.headers, &connection) {
        return Err(
            "the Host header names another machine: send the request to 127.0.0.1, [::1], localhost \
                    or the address that is listened on, or name the host in [server] hosts"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
