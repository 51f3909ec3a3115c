//! Cases of plain HTTP: statuses, status lines, heads, interim answers, lengths.

use std::fmt::Write as _;

use crate::case::{Case, http};
use crate::peer::Step;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = statuses();
    cases.extend(redirects());
    cases.extend(status_lines());
    cases.extend(heads());
    cases.extend(interim());
    cases.extend(lengths());
    cases.extend(requests());
    cases
}

fn statuses() -> Vec<Case> {
    let line = |name, about, codes, line: &str| http(name, about).codes(codes).status_line(line);
    vec![
        line("status-200", "200", "200", "HTTP/1.1 200 OK").up("200 OK"),
        line("status-201-of-range", "201", "200-299", "HTTP/1.1 201 Created").up("201 Created"),
        line("status-299-of-range", "299", "200-299", "HTTP/1.1 299 Odd").up("299 Odd"),
        line("status-300-beyond-range", "300", "200-299", "HTTP/1.1 300 Multiple Choices")
            .down("status", "300 Multiple Choices"),
        line("status-199-is-interim", "199 and then 200", "200", "HTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 200 OK")
            .up("200 OK"),
        line("status-404-wanted", "404", "200,404", "HTTP/1.1 404 Not Found").up("404 Not Found"),
        line("status-201-not-listed", "201", "200,404", "HTTP/1.1 201 Created").down("status", "201 Created"),
        line("status-200-unwanted", "200", "404", "HTTP/1.1 200 OK").down("status", "200 OK"),
        line("status-204", "204", "200-299", "HTTP/1.1 204 No Content").up("204 No Content"),
        line("status-304", "304", "200", "HTTP/1.1 304 Not Modified").down("status", "304 Not Modified"),
        line("status-101-wanted", "101", "101", "HTTP/1.1 101 Switching Protocols")
            .up("101 Switching Protocols"),
        line("status-101-unwanted", "101", "200", "HTTP/1.1 101 Switching Protocols")
            .down("status", "101 Switching Protocols"),
        line("status-400", "400", "200", "HTTP/1.1 400 Bad Request").down("status", "400 Bad Request"),
        line("status-401", "401", "200", "HTTP/1.1 401 Unauthorized").down("status", "401 Unauthorized"),
        line("status-403", "403", "200", "HTTP/1.1 403 Forbidden").down("status", "403 Forbidden"),
        line("status-429", "429", "200", "HTTP/1.1 429 Too Many Requests")
            .down("status", "429 Too Many Requests"),
        line("status-500", "500", "200", "HTTP/1.1 500 Internal Server Error")
            .down("status", "500 Internal Server Error"),
        line("status-502", "502", "200", "HTTP/1.1 502 Bad Gateway").down("status", "502 Bad Gateway"),
        line("status-503", "503", "200", "HTTP/1.1 503 Service Unavailable")
            .down("status", "503 Service Unavailable"),
        line("status-503-retry-after", "503 with Retry-After", "200", "HTTP/1.1 503 Busy\r\nRetry-After: 1")
            .down("status", "503 Busy"),
        line("status-599", "599", "200-599", "HTTP/1.1 599 Odd").up("599 Odd"),
        line("status-600", "600, a class that does not exist", "200-599", "HTTP/1.1 600 Odd")
            .down("status", "600 Odd"),
        line("status-999", "999", "200", "HTTP/1.1 999 Request Denied").down("status", "999 Request Denied"),
    ]
}

fn redirects() -> Vec<Case> {
    let to = |name, about, codes, location: &str| {
        http(name, about).codes(codes).status_line(&format!("HTTP/1.1 302 Found\r\nLocation: {location}"))
    };
    vec![
        to("redirect-not-followed", "302 to a page that would be good", "200", "/elsewhere")
            .down("status", "302 Found, Location: /elsewhere"),
        to("redirect-wanted", "302", "302", "/elsewhere").up("302 Found"),
        to("redirect-loop", "302 to itself", "200", "/health").down("status", "302 Found, Location: /health"),
        to("redirect-elsewhere", "302 to another host", "200", "http://192.0.2.1/")
            .down("status", "302 Found, Location: http://192.0.2.1/"),
    ]
}

fn status_lines() -> Vec<Case> {
    let line = |name, about, line: &[u8]| {
        let mut answer = line.to_vec();
        answer.extend_from_slice(b"\r\n\r\n");
        http(name, about).answers(answer)
    };
    let not_http = |begin: &str| format!("the answer is not HTTP/1.x: it begins with \"{begin}\"");
    let no_status = |begin: &str| format!("the answer has no valid status line: it begins with \"{begin}\"");
    let long = format!("HTTP/1.1 500 {}", "x".repeat(5000));
    vec![
        line("line-http-1.0", "HTTP/1.0", b"HTTP/1.0 200 OK").up("200 OK"),
        line("line-no-phrase", "no reason phrase", b"HTTP/1.1 200").up("200 OK"),
        line("line-empty-phrase", "an empty reason phrase", b"HTTP/1.1 200 ").up("200 OK"),
        line("line-own-phrase", "a reason phrase of its own", b"HTTP/1.1 200 All good").up("200 All good"),
        line("line-long-phrase", "a reason phrase of 5000 characters", long.as_bytes())
            .down("status", &format!("500 {}...", "x".repeat(113))),
        line("line-escapes", "a terminal escape in the phrase", b"HTTP/1.1 500 \x1b[31mred")
            .down("protocol", &no_status("HTTP/1.1 500 ?[31mred")),
        line("line-latin-1", "a phrase in Latin-1", b"HTTP/1.1 500 caf\xe9")
            .down("status", "500 Internal Server Error"),
        line("line-http-0.9", "HTTP/0.9", b"HTTP/0.9 200 OK").down("protocol", &not_http("HTTP/0.9 200 OK")),
        line("line-http-2.0", "HTTP/2.0 in words", b"HTTP/2.0 200 OK")
            .down("protocol", &not_http("HTTP/2.0 200 OK")),
        line("line-http-1.2", "HTTP/1.2", b"HTTP/1.2 200 OK").down("protocol", &not_http("HTTP/1.2 200 OK")),
        line("line-lower-case", "http in lower case", b"http/1.1 200 OK")
            .down("protocol", &not_http("http/1.1 200 OK")),
        line("line-icy", "ICY, as radio servers do", b"ICY 200 OK").down("protocol", &not_http("ICY 200 OK")),
        line("line-two-digits", "a status of two digits", b"HTTP/1.1 20 OK")
            .down("protocol", &no_status("HTTP/1.1 20 OK")),
        line("line-four-digits", "a status of four digits", b"HTTP/1.1 2000 OK")
            .down("protocol", &no_status("HTTP/1.1 2000 OK")),
        line("line-no-digits", "a status in letters", b"HTTP/1.1 two OK")
            .down("protocol", &no_status("HTTP/1.1 two OK")),
        line("line-negative", "a negative status", b"HTTP/1.1 -200 OK")
            .down("protocol", &no_status("HTTP/1.1 -200 OK")),
        line("line-no-status", "no status at all", b"HTTP/1.1").down("protocol", &not_http("HTTP/1.1")),
        line("line-tab", "a tab before the status", b"HTTP/1.1\t200 OK").up("200 OK"),
        line("line-empty-first", "an empty line before the status line", b"\r\nHTTP/1.1 200 OK").up("200 OK"),
        line("line-space-first", "a space before the status line", b" HTTP/1.1 200 OK")
            .down("protocol", &not_http(" HTTP/1.1 200 OK")),
        line("line-nul", "a NUL in the status line", b"HTTP/1.1 200 O\0K")
            .down("protocol", &no_status("HTTP/1.1 200 O?K")),
    ]
}

fn heads() -> Vec<Case> {
    let head = |name, about, fields: &str| http(name, about).status_line(&format!("HTTP/1.1 200 OK{fields}"));
    let bad_name = "a response header has an invalid name";
    let bad_value = "a response header has an invalid value";
    let lines = |count| (0..count).fold(String::new(), |text, number| text + &format!("\r\nX-{number}: x"));
    let large = |bytes: usize| format!("\r\nX-Large: {}", "x".repeat(bytes));
    vec![
        http("head-bare-lf", "ends its lines with a bare LF")
            .answers("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
            .up("200 OK"),
        http("head-bare-cr", "ends its lines with a bare CR")
            .answers("HTTP/1.1 200 OK\rContent-Length: 0\r\r")
            .down(
                "protocol",
                "the answer has no valid status line: it begins with \"HTTP/1.1 200 OK?Content-Length: 0\"",
            ),
        http("head-mixed-ends", "mixes CRLF and LF")
            .answers("HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n")
            .up("200 OK"),
        head("head-no-colon", "a header line without a colon", "\r\nnonsense").down("protocol", bad_name),
        head("head-space-in-name", "a space in a header name", "\r\nX Y: z").down("protocol", bad_name),
        head("head-space-before-colon", "a space before the colon", "\r\nX-Y : z").down("protocol", bad_name),
        head("head-empty-name", "an empty header name", "\r\n: z").down("protocol", bad_name),
        head("head-folded", "a folded header line", "\r\nX-Y: a\r\n b").up("200 OK"),
        head("head-nul-in-value", "a NUL in a header value", "\r\nX-Y: a\0b").down("protocol", bad_value),
        head("head-control-in-value", "a control character in a value", "\r\nX-Y: a\x07b")
            .down("protocol", bad_value),
        http("head-latin-1-value", "a header value in Latin-1")
            .answers(b"HTTP/1.1 200 OK\r\nX-Y: caf\xe9\r\nContent-Length: 0\r\n\r\n")
            .up("200 OK"),
        head("head-empty-value", "an empty header value", "\r\nX-Y:").up("200 OK"),
        head("head-127-lines", "127 header lines and one more", &lines(127)).up("200 OK"),
        head("head-129-lines", "more than 128 header lines", &lines(128))
            .down("protocol", "the response head has more than 128 lines"),
        head("head-60-kib", "a header of 60 KiB", &large(60 * 1024)).up("200 OK"),
        head("head-70-kib", "a header of 70 KiB", &large(70 * 1024))
            .down("protocol", "no end of the response head within 65536 bytes"),
        http("head-endless-line", "one header line without end")
            .plays([
                Step::ReadRequest,
                Step::Send(b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
                Step::Flood(vec![b'x'; 4096]),
            ])
            .down("protocol", "no end of the response head within 65536 bytes"),
        http("head-endless-lines", "short header lines without end")
            .plays([
                Step::ReadRequest,
                Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
                Step::Flood(b"X-Y: z\r\n".repeat(64)),
            ])
            .down("protocol", "the response head has more than 128 lines"),
        http("head-megabyte", "a head of a megabyte in large lines")
            .answers({
                let mut head = String::from("HTTP/1.1 200 OK\r\n");
                for number in 0..100 {
                    let _ = write!(head, "X-{number}: {}\r\n", "x".repeat(10_240));
                }
                head + "\r\n"
            })
            .down("protocol", "no end of the response head within 65536 bytes"),
        head("head-cookies", "sets forty cookies", &"\r\nSet-Cookie: a=b; Path=/".repeat(40)).up("200 OK"),
        head("head-keep-alive", "keeps the connection although asked to close", "\r\nConnection: keep-alive")
            .up("200 OK"),
    ]
}

fn interim() -> Vec<Case> {
    let after =
        |name, about, before: &str| http(name, about).status_line(&format!("{before}HTTP/1.1 200 OK"));
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    vec![
        after("interim-100", "100 and then 200", "HTTP/1.1 100 Continue\r\n\r\n").up("200 OK"),
        after("interim-103-twice", "103 twice and then 200", &hint.repeat(2)).up("200 OK"),
        after("interim-102", "102 and then 200", "HTTP/1.1 102 Processing\r\n\r\n").up("200 OK"),
        after("interim-16", "16 interim answers and then 200", &hint.repeat(16)).up("200 OK"),
        after("interim-17", "17 interim answers and then 200", &hint.repeat(17))
            .down("protocol", "more than 16 interim answers"),
        http("interim-flood", "interim answers without end")
            .plays([Step::ReadRequest, Step::Flood(hint.as_bytes().to_vec())])
            .down("protocol", "more than 16 interim answers"),
        http("interim-then-silence", "100 and then nothing")
            .plays([Step::ReadRequest, Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), Step::Hold])
            .down("response_timeout", "connected, but no whole response head within 1s"),
        http("interim-then-close", "100 and then the end")
            .answers("HTTP/1.1 100 Continue\r\n\r\n")
            .down("closed", "closed by the member inside the response head"),
        http("interim-then-500", "100 and then 500")
            .answers("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Odd\r\n\r\n")
            .down("status", "500 Odd"),
        http("interim-then-garbage", "100 and then no HTTP")
            .answers("HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n")
            .down("protocol", "the answer is not HTTP/1.x: it begins with \"nonsense\""),
    ]
}

fn lengths() -> Vec<Case> {
    let answer = |name, about, fields: &str, body: &str| {
        http(name, about).answers(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}"))
    };
    let contradiction = "two Content-Lengths contradict each other";
    let no_number = "the Content-Length is not a number";
    vec![
        answer("length-twice-same", "the same length twice", "Content-Length: 2\r\nContent-Length: 2", "ok")
            .up("200 OK"),
        answer("length-contradicts", "two lengths", "Content-Length: 2\r\nContent-Length: 3", "ok")
            .down("protocol", contradiction),
        answer("length-list-same", "a list of equal lengths", "Content-Length: 2, 2", "ok").up("200 OK"),
        answer("length-list-contradicts", "a list of lengths", "Content-Length: 2, 3", "ok")
            .down("protocol", contradiction),
        answer("length-negative", "a negative length", "Content-Length: -2", "").down("protocol", no_number),
        answer("length-signed", "a length with a plus", "Content-Length: +2", "ok")
            .down("protocol", no_number),
        answer("length-in-letters", "a length in letters", "Content-Length: two", "ok")
            .down("protocol", no_number),
        answer("length-empty", "an empty length", "Content-Length:", "").down("protocol", no_number),
        answer("length-hexadecimal", "a length in hexadecimal", "Content-Length: 0x2", "ok")
            .down("protocol", no_number),
        answer(
            "length-huge",
            "a length of thirty digits",
            &format!("Content-Length: {}", "9".repeat(30)),
            "",
        )
        .up("200 OK"),
        answer(
            "length-and-chunked",
            "a length and chunks",
            "Content-Length: 9\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
        )
        .up("200 OK"),
        answer("length-none", "neither length nor chunks", "Server: x", "ok").up("200 OK"),
        answer("body-short", "a body shorter than its length", "Content-Length: 100", "ok").up("200 OK"),
        answer("body-long", "a body longer than its length", "Content-Length: 2", "ok and more").up("200 OK"),
        answer("chunk-size-bad", "a chunk size in letters", "Transfer-Encoding: chunked", "zz\r\nok\r\n")
            .up("200 OK"),
        answer(
            "chunk-size-huge",
            "a chunk size that overflows",
            "Transfer-Encoding: chunked",
            &"f".repeat(40),
        )
        .up("200 OK"),
        answer("chunk-cut", "chunks without their end", "Transfer-Encoding: chunked", "2\r\nok").up("200 OK"),
        answer("coding-unknown", "a transfer coding that nobody knows", "Transfer-Encoding: x-odd", "?")
            .up("200 OK"),
        answer("body-gzip-broken", "a body that is not the gzip it claims", "Content-Encoding: gzip", "ok")
            .up("200 OK"),
        http("body-endless", "a body without end")
            .plays([
                Step::ReadRequest,
                Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
                Step::Flood(vec![b'x'; 4096]),
            ])
            .up("200 OK"),
        http("body-never-comes", "promises a body and sends none")
            .plays([
                Step::ReadRequest,
                Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()),
                Step::Hold,
            ])
            .up("200 OK"),
        http("head-with-body", "answers HEAD with a body")
            .head()
            .answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .up("200 OK"),
        http("head-bad-length", "answers HEAD with two lengths")
            .head()
            .answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n")
            .up("200 OK"),
    ]
}

/// Members that are strict about what they are asked.
fn requests() -> Vec<Case> {
    let demands = |name, about, text: &'static str| {
        http(name, about).plays([Step::Demand(text), Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())])
    };
    vec![
        demands("asks-http-1.1", "wants HTTP/1.1", "GET /health HTTP/1.1\r\n").up("200 OK"),
        demands("asks-host", "wants a Host with its own address", "\r\nHost: 127.").up("200 OK"),
        demands("asks-own-host", "wants the configured Host", "\r\nHost: app.internal\r\n")
            .option("host = \"app.internal\"")
            .up("200 OK"),
        demands("asks-close", "wants Connection: close", "\r\nConnection: close\r\n").up("200 OK"),
        demands("asks-agent", "wants a User-Agent that says who asks", "\r\nUser-Agent: vitald/")
            .up("200 OK"),
        demands("asks-header", "wants the configured header", "\r\nX-Probe: yes\r\n")
            .option("headers = { X-Probe = \"yes\" }")
            .up("200 OK"),
        demands("asks-header-missing", "wants a header that is not configured", "\r\nX-Probe: yes\r\n")
            .down("status", "400 Bad Request"),
        demands("asks-head", "wants HEAD", "HEAD /health HTTP/1.1\r\n").head().up("200 OK"),
    ]
}
