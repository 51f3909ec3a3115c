//! A channel's balancer: made with the channel, fed with its members.
//!
//! Called by `seating`. A balancer lives as long as the channel keeps its
//! strategy and options, so open picks and the phase of the rotation survive
//! every other change.

use super::snapshot::{ChannelBalancer, Entry};
use crate::balance::{Member as Balanced, MemberId, Options, UpdateError};
use crate::channel::{Channel, Health, Member};

/// Which balancer a channel has from now on.
pub(super) enum Balancing {
    /// Its own, to be given the new members.
    GoOn(ChannelBalancer),
    /// A new one, which has them already.
    New(ChannelBalancer),
}

impl Balancing {
    /// Prepares what a channel needs. Changes nothing that is in effect.
    ///
    /// # Errors
    /// The members cannot be balanced.
    pub(super) fn prepare(channel: &Channel, old: Option<&Entry>) -> Result<Self, UpdateError> {
        let options = Options { fail_open: channel.balance().fail_open, ..Options::default() };
        if let Some(old) = old
            && old.balancer.strategy() == channel.strategy()
            && *old.balancer.options() == options
        {
            return Ok(Self::GoOn(old.balancer.clone()));
        }
        let balancer = ChannelBalancer::new(channel.strategy(), options, members(channel))?;
        if let Some(old) = old {
            carry_health(&balancer, &old.balancer);
        }
        Ok(Self::New(balancer))
    }

    /// Puts it into effect: the balancer, and what it calls the channel's members.
    pub(super) fn settle(self, channel: &Channel) -> (ChannelBalancer, Vec<Option<MemberId>>) {
        let balancer = match self {
            Self::New(balancer) => balancer,
            Self::GoOn(balancer) => {
                // The channel's rules allow one member per address and group, and
                // a balancer takes more members than a file can name.
                if let Err(error) = balancer.update(members(channel)) {
                    tracing::error!(channel = channel.name(), %error, "the balancer keeps its old members");
                }
                balancer
            }
        };
        let ids = channel.members().iter().map(|member| balancer.id_of(&identity(channel, member))).collect();
        (balancer, ids)
    }
}

/// Tells a balancer of a verdict. A member that has left is nobody's news.
pub fn set_health(entry: &Entry, position: usize, health: Health) {
    if let Some(id) = entry.balancer_ids.get(position).copied().flatten() {
        let _ = entry.balancer.set_health(id, health);
    }
}

fn members(channel: &Channel) -> Vec<Balanced<crate::channel::MemberAddress>> {
    let balanced = |member: &Member| {
        Balanced::named(identity(channel, member), channel.member_address(member))
            .weight(channel.effective_weight(member))
            .role(member.role())
            .status(member.status())
            .health(channel.probe().initial_state)
    };
    channel.members().iter().map(balanced).collect()
}

/// What the channel's balancer calls a member.
fn identity(channel: &Channel, member: &Member) -> String {
    channel.host_identity(member).to_string()
}

/// A new strategy does not make anybody healthier than they were.
fn carry_health(new: &ChannelBalancer, old: &ChannelBalancer) {
    for view in old.members() {
        if let Some(id) = new.id_of(&view.identity) {
            let _ = new.set_health(id, view.standing.health);
        }
    }
}
