//! A daemon that only remembers: the API's backend without probes and store.
//!
//! What the HTTP tests ask. Writes do what
//! the real daemon does, but for the store and the drivers; verdicts are set by
//! hand.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use vitald::channel::reader::ReadContext;
use vitald::channel::{Channel, Health};
use vitald::health::snapshot::PAGE;
use vitald::health::{DriverSnapshot, Durations, LastProbe, MemberState, Outcome, Phases, Timestamp};
use vitald::testing::catalog::{
    Call, Catalog, Channels, Client, Fault, FeatureName, Fresh, Id, Project, Quotas, ReloadState, Reply,
    Resources, Snapshot, Transaction, UnixSeconds,
};
use vitald::testing::config::api::{FeatureSwitch, InstanceSettings};
use vitald::testing::probe::{Resolver, SystemLookup};
use vitald::testing::serve::SnapshotError;
use vitald::testing::serve::api::ApiBackend;
use vitald::testing::store::{Record, RecordChange, RecordKey, StoreContents};

pub(crate) const PROJECT: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const FIRST: &str = "eddc4d25480b4cd6b512f270a1b8b341";
pub(crate) const SECOND: &str = "00000000-0000-4000-8000-000000000002";

/// The time of everything.
const NOW: u64 = 1_700_000_000;

/// The backend; clones share everything.
#[derive(Clone)]
pub(crate) struct Memory {
    catalog: Arc<Mutex<Catalog>>,
    store: Arc<Mutex<BTreeMap<RecordKey, Vec<u8>>>>,
    /// Verdicts by `host:port`; others are unknown.
    verdicts: Arc<Mutex<HashMap<String, Health>>>,
}

/// Ids at random.
struct Clock(u64);

impl Fresh for Clock {
    fn id(&mut self) -> Id {
        Id(fastrand::u128(..))
    }
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0)
    }
}

/// No files, no certificates, no table of cloud servers.
pub(crate) struct Nowhere;

impl ReadContext for Nowhere {}

impl Memory {
    /// Two instances; the second one's names are fixed, as project calls need it.
    pub(crate) fn new(quotas: Quotas, files: &[Arc<Channel>]) -> Self {
        let fixed = vec![(FeatureName::VpcNameModifiable, FeatureSwitch::Off)];
        let settings = [(FIRST, "local", vec![]), (SECOND, "second", fixed)];
        let settings = settings.map(|(id, name, features)| InstanceSettings {
            id: id.to_owned(),
            name: name.to_owned(),
            features,
        });
        let (resolver, _) = Resolver::new(SystemLookup, Duration::from_secs(30));
        let catalog = Arc::new(Mutex::new(Catalog::new(1, 0, resolver)));
        let memory = Self { catalog, store: Arc::default(), verdicts: Arc::default() };
        let mut transaction = Transaction::new(resources(quotas), &Nowhere);
        transaction.put_instances(&settings, &mut Clock(NOW)).expect("good settings");
        let file = std::path::Path::new("/etc/vitald/vitald.toml");
        let files = files.iter().map(|channel| (channel, file));
        transaction.put_files(files, Clock(NOW).now()).expect("no name is taken");
        memory.put_in_effect(&mut memory.catalog(), transaction);
        memory
    }

    /// Sets what the prober would have found of `host:port`.
    pub(crate) fn set_verdict(&self, address: &str, health: Health) {
        self.verdicts.lock().expect("not poisoned").insert(address.to_owned(), health);
    }

    /// Everything as a restart would find it.
    pub(crate) fn restarted(&self) -> Resources {
        let records = self.store.lock().expect("not poisoned");
        let records = records.iter().map(|(key, value)| Record { key: key.clone(), value: value.clone() });
        let contents = StoreContents { records: records.collect(), ..StoreContents::default() };
        let mut transaction = Transaction::new(resources(Quotas::default()), &Nowhere);
        transaction.restore(&contents).expect("good records");
        transaction.put_files(std::iter::empty(), Clock(NOW).now()).expect("no files");
        transaction.finish().1
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().expect("not poisoned")
    }

    /// Stores what was planned, and has it in effect.
    fn put_in_effect(&self, catalog: &mut Catalog, transaction: Transaction<'_>) {
        let (changes, resources) = transaction.finish();
        let prepared = catalog.prepare(&changes, resources).expect("good channels");
        let mut store = self.store.lock().expect("not poisoned");
        for change in changes.records().expect("JSON").edits() {
            match change {
                RecordChange::Put(record) => drop(store.insert(record.key.clone(), record.value.clone())),
                RecordChange::Remove(key) => drop(store.remove(key)),
            }
        }
        catalog.commit(prepared);
    }

    /// What the driver would know of all members.
    fn states(&self, channels: &Channels) -> Vec<MemberState> {
        let verdicts = self.verdicts.lock().expect("not poisoned");
        let mut states = Vec::new();
        for entry in channels.entries() {
            for (member, row) in entry.members() {
                let index = row.slot.index as usize;
                if states.len() <= index {
                    states.resize(index + 1, MemberState::new(u32::MAX, Health::Unknown, Timestamp(0)));
                }
                let health = verdicts.get(&entry.channel().member_address(member).to_string());
                let health = health.copied().unwrap_or_default();
                if let Some(state) = states.get_mut(index) {
                    let last = (health != Health::Unknown).then(last_probe);
                    *state =
                        MemberState { last, ..MemberState::new(row.slot.generation, health, Timestamp(0)) };
                }
            }
        }
        states
    }
}

/// 2026-01-01T00:00:59.9Z.
fn last_probe() -> LastProbe {
    LastProbe {
        at: Timestamp(1_767_225_659_900_000_000),
        outcome: Outcome::Success,
        status: None,
        detail: "".into(),
        address: None,
        durations: Durations::new(Duration::ZERO, Phases::default()),
    }
}

fn resources(quotas: Quotas) -> Resources {
    let project = Project { id: PROJECT.to_owned(), name: "cn-north-4".to_owned() };
    Resources::new(project, quotas, vec![FIRST.into(), SECOND.into()])
}

impl ApiBackend for Memory {
    fn channels(&self) -> Arc<Channels> {
        Arc::clone(self.catalog().channels())
    }

    async fn write(&self, call: Call, _: Client) -> Result<Reply, Fault> {
        let mut catalog = self.catalog();
        let mut transaction = Transaction::new(catalog.channels().resources.clone(), &Nowhere);
        let reply = transaction.plan(&call, &mut Clock(NOW))?;
        self.put_in_effect(&mut catalog, transaction);
        Ok(reply)
    }

    async fn observe(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        let channels = self.channels();
        let states = self.states(&channels);
        let pages = states.chunks(PAGE).map(|page| Arc::new(page.to_vec()));
        Ok(Arc::new(Snapshot {
            taken_at: Timestamp(0),
            started_at: Timestamp(0),
            ready: true,
            channels,
            drivers: vec![DriverSnapshot { pages: pages.collect(), ..DriverSnapshot::empty() }],
            reload: ReloadState { successful: true, last_success: Timestamp(0) },
            changes: Default::default(),
            address_changes: 0,
            writes: Vec::new(),
        }))
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([127, 0, 0, 1], 9650))]
    }
}

/// Stands for `serve::auth`: whoever shows any credential may do everything.
pub(crate) async fn anybody_with_credentials(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key("authorization") || headers.contains_key("x-auth-token") {
        return next.run(request).await;
    }
    let body = r#"{"error_code":"APIG.1000","error_msg":"Token missing. Log in again or try again later."}"#;
    let headers = [("content-type", "application/json"), ("x-request-id", "00")];
    (StatusCode::UNAUTHORIZED, headers, body).into_response()
}
