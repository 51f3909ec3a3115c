//! HTTP checks: what is sent, which answers count, and every way to fail.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use vitald::channel::{HttpMethod, ProbeHeader, ProbeOptions, Protocol};
use vitald::health::{MemberReason, Outcome};
use vitald::testing::probe::Plan;

use crate::members::{
    BRIEF, Member, PATIENT, expect, explain, hold, http, http_check, plan, probe, read_request, refusing,
    reset, run,
};

const AGENT: &str = concat!("vitald/", env!("CARGO_PKG_VERSION"));

fn failure(reason: MemberReason) -> Outcome {
    Outcome::Failure(reason)
}

/// Probes a member that sends these bytes and closes; codes 200 to 299.
#[track_caller]
fn judge(answer: impl Into<Vec<u8>>, outcome: Outcome, detail: &str, ended: &str) {
    let member = Member::answering(answer);
    expect(&probe(http("200-299"), PATIENT, member.address), outcome, detail, ended);
}

#[test]
fn the_status_decides() {
    let status = failure(MemberReason::Status);
    let cases = [
        ("200", "200 OK", Outcome::Success),
        ("200,204", "204 No Content", Outcome::Success),
        ("404", "404 Not Found", Outcome::Success),
        ("404", "200 OK", status),
        ("200-299", "299 Almost", Outcome::Success),
        ("200-299", "300 Multiple Choices", status),
        ("200", "500 Internal Server Error", status),
        ("200", "503 Service Unavailable", status),
        ("100-599", "503 Service Unavailable", Outcome::Success),
        ("100-599", "600 Beyond", status),
        ("100-599", "099 Below", status),
    ];
    for (codes, line, outcome) in cases {
        let member = Member::answering(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"));
        let report = probe(http(codes), PATIENT, member.address);
        expect(&report, outcome, line, "connect+response");
        assert_eq!(report.status, line[..3].parse().ok());
        assert_eq!(report.peer, Some(member.address));
    }
}

#[test]
fn a_redirect_is_judged_and_not_followed() {
    let member = Member::answering("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n");
    let report = probe(http("302"), PATIENT, member.address);
    expect(&report, Outcome::Success, "302 Found", "connect+response");
    let report = probe(http("200"), PATIENT, member.address);
    let detail = "302 Found, Location: /elsewhere";
    expect(&report, failure(MemberReason::Status), detail, "connect+response");
    assert_eq!(member.accepted(), 2);
}

#[test]
fn a_challenge_shows_its_kind_and_no_more() {
    let cases = [
        (
            "401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"",
            "401 Unauthorized, WWW-Authenticate: Basic",
        ),
        ("401 Unauthorized", "401 Unauthorized"),
        ("407 Proxy\r\nProxy-Authenticate: Negotiate", "407 Proxy, Proxy-Authenticate: Negotiate"),
        // Not a redirect, and a redirect that leads nowhere.
        ("304 Not Modified\r\nLocation: /", "304 Not Modified"),
        ("307 Temporary Redirect", "307 Temporary Redirect"),
        (
            "302 Found\r\nLocation: https://user:hidden@app.internal/@me?a=b@c",
            "302 Found, Location: https://***@app.internal/@me?a=b@c",
        ),
        ("302 Found\r\nLocation: //hidden@app.internal", "302 Found, Location: //***@app.internal"),
        ("302 Found\r\nLocation: /a//b@c", "302 Found, Location: /a//b@c"),
        ("301 Moved Permanently\r\nLocation: a\u{e9}b", "301 Moved Permanently, Location: a??b"),
    ];
    for (head, detail) in cases {
        let answer = format!("HTTP/1.1 {head}\r\n\r\n");
        judge(answer, failure(MemberReason::Status), detail, "connect+response");
    }
}

/// How many sent bytes of a connection over IPv4 have not been acknowledged, as the
/// kernel's table of connections says.
fn unacknowledged(connection: &TcpStream) -> Option<u64> {
    let ends = [connection.local_addr().ok()?, connection.peer_addr().ok()?];
    let ends = ends.map(|end| format!(":{:04X}", end.port()));
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let mut rows = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| {
        let end = |at: usize| row.get(at).copied().unwrap_or_default();
        end(1).ends_with(&ends[0]) && end(2).ends_with(&ends[1])
    })?;
    u64::from_str_radix(row.get(4)?.split(':').next()?, 16).ok()
}

/// A member with Nagle's algorithm on sends the rest of its answer only when the first
/// piece has been acknowledged. The kernel waits at least 40 ms with an acknowledgement
/// that it was told to delay, so a single quick one shows that it was not.
#[test]
fn an_answer_in_pieces_is_acknowledged_at_once() {
    let (acknowledged, seen) = mpsc::channel();
    let member = Member::new(move |mut connection| {
        read_request(&mut connection);
        let begun = tokio::time::Instant::now();
        connection.write_all(b"HTTP/1.1 200 OK\r\n").expect("an open connection");
        let mut is_quick = false;
        while !is_quick && begun.elapsed() < Duration::from_millis(30) {
            let is_acknowledged = unacknowledged(&connection) == Some(0);
            // The table may have been read late.
            is_quick = is_acknowledged && begun.elapsed() < Duration::from_millis(30);
        }
        let _ = connection.write_all(b"\r\n");
        acknowledged.send(is_quick).expect("a waiting test");
    });
    let is_quick = (0..10).any(|_| {
        let report = probe(http("200"), PATIENT, member.address);
        expect(&report, Outcome::Success, "200 OK", "connect+response");
        seen.recv_timeout(PATIENT).expect("a word of the member")
    });
    assert!(is_quick, "ten answers in pieces, and each acknowledgement was held back");
}

/// The request that a member saw.
fn request_of(protocol: Protocol, options: &ProbeOptions) -> (String, std::net::SocketAddr) {
    let (requests, seen) = mpsc::channel();
    let member = Member::new(move |mut connection| {
        let request = read_request(&mut connection);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        requests.send(request).expect("a waiting test");
    });
    let report = run(&plan(protocol, PATIENT, options), member.address);
    assert_eq!(report.outcome, Outcome::Success, "{report:?}");
    (seen.recv_timeout(PATIENT).expect("a request"), member.address)
}

#[test]
fn the_request_is_as_documented() {
    for method in [HttpMethod::Get, HttpMethod::Head] {
        let protocol = Protocol::Http(http_check(method, "200"));
        let (request, member) = request_of(protocol, &ProbeOptions::default());
        let word = method.word();
        assert_eq!(
            request,
            format!(
                "{word} /health HTTP/1.1\r\nHost: {member}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n\
                 Connection: close\r\n\r\n"
            )
        );
    }
}

#[test]
fn configured_headers_replace_ours_and_are_not_doubled() {
    let options = ProbeOptions {
        host: Some("app.internal".to_owned()),
        headers: vec![
            ProbeHeader::plain("X-Probe", "vitald"),
            ProbeHeader::plain("user-agent", "ours/1"),
            ProbeHeader::plain("accept", "text/plain"),
        ],
        ..ProbeOptions::default()
    };
    let (request, _) = request_of(http("200"), &options);
    assert_eq!(
        request,
        "GET /health HTTP/1.1\r\nHost: app.internal\r\nConnection: close\r\nX-Probe: vitald\r\n\
         user-agent: ours/1\r\naccept: text/plain\r\n\r\n"
    );
    let options = ProbeOptions {
        headers: vec![
            ProbeHeader::plain("Host", "other.internal"),
            ProbeHeader::plain("Connection", "keep-alive"),
        ],
        ..ProbeOptions::default()
    };
    let (request, _) = request_of(http("200"), &options);
    assert_eq!(
        request,
        format!(
            "GET /health HTTP/1.1\r\nHost: other.internal\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n\
             Connection: keep-alive\r\n\r\n"
        )
    );
}

#[test]
fn a_header_of_ours_can_be_left_out() {
    let options = ProbeOptions {
        headers: vec![ProbeHeader::left_out("Accept"), ProbeHeader::left_out("user-agent")],
        ..ProbeOptions::default()
    };
    let (request, member) = request_of(http("200"), &options);
    assert_eq!(request, format!("GET /health HTTP/1.1\r\nHost: {member}\r\nConnection: close\r\n\r\n"));
}

#[test]
fn secret_values_are_sent_and_not_shown() {
    let options = ProbeOptions {
        headers: vec![
            ProbeHeader::plain("authorization", "Bearer hidden-value"),
            ProbeHeader::plain("X-Probe", "yes"),
            ProbeHeader::secret("X-Key", "hidden-value"),
        ],
        ..ProbeOptions::default()
    };
    let plan = plan(http("200"), PATIENT, &options);
    assert!(!format!("{plan:?}").contains(&format!("{:?}", b"hidden").replace(['[', ']'], "")), "{plan:?}");
    let (requests, seen) = mpsc::channel();
    let member = Member::new(move |mut connection| {
        requests.send(read_request(&mut connection)).expect("a waiting test");
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    });
    let (_, trace) = explain(&plan, member.address);
    let sent = seen.recv_timeout(PATIENT).expect("a request");
    let shown = trace.request.expect("it was sent");
    assert!(sent.contains("authorization: Bearer hidden-value\r\n"), "{sent}");
    assert!(sent.contains("X-Key: hidden-value\r\n"), "{sent}");
    let masked = sent.replace("Bearer hidden-value", "***").replace("hidden-value", "***");
    assert_eq!(shown, masked);
}

#[test]
fn an_ipv6_member_is_called_in_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return crate::skipped::note("no IPv6 here");
    };
    let address = listener.local_addr().expect("a bound address");
    let answering = thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        let request = read_request(&mut connection);
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("an open connection");
        request
    });
    let report = probe(http("200"), PATIENT, address);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
    let request = answering.join().expect("a request");
    assert!(request.contains(&format!("\r\nHost: [::1]:{}\r\n", address.port())), "{request}");
}

#[test]
fn interim_answers_are_passed_over() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\n\r\n";
    judge(answer, Outcome::Success, "200 OK", "connect+response");
    // Also where their codes are in the set: only 101 is an answer.
    let member = Member::answering("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 500 Broken\r\n\r\n");
    let report = probe(http("100-299"), PATIENT, member.address);
    expect(&report, failure(MemberReason::Status), "500 Broken", "connect+response");
}

#[test]
fn a_switch_of_protocols_is_final() {
    let member = Member::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    let report = probe(http("101"), PATIENT, member.address);
    expect(&report, Outcome::Success, "101 Switching Protocols", "connect+response");
    let report = probe(http("200"), PATIENT, member.address);
    expect(&report, failure(MemberReason::Status), "101 Switching Protocols", "connect+response");
}

#[test]
fn limits_on_heads_have_their_own_words() {
    let protocol = failure(MemberReason::Protocol);
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\n\r\n";
    judge(interim.repeat(16) + ok, Outcome::Success, "200 OK", "connect+response");
    judge(interim.repeat(17) + ok, protocol, "more than 16 interim answers", "connect+response");

    let lines = |count: usize| {
        let mut head = String::from("HTTP/1.1 200 OK\r\n");
        for line in 0..count {
            write!(head, "X-{line}: y\r\n").expect("a string");
        }
        head + "\r\n"
    };
    judge(lines(128), Outcome::Success, "200 OK", "connect+response");
    judge(lines(129), protocol, "the response head has more than 128 lines", "connect+response");

    let long = |bytes: usize| format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "y".repeat(bytes));
    judge(long(60 * 1024), Outcome::Success, "200 OK", "connect+response");
    let detail = "no end of the response head within 65536 bytes";
    judge(long(1024 * 1024), protocol, detail, "connect+response");
}

#[test]
fn what_is_not_http_is_a_protocol_failure() {
    let version = |line: &str| format!("the answer is not HTTP/1.x: it begins with \"{line}\"");
    let status = |line: &str| format!("the answer has no valid status line: it begins with \"{line}\"");
    let cases: [(&[u8], String); 11] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n", version("SSH-2.0-OpenSSH_9.2")),
        (b"220 mail.internal ESMTP\r\n", version("220 mail.internal ESMTP")),
        // HTTP/0.9: a body and nothing else.
        (b"<html>hello</html>\n", version("<html>hello</html>")),
        // The SETTINGS frame of HTTP/2.
        (b"\0\0\0\x04\0\0\0\0\0", "the member speaks HTTP/2 alone; vitald speaks HTTP/1.1".to_owned()),
        (b"HTTP/2.0 200 OK\r\n\r\n", version("HTTP/2.0 200 OK")),
        (b"ICY 200 OK\r\n\r\n", version("ICY 200 OK")),
        // A TLS alert: the member speaks TLS here.
        (b"\x15\x03\x01\0\x02\x02\x46", version("??????F")),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", status("HTTP/1.1 2x0 OK")),
        (b"HTTP/1.1 20\r\n\r\n", status("HTTP/1.1 20")),
        (b"\x1b[31mred\r\n", version("?[31mred")),
        (b"HTTP/1.1 200 \x1b[31mred\r\n\r\n", status("HTTP/1.1 200 ?[31mred")),
    ];
    for (answer, detail) in cases {
        judge(answer, failure(MemberReason::Protocol), &detail, "connect+response");
    }
}

#[test]
fn malformed_heads_are_a_protocol_failure() {
    let protocol = failure(MemberReason::Protocol);
    let cases = [
        ("HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n", "a response header has an invalid name"),
        ("HTTP/1.1 200 OK\r\n: x\r\n\r\n", "a response header has an invalid name"),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "a response header has an invalid value"),
        ("HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "a response header has an invalid value"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "the Content-Length is not a number"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "the Content-Length is not a number"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "two Content-Lengths contradict each other",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab", "two Content-Lengths contradict each other"),
    ];
    for (answer, detail) in cases {
        judge(answer, protocol, detail, "connect+response");
    }
}

#[test]
fn odd_heads_that_http_allows_are_answers() {
    let cases = [
        // RFC 9112, 2.2: a single LF may end a line.
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "200 OK"),
        ("HTTP/1.0 200 OK\r\n\r\n", "200 OK"),
        // 4: the phrase may be missing, with or without its space.
        ("HTTP/1.1 200 \r\n\r\n", "200 OK"),
        ("HTTP/1.1 200\r\n\r\n", "200 OK"),
        ("HTTP/1.1 299\r\n\r\n", "299"),
        // More than one space, or tabs, around the code.
        ("HTTP/1.1  200  OK\r\n\r\n", "200 OK"),
        ("HTTP/1.1\t200\tOK\r\n\r\n", "200 OK"),
        ("HTTP/1.1 \t 200\t\r\n\r\n", "200 OK"),
        ("HTTP/1.1 200 Quite\tfine\r\n\r\n", "200 Quite?fine"),
        ("HTTP/1.1 200 Fine\r\n\r\n", "200 Fine"),
        // 5.2: a folded line.
        ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "200 OK"),
        // 6.3: equal lengths, a length beside chunks, an answer without a body.
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok", "200 OK"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200 OK"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n", "204 No Content"),
        // The body is not looked at: chunks that make no sense, a body cut short.
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "200 OK"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort", "200 OK"),
        // RFC 9110, 5.5: bytes beyond ASCII are opaque; such a phrase is not shown.
        ("HTTP/1.1 200 Très bien\r\n\r\n", "200 OK"),
    ];
    for (answer, detail) in cases {
        judge(answer, Outcome::Success, detail, "connect+response");
    }
    // The length in an answer to HEAD is of a body that is not there.
    let member = Member::answering("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n");
    let report = probe(Protocol::Http(http_check(HttpMethod::Head, "200")), PATIENT, member.address);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
}

#[test]
fn a_long_phrase_is_cut() {
    let member = Member::answering(format!("HTTP/1.1 500 {}\r\n\r\n", "y".repeat(5000)));
    let report = probe(http("200"), PATIENT, member.address);
    assert_eq!(report.outcome, failure(MemberReason::Status));
    assert_eq!(report.detail.len(), 120);
    assert!(report.detail.ends_with("yyy..."), "{}", report.detail);
}

#[test]
fn a_closed_port_refuses_the_http_check_too() {
    let report = probe(http("200"), PATIENT, refusing());
    expect(&report, failure(MemberReason::Refused), "connection refused", "");
}

#[test]
fn closing_before_a_whole_head_is_closed() {
    let closed = failure(MemberReason::Closed);
    judge("", closed, "closed by the member before it answered", "connect");
    judge("HTTP/1.1 20", closed, "closed by the member inside the response head", "connect");
    judge("HTTP/1.1 200 OK\r\nX: y\r\n", closed, "closed by the member inside the response head", "connect");
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    judge(interim, closed, "closed by the member inside the response head", "connect");
}

#[test]
fn a_half_close_before_the_answer_is_closed_and_after_it_is_not() {
    let member = Member::new(|mut connection| {
        read_request(&mut connection);
        connection.shutdown(Shutdown::Write).expect("an open connection");
        hold(connection);
    });
    let report = probe(http("200"), PATIENT, member.address);
    expect(&report, failure(MemberReason::Closed), "closed by the member before it answered", "connect");
    let member = Member::new(|mut connection| {
        read_request(&mut connection);
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("an open connection");
        connection.shutdown(Shutdown::Write).expect("an open connection");
        hold(connection);
    });
    let report = probe(http("200"), PATIENT, member.address);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
}

#[test]
fn a_reset_at_any_point_is_a_reset() {
    type Behave = fn(TcpStream);
    let behaviours: [Behave; 3] = [
        reset,
        |mut connection| {
            read_request(&mut connection);
            reset(connection);
        },
        |mut connection| {
            read_request(&mut connection);
            let _ = connection.write_all(b"HTTP/1.1 20");
            reset(connection);
        },
    ];
    for behave in behaviours {
        let member = Member::new(behave);
        let report = probe(http("200"), PATIENT, member.address);
        expect(&report, failure(MemberReason::Reset), "connection reset by the member", "connect");
    }
}

#[test]
fn silence_is_a_response_timeout() {
    type Behave = fn(TcpStream);
    let behaviours: [Behave; 4] = [
        hold,
        |mut connection| {
            read_request(&mut connection);
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nX: ");
            hold(connection);
        },
        // One byte at a time: each read succeeds, the whole never comes.
        |mut connection| {
            read_request(&mut connection);
            for byte in b"HTTP/1.1 200 OK\r\nX-Drip: 0123456789\r\n\r\n" {
                if connection.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(25));
            }
        },
        // Interim answers for ever.
        |mut connection| {
            read_request(&mut connection);
            while connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {
                thread::sleep(Duration::from_millis(60));
            }
        },
    ];
    for behave in behaviours {
        let member = Member::new(behave);
        let report = probe(http("200"), BRIEF, member.address);
        let detail = "connected, but no whole response head within 200ms";
        expect(&report, failure(MemberReason::ResponseTimeout), detail, "connect");
        assert!(report.total >= BRIEF && report.total < PATIENT / 2, "{report:?}");
    }
}

#[test]
fn a_head_in_pieces_is_read_to_its_end() {
    let member = Member::new(|mut connection| {
        read_request(&mut connection);
        for byte in b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n\r\n" {
            connection.write_all(&[*byte]).expect("an open connection");
            thread::sleep(Duration::from_millis(1));
        }
        hold(connection);
    });
    let report = probe(http("200"), PATIENT, member.address);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
}

#[test]
fn an_answer_needs_no_end_and_no_body() {
    let member = Member::new(|mut connection| {
        read_request(&mut connection);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        hold(connection);
    });
    let report = probe(http("200"), PATIENT, member.address);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
    assert!(report.total < PATIENT / 2, "{report:?}");
}

#[test]
fn a_flood_ends_at_the_limit() {
    let (counts, seen) = mpsc::channel();
    let member = Member::new(move |mut connection| {
        read_request(&mut connection);
        let line = [b'y'; 4096];
        let mut sent = connection.write(b"HTTP/1.1 200 OK\r\nX: ").unwrap_or(0);
        while let Ok(written) = connection.write(&line) {
            sent += written;
        }
        counts.send(sent).expect("a waiting test");
    });
    let report = probe(http("200"), PATIENT, member.address);
    let detail = "no end of the response head within 65536 bytes";
    expect(&report, failure(MemberReason::Protocol), detail, "connect+response");
    seen.recv_timeout(PATIENT).expect("the flood to be stopped");
}

#[test]
fn an_early_answer_counts_although_a_reset_follows() {
    // Closing with an unread request sends the answer and then a reset.
    let member = Member::new(|mut connection| {
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("an open connection");
        let mut first = [0];
        connection.read_exact(&mut first).expect("the request's first byte");
    });
    for _ in 0..50 {
        let report = probe(http("200"), PATIENT, member.address);
        expect(&report, Outcome::Success, "200 OK", "connect+response");
    }
}

#[test]
fn an_early_answer_counts_although_the_request_never_leaves() {
    // A request far larger than the socket's buffers, that nobody reads.
    let options = ProbeOptions {
        headers: vec![ProbeHeader::plain("X-Large", "y".repeat(16 * 1024 * 1024))],
        ..ProbeOptions::default()
    };
    let plan = plan(http("413"), PATIENT, &options);
    let member = Member::new(|mut connection| {
        let mut first = [0];
        connection.read_exact(&mut first).expect("the request's first byte");
        connection.write_all(b"HTTP/1.1 413 Too Large\r\n\r\n").expect("an open connection");
        thread::sleep(BRIEF);
    });
    let report = run(&plan, member.address);
    expect(&report, Outcome::Success, "413 Too Large", "connect+response");
    // And one that is read slowly leaves in the end.
    let member = Member::new(|mut connection| {
        read_request(&mut connection);
        connection.write_all(b"HTTP/1.1 413 Too Large\r\n\r\n").expect("an open connection");
    });
    let options =
        ProbeOptions { headers: vec![ProbeHeader::plain("X-Large", "y".repeat(200_000))], ..options };
    let report = run(&plan_of(&options), member.address);
    expect(&report, Outcome::Success, "413 Too Large", "connect+response");
}

fn plan_of(options: &ProbeOptions) -> Plan {
    plan(http("413"), PATIENT, options)
}
