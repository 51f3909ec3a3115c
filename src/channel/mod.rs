//! What a VPC channel is: fields, ranges, ports, weights, code sets, rotation.
//!
//! Pure: no clock, I/O, runtime or logging. Every source of channels (TOML,
//! JSON files, API bodies) becomes a [`document::Value`]; [`reader`] turns it
//! into a [`Channel`] or into all its [`Violation`]s. All other rooms use the
//! finished [`Channel`].
//!
//! | file | what it holds |
//! |---|---|
//! | `document` | the neutral tree that the rules read |
//! | `violation` | a broken rule as a value: field, place, remedy |
//! | `reader` | the rules: tree to channel |
//! | `model` | the checked channel, its members, groups and health check |
//! | `balance_options` | a `balance` table |
//! | `probe_header` | a request header, and whether its value may be shown |
//! | `probe_settings` | a `probe` table, completed by that of the defaults |
//! | `words` | the closed vocabularies |
//! | `wire` | what stands under each key of the vendor's objects |
//! | `identity` | what makes a member the same one |
//! | `edit` | changes of a checked channel that keep its rules |
//! | `overrides` | what an operator has said of members at run time |
//! | `code_set` | `http_code` |
//! | `rotation` | which members take traffic |
//! | `detection` | how long a failure can go unseen |
//! | `definition` | what is asked of a member, as bytes |
//! | `continuity` | what of a verdict goes on when a channel changes |

mod balance_options;
pub mod code_set;
pub mod continuity;
pub mod definition;
pub mod detection;
pub mod document;
pub mod edit;
#[cfg(all(test, feature = "daemon"))]
pub(crate) mod fixture;
mod identity;
pub mod model;
mod overrides;
mod probe_header;
mod probe_settings;
pub mod reader;
pub mod rotation;
pub mod violation;
pub mod wire;
pub mod words;

pub use balance_options::{
    BalanceOptions, HashFunction, HashSeed, LeastRule, Query, SourcePrefix, UriForm, UriRule,
};
pub use code_set::CodeSet;
pub use continuity::{Continuity, MemberQuestion};
pub use definition::{CheckDefinition, CheckQuestion};
pub use detection::Detection;
pub use edit::EditError;
pub use identity::MemberIdentity;
pub use model::{
    Channel, ClientCertificate, ClientIdentity, EcsIdentity, HealthCheck, Host, HttpCheck, Member,
    MemberAddress, MemberGroup, PemFile, ProbeOptions, Protocol, TlsOptions, TlsVersion, VerifyCertificate,
    unusable_address,
};
pub use overrides::{MemberOverride, OverrideState};
pub use probe_header::{MASK, ProbeHeader, SecretFile};
pub use probe_settings::{ProbeSettings, TlsSettings};
pub(crate) use rotation::TierCounts;
pub use rotation::{NobodyReason, OutOfRotation, Standing, Tier};
pub use violation::{FieldPath, PathSegment, Rule, Violation};
pub use words::{
    ChannelKind, CheckStatus, CloseMode, FailOpen, Health, HttpMethod, MemberStatus, MemberType,
    ResolveFamily, Role, Strategy,
};
