//! What a case is: a member's behaviour, how it is checked, and what must come of it.

use std::time::Duration;

use crate::peer::Step;

/// Interval and timeout of cases in which nothing is waited for.
pub(crate) const PATIENT: Pace = Pace { interval: Duration::from_secs(2), timeout: Duration::from_secs(2) };

/// Interval and timeout of cases that end by the timeout.
pub(crate) const BRIEF: Pace = Pace { interval: Duration::from_secs(2), timeout: Duration::from_secs(1) };

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// Results in a row that make a verdict, either way.
pub(crate) const THRESHOLD: usize = 2;

/// A protocol of the health config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Http,
    Https,
}

impl Protocol {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        }
    }

    /// The phases that have ended when a probe ends so.
    fn phases(self, reason: Option<&str>) -> &'static str {
        let answered = match self {
            Self::Tcp => "connect",
            Self::Http => "connect+response",
            Self::Https => "connect+tls+response",
        };
        match (reason, self) {
            (None | Some("status" | "protocol"), _) => answered,
            (Some("closed" | "reset" | "response_timeout"), Self::Https) => "connect+tls",
            (Some("closed" | "reset" | "response_timeout"), _) => "connect",
            (Some(reason), _) if reason.starts_with("tls_") => "connect",
            (Some(_), _) => "",
        }
    }
}

/// Who is there to be probed.
pub(crate) enum Member {
    /// A program that plays this script on each connection.
    Plays(Vec<Step>),
    /// Nobody listens.
    Nobody,
    /// A listener whose accept queue is full, so that the kernel drops every SYN.
    FullQueue,
    /// A listener whose program never accepts; its kernel does.
    NeverAccepts,
    /// A host that is not of this machine.
    At(&'static str),
}

/// How many of the probes the member's program gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Every one.
    Every,
    /// None.
    Nothing,
}

/// One case.
pub(crate) struct Case {
    /// Its name, also that of its channel.
    pub(crate) name: &'static str,
    /// What the member does, for people.
    pub(crate) about: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) codes: &'static str,
    pub(crate) method: &'static str,
    /// More lines of `[channels.vpc_health_config]`.
    pub(crate) check: String,
    /// Lines of `[channels.probe]`.
    pub(crate) options: String,
    pub(crate) pace: Pace,
    pub(crate) member: Member,
    pub(crate) expected: Expected,
}

/// What must come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) health: &'static str,
    pub(crate) reason: Option<&'static str>,
    pub(crate) detail: String,
    pub(crate) phases: &'static str,
    pub(crate) seen: Seen,
}

fn case(protocol: Protocol, name: &'static str, about: &'static str) -> Case {
    let phases = protocol.phases(None);
    Case {
        name,
        about,
        protocol,
        codes: "200",
        method: "GET",
        check: String::new(),
        options: String::new(),
        pace: PATIENT,
        member: Member::Nobody,
        expected: Expected {
            health: "healthy",
            reason: None,
            detail: "200 OK".to_owned(),
            phases,
            seen: Seen::Every,
        },
    }
}

/// A TCP check that ends with FIN, so that the member's program sees it.
pub(crate) fn tcp(name: &'static str, about: &'static str) -> Case {
    case(Protocol::Tcp, name, about).option("close = \"fin\"")
}

pub(crate) fn http(name: &'static str, about: &'static str) -> Case {
    case(Protocol::Http, name, about)
}

pub(crate) fn https(name: &'static str, about: &'static str) -> Case {
    case(Protocol::Https, name, about)
}

impl Case {
    pub(crate) fn option(mut self, line: &str) -> Self {
        self.options.push_str(line);
        self.options.push('\n');
        self
    }

    pub(crate) fn codes(mut self, codes: &'static str) -> Self {
        self.codes = codes;
        self
    }

    pub(crate) fn head(mut self) -> Self {
        self.method = "HEAD";
        self
    }

    pub(crate) fn check(mut self, line: &str) -> Self {
        self.check.push_str(line);
        self.check.push('\n');
        self
    }

    /// The case ends by its timeout.
    pub(crate) fn brief(mut self) -> Self {
        self.pace = BRIEF;
        self
    }

    pub(crate) fn member(mut self, member: Member) -> Self {
        if !matches!(member, Member::Plays(_)) {
            self.expected.seen = Seen::Nothing;
        }
        self.member = member;
        self
    }

    pub(crate) fn plays(self, script: impl Into<Vec<Step>>) -> Self {
        self.member(Member::Plays(script.into()))
    }

    /// Reads a request, answers with these bytes and ends.
    pub(crate) fn answers(self, bytes: impl AsRef<[u8]>) -> Self {
        self.plays([Step::ReadRequest, Step::Send(bytes.as_ref().to_vec())])
    }

    /// Reads a request and answers with this status line and no body.
    pub(crate) fn status_line(self, line: &str) -> Self {
        self.answers(format!("{line}\r\nContent-Length: 0\r\n\r\n"))
    }

    /// It must become healthy, and each probe must say so.
    pub(crate) fn up(mut self, detail: &str) -> Self {
        self.expected.health = "healthy";
        self.expected.reason = None;
        self.expected.detail = detail.to_owned();
        self.expected.phases = self.protocol.phases(None);
        self
    }

    /// It must become unhealthy for this reason, and each probe must say so.
    pub(crate) fn down(mut self, reason: &'static str, detail: &str) -> Self {
        self.expected.health = "unhealthy";
        self.expected.reason = Some(reason);
        self.expected.detail = detail.to_owned();
        self.expected.phases = self.protocol.phases(Some(reason));
        if reason.ends_with("_timeout") {
            self.pace = BRIEF;
        }
        self
    }

    /// Where the phases are not what the reason says.
    pub(crate) fn phases(mut self, phases: &'static str) -> Self {
        self.expected.phases = phases;
        self
    }

    pub(crate) fn unseen(mut self) -> Self {
        self.expected.seen = Seen::Nothing;
        self
    }
}
