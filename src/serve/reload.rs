//! `POST /v1/reload`, and who may send it.
//!
//! The server's own pages know no credentials, so only peers on this machine may
//! reload. A browser on this machine is such a peer. The extra header keeps other
//! sites' pages out: they would need a preflight, which is never granted. The `Host`
//! check keeps out pages whose own name was pointed at 127.0.0.1 (DNS rebinding).

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header, uri::Authority};
use axum::response::Response;
use serde_json::json;

use super::app::{App, DaemonHandle};
use super::http::{PageError, json_line};
use super::peer::{ConnectionInfo, PeerAddress};

const ACTION: &str = "x-vitald-action";

/// 200 with what changed, 403 when the sender may not, 422 when the
/// configuration was refused and the old one stays.
pub(super) async fn reload<S: DaemonHandle>(
    State(app): State<App<S>>,
    Extension(connection): Extension<ConnectionInfo>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    admit(connection, &headers).map_err(|remedy| PageError::new(StatusCode::FORBIDDEN, remedy))?;
    let reloaded = app.daemon.reload().await;
    let summary = reloaded.map_err(|text| PageError::new(StatusCode::UNPROCESSABLE_ENTITY, text))?;
    let body = json!({
        "result": "reloaded",
        "channels": summary.channels,
        "members": summary.members,
        "added": summary.added,
        "removed": summary.removed,
        "restarted": summary.restarted,
    });
    Ok(json_line(StatusCode::OK, &body))
}

/// Whether this request may reload; if not, what to do instead.
fn admit(connection: ConnectionInfo, headers: &HeaderMap) -> Result<(), &'static str> {
    if !connection.is_local() {
        return Err("only a client on this machine may reload: send the request from there, \
                    or send the daemon SIGHUP");
    }
    if headers.get(ACTION).is_none_or(|action| action != "reload") {
        return Err("the header \"X-Vitald-Action: reload\" is missing: add it");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| !names_this_machine(host, connection.peer)) {
        return Err(
            "the Host header names another machine: send the request to 127.0.0.1, [::1], localhost \
                    or the address that is listened on",
        );
    }
    Ok(())
}

/// A peer on this machine has the address that it connected to, or loopback.
fn names_this_machine(host: &str, peer: PeerAddress) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_ours = |address: std::net::IpAddr| {
        let address = address.to_canonical();
        let is_peers = matches!(peer, PeerAddress::Network(peer) if peer.to_canonical() == address);
        address.is_loopback() || is_peers
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::api::Transport;

    fn verdict(peer: &str, headers: &[(&'static str, &str)]) -> Result<(), &'static str> {
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), value.parse().expect("a header value"))
        });
        {
            let address: std::net::SocketAddr = peer.parse().expect("an address");
            let local = "10.0.0.9:9650".parse().ok();
            admit(ConnectionInfo::network(address, local, Transport::Plain), &headers.collect())
        }
    }

    #[test]
    fn only_a_deliberate_local_client_may_reload() {
        let action = (ACTION, "reload");
        for peer in ["127.0.0.1:5", "127.1.2.3:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert_eq!(verdict(peer, &[action]), Ok(()), "{peer}");
        }
        for peer in ["10.0.0.1:5", "[::ffff:10.0.0.1]:5", "[2001:db8::1]:5"] {
            assert!(verdict(peer, &[action]).expect_err(peer).contains("this machine"), "{peer}");
        }
        // The address that is listened on is this machine too, under its own name only.
        assert_eq!(verdict("10.0.0.9:5", &[action, ("host", "10.0.0.9:9650")]), Ok(()));
        assert!(verdict("10.0.0.9:5", &[action, ("host", "10.0.0.1:9650")]).is_err());
        for headers in [&[][..], &[(ACTION, "1")], &[(ACTION, "reload ")]] {
            assert!(verdict("127.0.0.1:5", headers).expect_err("refused").contains("X-Vitald-Action"));
        }
        for host in ["127.0.0.1:9650", "localhost", "LOCALHOST:9650", "[::1]:9650", "127.0.0.1"] {
            assert_eq!(verdict("127.0.0.1:5", &[action, ("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example:9650", "localhost.evil.example", "10.0.0.1:9650", "", "a b"] {
            assert!(
                verdict("127.0.0.1:5", &[action, ("host", host)]).expect_err(host).contains("Host"),
                "{host}"
            );
        }
    }
}
