//! Reference channels: what they stand for, and what they refuse.

use super::*;

fn reference(name: &str, targets: &[Id]) -> String {
    let groups: Vec<String> = targets
        .iter()
        .enumerate()
        .map(|(number, id)| {
            format!(r#"{{"member_group_name":"group{number}","reference_vpc_channel_id":"{id}"}}"#)
        })
        .collect();
    let more = format!(r#","vpc_channel_type":"reference","member_groups":[{}]"#, groups.join(","));
    small(name, &more)
}

fn hosts(resource: &Resource) -> Vec<String> {
    resource.effective.members().iter().map(|member| member.host().to_string()).collect()
}

const CHECK: &str = r#","vpc_health_config":{"protocol":"tcp","threshold_normal":1,
    "threshold_abnormal":1,"time_interval":5,"timeout":1}"#;

#[test]
fn a_change_reaches_everything_above() {
    let mut office = Office::new();
    let target = office
        .create(&small("target", &format!(r#","members":[{{"host":"192.0.2.1"}}]{CHECK}"#)))
        .expect("good");
    let other = office.create(&small("other", "")).expect("good");
    let front = office.create(&reference("front", &[target.id, other.id])).expect("good");
    let above = office.create(&reference("above", &[front.id])).expect("good");
    assert_eq!(hosts(&above), ["192.0.2.1"]);
    assert!(front.effective.health_check().is_none(), "its targets have no check in common");

    let body = json(r#"{"members":[{"host":"192.0.2.2","port":81}]}"#);
    let add = Call::AddMembers { at: at(&target), body };
    office.call(add).expect("good");
    // All three take effect together, and only the target is stored.
    assert_eq!(office.changes.channels().count(), 3);
    assert_eq!(office.changes.records().expect("JSON").edits().len(), 1);
    assert_eq!(hosts(&office.resource(above.id)), ["192.0.2.1", "192.0.2.2"]);
    let ports: Vec<u16> = {
        let above = office.resource(above.id);
        let channel = &above.effective;
        channel.members().iter().map(|member| channel.traffic_port(member).get()).collect()
    };
    assert_eq!(ports, [80, 81]);
    assert!(office.resource(above.id).configured.members().is_empty());
}

#[test]
fn the_check_that_all_targets_share_is_used() {
    let mut office = Office::new();
    let one = office.create(&small("one", CHECK)).expect("good");
    let two = office.create(&small("two", CHECK)).expect("good");
    let front = office.create(&reference("front", &[one.id, two.id])).expect("good");
    assert!(front.effective.health_check().is_some());
    assert!(front.configured.health_check().is_none());
}

#[test]
fn no_way_leads_back() {
    let mut office = Office::new();
    let target = office.create(&small("target", "")).expect("good");
    let front = office.create(&reference("front", &[target.id])).expect("good");
    let above = office.create(&reference("above", &[front.id])).expect("good");
    for goal in [above.id, front.id] {
        let body = json(&reference("front", &[goal]));
        let write = Call::UpdateChannel { family: PathFamily::Apig, at: at(&front), body };
        assert_eq!(code(office.call(write)), "APIG.2012");
    }
    let group = json(&format!(
        r#"{{"member_groups":[{{"member_group_name":"loop","reference_vpc_channel_id":"{}"}}]}}"#,
        above.id
    ));
    assert_eq!(code(office.call(Call::AddGroups { at: at(&front), body: group })), "APIG.2012");
    assert_eq!(code(office.create(&reference("lost", &[Id(0)]))), "APIG.2012");
    let elsewhere = office.create_in(SECOND, &small("elsewhere", "")).expect("good");
    assert_eq!(code(office.create(&reference("far", &[elsewhere.id]))), "APIG.2012");
}

#[test]
fn a_target_stays_while_something_stands_for_it() {
    let mut office = Office::new();
    let target = office.create(&small("target", "")).expect("good");
    let front = office.create(&reference("front", &[target.id])).expect("good");
    assert_eq!(code(office.call(Call::DeleteChannel { at: at(&target) })), "APIG.3719");
    office.call(Call::DeleteChannel { at: at(&front) }).expect("good");
    office.call(Call::DeleteChannel { at: at(&target) }).expect("nothing stands for it now");
}

#[test]
fn channels_of_other_instances_are_known_by_longer_names() {
    let mut office = Office::new();
    let first = office.create(&small("web", "")).expect("good");
    let second = office.create_in(SECOND, &small("web", "")).expect("good");
    assert_eq!(first.effective.name(), "web");
    assert_eq!(second.effective.name(), format!("{SECOND}:web"));
    assert_eq!(second.configured.name(), "web");
}
