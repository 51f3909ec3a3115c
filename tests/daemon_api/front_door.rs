//! What the built daemon's server does for clients that mean it no good: broken bodies,
//! wrong log-ins without end, a full house.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;

use crate::daemon::{Daemon, Home};
use crate::exchange::{Answer, exchange, read_answer};
use crate::{path, text};

/// A connection to the daemon from another loopback address.
pub(crate) fn connect_from(last: u8, daemon: &Daemon) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0));
    socket.bind(&source.into()).expect("a loopback address");
    socket.connect(&daemon.address().into()).expect("a connection");
    socket.into()
}

pub(crate) fn log_in(stream: TcpStream, user: &str, password: &str) -> Answer {
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": user, "domain": {"name": "local"}, "password": password}}},
        "scope": {"project": {"name": "cn-north-4"}}}})
    .to_string();
    exchange(stream, "POST", "/v3/auth/tokens", "", body.as_bytes())
}

#[test]
fn broken_chunks_are_refused_at_once() {
    let home = Home::new("");
    let daemon = home.start();
    let logged_in = log_in(connect_from(1, &daemon), "ops", "password");
    assert_eq!(logged_in.status, 201, "{}", logged_in.text);
    let token = logged_in.header("x-subject-token").expect("a token").to_owned();
    for (path, code) in [
        (path(""), "APIG.2000"),
        ("/v3/auth/tokens".to_owned(), "Bad Request"),
        ("/v1/reload".to_owned(), "did not arrive whole"),
    ] {
        for broken in ["zz\r\n", "5\r\nabcdefgh\r\n", "-1\r\n", "fffffffffffffffff\r\n", "1;\n\n"] {
            let mut stream = TcpStream::connect(daemon.address()).expect("a connection");
            // The connection stays open: the answer waits for nothing more.
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\n\
                 X-Vitald-Action: reload\r\nTransfer-Encoding: chunked\r\n\r\n{broken}"
            );
            stream.write_all(head.as_bytes()).expect("sent");
            let answer = read_answer(stream);
            assert_eq!(answer.status, 400, "{path} {broken:?}: {}", answer.text);
            assert!(answer.text.contains(code), "{path} {broken:?}: {}", answer.text);
        }
    }
}

/// The costliest hash is what log-ins of users that do not exist are checked with.
#[test]
fn a_hundred_wrong_logins_leave_no_memory_behind() {
    let hash = vitald::testing::config::password::PasswordHash::of(b"right", [1; 16]).expect("a hash");
    let user = format!(
        "[[api.users]]\nname = \"usual\"\nrole = \"viewer\"\npassword_hash = \"{}\"\n",
        hash.to_phc_string()
    );
    let home = Home::new(&user);
    let daemon = home.start();
    // Ten at once, from forty addresses: none of them has failed often enough to wait.
    std::thread::scope(|scope| {
        for worker in 0..10 {
            let daemon = &daemon;
            scope.spawn(move || {
                for number in 0..10 {
                    let source = 1 + worker * 4 + number % 4;
                    let answer = log_in(connect_from(source, daemon), "usual", "wrong");
                    assert_eq!(answer.status, 401, "{}", answer.text);
                }
            });
        }
    });
    let resident = daemon.resident_kilobytes();
    assert!(resident <= 150 * 1024, "{resident} kB are resident after 100 wrong log-ins");
    assert_eq!(log_in(connect_from(100, &daemon), "usual", "right").status, 201);
}

/// Whoever holds all places of the address, the socket has its own.
#[test]
fn the_socket_is_heard_while_the_address_is_full() {
    let home = Home::new("");
    let daemon = home.start();
    let mut held: Vec<TcpStream> = (0..200).map(|number| connect_from(1 + number % 6, &daemon)).collect();
    for stream in &mut held {
        // Those that were given up already cannot be written to.
        let _ = stream
            .write_all(b"POST /v3/auth/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
    }
    let listed = daemon.local_json("GET", &path(""), None, 200);
    assert_eq!(listed["total"], 0);
    let mut live = connect_from(1, &daemon);
    live.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    live.write_all(b"GET /livez HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    live.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}

#[test]
fn hosts_and_proxies_are_put_into_effect_by_a_reload() {
    let home = Home::new("");
    let daemon = home.start();
    let status = |host: &str| {
        let mut stream = TcpStream::connect(daemon.address()).expect("a connection");
        let head = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        read_answer(stream).status
    };
    assert_eq!((status("localhost"), status("vitald.example")), (200, 421));
    let main = home.path().join("vitald.toml");
    let before = std::fs::read_to_string(&main).expect("a configuration");
    let more = "[server]\nhosts = [\"vitald.example\"]\nproxies = [\"192.0.2.0/24\"]";
    std::fs::write(&main, before.replace("[server]", more)).expect("written");
    let socket = UnixStream::connect(home.path().join("sock")).expect("a connection");
    let reloaded = exchange(socket, "POST", "/v1/reload", "X-Vitald-Action: reload\r\n", b"");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text);
    assert_eq!((status("localhost"), status("vitald.example"), status("evil.example")), (200, 200, 421));
    // On the socket every host is taken.
    let described = daemon.local_json("GET", "/v1/openapi.json", None, 200);
    assert!(text(&described, "/openapi").starts_with('3'));
}
