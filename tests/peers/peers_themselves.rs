//! The peers without the daemon: that they do what the cases take for granted.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::address::own_address;
use crate::support::backend::BlackHole;
use crate::support::{Answer, Backend, Nginx, http};

#[test]
fn nginx_answers_as_switched_and_counts() {
    let Some(mut nginx) = Nginx::plain(2) else { return };
    let server = SocketAddr::from((nginx.ip, 8000));
    let status = || http::get(server, "/health").expect("an answer").status;
    assert_eq!(status(), 200);
    for (switch, expected) in [("answer-500", 500), ("answer-204", 204), ("answer-301", 301)] {
        nginx.switch_on(switch, 8000);
        assert_eq!(status(), expected);
        nginx.switch_off(switch, 8000);
    }
    assert_eq!(status(), 200);
    let statuses: Vec<u64> = nginx.requests_to(8000).iter().map(|request| request.status).collect();
    assert_eq!(statuses, [200, 500, 204, 301, 200]);
    assert!(nginx.requests_to(8001).is_empty());

    nginx.switch_on("stall", 8001);
    let mut stream = TcpStream::connect((nginx.ip, 8001)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let silence = stream.read(&mut [0; 1]).expect_err("it stalls");
    assert_eq!(silence.kind(), ErrorKind::WouldBlock);

    nginx.stop();
    let refused = TcpStream::connect(server).expect_err("it is gone");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    nginx.run();
    assert_eq!(status(), 200);
}

#[test]
fn a_backend_follows_its_script() {
    let script = vec![Answer::Status(500), Answer::Close, Answer::Status(204)];
    let backend = Backend::start(own_address(), 8000, script, Answer::Status(200));
    let status = || http::get(backend.address, "/").map(|answer| answer.status).ok();
    assert_eq!([status(), status(), status(), status()], [Some(500), None, Some(204), Some(200)]);
    backend.answer_with(Answer::Reset);
    let reset = http::get(backend.address, "/").expect_err("no answer");
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    assert_eq!((backend.accepted(), backend.requests()), (5, 5));
}

#[test]
fn a_black_hole_swallows_until_it_recovers() {
    let hole = BlackHole::open(own_address(), 8000);
    let address = hole.address;
    let swallowed = TcpStream::connect_timeout(&address, Duration::from_millis(300)).expect_err("no answer");
    assert_eq!(swallowed.kind(), ErrorKind::TimedOut);
    hole.recover();
    TcpStream::connect_timeout(&address, Duration::from_secs(10)).expect("it answers again");
}
