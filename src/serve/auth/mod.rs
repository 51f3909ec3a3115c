//! Who may use the management API, and how they prove it.
//!
//! ```text
//! request ──> guard (axum layer) ──> gate ──> token     (tokens: a table of hashes)
//!                │                     ├────> signature (pure) + secret key (accounts)
//!                │                     └────> local socket
//!                └── Identity ──> handlers: who, which project, which role
//!
//! POST /v3/auth/tokens ──> keystone ──> gate ──> password (hashing: few at once)
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `guard` | the layer before the API's routes |
//! | `gate` | who is this? tokens, signatures, logins in one place |
//! | `identity`, `fault` | its two answers |
//! | `signature` | `SDK-HMAC-SHA256`: pure |
//! | `tokens` | the table of tokens: pure |
//! | `slowdown` | how long failures wait: pure |
//! | `accounts` | users and access keys of the configuration |
//! | `hashing` | password checks off the runtime's threads |
//! | `keystone` | the token API: version, tokens, projects |
//!
//! The clock comes from the daemon as a function; nothing here reads one.

pub mod accounts;
pub mod fault;
pub mod gate;
pub mod guard;
pub mod hashing;
pub mod identity;
pub mod keystone;
pub mod signature;
pub mod slowdown;
pub mod tokens;

pub use fault::AuthFault;
pub use gate::AuthGate;
pub use guard::{RequestId, require};
pub use identity::{Action, Identity, Principal};
