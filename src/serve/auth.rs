//! Who may use the management API, and how they prove it.
//!
//! ```text
//! request ──> require (axum layer) ──> gate ──> token     (tokens: a table of hashes)
//!                │                       ├────> signature (pure) + secret key (accounts)
//!                │                       └────> local socket
//!                └── Identity ──> handlers: who, which project, which role
//!
//! POST /v3/auth/tokens ──> keystone ──> gate ──> password (throttle: few at once)
//! ```
//!
//! [`require`] is the layer before the API's routes. It answers 401 and 403 itself;
//! handlers find the [`Identity`] among the request's extensions. `gate` says who
//! sent a request, `keystone` is the token API, `signature` and
//! `tokens` are pure. The clock comes from the daemon as a function; nothing here reads one.

mod gate;
mod identity;
pub mod keystone;
pub mod signature;
#[cfg(test)]
pub(super) mod tests;
mod throttle;
mod tokens;

pub use self::gate::{AuthGate, require};
pub use self::identity::Identity;
pub(super) use self::identity::client_of;
