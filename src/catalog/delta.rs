//! What one call changes: everything it replaces, before and after.
//!
//! A delta can be applied, turned round, made durable and put in effect; it is
//! all or nothing because it is one value.

use std::sync::Arc;

use super::ids::{Id, InstanceId};
use super::instance::Instance;
use super::resource::Resource;
use crate::catalog::Source;

/// Everything that one call replaces. Each channel stands there at most once.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// Channels made, changed and removed.
    pub channels: Vec<ChannelEdit>,
    /// Instances made and changed.
    pub instances: Vec<InstanceEdit>,
}

/// One channel, before and after; never none on both sides.
#[derive(Debug, Clone)]
pub struct ChannelEdit {
    /// What was there.
    pub before: Option<Arc<Resource>>,
    /// What is there now.
    pub after: Option<Arc<Resource>>,
    /// Whether the user changed it, or it only follows another channel's change.
    pub cause: Cause,
}

/// Why a channel is part of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The call is about it: its record changes.
    Written,
    /// A target or the instance changed: only what is in effect changes.
    Followed,
}

/// One instance, before and after.
#[derive(Debug, Clone)]
pub struct InstanceEdit {
    /// What was there.
    pub before: Option<Arc<Instance>>,
    /// What is there now.
    pub after: Option<Arc<Instance>>,
}

/// What the store must hold once a delta is durable: one record per key.
#[derive(Debug, Clone)]
pub enum RecordEdit<'d> {
    /// The record of a channel, to be encoded with `record`.
    PutChannel(&'d Resource),
    /// No record of this channel any more.
    RemoveChannel(Id),
    /// The record of an instance.
    PutInstance(&'d Instance),
    /// No record of this instance any more.
    RemoveInstance(&'d InstanceId),
}

impl Delta {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.instances.is_empty()
    }

    /// The delta that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let channels = self.channels.iter().rev().map(|edit| ChannelEdit {
            before: edit.after.clone(),
            after: edit.before.clone(),
            cause: edit.cause,
        });
        let instances = self
            .instances
            .iter()
            .rev()
            .map(|edit| InstanceEdit { before: edit.after.clone(), after: edit.before.clone() });
        Self { channels: channels.collect(), instances: instances.collect() }
    }

    /// What must be made durable. Channels from files have no records.
    pub fn records(&self) -> impl Iterator<Item = RecordEdit<'_>> {
        let channels = self.channels.iter().filter(|edit| edit.cause == Cause::Written).filter_map(|edit| {
            match (&edit.before, &edit.after) {
                (_, Some(after)) => {
                    (after.source == Source::Api).then_some(RecordEdit::PutChannel(after.as_ref()))
                }
                (Some(before), None) => {
                    (before.source == Source::Api).then_some(RecordEdit::RemoveChannel(before.id))
                }
                (None, None) => None,
            }
        });
        let instances = self.instances.iter().filter_map(|edit| match (&edit.before, &edit.after) {
            (_, Some(after)) => Some(RecordEdit::PutInstance(after.as_ref())),
            (Some(before), None) => Some(RecordEdit::RemoveInstance(&before.id)),
            (None, None) => None,
        });
        instances.chain(channels)
    }
}
