//! Changes of a checked channel that keep its rules.
//!
//! The management API changes parts of a channel: it adds members, switches them
//! off, renames a group. Every change gives a new channel, or the rule that it
//! would break: an invalid channel still cannot exist.

use std::collections::HashSet;
use std::sync::Arc;

use super::identity::{Duplicates, MemberIdentity};
use super::model::{Channel, HealthCheck, Member, MemberAddress, MemberGroup, MemberWeight, ProbeOptions};
use super::words::MemberStatus;

/// The rule that an edit would break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Two members would have one identity.
    #[error("two members would be {0}")]
    SameMember(MemberAddress),
    /// Two groups would have one name.
    #[error("two groups would be named \"{0}\"")]
    SameGroup(String),
    /// A member would be in a group that the channel does not have.
    #[error("no group would be named \"{0}\"")]
    NoGroup(String),
}

impl Member {
    /// The same member, switched on or off.
    pub fn with_status(self, status: MemberStatus) -> Self {
        Self { status, ..self }
    }

    /// The same member with another `weight` of its own.
    pub fn with_weight(self, weight: Option<u16>) -> Self {
        Self { weight: weight.into(), ..self }
    }

    /// The same member in another group.
    pub fn with_group(self, group: Option<Arc<str>>) -> Self {
        Self { group, ..self }
    }

    /// The name of its group, shared.
    pub fn shared_group(&self) -> Option<&Arc<str>> {
        self.group.as_ref()
    }
}

impl Channel {
    /// The same channel with other groups and members.
    ///
    /// # Errors
    /// Two groups of one name, two members of one identity or one address in a
    /// group, or a member of a group that is not there.
    pub fn with_parts(&self, groups: Vec<MemberGroup>, members: Vec<Member>) -> Result<Self, EditError> {
        let mut names = HashSet::with_capacity(groups.len());
        for group in &groups {
            if !names.insert(group.name.as_str()) {
                return Err(EditError::SameGroup(group.name.clone()));
            }
        }
        for member in &members {
            if let Some(name) = member.group().filter(|name| !names.contains(name)) {
                return Err(EditError::NoGroup(name.to_owned()));
            }
        }
        let mut duplicates = Duplicates::new(self.kind, self.port, &groups, members.len());
        for member in &members {
            if let Some((identity, ())) = duplicates.find(member, |_| ()) {
                let address = MemberAddress { host: member.host.clone(), port: identity.port() };
                return Err(EditError::SameMember(address));
            }
        }
        Ok(Self { groups, members, ..self.without_parts() })
    }

    /// The same channel with another health check, or none.
    pub fn with_health_check(self, health_check: Option<HealthCheck>) -> Self {
        Self { health_check, ..self }
    }

    /// The same channel under another name. Not checked against the documented
    /// form: what is shown of several instances is told apart by a prefix that
    /// no user can write.
    pub fn with_name(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// The same channel with other options of its probes.
    pub fn with_probe(self, probe: ProbeOptions) -> Self {
        Self { probe, ..self }
    }

    /// What a reference channel balances over: for each of its groups the
    /// members of the channel that the group stands for, with the ports,
    /// weights, roles and switches they have there. A group's own weight rules
    /// over theirs. Without a check of its own, it uses the one that its
    /// targets have in common. `target` finds the channel of a group.
    pub fn standing_for<'t>(&self, target: impl Fn(&MemberGroup) -> Option<&'t Self>) -> Self {
        let mut members = Vec::new();
        let mut seen = HashSet::new();
        let mut common_check: Option<Option<&HealthCheck>> = None;
        for group in &self.groups {
            let Some(target) = target(group) else { continue };
            let name: Arc<str> = group.name.as_str().into();
            for member in &target.members {
                let port = target.traffic_port(member);
                let stand_in = Member {
                    port: Some(port),
                    // Who is drained there by an operator is drained here.
                    weight: match member.weight {
                        MemberWeight::Fixed(0) => MemberWeight::Fixed(0),
                        _ => MemberWeight::Own(target.effective_weight(member)),
                    },
                    group: Some(Arc::clone(&name)),
                    ..member.clone()
                };
                // One address of two groups of the target is one address here.
                if seen.insert(MemberIdentity::by_host(&stand_in, port.get())) {
                    members.push(stand_in);
                }
            }
            let check = target.health_check.as_ref();
            common_check = Some(match common_check {
                None => check,
                Some(before) if before == check => check,
                Some(_) => None,
            });
        }
        let inherited = common_check.flatten().cloned();
        let health_check = self.health_check.clone().or(inherited);
        Self { groups: self.groups.clone(), members, health_check, ..self.without_parts() }
    }

    /// A copy of everything but groups and members.
    fn without_parts(&self) -> Self {
        Self {
            name: self.name.clone(),
            port: self.port,
            strategy: self.strategy,
            member_type: self.member_type,
            kind: self.kind,
            groups: Vec::new(),
            members: Vec::new(),
            health_check: self.health_check.clone(),
            probe: self.probe.clone(),
            balance: self.balance,
        }
    }
}

#[cfg(test)]
mod tests;
