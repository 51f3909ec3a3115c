//! Clients of the vendor's that cannot be installed here, by what they send: methods,
//! paths, signed header lists and JSON from their sources, replayed over a real socket
//! through the gate. The sessions are in `tests/fixtures/clients`; `tests/run sdk` has the
//! clients that package registries have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use vitald::health::{MonotonicTime, Now, Timestamp};
use vitald::testing::catalog::Quotas;
use vitald::testing::config::api::{AccessKey, AccountRole, ApiSettings, ClearText, Project, User};
use vitald::testing::config::password::PasswordHash;
use vitald::testing::config::secret::Secret;
use vitald::testing::serve::auth::{AuthGate, keystone, require};
use vitald::testing::serve::{Access, Audit, AuditedCalls, Limits, api, run};

use crate::exchange::exchange;
use crate::memory::{FIRST, Memory, PROJECT};

const ACCESS_KEY: &str = "AK0000000000000000001";
const SECRET_KEY: &str = "secret-key-of-the-tests";
const PASSWORD: &str = "password-of-the-tests";
/// 2020-01-02T03:04:05Z, of the server's clock and of every signature.
const NOW: u64 = 1_577_934_245_000_000_000;
const DATE: &str = "20200102T030405Z";

/// The API behind its gate, as the daemon serves it. Ends with the test.
struct Front {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Front {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket for tokio");
        let address = listener.local_addr().expect("an address");
        let clock = || Now { monotonic: MonotonicTime(0), wall: Timestamp(NOW) };
        let gate = AuthGate::new(&accounts(), Arc::new(clock), 2).expect("randomness");
        let guard = axum::middleware::from_fn_with_state(gate.clone(), require);
        let memory = Memory::new(Quotas::default(), &[]);
        let router = keystone::routes(gate, address).merge(api::router(memory).layer(guard));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let audit = Audit::new(AuditedCalls::WithApi);
                run(listener, router, stopped, Limits::default(), Access::default(), audit).await
            })
        });
        Self { address, stop }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn accounts() -> ApiSettings {
    ApiSettings {
        project: Project { id: PROJECT.to_owned(), name: "cn-north-4".to_owned() },
        instances: Vec::new(),
        users: vec![User {
            name: "ops".to_owned(),
            domain: "local".to_owned(),
            password: PasswordHash::of(PASSWORD.as_bytes(), [7; 16]).expect("a hash"),
            role: AccountRole::Admin,
        }],
        access_keys: vec![AccessKey {
            id: ACCESS_KEY.to_owned(),
            secret_key: Secret::new(SECRET_KEY.as_bytes().to_vec()),
            role: AccountRole::Admin,
        }],
        clear_text: ClearText::LoopbackOnly,
        quotas: Quotas::default(),
    }
}

/// A file of `tests/fixtures/clients`.
#[derive(Deserialize)]
struct Recording {
    sessions: BTreeMap<String, Vec<Value>>,
}

/// One request that a client sends, and what it needs to be answered.
#[derive(Deserialize)]
struct Recorded {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    /// The list of signed headers; none without a signature.
    signed: Option<String>,
    body: Option<Value>,
    status: u16,
    /// What the answer has at least.
    answer: Option<Value>,
    /// Texts of the answer that later requests use, by name.
    #[serde(default)]
    keep: BTreeMap<String, String>,
    /// The name by which later requests use the answer's token.
    keep_token: Option<String>,
}

/// Replays a session of a file in `tests/fixtures/clients`.
fn play(client: &str, session: &str) {
    let file = format!("{}/tests/fixtures/clients/{client}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).expect("a fixture");
    let recording: Recording = serde_json::from_str(&text).expect("JSON");
    let exchanges = recording.sessions.get(session).expect("a session");
    assert!(!exchanges.is_empty());
    let front = Front::start();
    let mut known: BTreeMap<String, String> =
        [("project", PROJECT), ("instance", FIRST), ("password", PASSWORD)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    for (number, recorded) in exchanges.iter().enumerate() {
        let recorded: Recorded =
            serde_json::from_str(&filled(&recorded.to_string(), &known)).expect("a request");
        let what = format!("{client}, {session}, {number}: {} {}", recorded.method, recorded.path);
        let body = recorded.body.as_ref().map(Value::to_string).unwrap_or_default();
        let headers = header_lines(&recorded, &body);
        let stream = TcpStream::connect(front.address).expect("a connection");
        let answer = exchange(stream, &recorded.method, &recorded.path, &headers, body.as_bytes());
        assert_eq!(answer.status, recorded.status, "{what}: {}", answer.text);
        assert_eq!(answer.header("x-request-id").map(str::len), Some(32), "{what}");
        if let Some(expected) = &recorded.answer {
            assert_holds(&answer.json(), expected, &what);
        }
        for (name, pointer) in recorded.keep {
            let value = answer.json().pointer(&pointer).and_then(Value::as_str).map(str::to_owned);
            known.insert(name, value.expect("text"));
        }
        if let Some(name) = recorded.keep_token {
            known.insert(name, answer.header("x-subject-token").expect("a token").to_owned());
        }
    }
}

/// `{name}` replaced by what is known of it.
fn filled(text: &str, known: &BTreeMap<String, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// The recorded headers as lines, with the signature over those that the client signs.
fn header_lines(recorded: &Recorded, body: &str) -> String {
    let mut headers: BTreeMap<String, &str> =
        recorded.headers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    let mut lines = String::new();
    if let Some(list) = &recorded.signed {
        headers.insert("x-sdk-date".to_owned(), DATE);
        let signature = sign(&recorded.method, &recorded.path, &headers, list, body);
        let scheme = format!("SDK-HMAC-SHA256 Access={ACCESS_KEY}");
        lines = format!("Authorization: {scheme}, SignedHeaders={list}, Signature={signature}\r\n");
    }
    for (name, value) in &headers {
        write!(lines, "{name}: {value}\r\n").expect("written");
    }
    lines
}

/// The signature as the clients' documentation has it. The recorded targets are in
/// canonical form but for the order of their parameters and the slash at the end.
fn sign(method: &str, target: &str, headers: &BTreeMap<String, &str>, list: &str, body: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut parameters: Vec<&str> = query.split('&').collect();
    parameters.sort_unstable();
    let signed: String =
        list.split(';').map(|name| format!("{name}:{}\n", headers.get(name).expect(name))).collect();
    let slash = if path.ends_with('/') { "" } else { "/" };
    let canonical = format!(
        "{method}\n{path}{slash}\n{}\n{signed}\n{list}\n{}",
        parameters.join("&"),
        hex(&Sha256::digest(body))
    );
    let to_sign = format!("SDK-HMAC-SHA256\n{DATE}\n{}", hex(&Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET_KEY.as_bytes()).expect("any key");
    mac.update(to_sign.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an answer has at least what is expected of it; lists have it item by item.
fn assert_holds(answer: &Value, expected: &Value, what: &str) {
    match (answer, expected) {
        (Value::Object(answer), Value::Object(expected)) => {
            for (key, value) in expected {
                let found = answer.get(key).unwrap_or_else(|| panic!("{what}: no {key} in {answer:?}"));
                assert_holds(found, value, &format!("{what}, {key}"));
            }
        }
        (Value::Array(answer), Value::Array(expected)) => {
            assert_eq!(answer.len(), expected.len(), "{what}: {answer:?}");
            for (found, value) in answer.iter().zip(expected) {
                assert_holds(found, value, what);
            }
        }
        (answer, expected) => assert_eq!(answer, expected, "{what}"),
    }
}

#[test]
fn terraform_logs_in_with_an_access_key() {
    play("terraform", "logs_in_with_an_access_key");
}

#[test]
fn terraform_logs_in_with_a_password() {
    play("terraform", "logs_in_with_a_password");
}

#[test]
fn terraform_creates_reads_updates_and_deletes_a_channel() {
    play("terraform", "creates_reads_updates_and_deletes_a_channel");
}

#[test]
fn terraform_reads_back_the_microservice_that_it_wrote() {
    play("terraform", "reads_back_the_microservice_that_it_wrote");
}

#[test]
fn terraform_sets_a_feature_and_lists_the_supported_ones() {
    play("terraform", "sets_a_feature_and_lists_the_supported_ones");
}

#[test]
fn go_finds_its_project() {
    play("go", "finds_its_project");
}

#[test]
fn go_creates_lists_and_deletes_a_channel() {
    play("go", "creates_lists_and_deletes_a_channel");
}

#[test]
fn go_reads_what_a_slash_ends() {
    play("go", "reads_what_a_slash_ends");
}
