//! Vectors, coverage, clock, edge cases; and that hostile heads never panic.

use axum::http::HeaderValue;
use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"probe-secret-key-0123456789";
const ACCESS_KEY: &str = "PROBEAK0000000000001";
const EMPTY: &[u8] = b"";

/// A change to a request.
type Bend = fn(&mut Request);

/// A request that can be bent out of shape.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    now: Timestamp,
}

impl Request {
    /// The second test vector (docs/vendor-api.md, "Signatures"): no query, a body.
    fn put() -> Self {
        let mut request = Self {
            method: "PUT".to_owned(),
            path: "/v2/p1/apigw/instances/i1/vpc-channels/c1/health-config".to_owned(),
            query: String::new(),
            body: br#"{"protocol": "TCP"}"#.to_vec(),
            ..Self::get()
        };
        request.set("content-type", "application/json;charset=utf-8");
        request.set(
            "authorization",
            &authorization("ff32bd1f03f9ab581f41e8ebb7dae3205600830b5414ffe5c973e0a8b41ba1b4"),
        );
        request
    }

    /// The first vector: a query, no body.
    fn get() -> Self {
        let headers = [
            ("content-type", "application/json"),
            ("host", "127.0.0.1:8080"),
            ("user-agent", "probe/1"),
            ("x-project-id", "p1"),
            ("x-sdk-date", "20200102T030405Z"),
            (
                "authorization",
                &authorization("fea5a83a92679c30501df25ade44bd18c97d52af1ab6b756e1838aa35b4faa84"),
            ),
        ];
        Self {
            method: "GET".to_owned(),
            path: "/v2/p1/apigw/instances/i1/vpc-channels".to_owned(),
            query: "limit=20&members_return=true&name=a%20b%2F~%2A&offset=0".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: EMPTY.to_vec(),
            now: at("20200102T030405Z"),
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.add(name, value);
    }

    fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(other, _)| other != name);
    }

    fn judge(&self) -> Result<(), SignatureFault> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect(name);
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect(value));
        }
        let head =
            RequestHead { method: &self.method, path: &self.path, query: &self.query, headers: &headers };
        Claim::read(head, self.now)?.verify(BodyHash::of(&self.body), SECRET)
    }
}

/// The `Authorization` header of the vectors.
fn authorization(signature: &str) -> String {
    format!(
        "SDK-HMAC-SHA256 Access={ACCESS_KEY}, \
         SignedHeaders=content-type;host;user-agent;x-project-id;x-sdk-date, Signature={signature}"
    )
}

fn at(date: &str) -> Timestamp {
    parse_date(date).expect(date)
}

#[test]
fn the_vectors_of_the_reference_verify() {
    assert_eq!(Request::get().judge(), Ok(()));
    assert_eq!(Request::put().judge(), Ok(()));
}

/// Clients that list other headers than the Python SDK, with the vectors of
/// docs/vendor-api.md, "Signatures".
fn requests_of_other_clients() -> [(&'static str, &'static str, Request); 4] {
    let signed = |mut request: Request, list: &str, signature: &str| {
        let authorization =
            format!("SDK-HMAC-SHA256 Access={ACCESS_KEY}, SignedHeaders={list}, Signature={signature}");
        request.set("authorization", &authorization);
        request.set("accept", "application/json");
        request.set("x-language", "en-us");
        request
    };
    let mut provider_put = Request::put();
    provider_put.set("content-type", "application/json");
    let go = "user-agent;x-project-id;x-sdk-date";
    let provider = "accept;user-agent;x-sdk-date";
    let provider_write = "accept;content-type;user-agent;x-language;x-sdk-date";
    let cases = [
        ("Go reads", go, Request::get(), "14facea88ac146f20818bf6f0c09ad23ee4266fdb2e855d5d6f99e79f4015a0d"),
        ("Go writes", go, Request::put(), "73b6f3d74982d9597b751669e83c5009a0b03dbe72f963ad91c70c10cd93987a"),
        (
            "the provider reads",
            provider,
            Request::get(),
            "5c6f9343b4b3a175c72eab65f56891cc39a03c541c15452138a0b50977a9b8bb",
        ),
        (
            "the provider writes",
            provider_write,
            provider_put,
            "c60ae61dddacd49d58d84204d4152ffec63e1bd09cca6f14ef0dbecab6b90e54",
        ),
    ];
    cases.map(|(client, list, request, signature)| (client, list, signed(request, list, signature)))
}

#[test]
fn the_vectors_of_clients_that_do_not_sign_host_verify() {
    for (client, _, request) in requests_of_other_clients() {
        assert_eq!(request.judge(), Ok(()), "{client}");
        // What is not listed does not count.
        let mut moved = request.clone();
        moved.set("host", "lb.internal");
        assert_eq!(moved.judge(), Ok(()), "{client}");
        moved.remove("host");
        assert_eq!(moved.judge(), Ok(()), "{client}");
    }
}

#[test]
fn every_listed_header_counts() {
    for (client, list, request) in requests_of_other_clients() {
        for name in list.split(';').filter(|name| *name != "x-sdk-date") {
            let mut other = request.clone();
            other.set(name, "other");
            assert_eq!(other.judge(), Err(SignatureFault::Mismatch), "{client}: {name}");
            let mut absent = request.clone();
            absent.remove(name);
            let missing = SignatureFault::Missing(HeaderName::from_bytes(name.as_bytes()).expect(name));
            assert_eq!(absent.judge(), Err(missing), "{client}: {name}");
        }
        // Taking a name off the list, or putting one on it, is seen too.
        for (old, new) in [("user-agent;", ""), ("x-sdk-date,", "x-sdk-date;host,")] {
            let mut relisted = request.clone();
            for (header, value) in &mut relisted.headers {
                if header == "authorization" {
                    *value = value.replace(old, new);
                }
            }
            assert_eq!(relisted.judge(), Err(SignatureFault::Mismatch), "{client}: {old} -> {new}");
        }
    }
}

#[test]
fn every_part_is_covered() {
    let bent: [(&str, Bend); 9] = [
        ("method", |request| request.method = "POST".to_owned()),
        ("path", |request| request.path.push('x')),
        ("query", |request| request.query = "limit=21".to_owned()),
        ("query dropped into the path", |request| request.path.push_str("%3Flimit=20")),
        ("host", |request| request.set("host", "127.0.0.1:8081")),
        ("date", |request| request.set("x-sdk-date", "20200102T030406Z")),
        ("content type", |request| request.set("content-type", "application/bson")),
        ("body", |request| request.body.push(b' ')),
        ("no body", |request| request.body.clear()),
    ];
    for (what, bend) in bent {
        let mut request = Request::put();
        bend(&mut request);
        assert_eq!(request.judge(), Err(SignatureFault::Mismatch), "{what}");
    }
}

#[test]
fn what_is_written_differently_but_means_the_same_verifies() {
    let same: [(&str, Bend); 6] = [
        ("trailing slash", |request| request.path.push('/')),
        ("needless escape", |request| request.path = request.path.replace("apigw", "%61pigw")),
        ("order", |request| {
            request.query = "offset=0&name=a%20b%2F~%2A&members_return=true&limit=20".to_owned();
        }),
        ("lower-case escapes", |request| request.query = request.query.replace("%2F", "%2f")),
        ("plus for space", |request| request.query = request.query.replace("%20", "+")),
        ("spaces around a value", |request| request.set("user-agent", "  probe/1 ")),
    ];
    for (what, bend) in same {
        let mut request = Request::get();
        bend(&mut request);
        assert_eq!(request.judge(), Ok(()), "{what}");
    }
}

#[test]
fn the_clock_may_be_fifteen_minutes_off() {
    let cases = [
        ("20200102T031905Z", true),
        ("20200102T031906Z", false),
        ("20200102T024905Z", true),
        ("20200102T024904Z", false),
        ("20991231T235959Z", false),
    ];
    for (server, is_near) in cases {
        let mut request = Request::get();
        request.now = at(server);
        let fault = SignatureFault::OutsideClockWindow {
            date: "20200102T030405Z".to_owned(),
            server: server.to_owned(),
        };
        assert_eq!(request.judge(), if is_near { Ok(()) } else { Err(fault) }, "{server}");
    }
}

#[test]
fn dates_that_are_none() {
    for date in [
        "",
        "20200102T030405",
        "20200102t030405z",
        "2020-01-02T03:04:05Z",
        "20201302T030405Z",
        "20200230T030405Z",
        "20200102T250405Z",
        "00000000T000000Z",
        "19691231T235959Z",
        "+0200102T030405Z",
        "２0200102T0304Z",
    ] {
        let mut request = Request::get();
        request.set("x-sdk-date", date);
        assert_eq!(request.judge(), Err(SignatureFault::BadDate), "{date}");
    }
}

#[test]
fn headers_that_must_be_there_once_and_signed() {
    let date = DATE;
    let agent = HeaderName::from_static("user-agent");
    let host = axum::http::header::HOST;
    let faults: [(Bend, SignatureFault); 7] = [
        (|request| request.remove("x-sdk-date"), SignatureFault::Missing(date.clone())),
        (|request| request.remove("user-agent"), SignatureFault::Missing(agent.clone())),
        (|request| request.add("user-agent", "probe/1"), SignatureFault::Repeated(agent)),
        (|request| request.add("x-sdk-date", "20200102T030405Z"), SignatureFault::Repeated(date.clone())),
        (|request| request.add("authorization", "x"), SignatureFault::Repeated(AUTHORIZATION)),
        (|request| request.remove("host"), SignatureFault::Missing(host)),
        (|request| drop_signed(request, ";x-sdk-date"), SignatureFault::DateNotSigned),
    ];
    for (bend, fault) in faults {
        let mut request = Request::get();
        bend(&mut request);
        assert_eq!(request.judge(), Err(fault));
    }
}

fn drop_signed(request: &mut Request, name: &str) {
    for (header, value) in &mut request.headers {
        if header == "authorization" {
            *value = value.replace(name, "");
        }
    }
}

#[test]
fn authorization_headers_that_are_none() {
    let good = authorization(&"0".repeat(64));
    let malformed = [
        good.replace("Access=PROBEAK0000000000001, ", ""),
        good.replace("PROBEAK0000000000001", ""),
        good.replace("PROBEAK0000000000001", "a b"),
        good.replace("PROBEAK0000000000001", &"A".repeat(129)),
        good.replace("PROBEAK0000000000001", "\u{e9}"),
        good.replace("Signature=0", "Signature=A"),
        good.replace("Signature=0", "Signature="),
        good.replace("Signature=0", "Signature=00"),
        good.replace("Signature=0", "Signature=g"),
        good.replace("host;", "host;host;"),
        good.replace("host;", "Host;"),
        good.replace("host;", "host;;"),
        good.replace("host;", "a b;host;"),
        format!("{good}, Access=x"),
        format!("{good}, More=x"),
        format!("{good},"),
    ];
    for text in malformed {
        let mut request = Request::get();
        request.set("authorization", &text);
        assert!(matches!(request.judge(), Err(SignatureFault::Malformed(_))), "{text}");
    }
    for text in ["", "Bearer x", "SDK-HMAC-SM3 Access=a", "V11-HMAC-SHA256 Credential=a"] {
        let mut request = Request::get();
        request.set("authorization", text);
        assert_eq!(request.judge(), Err(SignatureFault::UnknownAlgorithm), "{text}");
    }
}

#[test]
fn a_declared_body_hash_must_be_the_bodys() {
    let judge = |declared: &str, body: &[u8]| {
        let mut request = Request::put();
        request.body = body.to_vec();
        request.add("x-sdk-content-sha256", declared);
        request.judge()
    };
    let body = br#"{"protocol": "TCP"}"#;
    let hash = "f86a0c955f6985c75d4cebb85260e1a0b429d078bce8e3ffafce159a1dbe9125";
    assert_eq!(judge(hash, body), Ok(()));
    // The attack that the header would invite: keep the hash, change the body.
    assert_eq!(judge(hash, br#"{"protocol": "UDP"}"#), Err(SignatureFault::WrongContentHash));
    assert_eq!(judge("UNSIGNED-PAYLOAD", body), Err(SignatureFault::UnsignedPayload));
    assert_eq!(judge("", body), Err(SignatureFault::WrongContentHash));

    let mut request = Request::get();
    request.add("x-sdk-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(request.judge(), Ok(()), "without a body the header counts for nothing");
}

#[test]
fn percent_edge_cases() {
    let canonical = |path: &str| {
        let mut text = String::new();
        push_canonical_path(path, &mut text);
        text
    };
    let paths = [
        ("/", "/"),
        ("", "/"),
        ("*", "%2A/"),
        ("/a%2Fb", "/a/b/"),
        ("/a%2", "/a%252/"),
        ("/a%", "/a%25/"),
        ("/%zz%4", "/%25zz%254/"),
        ("/%25%34%31", "/%2541/"),
        ("/a+b", "/a%2Bb/"),
        ("/%e9%80%9a/%FF", "/%E9%80%9A/%FF/"),
        ("//a//", "//a//"),
        ("/%00\u{7f}", "/%00%7F/"),
    ];
    for (path, expected) in paths {
        assert_eq!(canonical(path), expected, "{path}");
    }
    let canonical = |query: &str| {
        let mut text = String::new();
        push_canonical_query(query, &mut text);
        text
    };
    let queries = [
        ("", ""),
        ("&&", ""),
        ("b&a", "a=&b="),
        ("a=2&a=10&a=1", "a=1&a=10&a=2"),
        ("a=b=c", "a=b%3Dc"),
        ("=x", "=x"),
        ("a%3Db=c%26d", "a%3Db=c%26d"),
        ("%E9=1&z=2&~=3", "z=2&~=3&%E9=1"),
    ];
    for (query, expected) in queries {
        assert_eq!(canonical(query), expected, "{query}");
    }
}

proptest! {
    /// Whatever arrives, the verdict is a value.
    #[test]
    fn hostile_heads_never_panic(
        method in "[A-Z]{0,8}",
        path in "\\PC{0,60}",
        query in "[%&=+a-f0-9\\PC]{0,60}",
        date in prop_oneof![Just("20200102T030405Z".to_owned()), "[0-9TZ+-]{0,20}"],
        authorization in prop_oneof![
            "\\PC{0,80}",
            "SDK-HMAC-SHA256 (Access|SignedHeaders|Signature|,|=|;|host|x-sdk-date| |[0-9a-f]{64}){0,12}",
        ],
        extra in proptest::collection::vec(("[a-z-]{1,12}", proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
        body in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in extra {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value))
            {
                headers.append(name, value);
            }
        }
        for (name, value) in [(AUTHORIZATION, authorization), (DATE, date)] {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(name, value);
            }
        }
        let head = RequestHead { method: &method, path: &path, query: &query, headers: &headers };
        if let Ok(claim) = Claim::read(head, at("20200102T030405Z")) {
            prop_assert!(claim.verify(BodyHash::of(&body), SECRET).is_err());
        }
    }

    /// One changed bit of the signature is enough.
    #[test]
    fn every_bit_of_the_signature_counts(bit in 0_usize..256) {
        let mut signature =
            unhex("fea5a83a92679c30501df25ade44bd18c97d52af1ab6b756e1838aa35b4faa84").expect("hex");
        if let Some(byte) = signature.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        let mut request = Request::get();
        request.set("authorization", &authorization(&hex(&signature)));
        prop_assert_eq!(request.judge(), Err(SignatureFault::Mismatch));
    }
}
