//! One probe: connect, shake hands, ask, read the response head, say what was found.
//!
//! `catalog` builds one [`Plan`] per channel and one [`Target`] per member. A driver of
//! `daemon` polls [`run_within`] whenever a member is due, on its own thread, which has an
//! [`EventQueue`]. `vitald probe --explain` calls [`explain`] in a runtime. Nothing here
//! returns an error or panics on what a peer sends: a failed probe is a
//! [`Report`](crate::health::Report) with a reason.
//!
//! A probe is a state machine over one non-blocking socket. It makes system calls until
//! the kernel says "would block", then waits for the socket or for the one deadline.
//! When the deadline comes first, the machine makes its system calls once more before it
//! believes the timer. Time in which the prober itself did not run is given back to the
//! member.
//!
//! | file | what it does |
//! |---|---|
//! | `plan` | what all members of a channel share; how one member is called |
//! | `resolve` | names to addresses, off the probe path |
//! | `addresses` | which addresses of a name are tried, in which order, for how long |
//! | `machine` | one probe: connect, send, receive, judge the deadline, close |
//! | `http` | the request, and the verdict on a response head |
//! | `https` | the same over TLS, and why a handshake failed |
//! | `tls` | TLS settings and certificates |
//! | `finding` | what a probe finds, so far and in the end; whose fault a system error is |
//! | `socket` | the socket of a probe: opened, waited for, read |
//! | `queue` | a driver's own event queue, and sockets used again |
//! | `stall` | time in which the prober itself did not run |
//! | `reference` | the optional check whether the prober's own network works |

mod addresses;
mod finding;
mod http;
mod https;
mod machine;
mod plan;
mod queue;
mod reference;
mod resolve;
mod socket;
pub mod stall;
mod tls;

pub use finding::{CertificateTrace, ProbeTrace, SentName, TlsOffer, TlsTrace};
#[cfg(feature = "fuzzing")]
pub use http::fuzzing;
pub use machine::{explain, run, run_within};
pub use plan::{Plan, Target};
pub use queue::{EventQueue, wait_until};
pub use reference::Reference;
pub use resolve::{Addresses, Lookup, Resolver, SystemLookup};
pub use socket::read_local_ports;
pub use tls::{PlanError, prepare_tls, read_system_authorities, tls_provider, tls_settings};
