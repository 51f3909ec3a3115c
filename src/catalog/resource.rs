//! One channel as the API knows it: the channel, and the ids and times of its
//! parts.

use std::sync::{Arc, OnceLock};

use super::ids::{Id, InstanceId, UnixSeconds};
use super::microservice::Microservice;
use crate::catalog::Source;
use crate::channel::{Channel, ChannelKind, Member, MemberGroup};

/// A channel with its ids. Never changed in place: a write makes a new one.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Its id.
    pub id: Id,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// Where it comes from.
    pub source: Source,
    /// When it was made.
    pub created: UnixSeconds,
    /// What the user asked for.
    pub configured: Arc<Channel>,
    /// What is balanced and probed: the same, but for a reference channel, whose
    /// members are those of its targets, for client certificates, which come
    /// from the instance, and for names outside the first instance.
    pub effective: Arc<Channel>,
    /// `microservice_info`.
    pub microservice: Option<Arc<Microservice>>,
    /// Of the groups, in the order of `configured.groups()`.
    pub groups: Vec<GroupTag>,
    /// Of the members, in the order of `configured.members()`.
    pub members: Arc<Members>,
    /// Of the health check, if there is one.
    pub check: Option<Tag>,
}

/// What the API adds to a part of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// When it was added.
    pub created: UnixSeconds,
    /// Its id.
    pub id: Id,
}

/// What the API adds to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupTag {
    /// Id and time of making.
    pub tag: Tag,
    /// When it was last changed.
    pub updated: UnixSeconds,
}

/// What the API adds to the members, and the orders they are shown in.
#[derive(Debug, Default)]
pub struct Members {
    tags: Vec<Tag>,
    /// Positions by id, made when a member is first looked up.
    by_id: OnceLock<Vec<u32>>,
    /// Positions as lists show them, made when one is first asked for.
    listed: OnceLock<Vec<u32>>,
}

impl Members {
    /// The tags of members in the channel's order.
    #[must_use]
    pub fn new(tags: Vec<Tag>) -> Self {
        Self { tags, by_id: OnceLock::new(), listed: OnceLock::new() }
    }

    /// The tags, in the channel's order.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The position of the member with that id.
    #[must_use]
    pub fn position(&self, id: Id) -> Option<usize> {
        let by_id = self.by_id.get_or_init(|| self.positions_by(|tag| tag.id));
        let found = by_id.binary_search_by_key(&Some(id), |place| Some(self.tags.get(*place as usize)?.id));
        by_id.get(found.ok()?).map(|place| *place as usize)
    }

    /// All positions, newest member first, then by id (docs/vendor-api.md, "Lists and filters").
    pub fn listed(&self) -> impl Iterator<Item = usize> + '_ {
        let listed =
            self.listed.get_or_init(|| self.positions_by(|tag| (std::cmp::Reverse(tag.created), tag.id)));
        listed.iter().map(|place| *place as usize)
    }

    fn positions_by<K: Ord>(&self, key: impl Fn(&Tag) -> K) -> Vec<u32> {
        let mut pairs: Vec<(K, u32)> = (0..).zip(&self.tags).map(|(place, tag)| (key(tag), place)).collect();
        pairs.sort_unstable();
        pairs.into_iter().map(|(_, place)| place).collect()
    }
}

impl Resource {
    /// The members as written, each with its tag.
    pub fn members(&self) -> impl Iterator<Item = (&Member, Tag)> {
        self.configured.members().iter().zip(self.members.tags().iter().copied())
    }

    /// The groups, each with its tag.
    pub fn groups(&self) -> impl Iterator<Item = (&MemberGroup, GroupTag)> {
        self.configured.groups().iter().zip(self.groups.iter().copied())
    }

    /// The group of that id.
    #[must_use]
    pub fn group_position(&self, id: Id) -> Option<usize> {
        self.groups.iter().position(|group| group.tag.id == id)
    }

    /// The id of the group of that name.
    #[must_use]
    pub fn group_id(&self, name: &str) -> Option<Id> {
        self.groups().find(|(group, _)| group.name() == name).map(|(_, tag)| tag.tag.id)
    }

    /// The channels that a reference channel's groups stand for; none for other
    /// kinds, whose `reference_vpc_channel_id` has no effect.
    pub fn targets(&self) -> impl Iterator<Item = Id> + '_ {
        let is_reference = self.configured.kind() == ChannelKind::Reference;
        let groups = self.configured.groups().iter().filter(move |_| is_reference);
        groups.filter_map(|group| Id::parse(group.reference_vpc_channel_id()))
    }
}
