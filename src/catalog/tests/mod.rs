//! What the calls do, and what always holds.

mod change_log;
mod model;
mod recall;
mod records;
mod references;
mod writer;

use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::channel::MemberStatus;
use crate::channel::reader::ReadContext;
use crate::config::api::InstanceSettings;
use crate::probe::{Resolver, SystemLookup};

pub(super) const FIRST: &str = "eddc4d25480b4cd6b512f270a1b8b341";
pub(super) const SECOND: &str = "00000000-0000-4000-8000-000000000002";

/// Ids in turn, a time that the test sets.
pub(super) struct Counter {
    next: u128,
    pub(super) now: u64,
}

impl Fresh for Counter {
    fn id(&mut self) -> Id {
        self.next += 1;
        Id(self.next)
    }
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.now)
    }
}

pub(super) struct Nowhere;

impl ReadContext for Nowhere {}

/// Everything as two instances have it, and what calls need.
pub(super) struct Office {
    pub(super) state: Resources,
    pub(super) fresh: Counter,
    /// What the last call changed.
    pub(super) changes: ChangeSet,
}

impl Office {
    pub(super) fn new() -> Self {
        Self::with(Quotas::default())
    }

    pub(super) fn with(quotas: Quotas) -> Self {
        let project = Project { id: "p".to_owned(), name: "local".to_owned() };
        let settings = [FIRST, SECOND].map(|id| InstanceSettings {
            id: id.to_owned(),
            name: format!("instance {id}"),
            features: Vec::new(),
        });
        let order = settings.iter().map(|setting| setting.id.as_str().into()).collect();
        let mut fresh = Counter { next: 0, now: 1000 };
        let mut transaction = Transaction::new(Resources::new(project, quotas, order), &Nowhere);
        transaction.put_instances(&settings, &mut fresh).expect("good settings");
        let (changes, state) = transaction.finish();
        Self { state, fresh, changes }
    }

    pub(super) fn call(&mut self, call: Call) -> Result<Reply, Fault> {
        let mut transaction = Transaction::new(self.state.clone(), &Nowhere);
        let reply = transaction.plan(&call, &mut self.fresh);
        (self.changes, self.state) = transaction.finish();
        reply
    }

    pub(super) fn create(&mut self, body: &str) -> Result<Arc<Resource>, Fault> {
        self.create_in(FIRST, body)
    }

    pub(super) fn create_in(&mut self, instance: &str, body: &str) -> Result<Arc<Resource>, Fault> {
        match self.call(Call::CreateChannel { instance: instance.to_owned(), body: json(body) })? {
            Reply::Channel(resource) => Ok(resource),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn resource(&self, id: Id) -> Arc<Resource> {
        Arc::clone(self.state.resource(id).expect("it is there"))
    }
}

/// Channels of a file in effect, over so many drivers.
pub(crate) fn in_effect(channels: Vec<crate::channel::Channel>, drivers: u16) -> Arc<Channels> {
    let (resolver, _) = Resolver::new(SystemLookup, std::time::Duration::from_secs(30));
    let mut catalog = Catalog::new(drivers, 0, resolver);
    let channels: Vec<Arc<_>> = channels.into_iter().map(Arc::new).collect();
    let file = std::path::Path::new("vitald.toml");
    let mut transaction = Transaction::new(catalog.channels().resources.clone(), &Nowhere);
    let files = channels.iter().map(|channel| (channel, file));
    transaction.put_files(files, UnixSeconds(0)).expect("no name is taken");
    let (changes, resources) = transaction.finish();
    let prepared = catalog.prepare(&changes, resources).expect("good channels");
    catalog.commit(prepared).channels
}

pub(super) fn json(text: &str) -> Body {
    Body::read(text.as_bytes())
}

pub(super) fn at(resource: &Resource) -> ChannelPath {
    ChannelPath { instance: resource.instance.to_string(), channel: resource.id.to_string() }
}

/// A small body with more fields.
pub(super) fn small(name: &str, more: &str) -> String {
    format!(r#"{{"name":"{name}","port":80,"balance_strategy":1,"member_type":"ip"{more}}}"#)
}

fn code(fault: Result<impl std::fmt::Debug, Fault>) -> &'static str {
    fault.expect_err("it should be refused").code()
}

#[test]
fn checks_come_in_the_documented_order() {
    let mut office = Office::with(Quotas { channels: 1, ..Quotas::default() });
    let held = office.create(&small("abc", "")).expect("good");
    let nowhere = ChannelPath { instance: "none".to_owned(), channel: "none".to_owned() };
    let bad = || json("{");
    assert_eq!(code(office.call(Call::UpdateHealthCheck { at: nowhere, body: bad() })), "APIG.3030");
    let unknown = ChannelPath { channel: "none".to_owned(), ..at(&held) };
    assert_eq!(code(office.call(Call::UpdateHealthCheck { at: unknown, body: bad() })), "APIG.3023");
    assert_eq!(code(office.call(Call::UpdateHealthCheck { at: at(&held), body: bad() })), "APIG.2000");
    // Body before uniqueness before quota.
    assert_eq!(code(office.create(r#"{"name":"abc"}"#)), "APIG.2001");
    assert_eq!(code(office.create(&small("abc", ""))), "APIG.3208");
    assert_eq!(code(office.create(&small("other", ""))), "APIG.3109");
    // Another instance has its own names and its own quota.
    assert!(office.create_in(SECOND, &small("abc", "")).is_ok());
}

#[test]
fn quotas_bound_members_and_groups() {
    let mut office = Office::with(Quotas { channels: 9, members: 1, groups: 1 });
    let two = r#","members":[{"host":"a.example"},{"host":"b.example"}]"#;
    assert_eq!(code(office.create(&small("abc", two))), "APIG.3110");
    let held = office.create(&small("abc", r#","members":[{"host":"a.example"}]"#)).expect("good");
    let again = r#"{"members":[{"host":"a.example","weight":5}]}"#;
    assert!(office.call(Call::AddMembers { at: at(&held), body: json(again) }).is_ok());
    let more = r#"{"members":[{"host":"b.example"}]}"#;
    assert_eq!(code(office.call(Call::AddMembers { at: at(&held), body: json(more) })), "APIG.3110");
    let groups = r#"{"member_groups":[{"member_group_name":"blue"},{"member_group_name":"green"}]}"#;
    assert_eq!(code(office.call(Call::AddGroups { at: at(&held), body: json(groups) })), "APIG.3100");
}

#[test]
fn members_that_inherit_keep_their_ids_when_the_port_changes() {
    let mut office = Office::new();
    let members = r#","members":[{"host":"192.0.2.1"},{"host":"192.0.2.1","port":81}]"#;
    let held = office.create(&small("abc", members)).expect("good");
    let body = small("abc", members).replace("\"port\":80", "\"port\":90");
    let write = Call::UpdateChannel { family: PathFamily::Apig, at: at(&held), body: json(&body) };
    office.call(write).expect("good");
    assert_eq!(office.resource(held.id).members.tags(), held.members.tags());
    // The inherited port becomes one that the other has: the first one wins.
    let body = small("abc", members).replace("\"port\":80", "\"port\":81");
    let write = Call::UpdateChannel { family: PathFamily::Apig, at: at(&held), body: json(&body) };
    office.call(write).expect("good");
    assert_eq!(office.resource(held.id).members.tags().len(), 1);
}

#[test]
fn null_is_absent_and_unknown_fields_are_passed_over() {
    let mut office = Office::new();
    let held = office.create(&small("abc", r#","members":[{"host":"192.0.2.1"}]"#)).expect("good");
    let more = r#","members":null,"member_groups":null,"vpc_health_config":null,"x":[1]"#;
    let write = |family| Call::UpdateChannel { family, at: at(&held), body: json(&small("abc", more)) };
    office.call(write(PathFamily::Roma)).expect("good");
    assert_eq!(office.resource(held.id).configured.members().len(), 1, "ROMA keeps members");
    office.call(write(PathFamily::Apig)).expect("good");
    assert_eq!(office.resource(held.id).configured.members().len(), 0, "APIG replaces them");
}

#[test]
fn the_member_type_may_be_left_out_of_an_update() {
    let mut office = Office::new();
    let held = office.create(&small("abc", "")).expect("good");
    let body = small("abc", r#","members":[{"host":"192.0.2.1"}]"#).replace(r#","member_type":"ip""#, "");
    let write = Call::UpdateChannel { family: PathFamily::Apig, at: at(&held), body: json(&body) };
    office.call(write).expect("the channel stays one of addresses");
}

#[test]
fn a_group_port_that_makes_two_addresses_one_is_refused() {
    let mut office = Office::new();
    let more = r#","vpc_channel_type":"microservice","microservice_info":{"service_type":"CSE",
        "cse_info":{"engine_id":"e","service_id":"s"}},"member_groups":[{"member_group_name":"pods"}],
        "members":[{"host":"192.0.2.1","port":1,"member_group_name":"pods"},
                   {"host":"192.0.2.1","port":2,"member_group_name":"pods"}]"#;
    let held = office.create(&small("abc", more)).expect("good");
    let body = json(r#"{"member_group_name":"pods","microservice_port":9000}"#);
    let group = held.groups[0].tag.id.to_string();
    let fault = office.call(Call::UpdateGroup { at: at(&held), group, body }).expect_err("one address");
    assert!(fault.message().contains("parameterName:microservice_port"), "{}", fault.message());
}

#[test]
fn a_batch_sees_itself_and_nobody_else_does() {
    let mut office = Office::new();
    let create =
        |name: &str| Call::CreateChannel { instance: FIRST.to_owned(), body: json(&small(name, "")) };
    let mut batch = Transaction::new(office.state.clone(), &Nowhere);
    batch.plan(&create("one"), &mut office.fresh).expect("good");
    assert_eq!(code(batch.plan(&create("one"), &mut office.fresh)), "APIG.3208", "the batch sees itself");
    batch.plan(&create("two"), &mut office.fresh).expect("a refused call has changed nothing");
    assert_eq!(office.state.count(None), 0, "nobody else sees it");
    let (changes, state) = batch.finish();
    assert_eq!((changes.channels().count(), state.count(None)), (2, 2));
}

#[test]
fn a_panic_fails_its_call_and_leaves_the_batch_as_it_was() {
    let mut office = Office::new();
    let create =
        |name: &str| Call::CreateChannel { instance: FIRST.to_owned(), body: json(&small(name, "")) };
    let mut batch = Transaction::new(office.state.clone(), &Nowhere);
    let Ok(Reply::Channel(one)) = batch.plan(&create("one"), &mut office.fresh) else { panic!("good") };
    let panicked: Result<(), Fault> = batch.attempt(|transaction| {
        transaction.remove(one.id);
        panic!("a mistake of ours");
    });
    assert_eq!(code(panicked), "APIG.9999");
    assert!(batch.state().resource(one.id).is_some_and(|held| Arc::ptr_eq(held, &one)));
    let refused: Result<(), Fault> = batch.attempt(|transaction| {
        transaction.remove(one.id);
        Err(Fault::Missing("name"))
    });
    assert_eq!(code(refused), "APIG.2001");
    assert_eq!((batch.state().count(None), batch.finish().0.channels().count()), (1, 1));
}

#[test]
fn a_change_names_each_channel_once() {
    let mut office = Office::new();
    let create = Call::CreateChannel { instance: FIRST.to_owned(), body: json(&small("one", "")) };
    let mut batch = Transaction::new(office.state.clone(), &Nowhere);
    let Ok(Reply::Channel(made)) = batch.plan(&create, &mut office.fresh) else { panic!("good") };
    let add = json(r#"{"members":[{"host":"192.0.2.1"}]}"#);
    batch.plan(&Call::AddMembers { at: at(&made), body: add }, &mut office.fresh).expect("good");
    let (changes, state) = batch.clone().finish();
    let [change] = &changes.channels().collect::<Vec<_>>()[..] else { panic!("one channel") };
    assert!(change.before.is_none());
    assert_eq!(change.after.as_ref().map(|after| after.effective.members().len()), Some(1));
    assert_eq!((state.count(None), changes.records().expect("JSON").edits().len()), (1, 1));

    batch.plan(&Call::DeleteChannel { at: at(&made) }, &mut office.fresh).expect("good");
    let (changes, _) = batch.finish();
    assert_eq!(changes.channels().count(), 0, "it was never there");
    assert!(changes.records().expect("JSON").is_empty());
}

#[test]
fn switching_what_is_switched_already_changes_nothing() {
    let mut office = Office::new();
    let held = office.create(&small("abc", r#","members":[{"host":"192.0.2.1"}]"#)).expect("good");
    let body = json(&format!(r#"{{"member_ids":["{}","{}"]}}"#, held.members.tags()[0].id, "0".repeat(32)));
    let switch = |status| Call::SwitchMembers { at: at(&held), status, body: body.clone() };
    office.call(switch(MemberStatus::Enabled)).expect("good");
    assert!(office.changes.is_empty());
    office.call(switch(MemberStatus::Disabled)).expect("good");
    assert_eq!(office.changes.channels().count(), 1);
}

#[test]
fn lists_are_newest_first_and_stable() {
    let mut office = Office::new();
    for (name, now) in [("old", 1), ("new-b", 9), ("new-a", 9)] {
        office.fresh.now = now;
        office.create(&small(name, "")).expect("good");
    }
    let list = |paging| {
        let page = office.state.list_channels(Some(FIRST), &ChannelFilter::default(), paging);
        let page = page.expect("the instance is there");
        (page.total, page.items.iter().map(|item| item.configured.name().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(list(Paging::default()), (3, vec!["new-b".into(), "new-a".into(), "old".into()]));
    assert_eq!(list(Paging::new(1, 1)), (3, vec!["new-a".into()]));
    assert_eq!(list(Paging::new(3, 1)), (3, vec![]));
}

#[test]
fn channels_of_files_are_shown_and_never_written() {
    use std::path::Path;
    let mut office = Office::new();
    let mine = office.create(&small("mine", "")).expect("good");
    let file = Arc::new(crate::channel::fixture::channel("web", None, vec![]));
    let with = |office: &Office, channel: &Arc<crate::channel::Channel>| {
        let mut transaction = Transaction::new(office.state.clone(), &Nowhere);
        let files = [(channel, Path::new("vitald.toml"))];
        transaction.put_files(files.into_iter(), UnixSeconds(5)).map(|()| transaction.finish())
    };
    let (changes, state) = with(&office, &file).expect("the name is free");
    assert!(changes.records().expect("JSON").is_empty(), "files are not stored");
    office.state = state;
    let shown = Arc::clone(office.state.by_name(FIRST, "web").expect("it is there"));
    assert_eq!(code(office.call(Call::DeleteChannel { at: at(&shown) })), "APIG.1113");
    assert!(with(&office, &file).expect("the same").0.is_empty(), "reloading changes nothing");
    let clash = Arc::new(crate::channel::fixture::channel("mine", None, vec![]));
    let error = with(&office, &clash).expect_err("taken").to_string();
    assert!(error.contains("\"mine\""), "{error}");
    assert_eq!(code(office.create(&small("web", ""))), "APIG.3208");
    assert_eq!(office.state.made_by_api(FIRST), Ok(1));
    let ids: HashSet<Id> = [shown.id, mine.id].into();
    assert_eq!(ids.len(), 2);
}
