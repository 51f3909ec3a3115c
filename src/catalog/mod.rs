//! Which channels exist, what the management API knows of them, and where each
//! member's state lives.
//!
//! ```text
//! files, calls, store ──> Transaction ──> ChangeSet ──> store (its records)
//!                         (plan)              │
//!                                             └──> Catalog (writer) ──> commands to drivers
//!                                                      └──> Channels, published
//! readers <── Snapshot: the channels, and the drivers' states beside them
//! ```
//!
//! The daemon's control loop is the one writer. Ids, times and everything else from
//! outside are arguments.
//!
//! | file | what it holds |
//! |---|---|
//! | `entry` | one channel: configured with its ids, changed, and as it runs |
//! | `instance` | instances and their features |
//! | `microservice` | `microservice_info`, kept and answered |
//! | `ids` | ids and times |
//! | `requester` | who asked for a change |
//! | `resources` | everything as configured, with its indexes |
//! | `transaction` | what changes together, being planned; reference channels follow |
//! | `plan` | the calls of clients |
//! | `sources` | files, configured instances, what the store held |
//! | `overrides` | changes of members of file channels at run time |
//! | `record` | what the store keeps, opaque to it |
//! | `archive` | everything the API made, as one text |
//! | `preparation` | changes with everything made that could fail |
//! | `writer` | from changes to what runs |
//! | `continuation` | what members go on with that stay, move or were known before a restart |
//! | `change_log` | what a change did to members that stay, and to tiers |
//! | `drivers` | which member has which slot; the commands for each driver |
//! | `snapshot` | what readers get |
//! | `query` | filters, order, paging |
//! | `body` | JSON to the tree that the rules read |
//! | `fault` | why a call was refused, with the vendor's codes |
//! | `sorted_map` | a map whose copies share what they have in common |

mod archive;
mod body;
mod change_log;
mod continuation;
mod drivers;
mod entry;
mod fault;
mod ids;
mod instance;
mod microservice;
mod overrides;
mod plan;
mod preparation;
mod query;
mod record;
mod relocation;
mod requester;
mod resources;
mod snapshot;
mod sorted_map;
mod sources;
mod transaction;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use archive::Archive;
pub use body::Body;
pub use change_log::{ChangeCounters, ChangeKind, ChangeLog};
pub use continuation::DriverKnowledge;
pub use drivers::{DriverCommand, MemberProbe, Moving, ReloadSummary};
pub use entry::{ChannelBalancer, ChannelSlot, Entry, GroupTag, MemberSlot, Resource, Source};
pub use fault::{Fault, FaultDetail, MemberChangeError, PathFamily};
pub use ids::{Fresh, Id, UnixSeconds};
pub use instance::{Feature, FeatureName, Instance, KnownFeature, Project, Quotas};
pub use microservice::{Microservice, Service};
pub use overrides::{ChannelOverrides, KeptOverride, Overrides};
pub use plan::{Call, ChannelPath, MemberAction, MemberChange, MemberChanged, Reply};
pub use preparation::Prepared;
pub use query::{ChannelFilter, InstanceFilter, MemberFilter, Paging, TextFilter};
pub use record::ApiRecord;
pub use relocation::{MemberCursor, Relocation};
pub use requester::{Client, Origin, Requester, Requesters};
pub use resources::Resources;
pub use snapshot::{ChannelSnapshot, Channels, HealthCounts, MemberSnapshot, ReloadState, Snapshot};
pub use sources::SourceError;
pub use transaction::{ChangeSet, Transaction};
pub use writer::Catalog;
