//! A daemon that only remembers: the API's backend without probes and store.
//!
//! What the HTTP tests ask. Writes do what
//! the real daemon does, but for the store and the drivers; verdicts are set by
//! hand.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use vitald::catalog::{
    ApiRecord, Call, Desk, Fault, FeatureName, FeatureSetting, Fresh, Id, InstanceSetting, Project,
    Published, Quotas, RecordEdit, Registry, Reply, UnixSeconds,
};
use vitald::catalog::{ChannelSlot, Channels, Entry, MemberSlot, ReloadState, Snapshot, Source};
use vitald::channel::reader::{ClientIdentityError, ReadContext};
use vitald::channel::{Channel, ClientIdentity, Health, Host, PemFile};
use vitald::health::{DriverSnapshot, MemberState, Timestamp};
use vitald::serve::SnapshotError;
use vitald::serve::api::ApiBackend;

pub(crate) const PROJECT: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const FIRST: &str = "eddc4d25480b4cd6b512f270a1b8b341";
pub(crate) const SECOND: &str = "00000000-0000-4000-8000-000000000002";

/// The time of everything.
const NOW: u64 = 1_700_000_000;

/// The backend; clones share everything.
#[derive(Clone)]
pub(crate) struct Memory {
    desk: Arc<Mutex<Desk>>,
    published: Published,
    store: Arc<Mutex<HashMap<String, Vec<u8>>>>,
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

impl Memory {
    /// Two instances; the second one's names are fixed, as project calls need it.
    pub(crate) fn new(quotas: Quotas, files: &[Arc<Channel>]) -> Self {
        let project = Project { id: PROJECT.to_owned(), name: "cn-north-4".to_owned() };
        let off = FeatureSetting::read(FeatureName::VpcNameModifiable, false, "off").expect("a good setting");
        let settings = [
            InstanceSetting { id: FIRST.into(), name: "local".to_owned(), features: vec![] },
            InstanceSetting { id: SECOND.into(), name: "second".to_owned(), features: vec![off] },
        ];
        let order = settings.iter().map(|setting| Arc::clone(&setting.id)).collect();
        let mut clock = Clock(NOW);
        let mut desk = Desk::new(Registry::new(project, quotas, order));
        let instances = desk.working().with_instances(&settings, &mut clock);
        desk.submit_delta(instances);
        let file = std::path::Path::new("/etc/vitald/vitald.toml");
        let delta = desk
            .working()
            .with_files(files.iter().map(|channel| (channel, file)), clock.now())
            .expect("no name is taken");
        desk.submit_delta(delta);
        desk.commit();
        let published = desk.published();
        Self { desk: Arc::new(Mutex::new(desk)), published, store: Arc::default(), verdicts: Arc::default() }
    }

    /// Sets what the prober would have found of `host:port`.
    pub(crate) fn set_verdict(&self, address: &str, health: Health) {
        self.verdicts.lock().expect("not poisoned").insert(address.to_owned(), health);
    }

    /// The registry as a restart would find it.
    pub(crate) fn restarted(&self) -> Registry {
        let records = self.store.lock().expect("not poisoned");
        let records =
            records.values().map(|bytes| ApiRecord::decode(bytes).expect("a good record")).collect();
        let project = Project { id: PROJECT.to_owned(), name: "cn-north-4".to_owned() };
        let mut registry = Registry::new(project, Quotas::default(), vec![FIRST.into(), SECOND.into()]);
        registry.restore(records, &Nowhere);
        registry
    }

    fn channels(&self) -> (Channels, Vec<MemberState>) {
        let verdicts = self.verdicts.lock().expect("not poisoned");
        let published = self.published.read();
        let mut states = Vec::new();
        let mut entries: Vec<Arc<Entry>> = published
            .channels(None)
            .zip(0..)
            .map(|(resource, slot)| {
                let channel = &resource.effective;
                let members = channel.members().iter().map(|member| {
                    let health = verdicts.get(&channel.member_address(member).to_string());
                    let slot = u32::try_from(states.len()).expect("few members");
                    states.push(MemberState::new(0, health.copied().unwrap_or_default(), Timestamp(0)));
                    MemberSlot { driver: 0, index: slot, generation: 0 }
                });
                let members = members.collect();
                let source = Source::File("memory".into());
                let entry = Entry::new(Arc::clone(channel), source, ChannelSlot(slot), members);
                Arc::new(entry.expect("members that can be balanced"))
            })
            .collect();
        entries.sort_by(|a, b| a.channel.name().cmp(b.channel.name()));
        (Channels { entries }, states)
    }
}

impl ApiBackend for Memory {
    fn registry(&self) -> Published {
        self.published.clone()
    }

    async fn write(&self, call: Call) -> Result<Reply, Fault> {
        let mut clock = Clock(NOW);
        let mut desk = self.desk.lock().expect("not poisoned");
        let outcome = desk.submit(&call, &Nowhere, &mut clock)?;
        let mut store = self.store.lock().expect("not poisoned");
        for edit in desk.records() {
            match edit {
                RecordEdit::PutChannel(resource) => {
                    let bytes = ApiRecord::encode_channel(resource).expect("JSON");
                    store.insert(format!("channel/{}", resource.id), bytes);
                }
                RecordEdit::RemoveChannel(id) => {
                    store.remove(&format!("channel/{id}"));
                }
                RecordEdit::PutInstance(instance) => {
                    let bytes = ApiRecord::encode_instance(instance).expect("JSON");
                    store.insert(format!("instance/{}", instance.id), bytes);
                }
                RecordEdit::RemoveInstance(id) => {
                    store.remove(&format!("instance/{id}"));
                }
            }
        }
        desk.commit();
        Ok(outcome)
    }

    async fn observe(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        let (channels, states) = self.channels();
        let pages = states.chunks(vitald::health::snapshot::PAGE).map(|page| Arc::new(page.to_vec()));
        Ok(Arc::new(Snapshot {
            taken_at: Timestamp(0),
            started_at: Timestamp(0),
            ready: true,
            channels: Arc::new(channels),
            drivers: vec![DriverSnapshot { pages: pages.collect(), ..DriverSnapshot::empty() }],
            reload: ReloadState { successful: true, last_success: Timestamp(0) },
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
