//! Channels that come from files, as the API shows them.
//!
//! They belong to the first instance. Their ids depend on names and addresses
//! alone, so that they are the same after every restart and reload.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::delta::{Cause, ChannelEdit, Delta};
use super::ids::{Id, InstanceId, UnixSeconds};
use super::resource::{GroupTag, Members, Resource, Tag};
use super::state::Registry;
use crate::catalog::Source;
use crate::channel::Channel;

/// A channel from a file has the name of one that the API made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the API has a channel named \"{name}\" already; rename this one, or delete that one")]
pub struct NameClash {
    /// The name.
    pub name: String,
}

impl Registry {
    /// The delta after which exactly these channels come from files. Channels
    /// that are the same keep their times, and do not appear in it. Apply it
    /// after the one that makes the first instance.
    ///
    /// # Errors
    /// Names that API channels of the first instance have; all of them.
    pub fn with_files<'f>(
        &self,
        files: impl Iterator<Item = (&'f Arc<Channel>, &'f Path)>,
        now: UnixSeconds,
    ) -> Result<Delta, Vec<NameClash>> {
        let Some(instance) = self.first_instance().cloned() else { return Ok(Delta::default()) };
        let mut before: HashMap<Id, &Arc<Resource>> = self
            .channels(Some(&instance))
            .filter(|resource| resource.source != Source::Api)
            .map(|resource| (resource.id, resource))
            .collect();
        let mut edits = Vec::new();
        let mut clashes = Vec::new();
        for (channel, file) in files {
            let name = channel.name();
            if self.by_name(&instance, name).is_some_and(|held| held.source == Source::Api) {
                clashes.push(NameClash { name: name.to_owned() });
                continue;
            }
            let old = before.remove(&Id::of_parts(&["file-channel", name]));
            let is_same = |held: &&Arc<Resource>| {
                held.configured == *channel && held.source == Source::File(file.to_path_buf())
            };
            if old.is_some_and(|held| is_same(&held)) {
                continue;
            }
            let after = Some(Arc::new(resource_of(&instance, channel, file, old.map(|held| &**held), now)));
            edits.push(ChannelEdit { before: old.cloned(), after, cause: Cause::Written });
        }
        let gone = before.into_values();
        edits.extend(gone.map(|held| ChannelEdit {
            before: Some(Arc::clone(held)),
            after: None,
            cause: Cause::Written,
        }));
        if clashes.is_empty() { Ok(Delta { channels: edits, instances: Vec::new() }) } else { Err(clashes) }
    }
}

fn resource_of(
    instance: &InstanceId,
    channel: &Arc<Channel>,
    file: &Path,
    old: Option<&Resource>,
    now: UnixSeconds,
) -> Resource {
    let name = channel.name();
    // What was there keeps the time it was first seen.
    let seen: HashMap<Id, UnixSeconds> = old
        .into_iter()
        .flat_map(|old| {
            let groups = old.groups.iter().map(|group| group.tag);
            old.members.tags().iter().copied().chain(groups).chain(old.check)
        })
        .map(|tag| (tag.id, tag.created))
        .collect();
    let tag = |parts: &[&str]| {
        let id = Id::of_parts(parts);
        Tag { created: seen.get(&id).copied().unwrap_or(now), id }
    };
    let members = channel.members().iter().map(|member| {
        let identity = channel.host_identity(member);
        tag(&["file-member", name, identity.group(), &identity.address()])
    });
    let groups = channel.groups().iter().map(|group| {
        let tag = tag(&["file-group", name, group.name()]);
        let before = old.and_then(|old| old.groups().find(|(there, _)| *there == group));
        GroupTag { tag, updated: before.map_or(now, |(_, tag)| tag.updated) }
    });
    Resource {
        id: Id::of_parts(&["file-channel", name]),
        instance: Arc::clone(instance),
        source: Source::File(file.to_path_buf()),
        created: old.map_or(now, |old| old.created),
        effective: Arc::clone(channel),
        configured: Arc::clone(channel),
        microservice: None,
        groups: groups.collect(),
        members: Arc::new(Members::new(members.collect())),
        check: channel.health_check().map(|_| tag(&["file-check", name])),
    }
}
