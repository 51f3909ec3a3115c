//! What the calls do to the registry, and what always holds.

mod model;
mod records;
mod references;

use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::channel::reader::{ClientIdentityError, ReadContext};
use crate::channel::{ClientIdentity, Host, MemberStatus, PemFile};

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

/// A desk with two instances, and what it needs.
pub(super) struct Office {
    pub(super) desk: Desk,
    pub(super) fresh: Counter,
}

impl Office {
    pub(super) fn new() -> Self {
        Self::with(Quotas::default())
    }

    pub(super) fn with(quotas: Quotas) -> Self {
        let project = Project { id: "p".to_owned(), name: "local".to_owned() };
        let settings = [FIRST, SECOND].map(|id| InstanceSetting {
            id: id.into(),
            name: format!("instance {id}"),
            features: Vec::new(),
        });
        let order = settings.iter().map(|setting| Arc::clone(&setting.id)).collect();
        let mut fresh = Counter { next: 0, now: 1000 };
        let mut desk = Desk::new(Registry::new(project, quotas, order));
        let delta = desk.working().with_instances(&settings, &mut fresh);
        desk.submit_delta(delta);
        desk.commit();
        Self { desk, fresh }
    }

    pub(super) fn call(&mut self, write: Call) -> Result<Reply, Fault> {
        let outcome = self.desk.submit(&write, &Nowhere, &mut self.fresh);
        self.desk.commit();
        outcome
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
        Arc::clone(self.desk.working().resource(id).expect("it is there"))
    }
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
fn a_batch_is_seen_whole_or_not_at_all() {
    let mut office = Office::new();
    let published = office.desk.published();
    let submit = |office: &mut Office, name: &str| {
        let write = Call::CreateChannel { instance: FIRST.to_owned(), body: json(&small(name, "")) };
        office.desk.submit(&write, &Nowhere, &mut office.fresh)
    };
    submit(&mut office, "one").expect("good");
    assert_eq!(code(submit(&mut office, "one")), "APIG.3208", "the batch sees itself");
    assert_eq!(published.read().count(None), 0, "readers do not see it");
    office.desk.roll_back();
    assert_eq!((office.desk.working().count(None), office.desk.pending()), (0, 0));
    submit(&mut office, "one").expect("the name is free again");
    submit(&mut office, "two").expect("good");
    office.desk.undo_last();
    office.desk.commit();
    assert_eq!(published.read().count(None), 1);
}

#[test]
fn effects_name_each_channel_once() {
    let mut office = Office::new();
    let create = Call::CreateChannel { instance: FIRST.to_owned(), body: json(&small("one", "")) };
    let Ok(Reply::Channel(made)) = office.desk.submit(&create, &Nowhere, &mut office.fresh) else {
        panic!("good")
    };
    let add = json(r#"{"members":[{"host":"192.0.2.1"}]}"#);
    let add = Call::AddMembers { at: at(&made), body: add };
    office.desk.submit(&add, &Nowhere, &mut office.fresh).expect("good");
    let effects = office.desk.effects();
    assert_eq!(effects.len(), 1);
    assert!(effects[0].before.is_none());
    assert_eq!(effects[0].after.as_ref().map(|after| after.effective.members().len()), Some(1));
    office.desk.commit();

    let delete = Call::DeleteChannel { at: at(&made) };
    office.desk.submit(&delete, &Nowhere, &mut office.fresh).expect("good");
    office.desk.roll_back();
    assert!(office.desk.effects().is_empty());
}

#[test]
fn switching_what_is_switched_already_changes_nothing() {
    let mut office = Office::new();
    let held = office.create(&small("abc", r#","members":[{"host":"192.0.2.1"}]"#)).expect("good");
    let body = json(&format!(r#"{{"member_ids":["{}","{}"]}}"#, held.members.tags()[0].id, "0".repeat(32)));
    let switch = |status| Call::SwitchMembers { at: at(&held), status, body: body.clone() };
    office.desk.submit(&switch(MemberStatus::Enabled), &Nowhere, &mut office.fresh).expect("good");
    assert_eq!(office.desk.pending(), 0);
    office.desk.submit(&switch(MemberStatus::Disabled), &Nowhere, &mut office.fresh).expect("good");
    assert_eq!(office.desk.pending(), 1);
}

#[test]
fn lists_are_newest_first_and_stable() {
    let mut office = Office::new();
    for (name, now) in [("old", 1), ("new-b", 9), ("new-a", 9)] {
        office.fresh.now = now;
        office.create(&small(name, "")).expect("good");
    }
    let list = |paging| {
        let page = office.desk.working().list_channels(Some(FIRST), &ChannelFilter::default(), paging);
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
        let files = [(channel, Path::new("vitald.toml"))];
        office.desk.working().with_files(files.into_iter(), UnixSeconds(5))
    };
    let delta = with(&office, &file).expect("the name is free");
    assert_eq!(delta.records().count(), 0, "files are not stored");
    office.desk.submit_delta(delta);
    let shown = Arc::clone(office.desk.working().by_name(FIRST, "web").expect("it is there"));
    assert_eq!(code(office.call(Call::DeleteChannel { at: at(&shown) })), "APIG.1113");
    assert!(with(&office, &file).expect("the same").is_empty(), "reloading changes nothing");
    let clash = Arc::new(crate::channel::fixture::channel("mine", None, vec![]));
    assert_eq!(with(&office, &clash).expect_err("taken").len(), 1);
    assert_eq!(code(office.create(&small("web", ""))), "APIG.3208");
    assert_eq!(office.desk.working().made_by_api(FIRST), 1);
    let ids: HashSet<Id> = [shown.id, mine.id].into();
    assert_eq!(ids.len(), 2);
}
