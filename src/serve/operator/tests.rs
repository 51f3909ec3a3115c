//! Who may reload, and how much the answer tells them.

use std::net::SocketAddr;

use axum::http::HeaderName;

use super::*;
use crate::channel::Host;
use crate::config::AccessSettings;
use crate::config::api::Transport;
use crate::serve::auth::signature::sign;
use crate::serve::auth::tests::gate_of_two_keys;

const ACTION_HEADER: (&str, &str) = (ACTION, "reload");

fn parts(peer: &str, headers: &[(&'static str, &str)]) -> Parts {
    let address: SocketAddr = peer.parse().expect("an address");
    let connection = ConnectionInfo::network(address, "10.0.0.9:9650".parse().ok(), Transport::Plain);
    let mut request = Request::post("/v1/reload").extension(connection);
    for (name, value) in headers {
        request = request.header(HeaderName::from_static(name), *value);
    }
    request.body(axum::body::Body::empty()).expect("a request").into_parts().0
}

async fn verdict(may_operate: &MayOperate, mut parts: Parts) -> Result<(), (u16, String)> {
    let admitted = may_operate.admit(&mut parts, Operation::Reload).await;
    admitted.map_err(|error| (error.status.as_u16(), error.text))
}

#[tokio::test]
async fn only_a_deliberate_local_client_may_reload() {
    let access = Access::new(&AccessSettings {
        hosts: vec![Host::Name("vitald.example".into())],
        ..Default::default()
    });
    let here = MayOperate::ThisMachine(access);
    for peer in ["127.0.0.1:5", "127.1.2.3:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
        assert_eq!(verdict(&here, parts(peer, &[ACTION_HEADER])).await, Ok(()), "{peer}");
    }
    for peer in ["10.0.0.1:5", "[::ffff:10.0.0.1]:5", "[2001:db8::1]:5"] {
        let (status, text) = verdict(&here, parts(peer, &[ACTION_HEADER])).await.expect_err(peer);
        assert!(status == 403 && text.contains("this machine"), "{peer}: {text}");
    }
    // The address that is listened on is this machine too, under its own name only.
    let by_name = |host| verdict(&here, parts("10.0.0.9:5", &[ACTION_HEADER, ("host", host)]));
    assert_eq!(by_name("10.0.0.9:9650").await, Ok(()));
    assert!(by_name("10.0.0.1:9650").await.is_err());
    for headers in [&[][..], &[(ACTION, "1")], &[(ACTION, "reload ")]] {
        let (_, text) = verdict(&here, parts("127.0.0.1:5", headers)).await.expect_err("refused");
        assert!(text.contains("X-Vitald-Action"), "{text}");
    }
    for host in
        ["vitald.example:9650", "127.0.0.1:9650", "localhost", "LOCALHOST:9650", "[::1]:9650", "127.0.0.1"]
    {
        let headers = [ACTION_HEADER, ("host", host)];
        assert_eq!(verdict(&here, parts("127.0.0.1:5", &headers)).await, Ok(()), "{host}");
    }
    for host in ["evil.example:9650", "localhost.evil.example", "10.0.0.1:9650", "", "a b"] {
        let headers = [ACTION_HEADER, ("host", host)];
        let (_, text) = verdict(&here, parts("127.0.0.1:5", &headers)).await.expect_err(host);
        assert!(text.contains("Host"), "{host}: {text}");
    }
}

#[tokio::test]
async fn with_accounts_it_takes_an_administrator_wherever_they_are() {
    let accounts = MayOperate::Administrators(gate_of_two_keys());
    for (peer, action, key, expected) in [
        ("127.0.0.1:5", true, Some("ADMIN"), Ok(())),
        ("192.0.2.1:5", true, Some("ADMIN"), Ok(())),
        ("127.0.0.1:5", false, Some("ADMIN"), Err(403)),
        ("127.0.0.1:5", true, Some("VIEWER"), Err(403)),
        ("127.0.0.1:5", true, Some("STRANGER"), Err(401)),
        ("127.0.0.1:5", true, None, Err(401)),
    ] {
        let headers = [("host", "vitald.example"), ("x-sdk-date", "20200102T030405Z"), ACTION_HEADER];
        let mut parts = parts(peer, if action { &headers } else { &headers[..2] });
        if let Some(key) = key {
            let request = Request::from_parts(parts.clone(), axum::body::Body::empty());
            let authorization = sign(&request, b"", key, b"secret");
            parts.headers.insert("authorization", authorization.parse().expect("a header"));
        }
        let found = verdict(&accounts, parts).await.map_err(|(status, _)| status);
        assert_eq!(found, expected, "{peer} {action} {key:?}");
    }
}
