//! Tokens, signatures, the local socket, reloads and waits, through the gate.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use axum::http::{Extensions, Request};

use super::super::identity::{Action, NamedOrId};
use super::*;
use crate::config::api::{AccessKey, ClearText, Project, Transport, User};
use crate::config::password::PasswordHash;
use crate::health::{MonotonicTime, Timestamp};

const PASSWORD: &str = "hidden-password";
const SECRET: &[u8] = b"probe-secret-key-0123456789";
const ACCESS_KEY: &str = "PROBEAK0000000000001";
/// 2020-01-02T03:04:05Z, when the reference's vector was signed.
const WALL: u64 = 1_577_934_245_000_000_000;
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

use std::net::{IpAddr, Ipv4Addr};

fn api() -> ApiSettings {
    let user = |name: &str, role| User {
        name: name.to_owned(),
        domain: "local".to_owned(),
        password: PasswordHash::cheap(PASSWORD.as_bytes()),
        role,
    };
    ApiSettings {
        project: Project { id: "p1".to_owned(), name: "cn-north-4".to_owned() },
        instances: Vec::new(),
        users: vec![user("ops", AccountRole::Admin), user("eye", AccountRole::Viewer)],
        access_keys: vec![AccessKey {
            id: ACCESS_KEY.to_owned(),
            secret_key: Secret::new(SECRET.to_vec()),
            role: AccountRole::Viewer,
        }],
        clear_text: ClearText::LoopbackOnly,
        quotas: Default::default(),
    }
}

/// A gate, and its clock in seconds from the start.
fn gate_of(api: &ApiSettings) -> (AuthGate, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&seconds);
    let read = move || {
        let nanos = clock.load(Ordering::Relaxed) * 1_000_000_000;
        Now { monotonic: MonotonicTime(nanos), wall: Timestamp(WALL + nanos) }
    };
    (AuthGate::new(api, Arc::new(read), 2).expect("randomness"), seconds)
}

fn named(name: &str) -> UserName {
    UserName::Named { name: name.to_owned(), domain: NamedOrId::Name("local".to_owned()) }
}

async fn log_in(gate: &AuthGate, name: &str, password: &str) -> Result<Arc<UserAccount>, LoginFault> {
    let mut extensions = Extensions::new();
    extensions.insert(ConnectionInfo::network((PEER, 1).into(), None, Transport::Plain));
    gate.log_in(&named(name), Zeroizing::new(password.to_owned()), &extensions).await
}

async fn token_of(gate: &AuthGate, name: &str, scope: Scope) -> String {
    let user = log_in(gate, name, PASSWORD).await.expect("the right password");
    gate.issue(&user, scope).expect("randomness").token.expose().to_owned()
}

fn parts(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get(
        "/v2/p1/apigw/instances/i1/vpc-channels\
                                    ?limit=20&members_return=true&name=a%20b%2F~%2A&offset=0",
    );
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let origin = ConnectionInfo::network((PEER, 5).into(), None, Transport::Plain);
    request.extension(origin).body(()).expect("a request").into_parts().0
}

/// The reference's first vector.
fn signed(signature: &str) -> Parts {
    let authorization = format!(
        "SDK-HMAC-SHA256 Access={ACCESS_KEY}, \
         SignedHeaders=content-type;host;user-agent;x-project-id;x-sdk-date, Signature={signature}"
    );
    parts(&[
        ("content-type", "application/json"),
        ("host", "127.0.0.1:8080"),
        ("user-agent", "probe/1"),
        ("x-project-id", "p1"),
        ("x-sdk-date", "20200102T030405Z"),
        ("authorization", &authorization),
    ])
}

const GOOD: &str = "fea5a83a92679c30501df25ade44bd18c97d52af1ab6b756e1838aa35b4faa84";

#[tokio::test(start_paused = true)]
async fn a_token_says_who_and_what_for() {
    let (gate, seconds) = gate_of(&api());
    let token = token_of(&gate, "ops", Scope::Project).await;
    let check = async |token: &str| gate.check(&parts(&[("x-auth-token", token)]), b"").await;
    let identity = check(&token).await.expect("a good token");
    assert_eq!(identity.principal.to_string(), "ops@local");
    assert_eq!((identity.project.as_deref(), identity.role), (Some("p1"), AccountRole::Admin));

    let scoped = token_of(&gate, "eye", Scope::Domain).await;
    let identity = check(&scoped).await.expect("a good token");
    assert_eq!(identity.admit("p1", Action::Read), Err(AuthFault::NoProject));

    for (token, fault) in [
        ("", AuthFault::TokenMissing),
        ("x", AuthFault::TokenUnknown),
        (&token[1..], AuthFault::TokenUnknown),
        (&token.to_uppercase(), AuthFault::TokenUnknown),
    ] {
        assert_eq!(check(token).await, Err(fault), "{token}");
    }
    let twice = parts(&[("x-auth-token", &token), ("x-auth-token", &token)]);
    assert_eq!(gate.check(&twice, b"").await, Err(AuthFault::TokenUnknown));
    assert_eq!(gate.check(&parts(&[]), b"").await, Err(AuthFault::TokenMissing));

    seconds.store(24 * 60 * 60, Ordering::Relaxed);
    assert_eq!(check(&token).await, Err(AuthFault::TokenExpired));
    gate.revoke(token.as_bytes());
    assert_eq!(check(&token).await, Err(AuthFault::TokenUnknown));
}

#[tokio::test(start_paused = true)]
async fn a_signature_says_who() {
    let (gate, seconds) = gate_of(&api());
    let identity = gate.check(&signed(GOOD), b"").await.expect("the vector");
    assert_eq!(identity.principal, Principal::AccessKey(ACCESS_KEY.into()));
    assert_eq!((identity.project.as_deref(), identity.role), (Some("p1"), AccountRole::Viewer));
    let mismatch = Err(AuthFault::Signature(SignatureFault::Mismatch));
    assert_eq!(gate.check(&signed(GOOD), b"x").await, mismatch);
    assert_eq!(gate.check(&signed(&"0".repeat(64)), b"").await, mismatch);
    seconds.store(901, Ordering::Relaxed);
    let stale = gate.check(&signed(GOOD), b"").await.expect_err("too old");
    assert_eq!(stale.answer(), (StatusCode::UNAUTHORIZED, "APIG.0301"));

    let (nobody, _) = gate_of(&ApiSettings { access_keys: Vec::new(), ..api() });
    let fault = nobody.check(&signed(GOOD), b"").await.expect_err("no such key");
    assert_eq!(
        fault.to_string(),
        "Incorrect IAM authentication information: \
         Get secretKey failed,ak:PROBEAK0000000000001,err:ak not exist"
    );
}

#[tokio::test(start_paused = true)]
async fn the_local_socket_needs_no_credentials_but_hears_them() {
    let (gate, _) = gate_of(&api());
    let local = |headers: &[(&str, &str)]| {
        let mut parts = parts(headers);
        parts.extensions.insert(ConnectionInfo::socket(None));
        parts
    };
    let identity = gate.check(&local(&[]), b"").await.expect("let in");
    assert_eq!((identity.principal, identity.role), (Principal::LocalSocket, AccountRole::Admin));
    assert_eq!(gate.check(&local(&[("x-auth-token", "x")]), b"").await, Err(AuthFault::TokenUnknown));
    let mut stranger = parts(&[]);
    stranger.extensions.clear();
    assert_eq!(gate.check(&stranger, b"").await, Err(AuthFault::TokenMissing));
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_tokens_of_other_passwords_and_changes_roles() {
    let (gate, _) = gate_of(&api());
    let [ops, eye] =
        [token_of(&gate, "ops", Scope::Project).await, token_of(&gate, "eye", Scope::Project).await];
    let role = async |token: &str| {
        gate.check(&parts(&[("x-auth-token", token)]), b"").await.map(|identity| identity.role)
    };
    gate.replace(&api()).expect("randomness");
    assert_eq!(role(&ops).await, Ok(AccountRole::Admin), "nothing changed");

    let mut changed = api();
    changed.users[0].password = PasswordHash::cheap(b"another");
    changed.users[1].role = AccountRole::Admin;
    gate.replace(&changed).expect("randomness");
    assert_eq!(role(&ops).await, Err(AuthFault::TokenUnknown));
    assert_eq!(role(&eye).await, Ok(AccountRole::Admin));

    changed.users.pop();
    gate.replace(&changed).expect("randomness");
    gate.replace(&api()).expect("randomness");
    assert_eq!(role(&eye).await, Err(AuthFault::TokenUnknown), "gone is gone");
}

#[tokio::test(start_paused = true)]
async fn guessing_is_slow_and_locks_nobody_out() {
    let (gate, _) = gate_of(&api());
    let mut waits = Vec::new();
    for _ in 0..10 {
        let start = tokio::time::Instant::now();
        assert_eq!(log_in(&gate, "ops", "guess").await.err(), Some(LoginFault::Refused));
        waits.push(start.elapsed().as_millis());
    }
    assert_eq!(waits, [0, 0, 0, 250, 500, 1000, 2000, 4000, 5000, 5000]);
    let start = tokio::time::Instant::now();
    assert!(log_in(&gate, "ops", PASSWORD).await.is_ok(), "the same user from the same address");
    assert!(gate.check(&signed(GOOD), b"").await.is_ok());
    assert_eq!(log_in(&gate, "nobody", "guess").await.err(), Some(LoginFault::Refused));
    assert_eq!(start.elapsed().as_millis(), 5000, "only the wrong one waited");
    assert!(gate.check(&signed(&"0".repeat(64)), b"").await.is_err());
    assert_eq!(start.elapsed().as_millis(), 10_000, "signatures and passwords count together");
    assert!(gate.check(&parts(&[]), b"").await.is_err());
    assert_eq!(start.elapsed().as_millis(), 10_000, "no credentials are no guess");
}

/// Beyond its share a source is told so at once, and its connections close.
#[tokio::test(start_paused = true)]
async fn few_answers_of_a_source_wait_at_once() {
    let (gate, _) = gate_of(&api());
    let guess = |last: u8| {
        let gate = gate.clone();
        async move {
            let mut parts = signed(&"0".repeat(64));
            let peer = std::net::SocketAddr::from(([192, 0, 2, last], 5));
            parts.extensions.insert(ConnectionInfo::network(peer, None, Transport::Plain));
            gate.check(&parts, b"").await.expect_err("a guess")
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        tasks.spawn(guess(number % 2));
    }
    let (mut at_once, mut without_place) = (0, 0);
    let start = tokio::time::Instant::now();
    while let Some(fault) = tasks.join_next().await {
        at_once += usize::from(start.elapsed().is_zero());
        without_place += usize::from(fault.expect("no panic") == AuthFault::NoPlace);
    }
    // Of each source, three cost nothing and eight wait.
    assert_eq!(
        (at_once, without_place),
        (200 - 2 * WAITING_ANSWERS_EACH, 200 - 2 * (WAITING_ANSWERS_EACH + 3))
    );
    assert!(gate.check(&signed(GOOD), b"").await.is_ok(), "who is right is not slowed");
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let (gate, _) = gate_of(&api());
    let token = token_of(&gate, "ops", Scope::Project).await;
    let claim = match gate.inspect(&signed(GOOD)) {
        Ok(Inspected::Signed(claim)) => claim,
        other => panic!("{other:?}"),
    };
    let refused = gate.check(&signed(&"0".repeat(64)), b"").await;
    let tokens = lock(&gate.state.tokens);
    let text = format!("{gate:?} {gate:#?} {claim:?} {refused:?} {tokens:?} {:?}", gate.accounts());
    assert!(text.contains("ops") && text.contains(ACCESS_KEY), "{text}");
    let secret = std::str::from_utf8(SECRET).expect("text");
    let secret_bytes = format!("{:?}", SECRET.first_chunk::<8>().expect("bytes"));
    for hidden in [PASSWORD, "$argon2", secret, &token, secret_bytes.trim_matches(['[', ']'])] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
}
