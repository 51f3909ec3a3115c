//! Lists: filters, order and paging (docs/vendor-api.md, "Lists and filters").

use std::sync::Arc;

use super::entry::Resource;
use super::fault::Fault;
use super::ids::Id;
use super::instance::{Feature, FeatureName, Instance, KnownFeature};
use super::resources::Resources;
use crate::channel::{ChannelKind, Host, Member};

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// How many matches to leave out.
    pub offset: usize,
    /// How many to return at most, 1 to 500.
    pub limit: usize,
}

impl Paging {
    /// Most items of one page.
    pub const MOST: usize = 500;
    /// Items of a page when the client does not say.
    pub const DEFAULT: usize = 20;

    /// Reads what a client asked for: a negative offset is 0, a limit below 1
    /// is 20, one above 500 is 500.
    #[must_use]
    pub fn new(offset: i64, limit: i64) -> Self {
        let limit = match usize::try_from(limit) {
            Ok(0) | Err(_) => Self::DEFAULT,
            Ok(limit) => limit.min(Self::MOST),
        };
        Self { offset: usize::try_from(offset).unwrap_or(0), limit }
    }
}

impl Default for Paging {
    fn default() -> Self {
        Self { offset: 0, limit: Self::DEFAULT }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// How many match.
    pub total: usize,
    /// The ones on this page.
    pub items: Vec<T>,
}

impl<T> Page<T> {
    fn of(matches: impl Iterator<Item = T>, paging: Paging) -> Self {
        let mut total = 0;
        let mut items = Vec::new();
        for item in matches {
            if total >= paging.offset && items.len() < paging.limit {
                items.push(item);
            }
            total += 1;
        }
        Self { total, items }
    }
}

/// A text to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextFilter {
    /// Anywhere in the text.
    Part(String),
    /// The whole text.
    Whole(String),
}

impl TextFilter {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Part(part) => text.contains(part.as_str()),
            Self::Whole(whole) => text == whole,
        }
    }
}

/// Filters of the lists of channels; all that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelFilter {
    /// `id`.
    pub id: Option<String>,
    /// `name`.
    pub name: Option<TextFilter>,
    /// `member_host`.
    pub member_host: Option<String>,
    /// `member_port`, the resolved one.
    pub member_port: Option<u16>,
    /// `member_group_name`.
    pub group_name: Option<TextFilter>,
    /// `member_group_id`.
    pub group_id: Option<String>,
    /// `vpc_channel_type`.
    pub kind: Option<ChannelKind>,
}

impl ChannelFilter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn matches(&self, resource: &Resource) -> bool {
        let channel = &resource.configured;
        let is_id = |wanted: &String, id: Id| Id::parse(wanted) == Some(id);
        self.id.as_ref().is_none_or(|wanted| is_id(wanted, resource.id))
            && self.name.as_ref().is_none_or(|name| name.matches(channel.name()))
            && self.kind.is_none_or(|kind| kind == channel.kind())
            && self
                .group_id
                .as_ref()
                .is_none_or(|wanted| resource.groups.iter().any(|group| is_id(wanted, group.tag.id)))
            && self
                .group_name
                .as_ref()
                .is_none_or(|name| channel.groups().iter().any(|group| name.matches(group.name())))
            && self.has_member(resource)
    }

    /// Host and port may be those of two members: each filter asks for any.
    fn has_member(&self, resource: &Resource) -> bool {
        let channel = &resource.configured;
        self.member_host
            .as_ref()
            .is_none_or(|wanted| channel.members().iter().any(|member| has_host(member, wanted)))
            && self.member_port.is_none_or(|wanted| {
                channel.members().iter().any(|member| channel.traffic_port(member).get() == wanted)
            })
    }
}

/// Whether a member is at a host, however the address is written.
fn has_host(member: &Member, wanted: &str) -> bool {
    match member.host() {
        Host::Name(name) => name.eq_ignore_ascii_case(wanted),
        Host::Ip(address) => wanted.trim_matches(['[', ']']).parse() == Ok(*address),
    }
}

/// Filters of the list of members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// `name`: the cloud server's, for `ip` members the host.
    pub name: Option<TextFilter>,
    /// `member_group_name`.
    pub group_name: Option<TextFilter>,
    /// `member_group_id`.
    pub group_id: Option<String>,
}

impl MemberFilter {
    fn matches(&self, resource: &Resource, member: &Member) -> bool {
        let group = || member.group().unwrap_or_default();
        self.name.as_ref().is_none_or(|name| match member.ecs() {
            Some(ecs) => name.matches(&ecs.name),
            None => name.matches(&member.host().to_string()),
        }) && self.group_name.as_ref().is_none_or(|name| name.matches(group()))
            && self.group_id.as_ref().is_none_or(|wanted| {
                let id = Id::parse(wanted);
                id.is_some() && id == resource.group_id(group())
            })
    }
}

/// Filters of the list of instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// `instance_id`.
    pub id: Option<String>,
    /// `instance_name`.
    pub name: Option<String>,
    /// `status`; every instance here is `Running`.
    pub status: Option<String>,
}

impl Resources {
    /// Lists the channels of an instance, or of the project.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn list_channels(
        &self,
        instance: Option<&str>,
        filter: &ChannelFilter,
        paging: Paging,
    ) -> Result<Page<Arc<Resource>>, Fault> {
        if let Some(instance) = instance {
            self.instance(instance)?;
        }
        let channels = self.channels(instance);
        if filter.is_empty() {
            // The common case, and the one that must not look at every channel.
            let items = channels.skip(paging.offset).take(paging.limit).cloned().collect();
            return Ok(Page { total: self.count(instance), items });
        }
        Ok(Page::of(channels.filter(|resource| filter.matches(resource)).cloned(), paging))
    }

    /// All instances that match.
    #[must_use]
    pub fn list_instances(&self, filter: &InstanceFilter, paging: Paging) -> Page<Arc<Instance>> {
        let matches = self.instances().filter(|instance| {
            filter.id.as_ref().is_none_or(|id| **id == *instance.id)
                && filter.name.as_ref().is_none_or(|name| instance.name.contains(name.as_str()))
                && filter.status.as_ref().is_none_or(|status| status.eq_ignore_ascii_case("running"))
        });
        Page::of(matches.cloned(), paging)
    }
}

impl Resource {
    /// Lists members, by their positions.
    #[must_use]
    pub fn list_members(&self, filter: &MemberFilter, paging: Paging) -> Page<usize> {
        if *filter == MemberFilter::default() {
            let items = self.members.listed().skip(paging.offset).take(paging.limit).collect();
            return Page { total: self.members.tags().len(), items };
        }
        let members = self.configured.members();
        let is_match = |place: &usize| members.get(*place).is_some_and(|member| filter.matches(self, member));
        Page::of(self.members.listed().filter(is_match), paging)
    }

    /// Lists groups, by their positions, newest first, then by id.
    #[must_use]
    pub fn list_groups(&self, name: Option<&TextFilter>, paging: Paging) -> Page<usize> {
        let mut listed: Vec<usize> = (0..self.groups.len()).collect();
        listed.sort_by_key(|place| {
            self.groups.get(*place).map(|group| (std::cmp::Reverse(group.tag.created), group.tag.id))
        });
        let groups = self.configured.groups();
        let is_match = |place: &usize| {
            name.is_none_or(|name| groups.get(*place).is_some_and(|group| name.matches(group.name())))
        };
        Page::of(listed.into_iter().filter(is_match), paging)
    }
}

impl Instance {
    /// The features that have a setting, with it.
    #[must_use]
    pub fn list_features(&self, paging: Paging) -> Page<(KnownFeature, &Feature)> {
        Page::of(self.settings(), paging)
    }

    /// The features that can be used here.
    #[must_use]
    pub fn list_supported_features(&self, paging: Paging) -> Page<FeatureName> {
        Page::of(self.supported_features(), paging)
    }
}
