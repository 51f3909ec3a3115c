//! Cases of plain HTTP whose fault is a matter of time, of the connection's end,
//! or of another protocol altogether.

use std::time::Duration;

use crate::case::{Case, http};
use crate::peer::Step;

pub(crate) const SILENCE: &str = "connected, but no whole response head within 1s";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = slow();
    cases.extend(cut());
    cases.extend(foreign());
    cases
}

fn send(bytes: &[u8]) -> Step {
    Step::Send(bytes.to_vec())
}

fn slow() -> Vec<Case> {
    let tenth = Duration::from_millis(100);
    let good = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    vec![
        http("slow-silent", "reads the request and says nothing")
            .plays([Step::ReadRequest, Step::Hold])
            .down("response_timeout", SILENCE),
        http("slow-never-reads", "accepts and neither reads nor writes")
            .plays([Step::Pause(Duration::from_secs(3600))])
            .down("response_timeout", SILENCE),
        http("slow-drip", "a good answer, one byte each 100 ms")
            .plays([Step::ReadRequest, Step::Drip(good.to_vec(), tenth), Step::Hold])
            .down("response_timeout", SILENCE),
        http("slow-drip-in-time", "a good answer, one byte each 5 ms")
            .plays([Step::ReadRequest, Step::Drip(good.to_vec(), Duration::from_millis(5)), Step::Hold])
            .up("200 OK"),
        http("slow-half-head", "half a head and then nothing")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 200 OK\r\nServer: x\r\n"), Step::Hold])
            .down("response_timeout", SILENCE),
        http("slow-status-line-only", "a status line and then nothing")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 200 OK\r\n"), Step::Hold])
            .down("response_timeout", SILENCE),
        http("slow-after-deadline", "a good answer after the timeout")
            .plays([Step::ReadRequest, Step::Pause(Duration::from_millis(1500)), send(good), Step::Hold])
            .down("response_timeout", SILENCE),
        http("slow-within-deadline", "a good answer after 300 ms")
            .brief()
            .plays([Step::ReadRequest, Step::Pause(Duration::from_millis(300)), send(good)])
            .up("200 OK"),
        http("slow-500-within-deadline", "500 after 300 ms")
            .brief()
            .plays([
                Step::ReadRequest,
                Step::Pause(Duration::from_millis(300)),
                send(b"HTTP/1.1 500 Odd\r\n\r\n"),
            ])
            .down("status", "500 Odd"),
        http("slow-endless-hints", "an interim answer each 100 ms")
            .plays([
                Step::ReadRequest,
                Step::Drip(b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40), Duration::from_millis(4)),
                Step::Hold,
            ])
            .down("response_timeout", SILENCE),
        http("slow-body", "a good head and a body that drips")
            .plays([
                Step::ReadRequest,
                send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
                Step::Drip(vec![b'x'; 99], tenth),
            ])
            .up("200 OK"),
        http("slow-two-pieces", "a head cut inside its last CRLF, the rest 50 ms later")
            .plays([
                Step::ReadRequest,
                send(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r"),
                Step::Pause(Duration::from_millis(50)),
                send(b"\n"),
            ])
            .up("200 OK"),
        http("slow-eager", "answers before it has read the request")
            .plays([send(good), Step::ReadRequest])
            .up("200 OK"),
        http("slow-empty-lines", "empty lines without end")
            .plays([Step::ReadRequest, Step::Flood(b"\r\n".repeat(512))])
            .down("protocol", "no end of the response head within 65536 bytes"),
    ]
}

fn cut() -> Vec<Case> {
    let before = "closed by the member before it answered";
    let inside = "closed by the member inside the response head";
    let reset = "connection reset by the member";
    let wait = Step::Pause(Duration::from_millis(50));
    vec![
        http("cut-at-once", "closes at once").plays([Step::Close]).down("reset", reset),
        http("cut-at-once-in-order", "ends its direction at once, and reads on")
            .plays([Step::HalfClose])
            .down("closed", before),
        http("cut-after-request", "reads the request and closes")
            .plays([Step::ReadRequest, Step::Close])
            .down("closed", before),
        http("cut-in-status-line", "closes inside the status line")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 2"), Step::Close])
            .down("closed", inside),
        http("cut-after-status-line", "closes after the status line")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 200 OK\r\n"), Step::Close])
            .down("closed", inside),
        http("cut-before-blank-line", "closes before the blank line")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 200 OK\r\nServer: x\r\n"), Step::Close])
            .down("closed", inside),
        http("cut-after-head", "closes after the head")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), Step::Close])
            .up("200 OK"),
        http("reset-at-once", "resets at once").plays([Step::Reset]).down("reset", reset),
        http("reset-after-request", "reads the request and resets")
            .plays([Step::ReadRequest, Step::Reset])
            .down("reset", reset),
        http("reset-in-head", "resets inside the head")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 200 OK\r\nSer"), wait.clone(), Step::Reset])
            .down("reset", reset),
        http("reset-after-head", "answers and resets")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 200 OK\r\n\r\n"), wait.clone(), Step::Reset])
            .up("200 OK"),
        http("reset-later", "waits 100 ms and resets")
            .plays([Step::ReadRequest, Step::Pause(Duration::from_millis(100)), Step::Reset])
            .down("reset", reset),
        http("half-close-after-head", "answers, ends its direction and waits")
            .plays([Step::ReadRequest, send(b"HTTP/1.1 200 OK\r\n\r\n"), Step::HalfClose])
            .up("200 OK"),
    ]
}

/// Programs that speak something else.
fn foreign() -> Vec<Case> {
    let not_http = |begin: &str| format!("the answer is not HTTP/1.x: it begins with \"{begin}\"");
    let greets = |name, about, greeting: &[u8]| http(name, about).plays([send(greeting), Step::Hold]);
    vec![
        greets("foreign-ssh", "an SSH server", b"SSH-2.0-OpenSSH_9.2\r\n")
            .down("protocol", &not_http("SSH-2.0-OpenSSH_9.2")),
        greets("foreign-smtp", "a mail server", b"220 mail.example ESMTP\r\n")
            .down("protocol", &not_http("220 mail.example ESMTP")),
        greets("foreign-mysql", "a MySQL server", b"\x4a\0\0\0\x0a5.7.1\0")
            .down("protocol", &not_http("J???")),
        http("foreign-redis", "a Redis server")
            .plays([Step::ReadRequest, send(b"-ERR unknown command 'GET'\r\n"), Step::Hold])
            .down("protocol", &not_http("-ERR unknown command 'GET'")),
        http("foreign-tls", "a TLS server: an alert")
            .plays([Step::ReadSome, send(b"\x15\x03\x03\0\x02\x02\x46"), Step::Close])
            .down("protocol", &not_http("??????F")),
        greets("foreign-http2", "an HTTP/2 server: SETTINGS", b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64")
            .down("protocol", "the member speaks HTTP/2 alone; vitald speaks HTTP/1.1"),
        http("foreign-echo", "an echo server")
            .plays([Step::Echo])
            .down("protocol", &not_http("GET /health HTTP/1.1")),
        http("foreign-html", "HTML without a head")
            .plays([Step::ReadRequest, send(b"<html>ok</html>\n"), Step::Close])
            .down("protocol", &not_http("<html>ok</html>")),
        http("foreign-json", "JSON without a head")
            .plays([Step::ReadRequest, send(b"{\"status\":\"UP\"}"), Step::Close])
            .down("protocol", &not_http("{\"status\":\"UP\"}")),
        http("foreign-noise", "bytes at random")
            .plays([Step::ReadRequest, send(b"\x80\x81\xfe\xff\0\x01\x02\x03"), Step::Close])
            .down("protocol", &not_http("????????")),
        http("foreign-one-letter", "one letter and then nothing")
            .plays([Step::ReadRequest, send(b"H"), Step::Hold])
            .down("response_timeout", SILENCE),
    ]
}
