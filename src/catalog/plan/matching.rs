//! Which part of a new list is which part of the old one, so that it keeps its
//! id: groups by name, members by address (docs/vendor-api.md, "Update a channel").

use std::collections::HashMap;
use std::sync::Arc;

use super::super::ids::{Fresh, UnixSeconds};
use super::super::resource::{GroupTag, Resource, Tag};
use crate::channel::{Channel, Member, MemberGroup, MemberIdentity};

/// The members of a channel that have not been recognised in a new list yet.
pub(super) struct OldMembers<'r> {
    old: &'r Resource,
    exact: HashMap<MemberIdentity, usize>,
    /// Members that inherit their port: they stay the same when it changes.
    inheriting: HashMap<MemberIdentity, usize>,
}

impl<'r> OldMembers<'r> {
    pub(super) fn of(old: &'r Resource) -> Self {
        let channel = &old.configured;
        let members = || channel.members().iter().enumerate();
        let exact = members().map(|(place, member)| (channel.identity(member), place)).collect();
        let inheriting = members()
            .filter_map(|(place, member)| Some((channel.inherited_identity(member)?, place)))
            .collect();
        Self { old, exact, inheriting }
    }

    /// The position of the old member that a member of the new channel is.
    pub(super) fn take(&mut self, channel: &Channel, member: &Member) -> Option<usize> {
        let inherited = channel.inherited_identity(member);
        let place = self
            .exact
            .get(&channel.identity(member))
            .or_else(|| inherited.as_ref().and_then(|identity| self.inheriting.get(identity)))
            .copied()?;
        // It can be recognised only once.
        let old = self.old.configured.members().get(place)?;
        self.exact.remove(&self.old.configured.identity(old));
        if let Some(identity) = self.old.configured.inherited_identity(old) {
            self.inheriting.remove(&identity);
        }
        Some(place)
    }

    /// Tags for a whole new list: old ones where a member is recognised.
    pub(super) fn tags(mut self, channel: &Channel, fresh: &mut dyn Fresh) -> Vec<Tag> {
        let members = channel.members().iter();
        let tags = members.map(|member| {
            let kept =
                self.take(channel, member).and_then(|place| self.old.members.tags().get(place).copied());
            kept.unwrap_or_else(|| new_tag(fresh))
        });
        tags.collect()
    }
}

/// Tags for a whole new list of members.
pub(super) fn new_tags(channel: &Channel, fresh: &mut dyn Fresh) -> Vec<Tag> {
    channel.members().iter().map(|_| new_tag(fresh)).collect()
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

/// The group's name as members hold it, shared with those that have it already.
pub(super) fn shared_name(name: &str) -> Arc<str> {
    name.into()
}
