//! Where the API may be offered, and that none of its secrets has a text form.

use super::*;

const TLS: Transport = Transport::Tls;
const PLAIN: Transport = Transport::Plain;

fn api(clear_text: ClearText, accounts: usize) -> ApiSettings {
    let key = |number| AccessKey {
        id: format!("AK{number}"),
        secret_key: Secret::new(b"hidden-value".to_vec()),
        role: AccountRole::Admin,
    };
    ApiSettings {
        project: Project::default(),
        instances: Vec::new(),
        users: Vec::new(),
        access_keys: (0..accounts).map(key).collect(),
        clear_text,
        quotas: Quotas::default(),
    }
}

#[test]
fn other_machines_need_tls_and_an_account() {
    use ClearText::{EverywhereInsecurely as Insecure, LoopbackOnly as Safe};
    let remote = "192.0.2.1:9650";
    let at = |address: &str| -> SocketAddr { address.parse().expect(address) };
    let no_tls = Err(Exposure::WithoutTls(at(remote)));
    let nobody = Err(Exposure::WithoutAccounts(at(remote)));
    let cases = [
        (remote, PLAIN, Safe, 1, no_tls),
        (remote, PLAIN, Safe, 0, no_tls),
        (remote, TLS, Safe, 0, nobody),
        (remote, TLS, Safe, 1, Ok(())),
        (remote, PLAIN, Insecure, 1, Ok(())),
        (remote, PLAIN, Insecure, 0, nobody),
        ("127.0.0.1:9650", PLAIN, Safe, 0, Ok(())),
        ("127.8.9.10:9650", PLAIN, Safe, 0, Ok(())),
        ("[::1]:9650", PLAIN, Safe, 0, Ok(())),
        ("[::ffff:127.0.0.1]:9650", PLAIN, Safe, 0, Ok(())),
    ];
    for (listen, transport, clear_text, accounts, expected) in cases {
        let verdict = judge_exposure(&api(clear_text, accounts), at(listen), transport);
        assert_eq!(verdict, expected, "{listen} {transport:?} {clear_text:?} {accounts}");
    }
    for everywhere in ["0.0.0.0:9650", "[::]:9650"] {
        let verdict = judge_exposure(&api(Safe, 1), at(everywhere), PLAIN);
        assert_eq!(verdict, Err(Exposure::WithoutTls(at(everywhere))));
    }
}

#[test]
fn nothing_secret_is_printed() {
    let mut api = api(ClearText::LoopbackOnly, 2);
    api.users.push(User {
        name: "ops".to_owned(),
        domain: "local".to_owned(),
        password: PasswordHash::cheap(b"hidden-value"),
        role: AccountRole::Viewer,
    });
    let text = format!("{api:?} {api:#?}");
    assert!(text.contains("ops") && text.contains("AK1"), "{text}");
    assert!(!text.contains("hidden") && !text.contains("$argon2"), "{text}");
}
