//! Tells the log what people, files and verdicts change of members and tiers.
//!
//! The registrar calls [`tell`] with what a change set did, control calls [`tell_tier`] when
//! a verdict has another tier serve. A change set of 100,000 members is told in a few lines,
//! see `catalog::ChangeLog`.

use crate::catalog::{ChangeKind, ChangeLog};
use crate::channel::Tier;

/// One line for each change that is named, and one for the others.
pub fn tell(log: &ChangeLog) {
    for change in &log.members {
        let (channel, member, from, to) = (&change.channel, &change.member, &change.from, &change.to);
        let (kind, asked_by) = (change.kind.word(), change.asked_by.to_string());
        let what = match change.kind {
            ChangeKind::Enable | ChangeKind::Disable => format!("is {to}"),
            ChangeKind::Weight => format!("has weight {to}, it was {from}"),
            ChangeKind::Role => format!("is a {to} member"),
            ChangeKind::Group if to.is_empty() => "is in no group any more".to_owned(),
            _ => format!("is in the group {to}"),
        };
        tracing::info!(
            channel,
            member,
            kind,
            from,
            to,
            asked_by,
            "{member} of {channel} {what}; asked for by {asked_by}"
        );
    }
    for change in &log.tiers {
        tell_tier(&change.channel, change.from, change.to, &change.asked_by.to_string());
    }
    for (kind, count) in &log.unnamed {
        let kind = kind.word();
        tracing::info!(kind, count, "{count} more changes of the kind {kind}, not named here");
    }
}

/// One line for another tier. `asked_by` is who asked for what led to it, or `a verdict`.
pub fn tell_tier(channel: &str, from: Tier, to: Tier, asked_by: &str) {
    let (kind, from) = (ChangeKind::from(to), ChangeKind::from(from));
    let what = match (from, kind) {
        (ChangeKind::TierPrimary, ChangeKind::TierStandby) => {
            "standby members take over, no primary member can take traffic"
        }
        (ChangeKind::TierStandby, ChangeKind::TierPrimary) => {
            "standby members hand back, primary members take the traffic again"
        }
        (_, ChangeKind::TierPrimary) => "primary members take the traffic",
        (_, ChangeKind::TierStandby) => "standby members take the traffic",
        (_, ChangeKind::TierFailOpen) => "no member can take traffic, so all enabled ones do (fail_open)",
        _ => "no member takes traffic",
    };
    let (from, to) = (from.word(), kind.word());
    match kind {
        ChangeKind::TierPrimary => tracing::info!(channel, from, to, asked_by, "{channel}: {what}"),
        _ => tracing::warn!(channel, from, to, asked_by, "{channel}: {what}"),
    }
}
