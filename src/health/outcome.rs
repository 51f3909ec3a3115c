//! What one probe found: success, failure with a reason, or inconclusive.
//!
//! Made by `probe`, judged and counted by [`super::engine`]. The
//! split of reasons decides blame: a [`MemberReason`] may move a verdict, a
//! [`ProberReason`] never does.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The verdict-moving part of a probe's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The member did what its health config asks.
    Success,
    /// The member did not; counts towards `threshold_abnormal`.
    Failure(MemberReason),
    /// The prober could not know; moves nothing.
    Inconclusive(ProberReason),
}

impl Outcome {
    /// `success`, `failure` or `inconclusive`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure(_) => "failure",
            Self::Inconclusive(_) => "inconclusive",
        }
    }

    /// The reason's word, none for a success.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Success => None,
            Self::Failure(reason) => Some(reason.word()),
            Self::Inconclusive(reason) => Some(reason.word()),
        }
    }
}

macro_rules! reasons {
    ($(#[$type_doc:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$type_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every reason, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word of metrics, status and logs.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The position in `ALL`, for arrays of counters.
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// Why a member failed a probe. Taken from the deepest phase that was reached.
    MemberReason {
        /// The connection was refused (a closed port).
        Refused => "refused",
        /// No route to the host or network, or it was administratively forbidden.
        Unreachable => "unreachable",
        /// No connection within the timeout.
        ConnectTimeout => "connect_timeout",
        /// The member reset an established connection.
        Reset => "reset",
        /// The member closed before it had answered.
        Closed => "closed",
        /// The kernel connected the prober to itself: no server listens there.
        SelfConnect => "self_connect",
        /// The member's name has no address.
        Resolve => "resolve",
        /// The TLS handshake failed, for another reason than the certificate.
        TlsHandshake => "tls_handshake",
        /// The member's certificate was refused by `verify`.
        TlsCertificate => "tls_certificate",
        /// Connected, but no TLS handshake within the timeout.
        TlsTimeout => "tls_timeout",
        /// Connected, but no whole response head within the timeout.
        ResponseTimeout => "response_timeout",
        /// The answer is not HTTP/1.x, or its head passes a limit.
        Protocol => "protocol",
        /// A whole answer whose status is not in the code set.
        Status => "status",
    }
}

reasons! {
    /// Why the prober could not know. Never the member's fault.
    ProberReason {
        /// No local port was free.
        LocalPort => "local_port",
        /// No file descriptor (or socket memory) was free.
        LocalFd => "local_fd",
        /// The prober itself was not running while it should have listened.
        LocalStall => "local_stall",
        /// No reference target answered either: the prober's own network is gone.
        LocalNetwork => "local_network",
        /// The probe was given up: member removed, reload or shutdown.
        Cancelled => "cancelled",
        /// A fault of ours.
        Internal => "internal",
    }
}

/// How long each phase of a probe took; none when it was not reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// From the first SYN to an established connection.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the request to the end of the response head.
    pub response: Option<Duration>,
}

/// Everything one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The verdict-moving part.
    pub outcome: Outcome,
    /// The durations of the phases that ended.
    pub phases: Phases,
    /// From the start (after resolving) to the outcome.
    pub total: Duration,
    /// The last part of `total`, in which the prober had sent all that it had to send
    /// and only the member was to act; zero where that is not known.
    pub waited: Duration,
    /// The final status code, when a head was read.
    pub status: Option<u16>,
    /// One line for people: `200 OK`, `connection refused`. Remote text in it
    /// is bounded and printable.
    pub detail: Cow<'static, str>,
    /// The address that was probed, when one was known.
    pub peer: Option<SocketAddr>,
    /// The same of a member that is a name; none for one that is an address itself, which
    /// has no room for it twice.
    pub address: Option<Arc<IpAddr>>,
    /// `notAfter` of the member's certificate, seconds since the Unix epoch;
    /// known even when verification failed.
    pub certificate_not_after: Option<i64>,
}

impl Report {
    /// An inconclusive report without any phase.
    #[must_use]
    pub fn inconclusive(reason: ProberReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::before_connecting(Outcome::Inconclusive(reason), detail)
    }

    /// A report of a probe that ended before its first packet.
    #[must_use]
    pub fn before_connecting(outcome: Outcome, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            outcome,
            phases: Phases::default(),
            total: Duration::ZERO,
            waited: Duration::ZERO,
            status: None,
            detail: detail.into(),
            peer: None,
            address: None,
            certificate_not_after: None,
        }
    }
}
