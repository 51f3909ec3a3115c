//! Commands that talk to a daemon with a management API, TLS and a socket.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Outcome, Running, command, vitald};

const WEB: &str = "name = \"web\"\nport = 80\nbalance_strategy = \"source\"\nmember_type = \"ip\"\n\
    [vpc_health_config]\nprotocol = \"TCP\"\nthreshold_normal = 1\nthreshold_abnormal = 1\n\
    time_interval = \"5m\"\ntimeout = 1\n[[members]]\nhost = \"127.0.0.1\"\nport = 1\nweight = 7\n";
const SHOP: &str = r#"{"name":"shop","port":8080,"balance_strategy":1,"member_type":"ip"}"#;

/// A directory with a configuration, certificates and a store.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("tempdir"));
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec!["vitald.internal".to_owned()];
        let certificate =
            rcgen::CertificateParams::new(names).expect("good").self_signed(&key).expect("signed");
        place.write("tls.pem", &certificate.pem());
        place.write("tls.key", &key.serialize_pem());
        let port = crate::support::closed_port();
        let path = place.0.path().display();
        place.write(
            "vitald.toml",
            &format!(
                "[server]\nlisten = \"127.0.0.1:{port}\"\nsocket = \"{path}/vitald.sock\"\n\
                 [server.tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n[store]\npath = \"{path}/state\"\n[api]\n"
            ),
        );
        place.write("web.toml", WEB);
        place.write("shop.json", SHOP);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(self.path(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    }

    /// Starts the daemon and waits until it serves.
    fn start(&self) -> Running {
        let mut child =
            command(&["run", "--config", text(&self.path("vitald.toml")), "--log-format", "json"])
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let running = Running(child);
        assert!(lines.by_ref().any(|line| line.contains("\"probing\"")), "it does not start");
        std::thread::spawn(move || lines.for_each(drop));
        running
    }

    /// Runs a command with this configuration and files of this directory.
    fn vitald(&self, words: &[&str], files: &[&str]) -> Outcome {
        let config = self.path("vitald.toml");
        let files: Vec<PathBuf> = files.iter().map(|file| self.path(file)).collect();
        let files = files.iter().map(|file| text(file));
        let arguments: Vec<&str> =
            words.iter().copied().chain(["--config", text(&config)]).chain(files).collect();
        vitald(&arguments)
    }

    fn archive(&self) -> Value {
        let outcome = self.vitald(&["export", "--format", "archive"], &[]).expect_code(0);
        serde_json::from_str(&outcome.stdout).expect("JSON")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn channels_go_in_and_come_out_with_their_ids() {
    let place = Place::new();
    let daemon = place.start();
    let outcome = place.vitald(&["import"], &["web.toml", "shop.json"]).expect_code(0);
    assert_eq!(outcome.stdout, "made web\nmade shop\n");
    let first = place.archive();
    let outcome = place.vitald(&["import"], &["web.toml"]).expect_code(0);
    assert_eq!(outcome.stdout, "updated web\n");
    assert_eq!(place.archive(), first, "the same once more changes nothing");

    // What comes out is a file that goes in.
    let exported = place.vitald(&["export", "--channel", "web"], &[]).expect_code(0).stdout;
    place.write("web.toml", &exported);
    place.vitald(&["import"], &["web.toml"]).expect_code(0);
    assert_eq!(place.archive(), first);

    // What the API cannot hold is refused before anything is sent.
    for (file, words) in [
        (format!("{WEB}[probe]\nclose = \"fin\"\n"), "`probe`"),
        (WEB.replace("\"5m\"", "\"5500ms\""), "whole seconds"),
        (WEB.replace("port = 80\n", "port = 0\n"), "E005"),
    ] {
        place.write("bad.toml", &file);
        let outcome = place.vitald(&["import"], &["shop.json", "bad.toml"]).expect_code(78);
        assert!(outcome.stderr.contains(words) && outcome.stdout.is_empty(), "{}", outcome.stderr);
    }
    // What the daemon refuses is told, and the others are taken.
    place.write("bad.json", &SHOP.replace("\"ip\"", "\"ecs\""));
    let outcome = place.vitald(&["import"], &["bad.json", "web.toml"]).expect_code(1);
    assert_eq!(outcome.stdout, "updated web\n");
    assert!(outcome.stderr.contains("shop") && outcome.stderr.contains("member_type"), "{}", outcome.stderr);

    // An archive moves everything, into an empty store only.
    let out = place.path("vitald.archive");
    place.vitald(&["export", "--format", "archive", "--out", text(&out)], &[]).expect_code(0);
    let outcome = place.vitald(&["import"], &["vitald.archive"]).expect_code(1);
    assert!(outcome.stderr.contains("stop it first"), "{}", outcome.stderr);
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), Some(0));
    let offline = place.archive();
    assert_eq!(offline["records"], first["records"], "a stopped daemon's store says the same");
    std::fs::remove_dir_all(place.path("state")).expect("removed");
    place.vitald(&["import"], &["vitald.archive"]).expect_code(0);
    let _daemon = place.start();
    assert_eq!(place.archive(), first);
}

#[test]
fn status_and_reload_find_the_socket_and_tls_by_themselves() {
    let place = Place::new();
    let daemon = place.start();
    place.vitald(&["import"], &["web.toml"]).expect_code(0);
    let socket = text(&place.path("vitald.sock")).to_owned();
    let outcome = place.vitald(&["status"], &[]);
    assert!(outcome.stdout.contains(&socket) && outcome.stdout.contains("127.0.0.1:1"), "{}", outcome.stdout);
    let outcome = place.vitald(&["reload"], &[]).expect_code(0);
    assert!(outcome.stdout.starts_with("reloaded: channels 1, members 1"), "{}", outcome.stdout);

    // Over TLS, where the socket is not named.
    let config = std::fs::read_to_string(place.path("vitald.toml")).expect("read");
    let without: Vec<&str> = config.lines().filter(|line| !line.starts_with("socket")).collect();
    place.write("tls.toml", &without.join("\n"));
    let tls = place.path("tls.toml");
    let outcome = vitald(&["status", "--config", text(&tls)]);
    assert!(outcome.stdout.contains("https://127.0.0.1:"), "{}{}", outcome.stdout, outcome.stderr);
    // Asked to verify it, the name is wrong.
    let authority = place.path("tls.pem");
    let outcome = vitald(&["status", "--config", text(&tls), "--ca-file", text(&authority)]).expect_code(3);
    assert!(outcome.stderr.contains("certificate"), "{}", outcome.stderr);
    // There it takes an administrator's login, which the command does not have.
    let outcome = vitald(&["reload", "--config", text(&tls)]).expect_code(1);
    assert!(outcome.stderr.contains("401") && outcome.stderr.contains("SIGHUP"), "{}", outcome.stderr);
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), Some(0));
}
