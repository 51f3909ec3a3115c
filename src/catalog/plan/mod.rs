//! The calls that change something: one function each, all or nothing.
//!
//! A call looks at the transaction's state, the body and a source of ids and times,
//! and puts its changes into the transaction and says what to answer, or says why
//! not. The order of the checks (docs/vendor-api.md, "Order of the checks") is instance,
//! channel, kind, body, uniqueness, quota.

mod channels;
mod groups;
mod instances;
mod members;
mod operator;

use std::sync::Arc;

use self::channels::{check_sizes, refuse_fixed_weights};
pub use self::operator::{MemberAction, MemberChange, MemberChanged};
use super::body::Body;
use super::entry::{Members, Parts, Resource, Source};
use super::fault::{Fault, PathFamily};
use super::ids::Fresh;
use super::instance::{Instance, KnownFeature};
use super::resources::Resources;
use super::transaction::{Transaction, wants_certificate};
use crate::channel::reader::ReadContext;
use crate::channel::{
    Channel, ChannelKind, ClientIdentity, Host, Member, MemberGroup, MemberStatus, Violation,
};
use crate::probe::{Plan, PlanError};

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
    /// An operator's change of one member, whatever its channel comes from.
    ChangeMember(MemberChange),
}

/// The ids that lead to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPath {
    /// The instance.
    pub instance: String,
    /// The channel.
    pub channel: String,
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
    Feature(Arc<Instance>, KnownFeature),
    /// A member that an operator has changed.
    MemberChanged(MemberChanged),
}

impl Reply {
    /// The channel that the call was about, if it was one and is still there.
    #[must_use]
    pub fn resource(&self) -> Option<&Arc<Resource>> {
        match self {
            Self::Channel(resource)
            | Self::Members(resource, _)
            | Self::HealthCheck(resource)
            | Self::Groups(resource, _)
            | Self::Group(resource, _) => Some(resource),
            Self::Nothing | Self::ProjectChannels(_) | Self::Feature(..) | Self::MemberChanged(_) => None,
        }
    }
}

/// What every call may use.
struct Planner<'p, 'c> {
    transaction: &'p mut Transaction<'c>,
    fresh: &'p mut dyn Fresh,
}

impl Transaction<'_> {
    /// Plans a call on what the calls before it leave.
    ///
    /// # Errors
    /// Why it cannot be done; it has changed nothing then.
    pub fn plan(&mut self, call: &Call, fresh: &mut dyn Fresh) -> Result<Reply, Fault> {
        self.attempt(|transaction| transaction.plan_in_attempt(call, fresh))
    }

    pub(super) fn plan_in_attempt(&mut self, call: &Call, fresh: &mut dyn Fresh) -> Result<Reply, Fault> {
        let reply = dispatch(&mut Planner { transaction: self, fresh }, call)?;
        // What only preparing the probes shows is found here, so that it fails this
        // call and not its whole batch.
        for resource in self.current().channels().filter_map(|change| change.after.as_ref()) {
            let channel = &resource.effective;
            let blamed = if wants_certificate(channel) { "enable_client_ssl" } else { "vpc_health_config" };
            check_tls(channel).map_err(|error| Fault::Invalid(blamed, error.to_string()))?;
        }
        Ok(reply)
    }
}

fn dispatch(planner: &mut Planner<'_, '_>, call: &Call) -> Result<Reply, Fault> {
    match call {
        Call::CreateChannel { instance, body } => channels::create(planner, instance, body),
        Call::UpdateChannel { family, at, body } => channels::update(planner, *family, at, body),
        Call::DeleteChannel { at } => channels::delete(planner, at),
        Call::AddMembers { at, body } => members::add(planner, at, body),
        Call::ReplaceMembers { at, body } => members::replace(planner, at, body),
        Call::DeleteMember { at, member } => members::delete(planner, at, member),
        Call::SwitchMembers { at, status, body } => members::switch(planner, at, *status, body),
        Call::UpdateHealthCheck { at, body } => channels::update_health_check(planner, at, body),
        Call::AddGroups { at, body } => groups::add(planner, at, body),
        Call::UpdateGroup { at, group, body } => groups::update(planner, at, group, body),
        Call::DeleteGroup { at, group } => groups::delete(planner, at, group),
        Call::CreateProjectChannels { body } => instances::create(planner, body),
        Call::UpdateProjectChannels { body } => instances::update(planner, body),
        Call::SyncProjectChannels { body } => instances::sync(planner, body),
        Call::SetFeature { instance, body } => instances::set_feature(planner, instance, body),
        Call::ChangeMember(change) => operator::change(planner, change),
    }
}

/// Whether the TLS of a channel's checks can be had: the certificate that they are to
/// present, and what `[defaults.probe]` says. The rest of a channel of the API cannot fail
/// to be prepared.
pub(super) fn check_tls(channel: &Channel) -> Result<(), PlanError> {
    let is_plain = !wants_certificate(channel) && channel.probe().from_defaults.is_empty();
    match channel.health_check().filter(|_| !is_plain) {
        Some(check) => Plan::new(check, channel.probe()).map(drop),
        None => Ok(()),
    }
}

impl Planner<'_, '_> {
    fn state(&self) -> &Resources {
        self.transaction.state()
    }

    fn instance(&self, id: &str) -> Result<Arc<Instance>, Fault> {
        self.state().instance(id).cloned()
    }

    /// The channel, if the API may write it.
    fn writable(&self, at: &ChannelPath) -> Result<Arc<Resource>, Fault> {
        let resource = self.state().channel(&at.instance, &at.channel)?;
        refuse_file(resource)?;
        Ok(Arc::clone(resource))
    }

    /// The channel, if the API may write it and it has members of its own.
    fn with_own_members(&self, at: &ChannelPath) -> Result<Arc<Resource>, Fault> {
        let resource = self.writable(at)?;
        if resource.configured.kind() == ChannelKind::Reference {
            return Err(Fault::WrongKind(
                "a reference channel has the members of the channels it stands for",
            ));
        }
        Ok(resource)
    }

    /// Puts a channel with other groups and members. Where they cannot be together, the
    /// field `blamed` is to blame.
    fn put_parts(
        &mut self,
        old: &Resource,
        parts: Parts,
        blamed: &'static str,
    ) -> Result<Arc<Resource>, Fault> {
        let (groups, group_tags): (Vec<MemberGroup>, _) = parts.groups.into_iter().unzip();
        let (members, tags): (Vec<Member>, _) = parts.members.into_iter().unzip();
        let is_more = groups.len() > old.groups.len() || members.len() > old.configured.members().len();
        let edited = old.configured.with_parts(groups, members);
        let configured = edited.map_err(|error| Fault::Invalid(blamed, error.to_string()))?;
        refuse_fixed_weights(&configured, old.microservice.as_ref().map(|held| &held.service))?;
        if is_more {
            check_sizes(self, &configured)?;
        }
        let members = Arc::new(Members::new(tags));
        self.transaction.put(Resource { groups: group_tags, members, ..old.reconfigured(configured) })
    }

    /// What the rules of bodies need to know outside the body.
    fn context(&self, instance: &str) -> Result<InstanceContext<'_>, Fault> {
        Ok(InstanceContext { daemon: self.transaction.context(), instance: self.state().instance(instance)? })
    }
}

fn refuse_file(resource: &Resource) -> Result<(), Fault> {
    match &resource.source {
        Source::File(file) => Err(Fault::FromFile(file.display().to_string())),
        Source::Api => Ok(()),
    }
}

/// What one of the readers of [`crate::channel::reader`] read; the rules that
/// were broken become the fault.
fn checked<T>(read: Result<T, Vec<Violation>>) -> Result<T, Fault> {
    read.map_err(Fault::Broken)
}

/// The daemon's context with an instance's certificate.
struct InstanceContext<'a> {
    daemon: &'a dyn ReadContext,
    instance: &'a Instance,
}

impl ReadContext for InstanceContext<'_> {
    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        let own = self.instance.certificate.as_ref().map(|certificate| certificate.identity.clone());
        own.or_else(|| self.daemon.daemon_client_identity())
    }

    fn ecs_address(&self, ecs_id: &str) -> Option<Host> {
        self.daemon.ecs_address(ecs_id)
    }
}
