//! The calls that change something: one function each, all or nothing.
//!
//! A call looks at the state, the body and a source of ids and times, and gives
//! the change and what to answer, or the reason why not. Nothing here changes
//! the registry. The order of the checks (docs/vendor-api.md, "Order of the checks") is instance,
//! channel, kind, body, uniqueness, quota.

mod channels;
mod features;
mod groups;
mod health_check;
mod matching;
mod members;
mod project;

use std::sync::Arc;

use super::body::Body;
use super::delta::Delta;
use super::fault::Fault;
use super::ids::{Fresh, InstanceId};
use super::instance::{FeatureName, Instance};
use super::resource::Resource;
use super::state::Registry;
use crate::catalog::Source;
use crate::channel::reader::{ClientIdentityError, Dialect, ReadContext};
use crate::channel::{ChannelKind, ClientIdentity, EditError, Host, MemberStatus, PemFile, Violation};

/// Which of the vendor's two families of paths a call came by; few rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathFamily {
    /// `/apigw/`: API Gateway.
    Apig,
    /// `/apic/`: ROMA Connect.
    Roma,
}

/// A call that changes something. Ids are texts as they stood in the path.
#[expect(missing_docs, reason = "the fields are the ids of the call's path and its body")]
#[derive(Debug, Clone)]
pub enum Call {
    /// Create a channel.
    CreateChannel { instance: String, body: Body },
    /// Update a channel.
    UpdateChannel { family: PathFamily, at: ChannelPath, body: Body },
    /// Delete a channel.
    DeleteChannel { at: ChannelPath },
    /// Add members.
    AddMembers { at: ChannelPath, body: Body },
    /// Replace members.
    ReplaceMembers { at: ChannelPath, body: Body },
    /// Delete a member.
    DeleteMember { at: ChannelPath, member: String },
    /// Enable and disable members.
    SwitchMembers { at: ChannelPath, status: MemberStatus, body: Body },
    /// Update the health check.
    UpdateHealthCheck { at: ChannelPath, body: Body },
    /// Add groups.
    AddGroups { at: ChannelPath, body: Body },
    /// Update a group.
    UpdateGroup { at: ChannelPath, group: String, body: Body },
    /// Delete a group.
    DeleteGroup { at: ChannelPath, group: String },
    /// Create a channel on several instances.
    CreateProjectChannels { body: Body },
    /// Update the channels of one name.
    UpdateProjectChannels { body: Body },
    /// Copy a channel to more instances.
    SyncProjectChannels { body: Body },
    /// `POST I/features`.
    SetFeature { instance: String, body: Body },
}

/// The ids that lead to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPath {
    /// The instance.
    pub instance: String,
    /// The channel.
    pub channel: String,
}

/// What a call does, once it is clear that it can.
#[derive(Debug)]
pub struct Planned {
    /// What changes.
    pub delta: Delta,
    /// What to answer.
    pub outcome: Reply,
}

/// What to answer: resources as they are after the call.
#[derive(Debug, Clone)]
pub enum Reply {
    /// 204.
    Nothing,
    /// A channel without its members.
    Channel(Arc<Resource>),
    /// Members, by position.
    Members(Arc<Resource>, Vec<usize>),
    /// The health check.
    HealthCheck(Arc<Resource>),
    /// Groups, by position.
    Groups(Arc<Resource>, Vec<usize>),
    /// One group, by position.
    Group(Arc<Resource>, usize),
    /// One channel per instance.
    ProjectChannels(Vec<Arc<Resource>>),
    /// A feature.
    Feature(Arc<Instance>, FeatureName),
}

/// What every call may use.
pub(super) struct Context<'c> {
    pub(super) registry: &'c Registry,
    pub(super) surroundings: &'c dyn ReadContext,
    pub(super) fresh: &'c mut dyn Fresh,
}

impl Registry {
    /// Works out what a call would do.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub fn plan(
        &self,
        write: &Call,
        surroundings: &dyn ReadContext,
        fresh: &mut dyn Fresh,
    ) -> Result<Planned, Fault> {
        let mut context = Context { registry: self, surroundings, fresh };
        let context = &mut context;
        match write {
            Call::CreateChannel { instance, body } => channels::create(context, instance, body),
            Call::UpdateChannel { family, at, body } => channels::update(context, *family, at, body),
            Call::DeleteChannel { at } => channels::delete(context, at),
            Call::AddMembers { at, body } => members::add(context, at, body),
            Call::ReplaceMembers { at, body } => members::replace(context, at, body),
            Call::DeleteMember { at, member } => members::delete(context, at, member),
            Call::SwitchMembers { at, status, body } => members::switch(context, at, *status, body),
            Call::UpdateHealthCheck { at, body } => health_check::update(context, at, body),
            Call::AddGroups { at, body } => groups::add(context, at, body),
            Call::UpdateGroup { at, group, body } => groups::update(context, at, group, body),
            Call::DeleteGroup { at, group } => groups::delete(context, at, group),
            Call::CreateProjectChannels { body } => project::create(context, body),
            Call::UpdateProjectChannels { body } => project::update(context, body),
            Call::SyncProjectChannels { body } => project::sync(context, body),
            Call::SetFeature { instance, body } => features::set(context, instance, body),
        }
    }
}

impl<'c> Context<'c> {
    /// The channel, if the API may write it.
    fn writable(&self, at: &ChannelPath) -> Result<&'c Arc<Resource>, Fault> {
        let resource = self.registry.channel(&at.instance, &at.channel)?;
        refuse_file(resource)?;
        Ok(resource)
    }

    /// The channel, if the API may write it and it has members of its own.
    fn with_own_members(&self, at: &ChannelPath) -> Result<&'c Arc<Resource>, Fault> {
        let resource = self.writable(at)?;
        if resource.configured.kind() == ChannelKind::Reference {
            return Err(Fault::WrongKind(
                "a reference channel has the members of the channels it stands for",
            ));
        }
        Ok(resource)
    }

    /// What the rules of bodies need to know outside the body.
    fn around(&self, instance: &str) -> Result<Around<'c>, Fault> {
        Ok(Around { surroundings: self.surroundings, instance: self.registry.instance(instance)? })
    }
}

fn refuse_file(resource: &Resource) -> Result<(), Fault> {
    match &resource.source {
        Source::File(file) => Err(Fault::FromFile(file.display().to_string())),
        Source::Api => Ok(()),
    }
}

/// Runs one of the readers of [`crate::channel::reader`]: its breaches become
/// the fault.
fn checked<T>(read: impl FnOnce(Dialect, &mut Vec<Violation>) -> Option<T>) -> Result<T, Fault> {
    let mut violations = Vec::new();
    match read(Dialect::Api, &mut violations) {
        Some(value) if violations.is_empty() => Ok(value),
        _ if violations.is_empty() => Err(Fault::MalformedBody("the body cannot be read".to_owned())),
        _ => Err(Fault::Broken(violations)),
    }
}

/// The field that an impossible edit is blamed on.
fn blame(field: &'static str) -> impl FnOnce(EditError) -> Fault {
    move |error| Fault::Invalid(field, error.to_string())
}

/// The daemon's surroundings with an instance's certificate.
struct Around<'a> {
    surroundings: &'a dyn ReadContext,
    instance: &'a Instance,
}

impl ReadContext for Around<'_> {
    fn trust_anchors(&self, path: &str) -> Result<PemFile, String> {
        self.surroundings.trust_anchors(path)
    }

    fn client_identity(&self, certificate: &str, key: &str) -> Result<ClientIdentity, ClientIdentityError> {
        self.surroundings.client_identity(certificate, key)
    }

    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        let own = self.instance.certificate.as_ref().map(|certificate| certificate.identity.clone());
        own.or_else(|| self.surroundings.daemon_client_identity())
    }

    fn ecs_address(&self, ecs_id: &str) -> Option<Host> {
        self.surroundings.ecs_address(ecs_id)
    }
}

/// Ids of instances in answers and records are shared, not copied.
fn shared_id(instance: &Instance) -> InstanceId {
    Arc::clone(&instance.id)
}
