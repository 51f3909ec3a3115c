//! One channel of the catalog: what was configured with the ids of its parts
//! ([`Resource`]), what becomes of it ([`Change`]), and how it runs ([`Entry`]).
//!
//! `plan` makes resources, and `writer` the entries that go with them. Neither is
//! ever changed in place.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::ids::{Fresh, Id, InstanceId, UnixSeconds};
use super::microservice::Microservice;
use super::requester::Requesters;
use crate::balance::{Balancer, MemberId};
use crate::channel::{Channel, ChannelKind, Health, Member, MemberAddress, MemberGroup, MemberIdentity};
use crate::health::schedule::OffsetNumber;

/// Where a channel comes from; only its own source may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A configuration file.
    File(PathBuf),
    /// The management API; kept in the store.
    Api,
}

/// A channel as its source describes it, with the ids and times of its parts.
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
    /// from the instance, for names outside the first instance, for what
    /// `[defaults.probe]` adds to a channel of the API, and for overrides of members of a
    /// channel of files.
    pub effective: Arc<Channel>,
    /// `microservice_info`.
    pub microservice: Option<Arc<Microservice>>,
    /// Of the groups, in the order of `configured.groups()`.
    pub groups: Vec<GroupTag>,
    /// Of the members, in the order of `configured.members()`. Empty for channels of
    /// files in a daemon without an API, where no client can ask for ids.
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
    /// The same resource with another channel. What is in effect is computed when it
    /// is put into a transaction.
    pub(super) fn reconfigured(&self, configured: Channel) -> Self {
        let configured = Arc::new(configured);
        Self { effective: Arc::clone(&configured), configured, ..self.clone() }
    }

    /// What answers show of its members: as configured, but for what operators have said of
    /// members of a file's channel.
    #[must_use]
    pub fn shown(&self) -> &Channel {
        match self.source {
            Source::File(_) => &self.effective,
            Source::Api => &self.configured,
        }
    }

    /// A copy of the groups and members, to be changed.
    pub(super) fn parts(&self) -> Parts {
        Parts {
            groups: self.groups().map(|(group, tag)| (group.clone(), tag)).collect(),
            members: self.members().map(|(member, tag)| (member.clone(), tag)).collect(),
        }
    }

    /// The members as configured, each with its tag.
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

/// One channel, before and after; none where there is none.
#[derive(Debug, Clone)]
pub struct Change {
    /// What was there.
    pub before: Option<Arc<Resource>>,
    /// What is there now.
    pub after: Option<Arc<Resource>>,
    /// Whether its record changes.
    pub cause: Cause,
    /// Who asked for it.
    pub asked_by: Requesters,
}

/// Why something is part of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It follows a target, an instance or a record: the store has it already.
    Followed,
    /// The change is about it: its record changes.
    Written,
}

impl Change {
    /// The name that the channel is known by, or was.
    pub(super) fn name(&self) -> &str {
        self.after.as_ref().or(self.before.as_ref()).map_or("", |resource| resource.effective.name())
    }

    pub(super) fn id(&self) -> Option<Id> {
        self.before.as_ref().or(self.after.as_ref()).map(|resource| resource.id)
    }

    /// Whether every index finds the channel where it was.
    pub(super) fn keeps_place(&self) -> bool {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return false };
        before.instance == after.instance
            && before.created == after.created
            && (before.source == Source::Api) == (after.source == Source::Api)
            && before.configured.name() == after.configured.name()
            && before.targets().eq(after.targets())
    }
}

/// The groups and members of a channel, each with its tag.
pub(super) struct Parts {
    pub(super) groups: Vec<(MemberGroup, GroupTag)>,
    pub(super) members: Vec<(Member, Tag)>,
}

/// The members of a channel that have not been recognised in a new list yet, by
/// address (docs/vendor-api.md, "Update a channel").
pub(super) struct OldMembers<'r> {
    old: &'r Resource,
    /// Those that inherit their port stand there twice: they stay the same when it
    /// changes.
    places: HashMap<MemberIdentity, usize>,
}

impl<'r> OldMembers<'r> {
    pub(super) fn of(old: &'r Resource) -> Self {
        let members = old.configured.members().iter().enumerate();
        let places = members
            .flat_map(|(place, member)| identities(&old.configured, member).map(move |id| (id, place)));
        Self { old, places: places.collect() }
    }

    /// The position of the old member that a member of the new channel is. It can be
    /// recognised only once.
    pub(super) fn take(&mut self, channel: &Channel, member: &Member) -> Option<usize> {
        let place = identities(channel, member).find_map(|identity| self.places.get(&identity).copied())?;
        let old = self.old.configured.members().get(place)?;
        for identity in identities(&self.old.configured, old) {
            self.places.remove(&identity);
        }
        Some(place)
    }
}

/// A member's identity, and the one without its port if it inherits that.
fn identities(channel: &Channel, member: &Member) -> impl Iterator<Item = MemberIdentity> + use<> {
    [Some(channel.identity(member)), channel.inherited_identity(member)].into_iter().flatten()
}

/// Tags for a new list of members: one that the old channel had keeps its id.
pub(super) fn member_tags(old: Option<&Resource>, channel: &Channel, fresh: &mut dyn Fresh) -> Vec<Tag> {
    let mut known = old.map(OldMembers::of);
    let tags = channel.members().iter().map(|member| {
        let kept = known.as_mut().and_then(|known| known.take(channel, member));
        let tag = kept.zip(old).and_then(|(place, old)| old.members.tags().get(place).copied());
        tag.unwrap_or_else(|| new_tag(fresh))
    });
    tags.collect()
}

pub(super) fn new_tag(fresh: &mut dyn Fresh) -> Tag {
    Tag { created: fresh.now(), id: fresh.id() }
}

/// Tags for a new list of groups: a name that was there keeps its id.
pub(super) fn group_tags(
    old: Option<&Resource>,
    groups: &[MemberGroup],
    fresh: &mut dyn Fresh,
) -> Vec<GroupTag> {
    let known: HashMap<&str, (&MemberGroup, GroupTag)> =
        old.into_iter().flat_map(Resource::groups).map(|(group, tag)| (group.name(), (group, tag))).collect();
    let tags = groups.iter().map(|group| match known.get(group.name()) {
        Some((before, tag)) => GroupTag { updated: updated(before, group, *tag, fresh.now()), ..*tag },
        None => GroupTag { tag: new_tag(fresh), updated: fresh.now() },
    });
    tags.collect()
}

/// When a group was last changed: saying the same again changes nothing.
pub(super) fn updated(
    before: &MemberGroup,
    after: &MemberGroup,
    tag: GroupTag,
    now: UnixSeconds,
) -> UnixSeconds {
    if before == after { tag.updated } else { now }
}

/// The place of a channel's counters in every driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelSlot(pub u32);

/// Where a member's state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberSlot {
    /// Which driver.
    pub driver: u16,
    /// Which slot of that driver.
    pub index: u32,
    /// Which of the members that used the slot one after another.
    pub generation: u32,
}

/// What the catalog keeps of a member that is in effect.
#[derive(Debug, Clone, Copy)]
pub struct MemberRow {
    /// Where its state is.
    pub slot: MemberSlot,
    /// Its offset in the interval of the check; none when it is not probed.
    pub(super) offset: Option<OffsetNumber>,
    /// What the balancer calls it; none when the balancer refused the members, which
    /// was logged.
    pub balancer_id: Option<MemberId>,
}

/// A channel's balancer: a pick hands out `host:port`.
pub type ChannelBalancer = Balancer<MemberAddress>;

/// A channel in effect.
///
/// Ids belong to the configured members, rows to the effective ones. Both lists
/// are one and the same but for reference channels, which have no members of
/// their own.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it was made from.
    pub resource: Arc<Resource>,
    /// Where its counters are.
    pub slot: ChannelSlot,
    /// In the order of the members in effect; see [`Entry::members`].
    pub rows: Arc<[MemberRow]>,
    /// Picks among its members; shared by all entries the channel has over time,
    /// as long as its strategy stays.
    pub balancer: ChannelBalancer,
}

impl Entry {
    /// What is balanced and probed.
    #[must_use]
    pub fn channel(&self) -> &Arc<Channel> {
        &self.resource.effective
    }

    /// The members in effect.
    pub fn members(&self) -> impl Iterator<Item = (&Member, &MemberRow)> {
        self.channel().members().iter().zip(self.rows.iter())
    }

    /// The member that the balancer calls so.
    #[must_use]
    pub fn member_of(&self, id: MemberId) -> Option<&Member> {
        self.members().find(|(_, row)| row.balancer_id == Some(id)).map(|(member, _)| member)
    }

    /// Tells the balancer of a verdict on the member at a position.
    pub fn set_health(&self, position: usize, health: Health) {
        if let Some(id) = self.rows.get(position).and_then(|row| row.balancer_id) {
            // A member that the balancer has let go of takes no picks anyway.
            let _ = self.balancer.set_health(id, health);
        }
    }
}
