//! What each fuzz target feeds its bytes to, and what must hold of the result.
//!
//! Called by `fuzz_targets/` with libFuzzer's inputs and by `tests/corpus.rs` with
//! the inputs that were kept. A target fails by a panic: one of ours, or an
//! assertion below.

#[path = "../../tests/api/memory.rs"]
#[expect(dead_code, reason = "the tests of the API use more of it")]
mod memory;

use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use memory::{FIRST, Memory, PROJECT};
use sha2::{Digest as _, Sha256};
use vitald::channel::{CodeSet, HttpCheck, HttpMethod};
use vitald::health::{MemberReason, Outcome, Timestamp};
use vitald::testing::catalog::{ApiRecord, Quotas};
use vitald::testing::config::{self, Config, Diagnostics, Paint};
use vitald::testing::probe::fuzzing::{Conclusion, judge};
use vitald::testing::serve::auth::signature::{BodyHash, Claim, RequestHead};
use vitald::testing::store::{SavedAt, SavedVerdicts};

/// A target by its name, which is also its corpus.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 7] = [
    ("api", api),
    ("config_json", config_json),
    ("config_toml", config_toml),
    ("http_code", http_code),
    ("response_head", response_head),
    ("signature", signature),
    ("store", store),
];

/// A main configuration file. Its errors must be printable, each with a place
/// inside the text.
fn config_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // What a pattern finds on this machine's disk is not the question here.
    if text.contains("include") || text.contains('\\') {
        return;
    }
    let directory = Path::new("/nonexistent");
    judge_configuration(&config::parse("fuzz.toml", text, directory), text);
}

/// An included JSON file.
fn config_json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    judge_configuration(&config::parse_included(Path::new("/nonexistent/fuzz.json"), text), text);
}

fn judge_configuration(result: &Result<Config, Diagnostics>, text: &str) {
    let Err(errors) = result else { return };
    let shown = errors.render(Paint::Plain);
    assert!(!shown.trim().is_empty(), "an error that says nothing: {text:?}");
}

/// `http_code`, against the grammar read by hand.
fn http_code(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let expected = codes_by_hand(text);
    match (CodeSet::parse(text), expected) {
        (Ok(set), Some(expected)) => {
            for code in 0..=u16::MAX {
                assert_eq!(set.contains(code), expected.contains(&code), "{code} in {text:?}");
            }
            assert_eq!(set.text(), text);
        }
        (Err(error), None) => {
            let (start, end) = error.range;
            assert!(text.get(start..end).is_some(), "{start}..{end} is no place in {text:?}");
        }
        (read, expected) => panic!("{text:?} read as {read:?}, by hand {expected:?}"),
    }
}

fn codes_by_hand(text: &str) -> Option<Vec<u16>> {
    let code = |word: &str| {
        let digits: Vec<u16> =
            word.bytes().filter(u8::is_ascii_digit).map(|byte| u16::from(byte - b'0')).collect();
        let [hundreds, tens, ones] = digits[..] else { return None };
        ((1..=5).contains(&hundreds) && word.len() == 3).then_some(hundreds * 100 + tens * 10 + ones)
    };
    let mut codes = Vec::new();
    for item in text.split(',') {
        let ends: Vec<&str> = item.split('-').collect();
        match ends[..] {
            [single] => codes.push(code(single)?),
            [low, high] => {
                let (low, high) = (code(low)?, code(high)?);
                if low > high {
                    return None;
                }
                codes.extend(low..=high);
            }
            _ => return None,
        }
    }
    Some(codes)
}

/// A response, whole and in pieces: both must come to the same end. The first
/// byte says HEAD or GET and how long the pieces are.
fn response_head(bytes: &[u8]) {
    let Some((how, answer)) = bytes.split_first() else { return };
    let method = if how & 1 == 1 { HttpMethod::Head } else { HttpMethod::Get };
    let codes = CodeSet::parse("200,204-299,304").expect("the grammar");
    let check = HttpCheck { path: "/".to_owned(), method, codes };
    let whole = judge(&check, std::iter::once(answer));
    let pieces = judge(&check, answer.chunks(usize::from(how >> 1) + 1));
    for conclusion in [&whole, &pieces] {
        let Conclusion { outcome, status, detail } = conclusion;
        assert!(
            detail.len() <= 200 && detail.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{detail:?}"
        );
        match outcome {
            Outcome::Success => assert!(status.is_some_and(|code| check.codes.contains(code))),
            Outcome::Failure(MemberReason::Status) => {
                assert!(status.is_some_and(|code| !check.codes.contains(code)));
            }
            Outcome::Failure(MemberReason::Protocol | MemberReason::Closed) => {}
            other => panic!("a member's bytes led to {other:?}"),
        }
    }
    // How much comes at once decides whether a head beyond the limit is cut off
    // or complete.
    if answer.len() <= 64 * 1024 {
        assert_eq!((whole.outcome, whole.status), (pieces.outcome, pieces.status), "{answer:?}");
    }
}

/// One request to the API of a daemon with one channel. The first byte chooses
/// method and path; a query follows up to a line feed, then the body.
fn api(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let (query, body) = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or((rest, &[][..]), |end| (&rest[..end], &rest[end + 1..]));
    let Ok(query) = std::str::from_utf8(query) else { return };
    fastrand::seed(1);
    let router = vitald::testing::serve::api::router(Memory::new(Quotas::default(), &[]));
    let channels = format!("/v2/{PROJECT}/apigw/instances/{FIRST}/vpc-channels");
    let service = TowerToHyperService::new(router);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let send = |method: &str, path: &str, body: &[u8]| {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_vec())).ok()?;
        let answered = runtime.block_on(async {
            let Ok(response) = service.call(request).await;
            let status = response.status().as_u16();
            (status, axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory"))
        });
        Some(answered)
    };
    let created = send("POST", &channels, CHANNEL).expect("a good request");
    assert_eq!(created.0, 201);
    let text = String::from_utf8(created.1.to_vec()).expect("JSON is UTF-8");
    let id = text.split("\"id\":\"").nth(1).and_then(|rest| rest.get(..32)).expect("an id");
    let (method, place) = CALLS[usize::from(*choice) % CALLS.len()];
    let path = place.replace("{channels}", &channels).replace("{project}", PROJECT).replace("{id}", id);
    let Some((status, answer)) = send(method, &format!("{path}?{query}"), body) else { return };
    assert!((200..500).contains(&status), "{method} {path}: {status} {answer:?}");
    // Whatever it was, the rest still answers.
    let (status, _) = send("GET", &channels, b"").expect("a good request");
    assert_eq!(status, 200, "after {method} {path}");
}

/// A channel with a group, two members and a check.
const CHANNEL: &[u8] = br#"{"name":"abc","port":80,"balance_strategy":1,"member_type":"ip",
"member_groups":[{"member_group_name":"blue"}],
"members":[{"host":"192.0.2.1","member_group_name":"blue"},{"host":"192.0.2.2","weight":3}],
"vpc_health_config":{"protocol":"HTTP","path":"/","http_code":"200","threshold_normal":2,
"threshold_abnormal":2,"time_interval":5,"timeout":2}}"#;

/// Methods and paths; `{channels}` is the list of the first instance.
const CALLS: [(&str, &str); 20] = [
    ("POST", "{channels}"),
    ("PUT", "{channels}/{id}"),
    ("POST", "{channels}/{id}/members"),
    ("PUT", "{channels}/{id}/members"),
    ("POST", "{channels}/{id}/members/batch-enable"),
    ("POST", "{channels}/{id}/members/batch-disable"),
    ("PUT", "{channels}/{id}/health-config"),
    ("POST", "{channels}/{id}/member-groups"),
    ("GET", "{channels}"),
    ("GET", "{channels}/{id}"),
    ("GET", "{channels}/{id}/members"),
    ("GET", "{channels}/{id}/member-groups"),
    ("DELETE", "{channels}/{id}"),
    ("GET", "/v2/{project}/apic/vpc-channels"),
    ("POST", "/v2/{project}/apic/vpc-channels"),
    ("PUT", "/v2/{project}/apic/vpc-channels"),
    ("POST", "/v2/{project}/apic/vpc-channels/syncs"),
    ("GET", "/v2/{project}/apigw/instances"),
    ("GET", "/v2/{project}/apigw/instances/00000000-0000-4000-8000-000000000002/features"),
    ("POST", "/v2/{project}/apigw/instances/00000000-0000-4000-8000-000000000002/features"),
];

/// A signed request's head: lines of `name: value`, the first of which is
/// `METHOD path?query`. Nobody can forge a signature by chance.
fn signature(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Some(Ok(request)) = lines.next().map(std::str::from_utf8) else { return };
    let (method, target) = request.split_once(' ').unwrap_or((request, "/"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let head = RequestHead { method, path, query, headers: &headers };
    // 2026-01-02T03:04:05Z, the date of the corpus.
    let now = Timestamp(1_767_323_045_000_000_000);
    match Claim::read(head, now) {
        Ok(claim) => {
            assert!(!claim.access_key().is_empty());
            let fault = claim.verify(BodyHash::of(b"{}"), b"a secret nobody was told");
            assert!(!fault.expect_err("a forged signature").to_string().is_empty());
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}

/// A kept verdicts file (made whole by its checksum) or a kept record; what can be
/// read must survive being written again.
fn store(bytes: &[u8]) {
    let _ = SavedVerdicts::decode(bytes);
    let whole = [bytes, Sha256::digest(bytes).as_slice()].concat();
    if let Ok(verdicts) = SavedVerdicts::decode(&whole) {
        assert_eq!(SavedVerdicts::decode(&verdicts.encode()).as_ref(), Ok(&verdicts));
        let now = SavedAt { wall: Timestamp(u64::MAX), boot: None };
        let _ = verdicts.recall(&now, std::time::Duration::MAX);
    }
    match ApiRecord::decode(bytes) {
        Ok(ApiRecord::Channel(resource)) => {
            let again = ApiRecord::encode_channel(&resource).expect("JSON");
            let Ok(ApiRecord::Channel(read)) = ApiRecord::decode(&again) else {
                panic!("{} cannot be read again", String::from_utf8_lossy(&again));
            };
            assert_eq!(read.configured, resource.configured);
        }
        Ok(ApiRecord::Instance(instance)) => {
            let again = ApiRecord::encode_instance(&instance).expect("JSON");
            assert!(ApiRecord::decode(&again).is_ok(), "{}", String::from_utf8_lossy(&again));
        }
        Err(_) => {}
    }
}
