//! What the store keeps, read back.

use std::sync::Arc;

use super::*;
use crate::catalog::record::RecordError;
use crate::store::{Collection, Record, RecordKey, StoreContents};

const FULL: &str = r#","vpc_channel_type":"microservice","microservice_info":{"service_type":"NACOS",
    "nacos_info":{"service_name":"s","server_config":[{"ip_address":"192.0.2.1","port":8848}],
    "user_info":{"user_name":"u","password":"hunter2"}}},
    "member_groups":[{"member_group_name":"blue","member_group_remark":"r","microservice_version":"v",
        "microservice_port":9000,"microservice_labels":[{"label_name":"a","label_value":"b"}]}],
    "members":[{"host":"192.0.2.1","weight":0,"is_backup":true,"status":2,"member_group_name":"blue"},
        {"host":"App.Example","port":81}],
    "vpc_health_config":{"protocol":"HTTPS","path":"/a?b","method":"HEAD","http_code":"200-299",
        "threshold_normal":1,"threshold_abnormal":2,"time_interval":30,"timeout":30,"port":8,"status":2}"#;

/// As a restart finds it: what all changes have stored, read again.
fn restored(office: &Office) -> Resources {
    let state = &office.state;
    let mut contents = StoreContents::default();
    let record = |collection, id: &str, value| Record { key: RecordKey::new(collection, id), value };
    for instance in state.instances() {
        let value = ApiRecord::encode_instance(instance).expect("JSON");
        contents.records.push(record(Collection::Instances, &instance.id, value));
    }
    for resource in state.channels(None) {
        let value = ApiRecord::encode_channel(resource).expect("JSON");
        contents.records.push(record(Collection::Channels, &resource.id.to_string(), value));
    }
    let order = vec![FIRST.into(), SECOND.into()];
    let resources = Resources::new(state.project().clone(), Quotas::default(), order);
    let mut transaction = Transaction::new(resources, &Nowhere);
    transaction.restore(&contents).expect("good records");
    transaction.put_files(std::iter::empty(), UnixSeconds(0)).expect("no files");
    let (changes, resources) = transaction.finish();
    assert!(changes.records().expect("JSON").is_empty(), "the store has them already");
    resources
}

fn assert_same(before: &Resource, after: &Resource) {
    assert_eq!(before.configured, after.configured);
    assert_eq!(before.effective, after.effective);
    assert_eq!(before.groups, after.groups);
    assert_eq!(before.members.tags(), after.members.tags());
    assert_eq!((before.check, before.created), (after.check, after.created));
    assert_eq!(before.microservice, after.microservice);
    assert_eq!(before.instance, after.instance);
}

#[test]
fn a_restart_finds_everything() {
    let mut office = Office::new();
    let full = office.create(&small("full", FULL)).expect("good");
    let ecs = small("ecs", r#","members":[{"host":"192.0.2.1","ecs_id":"i-1","ecs_name":"web"}]"#);
    office.create(&ecs.replace("\"ip\"", "\"ecs\"")).expect("good");
    office.fresh.now = 7;
    office.create_in(SECOND, &small("web", r#","members":[{"host":"2001:db8::1"}]"#)).expect("good");
    let group = format!(r#"[{{"member_group_name":"all","reference_vpc_channel_id":"{}"}}]"#, full.id);
    let front = small("front", &format!(r#","vpc_channel_type":"reference","member_groups":{group}"#));
    office.create(&front).expect("good");
    let toggle = json(r#"{"name":"vpc_name_modifiable","enable":true,"config":"off"}"#);
    office.call(Call::SetFeature { instance: FIRST.to_owned(), body: toggle }).expect("good");

    let resources = restored(&office);
    assert_eq!(resources.count(None), 4);
    for before in office.state.channels(None) {
        let after = resources.resource(before.id).expect("it is there");
        assert_same(before, after);
    }
    let order = |resources: &Resources| -> Vec<String> {
        resources.channels(None).map(|resource| resource.id.to_string()).collect()
    };
    assert_eq!(order(&resources), order(&office.state));
    let first = resources.instance(FIRST).expect("it is there");
    assert!(!first.has(FeatureName::VpcNameModifiable));
    assert_eq!(resources.first_instance().map(|id| &**id), Some(FIRST));
}

#[test]
fn passwords_are_not_kept() {
    let mut office = Office::new();
    let full = office.create(&small("full", FULL)).expect("good");
    let record = String::from_utf8(ApiRecord::encode_channel(&full).expect("JSON")).expect("UTF-8");
    assert!(!record.contains("hunter2"), "{record}");
}

#[test]
fn damage_is_told_apart_from_a_newer_format() {
    let mut office = Office::new();
    let held = office.create(&small("abc", r#","members":[{"host":"192.0.2.1"}]"#)).expect("good");
    let good = String::from_utf8(ApiRecord::encode_channel(&held).expect("JSON")).expect("UTF-8");
    let decode = |text: &str| ApiRecord::decode(text.as_bytes()).expect_err(text);
    assert!(matches!(decode(&good[..good.len() / 2]), RecordError::Damaged(_)));
    assert!(matches!(decode(""), RecordError::Damaged(_)));
    let newer = good.replace("\"format\":1", "\"format\":2");
    assert_eq!(decode(&newer), RecordError::TooNew(2));
    assert!(matches!(decode(&good.replace("\"port\":80", "\"port\":0")), RecordError::Broken(_)));
    assert!(matches!(decode(&good.replace("\"created\"", "\"made\"")), RecordError::Damaged(_)));
    let without_instance = good.replace(FIRST, "");
    assert!(matches!(decode(&without_instance), RecordError::Damaged(_)));
}

#[test]
fn what_is_exported_can_be_created_again() {
    let mut office = Office::new();
    let full = office.create(&small("full", FULL)).expect("good");
    let exported = serde_json::to_string(&ApiRecord::export_channel(&full)).expect("JSON");
    let toml = toml::to_string(&ApiRecord::export_channel(&full)).expect("TOML");
    assert!(toml.contains("[microservice_info.nacos_info]"), "{toml}");
    let text = exported.replace("\"full\"", "\"copy\"");
    let copy = office.create(&text).expect("good");
    let renamed = crate::channel::Channel::clone(&copy.configured).with_name("full".to_owned());
    assert_eq!(full.configured, Arc::new(renamed));
    assert!(!text.contains(&full.id.to_string()));
}

#[test]
fn an_archive_holds_everything_but_files() {
    let mut office = Office::new();
    let full = office.create(&small("full", FULL)).expect("good");
    office.create(&small("abc", r#","members":[{"host":"192.0.2.1"}]"#)).expect("good");
    let archive = office.state.archive();
    let text = archive.to_json().expect("JSON");
    let again = Archive::parse(&text).expect("its own text");
    assert_eq!(again.to_json().expect("JSON"), text);
    assert_eq!((again.channels.len(), again.instances.len()), (2, archive.instances.len()));
    let same = again.channels.iter().find(|channel| channel.id == full.id).expect("it is there");
    assert_same(&full, same);

    let text = String::from_utf8(text).expect("UTF-8");
    let newer = text.replace("\"vitald_archive\":1", "\"vitald_archive\":2");
    assert_eq!(Archive::parse(newer.as_bytes()).expect_err("newer"), RecordError::TooNew(2));
    for wrong in ["", "{}", r#"{"vitald_archive":1}"#, &text.replace("\"port\":80", "\"port\":0")] {
        Archive::parse(wrong.as_bytes()).expect_err(wrong);
    }
}

#[test]
fn a_member_that_could_be_made_once_stays_readable() {
    let mut office = Office::new();
    let member = |host: &str| small("web", &format!(r#","members":[{{"host":"{host}"}}]"#));
    assert!(office.create(&member("0.0.0.0")).is_err());
    let good = office.create(&member("192.0.2.1")).expect("good");
    let value = ApiRecord::encode_channel(&good).expect("JSON");
    let older = String::from_utf8(value).expect("UTF-8").replace("192.0.2.1", "0.0.0.0");
    let Ok(ApiRecord::Channel(read)) = ApiRecord::decode(older.as_bytes()) else { panic!("{older}") };
    assert_eq!(read.configured.members()[0].host().to_string(), "0.0.0.0");
}
