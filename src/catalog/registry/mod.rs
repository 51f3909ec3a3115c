//! The management API's resources and what its calls do, free of HTTP and I/O.
//!
//! ```text
//! bodies, ids ──> plan ──> Planned { delta, outcome } ──> desk: apply, store,
//!                  │                                      put in effect, answer
//!            Registry (state)
//! ```
//!
//! One writer (the daemon's control loop) owns a [`Desk`]; readers look at the
//! registry it publishes. Ids, times and everything else from outside are
//! arguments.
//!
//! | file | what it holds |
//! |---|---|
//! | `ids` | ids and times |
//! | `resource` | a channel with the ids of its parts |
//! | `instance` | instances, features, quotas, the project |
//! | `microservice` | `microservice_info`, kept and answered |
//! | `state` | the registry and its indexes |
//! | `query` | filters, order, paging |
//! | `body` | JSON to the tree that the rules read |
//! | `write` | the calls that change something |
//! | `draft` | a change in the making; references follow |
//! | `delta` | a change: before and after |
//! | `files` | channels that come from files |
//! | `restore` | the registry as the store left it, and configured instances |
//! | `record` | what the store keeps, opaque to it |
//! | `desk` | one writer's batch: plan, make durable, publish |
//! | `fault` | why a call was refused, with the vendor's codes |

mod body;
mod delta;
mod desk;
mod draft;
mod fault;
mod files;
mod ids;
mod instance;
mod microservice;
mod query;
mod record;
mod resource;
mod restore;
mod state;
mod write;

#[cfg(test)]
mod tests;

pub use body::Body;
pub use delta::{Cause, ChannelEdit, Delta, InstanceEdit, RecordEdit};
pub use desk::{Desk, Effect, Published, ReadGuard};
pub use fault::{Fault, FaultDetail};
pub use files::NameClash;
pub use ids::{Fresh, Id, InstanceId, UnixSeconds};
pub use instance::{BackendCertificate, Feature, FeatureName, FeatureSetting, Instance, Project, Quotas};
pub use microservice::{Cce, CceService, Cse, Microservice, Nacos, NacosServer, NacosUser, Service};
pub use query::{ChannelFilter, InstanceFilter, MemberFilter, Page, Paging, TextFilter};
pub use record::{ApiRecord, Archive, RecordError};
pub use resource::{GroupTag, Members, Resource, Tag};
pub use restore::InstanceSetting;
pub use state::Registry;
pub use write::{Call, ChannelPath, PathFamily, Planned, Reply};
