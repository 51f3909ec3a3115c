//! Good configurations load; bad ones give exactly the text beside them.
//!
//! `UPDATE_FIXTURES=1 cargo test --test config_fixtures` rewrites the texts;
//! read the difference before committing it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vitald::channel::{
    CloseMode, Health, ProbeHeader, Protocol, Rule, Strategy, TlsVersion, VerifyCertificate,
};
use vitald::testing::config::api::{AccountRole, ClearText, Quotas};
use vitald::testing::config::password::HashMemory;
use vitald::testing::config::{self, Config, Paint};

// Relative: tests run in the package's root, so that the texts are the same everywhere.
const FIXTURES: &str = "tests/fixtures/config";

fn load(name: &str) -> Config {
    keep_keys_private();
    config::load(&Path::new(FIXTURES).join(name)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Git keeps no mode that says who may read a file, and a key that everybody may read is refused.
fn keep_keys_private() {
    for entry in std::fs::read_dir(Path::new(FIXTURES).join("pem")).expect("fixtures") {
        let path = entry.expect("fixture").path();
        if path.extension().is_some_and(|extension| extension == "key") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        }
    }
}

/// Every bad fixture: a `.toml` file, or a directory with a `vitald.toml`.
fn bad_fixtures() -> Vec<(PathBuf, PathBuf)> {
    let directory = Path::new(FIXTURES).join("bad");
    let mut fixtures = Vec::new();
    for entry in std::fs::read_dir(&directory).expect("fixtures") {
        let path = entry.expect("fixture").path();
        let config = if path.is_dir() { path.join("vitald.toml") } else { path.clone() };
        if config.extension().is_some_and(|extension| extension == "toml") {
            fixtures.push((config, path.with_extension("txt")));
        }
    }
    fixtures.sort();
    fixtures
}

#[test]
fn bad_configurations_give_exactly_the_documented_text() {
    keep_keys_private();
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut differences = String::new();
    let fixtures = bad_fixtures();
    assert!(fixtures.len() > 50, "only {} fixtures found", fixtures.len());
    for (config, expected) in fixtures {
        let found = match config::load(&config) {
            Ok(_) => format!("{} loads without an error\n", config.display()),
            Err(errors) => errors.to_string(),
        };
        if update {
            std::fs::write(&expected, &found).expect("fixture is writable");
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if found != wanted {
            differences.push_str(&format!("--- {}\n", expected.display()));
            differences.push_str(&difference(&wanted, &found));
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// The lines that differ, after the common beginning and before the common end.
fn difference(wanted: &str, found: &str) -> String {
    let (wanted, found): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), found.lines().collect());
    let same = wanted.iter().zip(&found).take_while(|(left, right)| left == right).count();
    let (wanted, found) = (wanted.split_at(same).1, found.split_at(same).1);
    let end = wanted.iter().rev().zip(found.iter().rev()).take_while(|(left, right)| left == right).count();
    let mut text = format!("@@ line {}\n", same + 1);
    text.extend(wanted.iter().take(wanted.len() - end).map(|line| format!("-{line}\n")));
    text.extend(found.iter().take(found.len() - end).map(|line| format!("+{line}\n")));
    text
}

#[test]
fn every_rule_has_a_fixture() {
    let texts: Vec<String> =
        bad_fixtures().iter().map(|(_, text)| std::fs::read_to_string(text).unwrap_or_default()).collect();
    let shown = |rule: &Rule| texts.iter().any(|text| text.contains(&format!("error[{}]", rule.code())));
    let missing: Vec<_> = Rule::ALL.iter().filter(|rule| !shown(rule)).map(|rule| rule.code()).collect();
    assert!(missing.is_empty(), "no fixture shows {missing:?}");
    let codes: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.code()).collect();
    assert_eq!(codes.len(), Rule::ALL.len());
}

#[test]
fn the_documented_example_works_verbatim() {
    let config = load("good/issue.toml");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:9650");
    let channel = &config.channels[0].channel;
    assert_eq!((channel.name(), channel.strategy()), ("web", Strategy::WeightedRoundRobin));
    let check = channel.health_check().expect("a health config");
    assert_eq!((check.interval(), check.timeout()), (Duration::from_secs(5), Duration::from_secs(2)));
    let addresses: Vec<String> =
        channel.members().iter().map(|member| channel.member_address(member).to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:18081", "127.0.0.1:18082"]);
    assert_eq!(channel.effective_weight(&channel.members()[0]), 30);
    assert_eq!(channel.probe().initial_state, Health::Unknown);
    assert_eq!(channel.probe().headers, [ProbeHeader::plain("X-Probe", "vitald")]);
}

#[test]
fn included_files_are_read_in_order_with_paths_of_their_own() {
    let config = load("good/include/vitald.toml");
    let names: Vec<&str> = config.channels.iter().map(|entry| entry.channel.name()).collect();
    assert_eq!(names, ["probe_apigw_552c0c2b", "shop"]);
    assert_eq!(config.channels[1].file, Path::new(FIXTURES).join("good/include/channels.d/shop.toml"));
    let api = config.channels[0].channel.health_check().expect("a health config");
    assert!(matches!(api.protocol(), Protocol::Http(http) if http.codes.contains(299)));
    let shop = &config.channels[1].channel;
    assert_eq!(shop.strategy(), Strategy::UriHash);
    assert_eq!(shop.health_check().map(|check| check.interval()), Some(Duration::from_millis(250)));
    let hosts: Vec<String> = shop.members().iter().map(|member| member.host().to_string()).collect();
    assert_eq!(hosts, ["192.0.2.12", "app.internal", "2001:db8::7"]);
    assert!(shop.probe().tls.ca.is_some());
}

#[test]
fn the_management_api_and_its_listener() {
    let config = load("good/api.toml");
    let api = config.api.expect("an API");
    assert_eq!(api.quotas, Quotas { channels: 10_000, members: 100_000, groups: 200 });
    let store = (config.store.path.as_deref(), config.store.verdict_age_limit);
    assert_eq!(store, (Some(Path::new("/var/lib/vitald")), Duration::from_secs(60)));
    assert_eq!((api.project.name.as_str(), api.instances.len()), ("cn-north-4", 1));
    let users: Vec<_> =
        api.users.iter().map(|user| (user.name.as_str(), user.domain.as_str(), user.role)).collect();
    assert_eq!(users, [("ops", "local", AccountRole::Admin), ("ops", "other", AccountRole::Viewer)]);
    assert!(api.users[0].password.matches(b"password", &mut HashMemory::default()));
    assert!(config.server.tls.is_some_and(|tls| tls.client_ca.is_some()));
    assert_eq!(config.server.socket.as_deref(), Some(Path::new("/run/vitald/vitald.sock")));

    let parse = |text: &str| config::parse("api.toml", text, Path::new(FIXTURES)).expect("a good file").api;
    assert_eq!(parse("[api]\nenabled = false\n"), None);
    assert_eq!(parse(""), None);
    let least = parse("[api]\n").expect("an API");
    assert_eq!(least.project.name, "local");
    assert_eq!(least.clear_text, ClearText::LoopbackOnly);
    assert_eq!(least.quotas, Quotas::default());
}

#[test]
fn a_secret_key_comes_from_a_file_that_others_cannot_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("ak.secret");
    std::fs::write(&secret, "hidden-value-0123\n").expect("the secret is written");
    let text = "[[api.access_keys]]\nid = \"AK1\"\nsecret_file = \"ak.secret\"\nrole = \"viewer\"\n";
    let parse = || config::parse("api.toml", text, directory.path());

    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let keys = parse().expect("a good file").api.expect("an API").access_keys;
    assert_eq!(keys[0].secret_key.expose(), b"hidden-value-0123");

    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o604)).expect("chmod");
    let refusal = parse().expect_err("everybody may read it").to_string();
    assert!(refusal.contains("chmod o-r") && !refusal.contains("hidden-value"), "{refusal}");
}

#[test]
fn a_secret_key_has_sixteen_characters_or_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("ak.secret");
    let text = "[[api.access_keys]]\nid = \"AK1\"\nsecret_file = \"ak.secret\"\nrole = \"viewer\"\n";
    std::fs::write(&secret, "").expect("the file is made");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    for (key, length) in [("hidden-value-15", Some(15)), ("äöüäöüäöü", Some(9)), ("hidden-value--16", None)]
    {
        std::fs::write(&secret, format!("{key}\n")).expect("the secret is written");
        let read = config::parse("api.toml", text, directory.path());
        let Some(length) = length else {
            read.expect("long enough");
            continue;
        };
        let refusal = read.expect_err("too short").to_string();
        let message =
            format!("`secret_file`: the secret key in \"ak.secret\" has {length} characters; at least 16");
        assert!(refusal.contains(&message) && refusal.contains("api.toml:3:15"), "{refusal}");
        assert!(refusal.contains("head -c 32 /dev/urandom") && !refusal.contains(key), "{refusal}");
    }
}

#[test]
fn a_private_key_that_everybody_may_read_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["client.pem", "client.key"] {
        std::fs::copy(Path::new(FIXTURES).join("pem").join(name), directory.path().join(name))
            .expect("a copy");
    }
    let key = directory.path().join("client.key");
    let server = "[server]\ntls = { certificate = \"client.pem\", key = \"client.key\" }\n";
    let client =
        "[tls]\nbackend_client_certificate = { certificate = \"client.pem\", key = \"client.key\" }\n";
    for (text, column) in [(server, 43), (client, 66)] {
        let parse = || config::parse("tls.toml", text, directory.path());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        parse().expect("a key for its owner and group");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let refusal = parse().expect_err("everybody may read it").to_string();
        let message = format!("`key`: everybody may read {}", key.display());
        assert!(refusal.contains(&message) && refusal.contains("run `chmod o-r` on it"), "{refusal}");
        assert!(refusal.contains(&format!("tls.toml:2:{column}")), "{refusal}");
    }
}

#[test]
fn a_header_comes_from_a_file_that_others_cannot_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("key");
    let write = |bytes: &[u8], mode: u32| {
        std::fs::write(&secret, bytes).expect("the secret is written");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    let parse = |header: &str| {
        let channel = "[[channels]]\nname = \"web\"\nport = 80\nbalance_strategy = 1\n";
        let text = format!("{channel}[channels.probe]\nheaders = {{ X-Key = {header} }}\n");
        config::parse("vitald.toml", &text, directory.path())
    };

    for header in ["{ file = \"key\" }", "{ file = \"key\", secret = true }"] {
        write(b"hidden-value\n", 0o640);
        let config = parse(header).unwrap_or_else(|errors| panic!("{errors}"));
        let header = &config.channels[0].channel.probe().headers[0];
        assert_eq!((header.value(), header.is_secret()), (Some("hidden-value"), true));
        assert!(!format!("{config:?}").contains("hidden-value"));
    }
    let long = [b"hidden-value".as_slice(), &[b'x'; 4096]].concat();
    let refused: [(&[u8], u32, &str); 6] = [
        (b"hidden-value", 0o604, "chmod o-r"),
        (b"hidden-value\nX-Other: 1", 0o600, "what no header value may"),
        ("hidden-value \u{e9}".as_bytes(), 0o600, "what no header value may"),
        (b"hidden-value \xff", 0o600, "is no text"),
        (&long, 0o600, "larger than 4096 bytes"),
        (b"", 0o600, "is empty"),
    ];
    for (bytes, mode, words) in refused {
        write(bytes, mode);
        let refusal = parse("{ file = \"key\", secret = true }").expect_err(words).to_string();
        assert!(refusal.contains(words) && !refusal.contains("hidden-value"), "{refusal}");
    }
}

#[test]
fn channels_of_files_are_completed_by_the_defaults() {
    let config = load("good/defaults/vitald.toml");
    let probe = |name: &str| {
        let file = config.channels.iter().find(|file| file.channel.name() == name).expect(name);
        file.channel.probe().clone()
    };
    let plain = probe("plain");
    let key = ProbeHeader::secret("X-Key", "key");
    assert_eq!(plain.headers, [ProbeHeader::plain("X-Probe", "vitald"), key]);
    assert_eq!((plain.initial_state, plain.close), (Health::Unhealthy, CloseMode::Fin));
    assert_eq!((plain.tls.verify, plain.tls.min_version), (VerifyCertificate::Yes, TlsVersion::Tls13));
    assert_eq!(plain.tls.server_name.as_deref(), Some("default.internal"));
    assert!(plain.tls.ca.is_some());

    let own = probe("own");
    let headers = [
        ProbeHeader::plain("x-probe", "own"),
        ProbeHeader::left_out("X-Key"),
        ProbeHeader::plain("X-Own", "1"),
    ];
    assert_eq!(own.headers, headers);
    assert_eq!((own.host.as_deref(), own.tls.server_name), (Some("own.internal"), None));
    assert_eq!((own.tls.verify, own.tls.ca), (VerifyCertificate::No, None));
    assert_eq!(own.from_defaults, ["close", "initial_state", "tls.min_version"]);

    // It verifies, although it does not say so itself.
    let own_ca = probe("own-ca");
    assert_eq!((own_ca.close, own_ca.tls.verify), (CloseMode::Reset, VerifyCertificate::Yes));
    assert_ne!(own_ca.tls.ca.map(|file| file.path), plain.tls.ca.map(|file| file.path));
}

/// Somebody who writes the password itself where its hash belongs, or a key into a
/// header, must not find it in a terminal, a log or a bug report.
#[test]
fn no_error_shows_what_stands_for_a_secret() {
    for fixture in [
        "bad/e001-api-hash.toml",
        "bad/e007-api.toml",
        "bad/e007-api-hash.toml",
        "bad/e002-hash-under-another-key.toml",
        "bad/e001-header.toml",
        "bad/e007-header-values.toml",
    ] {
        let errors = config::load(&Path::new(FIXTURES).join(fixture)).expect_err(fixture);
        for text in [errors.to_string(), errors.render(Paint::Ansi), format!("{errors:?}")] {
            assert!(!text.contains("plain text") && !text.contains("5550123"), "{text}");
        }
    }
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(load("good/empty.toml"), Config::default());
}

#[test]
fn a_missing_file_is_an_error_of_its_own() {
    let errors = config::load(Path::new("no/such/vitald.toml")).expect_err("no file");
    assert_eq!(
        errors.to_string(),
        "error[E015]: cannot read the file: there is no such file\n\
         --> no/such/vitald.toml\n = help: name a file that the daemon may read\n\n1 error in 1 file\n"
    );
    assert!(errors.render(Paint::Ansi).contains("\u{1b}["));
    let error = &errors.errors()[0];
    assert_eq!(errors.position(error), ("no/such/vitald.toml", None));
}
