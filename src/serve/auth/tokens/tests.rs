//! Lifetimes, bounds, forgetting; and that tokens have no text form.

use super::*;

fn at(seconds: u64) -> Now {
    let nanos = seconds * 1_000_000_000;
    Now { monotonic: MonotonicTime(nanos), wall: Timestamp(1_800_000_000_000_000_000 + nanos) }
}

fn grant(user: &str) -> Grant {
    Grant { user_id: user.into(), stamp: [1; 32], scope: Scope::Project, proof: Proof::Password }
}

fn random(number: u64) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn issue(table: &mut TokenTable, grant: Grant, random: &Zeroizing<[u8; 32]>, now: Now) -> Issued {
    table.issue(grant, Validity::from(now), random, now.monotonic)
}

const DAY: u64 = 24 * 60 * 60;

#[test]
fn a_token_is_good_for_24_hours_and_remembered_for_another() {
    let mut table = TokenTable::default();
    let issued = issue(&mut table, grant("ops"), &random(1), at(0));
    let token = issued.token.expose().as_bytes().to_vec();
    assert_eq!(token.len(), 64);
    let held = TokenRecord { grant: grant("ops"), validity: issued.validity };
    assert_eq!(held.validity.expires_at.0 - held.validity.issued_at.0, DAY * 1_000_000_000);
    assert_eq!(table.find(&token, at(0).monotonic), Ok(&held));
    assert_eq!(table.find(&token, at(DAY - 1).monotonic), Ok(&held));
    assert_eq!(table.find(&token, at(DAY).monotonic), Err(TokenFault::Expired));
    assert_eq!(table.find(b"", at(0).monotonic), Err(TokenFault::Unknown));
    assert_eq!(table.find(&token[..63], at(0).monotonic), Err(TokenFault::Unknown));

    // The user's next login sweeps up.
    issue(&mut table, grant("ops"), &random(2), at(DAY + 3600));
    assert_eq!(table.find(&token, at(DAY + 3600).monotonic), Err(TokenFault::Expired));
    issue(&mut table, grant("ops"), &random(3), at(DAY + 3602));
    assert_eq!(table.find(&token, at(DAY + 3602).monotonic), Err(TokenFault::Unknown));
    assert_eq!(table.records.len(), 2);
}

#[test]
fn a_token_for_a_token_ends_when_that_one_does() {
    let mut table = TokenTable::default();
    let first = issue(&mut table, grant("ops"), &random(1), at(0)).validity;
    let again = Grant { proof: Proof::Token, ..grant("ops") };
    let second = table.issue(again, first.again(at(3600)), &random(2), at(3600).monotonic);
    assert_eq!(second.validity.issued_at, at(3600).wall);
    assert_eq!(second.validity.expires_at, at(DAY).wall);
    let token = second.token.expose().as_bytes();
    assert!(table.find(token, at(DAY - 1).monotonic).is_ok());
    assert_eq!(table.find(token, at(DAY).monotonic), Err(TokenFault::Expired));
}

#[test]
fn one_user_cannot_push_out_anothers_tokens() {
    let mut table = TokenTable::default();
    let kept = issue(&mut table, grant("quiet"), &random(0), at(0)).token;
    let first = issue(&mut table, grant("busy"), &random(1), at(0)).token;
    for number in 2..=1000 {
        issue(&mut table, grant("busy"), &random(number), at(number));
    }
    assert!(table.find(first.expose().as_bytes(), at(1000).monotonic).is_ok());
    issue(&mut table, grant("busy"), &random(1001), at(1001));
    assert_eq!(table.find(first.expose().as_bytes(), at(1001).monotonic), Err(TokenFault::Unknown));
    assert!(table.find(kept.expose().as_bytes(), at(1001).monotonic).is_ok());
    assert_eq!(table.records.len(), 1001);
}

#[test]
fn tokens_can_be_taken_back() {
    let mut table = TokenTable::default();
    let (one, two) = (
        issue(&mut table, grant("ops"), &random(1), at(0)).token,
        issue(&mut table, grant("dev"), &random(2), at(0)).token,
    );
    table.revoke(one.expose().as_bytes());
    table.revoke(b"no token");
    assert_eq!(table.find(one.expose().as_bytes(), at(0).monotonic), Err(TokenFault::Unknown));
    issue(&mut table, grant("ops"), &random(3), at(0));
    table.retain_users(|user| user == "ops");
    assert_eq!(table.find(two.expose().as_bytes(), at(0).monotonic), Err(TokenFault::Unknown));
    assert_eq!(table.records.len(), 1);
}

#[test]
fn neither_the_table_nor_the_answer_prints_a_token() {
    let mut table = TokenTable::default();
    let issued = issue(&mut table, grant("ops"), &random(0x00AB_CDEF), at(0));
    let text = format!("{table:?} {issued:?}");
    assert!(text.contains("ops"), "{text}");
    assert!(!text.contains(issued.token.expose()) && !text.contains("abcdef"), "{text}");
}
