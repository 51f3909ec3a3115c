//! Edits over channels read from small API bodies.

use super::super::document::{Kind, Map, Pair, Place, Value};
use super::super::reader::{ClientIdentityError, Dialect, ReadContext, read_channel};
use super::*;
use crate::channel::{ClientIdentity, Host, PemFile};

struct Nowhere;

impl ReadContext for Nowhere {
    fn trust_anchors(&self, _: &str) -> Result<PemFile, String> {
        Err("no files here".to_owned())
    }
    fn client_identity(&self, _: &str, _: &str) -> Result<ClientIdentity, ClientIdentityError> {
        Err(ClientIdentityError::Mismatch)
    }
    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        None
    }
    fn ecs_address(&self, _: &str) -> Option<Host> {
        None
    }
}

fn value(kind: Kind) -> Value {
    Value { place: Place::default(), kind }
}

fn table(entries: &[(&str, Kind)]) -> Kind {
    let entries = entries.iter().map(|(key, kind)| Pair {
        key: (*key).to_owned().into(),
        key_place: Place::default(),
        value: value(kind.clone()),
    });
    Kind::Table(Map { entries: entries.collect() })
}

fn text(text: &str) -> Kind {
    Kind::String(text.to_owned())
}

fn list(items: Vec<Kind>) -> Kind {
    Kind::Array(items.into_iter().map(value).collect())
}

fn channel(kind: &str, groups: Vec<Kind>, members: Vec<Kind>) -> Channel {
    let body = table(&[
        ("name", text("web")),
        ("port", Kind::Integer(80)),
        ("balance_strategy", Kind::Integer(1)),
        ("member_type", text("ip")),
        ("vpc_channel_type", text(kind)),
        ("member_groups", list(groups)),
        ("members", list(members)),
    ]);
    read_channel(&value(body), Dialect::Api, &Nowhere).expect("the body is good")
}

fn group(name: &str, weight: i128) -> Kind {
    table(&[("member_group_name", text(name)), ("member_group_weight", Kind::Integer(weight))])
}

fn member(host: &str, group: &str, port: i128) -> Kind {
    table(&[
        ("host", text(host)),
        ("member_group_name", text(group)),
        ("port", Kind::Integer(port)),
        ("weight", Kind::Integer(7)),
    ])
}

#[test]
fn parts_that_break_a_rule_are_refused() {
    let web = channel(
        "builtin",
        vec![group("blue", 3)],
        vec![member("APP.example", "", 0), member("192.0.2.1", "blue", 0)],
    );
    let (groups, members) = (web.groups().to_vec(), web.members().to_vec());
    assert_eq!(web.with_parts(groups.clone(), members.clone()), Ok(web.clone()));

    let twice = [members.clone(), members.clone()].concat();
    let same = web.with_parts(groups.clone(), twice).expect_err("every member is there twice");
    assert_eq!(same.to_string(), "two members would be APP.example:80");

    let orphan = web.with_parts(Vec::new(), members).expect_err("the group is gone");
    assert_eq!(orphan, EditError::NoGroup("blue".to_owned()));

    let twins = web.with_parts([groups.clone(), groups].concat(), Vec::new());
    assert_eq!(twins, Err(EditError::SameGroup("blue".to_owned())));
}

#[test]
fn a_port_given_and_a_port_inherited_are_one_address() {
    let web = channel("builtin", vec![], vec![member("app.example", "", 0)]);
    let other = channel("builtin", vec![], vec![member("App.Example", "", 80)]);
    let (mine, theirs) = (&web.members()[0], &other.members()[0]);
    assert_eq!(web.identity(mine), web.identity(theirs));
    assert!(web.inherited_identity(mine).is_some());
    assert!(web.inherited_identity(theirs).is_none());
}

#[test]
fn a_reference_stands_for_the_members_of_its_targets() {
    let target = channel(
        "builtin",
        vec![group("blue", 30)],
        vec![member("192.0.2.1", "blue", 0), member("192.0.2.1", "", 0), member("192.0.2.2", "", 8080)],
    );
    let front = channel("reference", vec![group("all", 5), group("none", 5)], vec![]);
    let standing = front.standing_for(|group| (group.name() == "all").then_some(&target));
    let seen: Vec<_> = standing
        .members()
        .iter()
        .map(|member| (standing.member_address(member).to_string(), standing.effective_weight(member)))
        .collect();
    assert_eq!(seen, [("192.0.2.1:80".to_owned(), 5), ("192.0.2.2:8080".to_owned(), 5)]);
    assert_eq!(standing.name(), "web");
}
