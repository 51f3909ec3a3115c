//! Random calls: whatever clients do, what must always hold does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::channel::ChannelKind;

/// A call on whichever channel, member or group the numbers point at.
#[derive(Debug, Clone)]
enum Step {
    Create { name: u8, members: Vec<(u8, u8)>, refers: Option<u8> },
    Update { channel: u8, name: u8, port: u16, members: Vec<(u8, u8)>, roma: bool },
    Add { channel: u8, members: Vec<(u8, u8)> },
    Replace { channel: u8, members: Vec<(u8, u8)>, group: Option<u8> },
    DeleteMember { channel: u8, member: u8 },
    Switch { channel: u8, member: u8, off: bool },
    AddGroup { channel: u8, group: u8, weight: Option<u8> },
    RenameGroup { channel: u8, place: u8, group: u8 },
    DeleteGroup { channel: u8, place: u8 },
    Delete { channel: u8 },
}

fn members() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0..5u8, 0..4u8), 0..5)
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..8u8;
    prop_oneof![
        3 => (0..6u8, members(), prop::option::of(channel.clone()))
            .prop_map(|(name, members, refers)| Step::Create { name, members, refers }),
        2 => (channel.clone(), 0..6u8, 79..82u16, members(), any::<bool>())
            .prop_map(|(channel, name, port, members, roma)| Step::Update { channel, name, port, members, roma }),
        2 => (channel.clone(), members()).prop_map(|(channel, members)| Step::Add { channel, members }),
        2 => (channel.clone(), members(), prop::option::of(0..3u8))
            .prop_map(|(channel, members, group)| Step::Replace { channel, members, group }),
        1 => (channel.clone(), 0..5u8).prop_map(|(channel, member)| Step::DeleteMember { channel, member }),
        1 => (channel.clone(), 0..5u8, any::<bool>())
            .prop_map(|(channel, member, off)| Step::Switch { channel, member, off }),
        1 => (channel.clone(), 0..3u8, prop::option::of(0..=100u8))
            .prop_map(|(channel, group, weight)| Step::AddGroup { channel, group, weight }),
        1 => (channel.clone(), 0..3u8, 0..3u8)
            .prop_map(|(channel, place, group)| Step::RenameGroup { channel, place, group }),
        1 => (channel.clone(), 0..3u8).prop_map(|(channel, place)| Step::DeleteGroup { channel, place }),
        1 => channel.prop_map(|channel| Step::Delete { channel }),
    ]
}

/// Few hosts, ports and groups, so that addresses meet. Group 3 is no group.
fn list(members: &[(u8, u8)]) -> String {
    let entries = members.iter().map(|(host, rest)| {
        let group = if *rest == 3 { String::new() } else { format!(r#","member_group_name":"group{rest}""#) };
        let port =
            if host % 2 == 0 { String::new() } else { format!(r#","port":{}"#, 79 + u16::from(*host % 3)) };
        format!(r#"{{"host":"192.0.2.{}"{port}{group}}}"#, host / 2)
    });
    entries.collect::<Vec<_>>().join(",")
}

fn groups_of(members: &[(u8, u8)]) -> String {
    let names: HashSet<u8> = members.iter().map(|(_, group)| *group).filter(|group| *group < 3).collect();
    let groups = names.iter().map(|group| format!(r#"{{"member_group_name":"group{group}"}}"#));
    groups.collect::<Vec<_>>().join(",")
}

/// The call of a step, if what it points at is there.
fn call_of(office: &Office, step: &Step) -> Option<Call> {
    let all: Vec<_> = office.state.channels(None).cloned().collect();
    let pick = |number: &u8| all.get(usize::from(*number) % all.len().max(1)).cloned();
    let call = match step {
        Step::Create { name, members, refers } => {
            let body = match refers.as_ref().and_then(pick) {
                Some(target) => small(
                    &format!("name{name}"),
                    &format!(
                        r#","vpc_channel_type":"reference","member_groups":[{{"member_group_name":"all","reference_vpc_channel_id":"{}"}}]"#,
                        target.id
                    ),
                ),
                None => small(
                    &format!("name{name}"),
                    &format!(r#","member_groups":[{}],"members":[{}]"#, groups_of(members), list(members)),
                ),
            };
            Call::CreateChannel { instance: FIRST.to_owned(), body: json(&body) }
        }
        Step::Update { channel, name, port, members, roma } => {
            let more = format!(r#","member_groups":[{}],"members":[{}]"#, groups_of(members), list(members));
            let body =
                small(&format!("name{name}"), &more).replace("\"port\":80,", &format!("\"port\":{port},"));
            let family = if *roma { PathFamily::Roma } else { PathFamily::Apig };
            Call::UpdateChannel { family, at: at(&*pick(channel)?), body: json(&body) }
        }
        Step::Add { channel, members } => {
            let body = json(&format!(r#"{{"members":[{}]}}"#, list(members)));
            Call::AddMembers { at: at(&*pick(channel)?), body }
        }
        Step::Replace { channel, members, group } => {
            let group =
                group.map(|group| format!(r#","member_group_name":"group{group}""#)).unwrap_or_default();
            let body = json(&format!(r#"{{"members":[{}]{group}}}"#, list(members)));
            Call::ReplaceMembers { at: at(&*pick(channel)?), body }
        }
        Step::DeleteMember { channel, member } => {
            let resource = pick(channel)?;
            let member = resource.members.tags().get(usize::from(*member))?.id.to_string();
            Call::DeleteMember { at: at(&resource), member }
        }
        Step::Switch { channel, member, off } => {
            let resource = pick(channel)?;
            let id = resource.members.tags().get(usize::from(*member))?.id;
            let status = if *off { MemberStatus::Disabled } else { MemberStatus::Enabled };
            let body = json(&format!(r#"{{"member_ids":["{id}"]}}"#));
            Call::SwitchMembers { at: at(&resource), status, body }
        }
        Step::AddGroup { channel, group, weight } => {
            let weight =
                weight.map(|weight| format!(r#","member_group_weight":{weight}"#)).unwrap_or_default();
            let body = format!(r#"{{"member_groups":[{{"member_group_name":"group{group}"{weight}}}]}}"#);
            Call::AddGroups { at: at(&*pick(channel)?), body: json(&body) }
        }
        Step::RenameGroup { channel, place, group } => {
            let resource = pick(channel)?;
            let id = resource.groups.get(usize::from(*place))?.tag.id.to_string();
            let body = json(&format!(r#"{{"member_group_name":"group{group}"}}"#));
            Call::UpdateGroup { at: at(&resource), group: id, body }
        }
        Step::DeleteGroup { channel, place } => {
            let resource = pick(channel)?;
            let id = resource.groups.get(usize::from(*place))?.tag.id.to_string();
            Call::DeleteGroup { at: at(&resource), group: id }
        }
        Step::Delete { channel } => Call::DeleteChannel { at: at(&*pick(channel)?) },
    };
    Some(call)
}

/// What always holds.
fn check(resources: &Resources) {
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    for resource in resources.channels(None) {
        assert!(names.insert(resource.configured.name().to_owned()), "two channels of one name");
        assert!(ids.insert(resource.id), "two channels of one id");
        let found = resources.by_name(&resource.instance, resource.configured.name()).expect("found by name");
        assert_eq!(found.id, resource.id);
        assert_eq!(resource.members.tags().len(), resource.configured.members().len());
        assert_eq!(resource.groups.len(), resource.configured.groups().len());
        for (place, tag) in resource.members.tags().iter().enumerate() {
            assert!(ids.insert(tag.id), "two members of one id");
            assert_eq!(resource.members.position(tag.id), Some(place));
        }
        for channel in [&resource.configured, &resource.effective] {
            let again = channel.with_parts(channel.groups().to_vec(), channel.members().to_vec());
            assert_eq!(again.as_ref(), Ok(&**channel), "the rules of parts hold");
        }
        if resource.configured.kind() == ChannelKind::Reference {
            assert!(resource.configured.members().is_empty());
            let expected = resource.configured.standing_for(|group| {
                let id = Id::parse(group.reference_vpc_channel_id())?;
                resources.resource(id).map(|target| &*target.effective)
            });
            assert_eq!(*resource.effective, expected, "references follow");
            assert!(resource.targets().all(|target| resources.resource(target).is_some()));
        }
    }
    assert_eq!(resources.count(None), names.len());
    assert_eq!(resources.made_by_api(FIRST), Ok(names.len()));
}

proptest! {
    #[test]
    fn whatever_is_called_the_resources_hold_together(steps in prop::collection::vec(step(), 1..40)) {
        let mut office = Office::new();
        let mut batch = Transaction::new(office.state.clone(), &Nowhere);
        for step in &steps {
            let Some(call) = call_of(&office, step) else { continue };
            let before: HashMap<Id, _> =
                office.state.channels(None).map(|resource| (resource.id, Arc::clone(resource))).collect();
            // Undone, everything is what it was.
            let undone: Result<(), Fault> = batch.attempt(|transaction| {
                transaction.plan_in_attempt(&call, &mut Counter { next: 1 << 64, now: 1000 })?;
                Err(Fault::Missing("patience"))
            });
            prop_assert!(undone.is_err());
            prop_assert_eq!(batch.state().count(None), before.len());
            for (id, held) in &before {
                prop_assert!(batch.state().resource(*id).is_some_and(|now| Arc::ptr_eq(now, held)));
            }
            // A refused call has changed nothing.
            let is_refused = batch.plan(&call, &mut office.fresh).is_err();
            check(batch.state());
            let unchanged = batch.state().channels(None).all(|now| before.get(&now.id).is_some_and(|held| Arc::ptr_eq(now, held)));
            prop_assert!(!is_refused || unchanged);
            // Readers of before see nothing of it.
            check(&office.state);
            prop_assert_eq!(office.state.count(None), before.len());
            office.state = batch.state().clone();
        }
        // All the changes together lead there as well.
        let (changes, state) = batch.finish();
        let mut again = Office::new().state;
        again.apply(&changes.channels().cloned().collect::<Vec<_>>());
        check(&again);
        prop_assert_eq!(again.count(None), state.count(None));
        prop_assert!(state.channels(None).zip(again.channels(None)).all(|(one, other)| Arc::ptr_eq(one, other)));
    }
}
