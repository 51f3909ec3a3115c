//! Lifetimes, bounds, forgetting; and that tokens have no text form.

use super::*;

fn at(seconds: u64) -> Now {
    let nanos = seconds * 1_000_000_000;
    Now { monotonic: MonotonicTime(nanos), wall: Timestamp(1_800_000_000_000_000_000 + nanos) }
}

fn grant(user: &str) -> Grant {
    Grant { user_id: user.into(), stamp: [1; 32], scope: Scope::Project }
}

fn random(number: u64) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

const DAY: u64 = 24 * 60 * 60;

#[test]
fn a_token_is_good_for_24_hours_and_remembered_for_another() {
    let mut table = TokenTable::default();
    let issued = table.issue(grant("ops"), &random(1), at(0));
    let token = issued.token.expose().as_bytes().to_vec();
    assert_eq!(token.len(), 64);
    assert_eq!(issued.expires_at.0 - issued.issued_at.0, DAY * 1_000_000_000);
    assert_eq!(table.find(&token, at(0).monotonic), Ok(&grant("ops")));
    assert_eq!(table.find(&token, at(DAY - 1).monotonic), Ok(&grant("ops")));
    assert_eq!(table.find(&token, at(DAY).monotonic), Err(TokenFault::Expired));
    assert_eq!(table.find(b"", at(0).monotonic), Err(TokenFault::Unknown));
    assert_eq!(table.find(&token[..63], at(0).monotonic), Err(TokenFault::Unknown));

    // The user's next login sweeps up.
    table.issue(grant("ops"), &random(2), at(DAY + 3600));
    assert_eq!(table.find(&token, at(DAY + 3600).monotonic), Err(TokenFault::Expired));
    table.issue(grant("ops"), &random(3), at(DAY + 3602));
    assert_eq!(table.find(&token, at(DAY + 3602).monotonic), Err(TokenFault::Unknown));
    assert_eq!(table.records.len(), 2);
}

#[test]
fn one_user_cannot_push_out_anothers_tokens() {
    let mut table = TokenTable::default();
    let kept = table.issue(grant("quiet"), &random(0), at(0)).token;
    let first = table.issue(grant("busy"), &random(1), at(0)).token;
    for number in 2..=1000 {
        table.issue(grant("busy"), &random(number), at(number));
    }
    assert!(table.find(first.expose().as_bytes(), at(1000).monotonic).is_ok());
    table.issue(grant("busy"), &random(1001), at(1001));
    assert_eq!(table.find(first.expose().as_bytes(), at(1001).monotonic), Err(TokenFault::Unknown));
    assert!(table.find(kept.expose().as_bytes(), at(1001).monotonic).is_ok());
    assert_eq!(table.records.len(), 1001);
}

#[test]
fn tokens_can_be_taken_back() {
    let mut table = TokenTable::default();
    let (one, two) = (
        table.issue(grant("ops"), &random(1), at(0)).token,
        table.issue(grant("dev"), &random(2), at(0)).token,
    );
    table.revoke(one.expose().as_bytes());
    table.revoke(b"no token");
    assert_eq!(table.find(one.expose().as_bytes(), at(0).monotonic), Err(TokenFault::Unknown));
    table.issue(grant("ops"), &random(3), at(0));
    table.retain_users(|user| user == "ops");
    assert_eq!(table.find(two.expose().as_bytes(), at(0).monotonic), Err(TokenFault::Unknown));
    assert_eq!(table.records.len(), 1);
}

#[test]
fn neither_the_table_nor_the_answer_prints_a_token() {
    let mut table = TokenTable::default();
    let issued = table.issue(grant("ops"), &random(0x00AB_CDEF), at(0));
    let text = format!("{table:?} {issued:?}");
    assert!(text.contains("ops"), "{text}");
    assert!(!text.contains(issued.token.expose()) && !text.contains("abcdef"), "{text}");
}
