//! The conformance suite of faults: named cases of members that misbehave, each
//! with its verdict, reason, detail, phases and number of probes.
//!
//! `docs/faults.md` lists them with what other health checkers say. The cases run
//! through the whole daemon: configuration, schedule, probe, thresholds, status.

mod answering;
mod arena;
mod case;
mod changes;
mod connecting;
mod ending;
mod identities;
mod namespace;
mod peer;
mod runs;
mod securing;
mod table;

#[path = "../peers/support/address.rs"]
mod address;
#[path = "../support/inside.rs"]
mod inside;
#[path = "../support/skipped.rs"]
mod skipped;
#[path = "../support/uncommon.rs"]
mod uncommon;

#[expect(dead_code, reason = "tests/peers uses all of it")]
#[path = "../peers/support/http.rs"]
mod http;
#[expect(dead_code, reason = "tests/peers uses all of it")]
#[path = "../peers/support/metrics.rs"]
mod metrics;
#[expect(dead_code, reason = "tests/peers uses all of it")]
#[path = "../peers/support/wait.rs"]
mod wait;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn members_that_cannot_be_reached() {
    arena::run(folder(), &connecting::cases());
}

#[test]
fn answers_over_plain_http() {
    arena::run(folder(), &answering::cases());
}

#[test]
fn answers_that_are_late_cut_or_foreign() {
    arena::run(folder(), &ending::cases());
}

#[test]
fn members_over_tls() {
    let folder = folder();
    let cases = securing::cases(folder.path());
    arena::run(folder, &cases);
}
