//! Cases of the connection itself: nobody there, nobody listening, nobody accepting.

use std::time::Duration;

use crate::case::{Case, Member, http, https, tcp};
use crate::peer::Step;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = established();
    cases.extend(not_established());
    cases
}

fn established() -> Vec<Case> {
    vec![
        tcp("tcp-accepts", "accepts and waits").plays([Step::Hold]).up("connected"),
        tcp("tcp-closes-at-once", "accepts and closes at once").plays([Step::Close]).up("connected"),
        tcp("tcp-resets-at-once", "accepts and resets at once").plays([Step::Reset]).up("connected"),
        tcp("tcp-speaks-first", "greets with a banner")
            .plays([Step::Send(b"220 mail.example ESMTP\r\n".to_vec()), Step::Hold])
            .up("connected"),
        tcp("tcp-floods", "sends without end").plays([Step::Flood(vec![b'x'; 4096])]).up("connected"),
        tcp("tcp-half-closes", "ends its direction at once").plays([Step::HalfClose]).up("connected"),
        tcp("tcp-slow-application", "takes a second before it does anything")
            .plays([Step::Pause(Duration::from_secs(1)), Step::Close])
            .up("connected"),
        Case { options: String::new(), ..tcp("tcp-never-woken", "accepts; the check ends with a reset") }
            .plays([Step::Hold])
            .up("connected")
            .unseen(),
        tcp("tcp-never-accepts", "listens, and its program never accepts")
            .member(Member::NeverAccepts)
            .up("connected"),
        http("http-never-accepts", "listens, and its program never accepts")
            .member(Member::NeverAccepts)
            .down("response_timeout", "connected, but no whole response head within 1s"),
        https("https-never-accepts", "listens, and its program never accepts")
            .member(Member::NeverAccepts)
            .down("tls_timeout", "connected, but no TLS handshake within 1s"),
        tcp("tcp-ignores-path", "accepts; a path and codes are set and have no effect")
            .check("path = \"/x\"\nhttp_code = \"404\"")
            .plays([Step::Hold])
            .up("connected"),
    ]
}

fn not_established() -> Vec<Case> {
    let refused = "connection refused";
    let silent = "no connection within 1s";
    let nowhere = "network unreachable";
    let broadcast = || Member::At("255.255.255.255");
    vec![
        tcp("tcp-refused", "nobody listens").member(Member::Nobody).down("refused", refused),
        http("http-refused", "nobody listens").member(Member::Nobody).down("refused", refused),
        https("https-refused", "nobody listens").member(Member::Nobody).down("refused", refused),
        tcp("tcp-queue-full", "its accept queue is full: every SYN is dropped")
            .member(Member::FullQueue)
            .down("connect_timeout", silent),
        http("http-queue-full", "its accept queue is full: every SYN is dropped")
            .member(Member::FullQueue)
            .down("connect_timeout", silent),
        https("https-queue-full", "its accept queue is full: every SYN is dropped")
            .member(Member::FullQueue)
            .down("connect_timeout", silent),
        tcp("tcp-broadcast", "is the broadcast address").member(broadcast()).down("unreachable", nowhere),
        http("http-broadcast", "is the broadcast address").member(broadcast()).down("unreachable", nowhere),
        https("https-broadcast", "is the broadcast address").member(broadcast()).down("unreachable", nowhere),
        tcp("tcp-no-such-name", "has a name that nobody knows")
            .member(Member::At("no-such-member.invalid"))
            .down("resolve", "no address for no-such-member.invalid: Name or service not known"),
        http("http-no-such-name", "has a name that nobody knows")
            .member(Member::At("no-such-member.invalid"))
            .down("resolve", "no address for no-such-member.invalid: Name or service not known"),
    ]
}
