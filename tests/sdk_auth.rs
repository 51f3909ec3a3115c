//! The vendor's own signer and a Keystone client against the gate, over HTTP.
//!
//! `VITALD_SDK_PYTHON` names a Python that has `tests/sdk/requirements.txt`;
//! without it there is nothing to run here.

use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::Extension;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use vitald::health::{MonotonicTime, Now, Timestamp};
use vitald::testing::config::api::{AccessKey, AccountRole, ApiSettings, ClearText, Project, User};
use vitald::testing::config::password::PasswordHash;
use vitald::testing::config::secret::Secret;
use vitald::testing::serve::auth::{AuthGate, Identity, keystone, require};
use vitald::testing::serve::{Access, Audit, AuditedCalls, Limits, run};

fn api() -> ApiSettings {
    ApiSettings {
        project: Project { id: "0123456789abcdef0123456789abcdef".to_owned(), name: "cn-north-4".to_owned() },
        instances: Vec::new(),
        users: vec![User {
            name: "ops".to_owned(),
            domain: "local".to_owned(),
            password: PasswordHash::of(b"hidden-password", [7; 16]).expect("a hash"),
            role: AccountRole::Admin,
        }],
        access_keys: vec![AccessKey {
            id: "AK0000000000000000001".to_owned(),
            secret_key: Secret::new(b"probe-secret-key-0123456789".to_vec()),
            role: AccountRole::Admin,
        }],
        clear_text: ClearText::LoopbackOnly,
        quotas: Default::default(),
    }
}

/// Wall time is the real one: the signer stamps it. Monotonic time jumps
/// half a minute with every look, so that the many refusals on purpose never wait.
fn clock() -> impl Fn() -> Now + Send + Sync {
    let looks = std::sync::atomic::AtomicU64::new(0);
    move || {
        #[expect(clippy::disallowed_methods, reason = "signatures are stamped with real time")]
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let look = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let wall = u64::try_from(wall.as_nanos()).expect("fits");
        Now { monotonic: MonotonicTime(look * 30_000_000_000), wall: Timestamp(wall) }
    }
}

#[tokio::test]
async fn the_vendors_signer_and_a_keystone_client_get_in() {
    let Some(python) = std::env::var_os("VITALD_SDK_PYTHON") else {
        // `tests/run sdk` sets it, so nothing is skipped there.
        eprintln!("skipped: VITALD_SDK_PYTHON is not set");
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let gate = AuthGate::new(&api(), Arc::new(clock()), 2).expect("randomness");
    let who = |Extension(identity): Extension<Identity>| async move { identity.principal.to_string() };
    let guarded =
        Router::new().fallback(who).layer(axum::middleware::from_fn_with_state(gate.clone(), require));
    let router = keystone::routes(gate, address).merge(guarded);
    let stop = CancellationToken::new();
    let (access, audit) = (Access::default(), Audit::new(AuditedCalls::WithApi));
    let server = tokio::spawn(run(listener, router, stop.clone(), Limits::default(), access, audit));
    let script = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .args(["tests/sdk/auth.py", &address.to_string(), "500"])
            .output()
            .expect("it runs")
    });
    let output = script.await.expect("no panic");
    stop.cancel();
    server.await.expect("no panic");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    assert!(output.status.success(), "{stdout}\n{stderr}");
}
