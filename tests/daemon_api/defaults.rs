//! `[defaults.probe]` for channels of the API, over reloads; and that a secret in it is
//! for members alone.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use crate::daemon::{Home, until};
use crate::{checked, create, path, text, verdicts};

/// A member that answers 200 to whoever brings one of two keys, else 401; it keeps the
/// last request.
struct Gated {
    address: SocketAddr,
    last: Arc<Mutex<String>>,
}

impl Gated {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let last = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&last);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
                while !head.ends_with(b"\r\n\r\n") {
                    match connection.read(&mut chunk) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => head.extend(chunk.iter().take(count)),
                    }
                }
                let request = String::from_utf8_lossy(&head).into_owned();
                let is_known = request.contains("X-Key: hidden-value-");
                let status = if is_known { "200 OK" } else { "401 Unauthorized" };
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = request;
                // The prober may be gone: it has a deadline.
                let _ = write!(connection, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Self { address, last }
    }

    fn last(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn write_key(home: &Path, key: &str) {
    let file = home.join("key");
    std::fs::write(&file, key).expect("the key is written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// Every byte that the daemon keeps.
fn kept(state: &Path) -> Vec<u8> {
    let files =
        std::fs::read_dir(state).expect("the state directory").map(|entry| entry.expect("a file").path());
    files.filter(|path| path.is_file()).flat_map(|path| std::fs::read(path).expect("readable")).collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn channels_of_the_api_have_the_defaults_and_nobody_else_sees_the_secret() {
    let member = Gated::start();
    let defaults = "[defaults.probe]\nhost = \"app.internal\"\nheaders = { X-Key = { file = \"key\" } }\n";
    let home = Home::new(defaults);
    write_key(home.path(), "hidden-value-1\n");
    let daemon = home.start();
    let body = json!({"name": "web", "port": member.address.port(), "balance_strategy": 1, "member_type": "ip",
        "members": [{"host": "127.0.0.1"}], "vpc_health_config": {"protocol": "HTTP", "path": "/",
            "http_code": "200", "threshold_normal": 1, "threshold_abnormal": 1, "time_interval": 1,
            "timeout": 1}});
    let id = create(&daemon, &body);
    until("the key is sent", || (verdicts(&daemon, &id) == ["healthy"]).then_some(()));
    assert!(member.last().contains("\r\nHost: app.internal\r\n"), "{}", member.last());
    let status = || daemon.send("GET", "/v1/channels/web", "", "").json();
    assert_eq!(status()["probe_defaults"], json!(["headers.X-Key", "host"]));
    let since = status()["members"][0]["since"].clone();

    // Another secret in the same file is no other check.
    write_key(home.path(), "hidden-value-2\n");
    assert_eq!(daemon.reload().status, 200);
    until("the new key is sent", || member.last().contains("hidden-value-2").then_some(()));
    assert_eq!(status()["members"][0]["since"], since);

    let answers = [
        daemon.local("GET", &path(&format!("/{id}")), None).text,
        daemon.local("GET", "/v1/export", None).text,
        daemon.local("GET", "/v1/status", None).text,
        daemon.local("GET", "/metrics", None).text,
    ];
    for text in answers {
        assert!(text.contains("web") && !text.contains("hidden-value"), "{text}");
    }

    // A reload without them takes them from the channel.
    home.configure("");
    assert_eq!(daemon.reload().status, 200);
    until("no key is sent", || (verdicts(&daemon, &id) == ["unhealthy"]).then_some(()));
    assert!(!member.last().contains("X-Key") && !member.last().contains("app.internal"), "{}", member.last());
    assert_eq!(status()["probe_defaults"], json!([]));
    home.configure(defaults);
    assert_eq!(daemon.reload().status, 200);
    until("the key is sent again", || (verdicts(&daemon, &id) == ["healthy"]).then_some(()));

    assert!(!daemon.log().contains("hidden-value"), "{}", daemon.log());
    daemon.stop();
    let kept = kept(&home.path().join("state"));
    assert!(holds(&kept, b"vitald-verdict") && !holds(&kept, b"hidden-value"));
    // And over a restart.
    let daemon = home.start();
    let again = daemon.send("GET", "/v1/channels/web", "", "").json();
    assert_eq!(again["probe_defaults"], json!(["headers.X-Key", "host"]));
}

/// What only preparing the probes shows fails the call, not the daemon.
#[test]
fn an_https_check_that_the_defaults_make_impossible_is_refused() {
    // The longest host, too long for a server name.
    let host = vec!["a".repeat(63); 4].join(".");
    let home = Home::new(&format!("[defaults.probe]\nhost = \"{host}\"\n"));
    let daemon = home.start();
    let mut body = checked("web", &[1]);
    body["vpc_health_config"]["path"] = "/".into();
    body["vpc_health_config"]["http_code"] = "200".into();
    body["vpc_health_config"]["protocol"] = "HTTPS".into();
    let refused = daemon.local_json("POST", &path(""), Some(&body), 400);
    assert!(text(&refused, "/error_msg").contains("vpc_health_config"), "{refused}");
    body["vpc_health_config"]["protocol"] = "HTTP".into();
    create(&daemon, &body);
}
