//! Who asked for a change of channels: the start, a reload, a client.
//!
//! `serve` says it of each request, the daemon of its start and of SIGHUP. It goes with the
//! change through planning and the store, so that the line that tells of the change names
//! who asked, and which request it was.

use std::fmt;
use std::sync::Arc;

/// Who asked for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requester {
    /// The daemon started: its files and its store.
    Start,
    /// SIGHUP: a reload.
    Signal,
    /// A client asked for a reload.
    Reload(Client),
    /// A client's call.
    Call(Client),
}

/// A client, as the log names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Who it has proved to be, such as `ops@local`; where that is not asked, where it is.
    pub name: Arc<str>,
    /// The id of its request, as in the answer's `X-Request-Id`.
    pub request_id: Arc<str>,
}

/// What changes a channel, as a label of metrics has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The configuration: a reload, whoever asked for it, or the start.
    Reload,
    /// A client's call.
    Client,
    /// A verdict of the checks.
    Verdict,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 3] = [Self::Reload, Self::Client, Self::Verdict];

    /// The word in metrics and the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Client => "client",
            Self::Verdict => "verdict",
        }
    }
}

impl Requester {
    /// The origin of the changes that it asks for.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self {
            Self::Start | Self::Signal | Self::Reload(_) => Origin::Reload,
            Self::Call(_) => Origin::Client,
        }
    }
}

/// For the log: `start`, `reload by SIGHUP`, `ops@local (request 0c5e..)`.
impl fmt::Display for Requester {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => formatter.write_str("start"),
            Self::Signal => formatter.write_str("reload by SIGHUP"),
            Self::Reload(client) => write!(formatter, "reload by {client}"),
            Self::Call(client) => client.fmt(formatter),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (request {})", self.name, self.request_id)
    }
}

/// As many are named; of further ones only the number is kept, so that a line stays short.
const MOST_NAMED: usize = 4;

/// Everybody who asked for one change: a reload serves all who wait, and calls that come
/// together change a channel at once. Copies share what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requesters {
    first: Requester,
    others: Arc<Vec<Requester>>,
    /// How many asked beyond those.
    unnamed: usize,
}

impl From<Requester> for Requesters {
    fn from(first: Requester) -> Self {
        Self { first, others: Arc::default(), unnamed: 0 }
    }
}

impl Requesters {
    /// The origin of what they asked for; they asked for the same.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.first.origin()
    }

    /// Adds one; each counts once.
    pub fn add(&mut self, requester: Requester) {
        if self.first == requester || self.others.contains(&requester) {
            return;
        }
        if 1 + self.others.len() < MOST_NAMED {
            Arc::make_mut(&mut self.others).push(requester);
        } else {
            self.unnamed += 1;
        }
    }

    /// Adds all of another change.
    pub fn merge(&mut self, later: &Self) {
        self.add(later.first.clone());
        later.others.iter().for_each(|requester| self.add(requester.clone()));
        self.unnamed += later.unnamed;
    }
}

impl fmt::Display for Requesters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(formatter)?;
        self.others.iter().try_for_each(|requester| write!(formatter, ", {requester}"))?;
        match self.unnamed {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, request_id: &str) -> Requester {
        Requester::Call(Client { name: name.into(), request_id: request_id.into() })
    }

    #[test]
    fn everybody_who_asked_is_named_once_and_a_crowd_is_counted() {
        let mut requesters = Requesters::from(call("ops@local", "1"));
        requesters.add(call("ops@local", "1"));
        assert_eq!(requesters.to_string(), "ops@local (request 1)");
        let mut later = Requesters::from(call("access key AK", "2"));
        later.add(call("ops@local", "1"));
        requesters.merge(&later);
        assert_eq!(requesters.to_string(), "ops@local (request 1), access key AK (request 2)");
        (3..100).for_each(|number| requesters.add(call("ops@local", &number.to_string())));
        assert!(requesters.to_string().ends_with("(request 3), ops@local (request 4) and 95 more"));
    }

    #[test]
    fn a_reload_is_told_from_a_call() {
        let client = Client { name: "ops@local".into(), request_id: "1".into() };
        let text = Requester::Reload(client).to_string();
        assert_eq!(text, "reload by ops@local (request 1)");
        let origins = [Requester::Start, Requester::Signal, call("a", "b")].map(|asked| asked.origin());
        assert_eq!(origins, [Origin::Reload, Origin::Reload, Origin::Client]);
    }
}
