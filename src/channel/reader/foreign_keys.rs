//! What the keys of other tools are called here: people bring a configuration along, and
//! a key that is only spelled like one of ours may mean something else.
//!
//! [`remedy_of`] is asked by `section` for each unknown key, before it looks for a slip of
//! the pen.

/// A key of other tools, and what there is here in its place.
struct ForeignKey {
    /// Without capitals, `_` and `-`: `period_seconds` is `periodSeconds`.
    words: &'static [&'static str],
    here: Here,
}

/// What there is in the place of a key.
#[derive(Clone, Copy)]
enum Here {
    /// A key of ours.
    Key(Home, &'static str),
    /// A key of ours that takes another form of value: how to write it.
    Form(Home, &'static str, &'static str),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// The table that a key of ours stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Channel,
    Member,
    HealthCheck,
    Probe,
    Tls,
    Balance,
}

impl Home {
    /// What a person calls the table; the noun of its `TableReader`.
    fn noun(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Member => "member",
            Self::HealthCheck => "health config",
            Self::Probe => "probe table",
            Self::Tls => "TLS table",
            Self::Balance => "balance table",
        }
    }

    /// How it is written in a file.
    fn written(self) -> &'static str {
        match self {
            Self::Channel => "the channel",
            Self::Member => "`members`",
            Self::HealthCheck => "`vpc_health_config`",
            Self::Probe => "`probe`",
            Self::Tls => "`probe.tls`",
            Self::Balance => "`balance`",
        }
    }
}

use Here::{Form, Key, Nothing};
use Home::{Balance, Channel, HealthCheck, Member, Probe, Tls};

const ONE_INTERVAL: &str =
    "every member is checked once per `time_interval`, whatever its health and traffic";
const SPREAD: &str = "checks are spread evenly over `time_interval` by themselves";
const NO_CONNECTIONS: &str = "vitald counts no connections of clients";
const NO_PASSIVE: &str = "only checks move a member's health, never the traffic of clients";
const HEAD_ONLY: &str = "a check judges the status of the answer and never reads its body";
const NO_REDIRECTS: &str = "a redirect is never followed; its status counts, as `http_code` says";
const TWO_PROTOCOLS: &str = "checks speak TCP, HTTP and HTTPS";
const NEW_CONNECTIONS: &str = "every check opens a connection of its own";
const NO_HOOKS: &str = "what depends on health elsewhere reads `/metrics` or `/v1/status`";

/// Keys of HAProxy, Envoy, the blackbox exporter, Kubernetes, nginx and the target groups
/// of clouds. A key of ours that means the same in all of them is not here.
const FOREIGN_KEYS: &[ForeignKey] = &[
    // How often.
    of(
        &["inter", "interval", "periodseconds", "checkinterval", "healthinterval", "healthcheckinterval"],
        Key(HealthCheck, "time_interval"),
    ),
    of(&["scrapeinterval", "healthcheckintervalseconds"], Key(HealthCheck, "time_interval")),
    of(
        &["fastinter", "downinter", "unhealthyinterval", "unhealthyedgeinterval", "healthyedgeinterval"],
        Nothing(ONE_INTERVAL),
    ),
    of(&["notrafficinterval", "notraffichealthyinterval"], Nothing(ONE_INTERVAL)),
    of(
        &["initialjitter", "intervaljitter", "intervaljitterpercent", "spreadchecks", "jitter"],
        Nothing(SPREAD),
    ),
    of(
        &["initialdelayseconds"],
        Nothing(
            "a member is checked from the start; `initial_state` in `probe` says what it counts as until then",
        ),
    ),
    // How long.
    of(
        &["timeoutseconds", "timeoutcheck", "checktimeout", "healthtimeout", "healthchecktimeout"],
        Key(HealthCheck, "timeout"),
    ),
    of(
        &["scrapetimeout", "healthchecktimeoutseconds", "connecttimeout", "timeoutconnect"],
        Key(HealthCheck, "timeout"),
    ),
    of(&["terminationgraceperiodseconds"], Nothing(NO_CONNECTIONS)),
    // How many.
    of(
        &["rise", "healthythreshold", "successthreshold", "passes", "healthythresholdcount"],
        Key(HealthCheck, "threshold_normal"),
    ),
    of(
        &["fall", "unhealthythreshold", "failurethreshold", "fails", "maxfails", "unhealthythresholdcount"],
        Key(HealthCheck, "threshold_abnormal"),
    ),
    of(
        &["failtimeout"],
        Nothing(
            "an unhealthy member comes back after `threshold_normal` good checks in a row, not after a time",
        ),
    ),
    // Where.
    of(&["healthport", "checkport", "healthcheckport", "probeport", "altport"], Key(HealthCheck, "port")),
    of(
        &["portvalue"],
        Nothing(
            "the port of traffic is `port` of the channel or of a member, the port of checks `port` in `vpc_health_config`",
        ),
    ),
    of(
        &["healthpath", "checkpath", "healthcheckpath", "healthuri", "healthurl", "checkuri"],
        Key(HealthCheck, "path"),
    ),
    of(
        &["addr", "checkaddr"],
        Nothing(
            "a member is checked at its `host`; only the port of checks may differ, as `port` in `vpc_health_config`",
        ),
    ),
    of(
        &["address", "ip", "server", "target", "socketaddress"],
        Form(Member, "host", "the port stands under `port`"),
    ),
    of(
        &["servers", "targets", "endpoints", "backends", "lbendpoints", "upstreams"],
        Form(Channel, "members", "each is a table with `host`"),
    ),
    // What is asked.
    of(
        &["httpget", "httpchk", "optionhttpchk", "httphealthcheck"],
        Form(HealthCheck, "protocol", "\"HTTP\", with `path` and `http_code`"),
    ),
    of(
        &["tcpsocket", "tcphealthcheck", "tcpcheck", "optiontcpcheck"],
        Form(HealthCheck, "protocol", "\"TCP\""),
    ),
    of(
        &["prober", "scheme", "checkssl", "healthcheckprotocol"],
        Form(HealthCheck, "protocol", "\"TCP\", \"HTTP\" or \"HTTPS\""),
    ),
    of(&["module", "modules"], Nothing("each channel says in its own `vpc_health_config` how it is checked")),
    of(
        &["livenessprobe", "readinessprobe", "startupprobe", "healthchecks", "healthcheck", "check"],
        Form(Channel, "vpc_health_config", "a table"),
    ),
    of(
        &["grpc", "grpchealthcheck", "customhealthcheck", "exec", "command", "externalcheck", "dns", "icmp"],
        Nothing(TWO_PROTOCOLS),
    ),
    of(
        &["expectedstatuses", "validstatuscodes", "matcher", "httpcheckexpect", "expect", "match"],
        Form(HealthCheck, "http_code", "such as \"200,201,210-299\""),
    ),
    of(&["retriablestatuses"], Nothing("a status is in `http_code` or it is a failure")),
    of(
        &["httpheaders", "requestheaderstoadd", "basicauth", "bearertoken", "authorization"],
        Form(Probe, "headers", "a table of names and values"),
    ),
    of(
        &["hostname", "httphost"],
        Form(
            Probe,
            "host",
            "it is what the header `Host` says; a member's own address is its `host` in `members`",
        ),
    ),
    of(
        &["body", "send", "receive", "failifbodymatchesregexp", "failifbodynotmatchesregexp"],
        Nothing(HEAD_ONLY),
    ),
    of(&["followredirects", "nofollowredirects"], Nothing(NO_REDIRECTS)),
    of(&["validhttpversions", "codecclienttype"], Nothing("checks speak HTTP/1.1")),
    of(&["reuseconnection", "keepalive"], Nothing(NEW_CONNECTIONS)),
    of(&["sendproxy", "sendproxyv2", "checksendproxy"], Nothing("checks send no PROXY header")),
    of(
        &["preferredipprotocol", "resolveprefer", "dnslookupfamily"],
        Form(Probe, "resolve", "\"v4\", \"v6\" or \"any\""),
    ),
    // TLS.
    of(&["insecureskipverify"], Form(Tls, "verify", "certificates are verified only with `verify = true`")),
    of(&["checksni", "sni"], Key(Tls, "server_name")),
    of(&["crt", "certfile"], Key(Tls, "client_certificate")),
    of(&["keyfile"], Key(Tls, "client_key")),
    of(&["tlsconfig", "transportsocket"], Form(Probe, "tls", "a table")),
    // Who takes traffic.
    of(&["backup"], Form(Member, "is_backup", "true or false")),
    of(
        &["disabled", "down", "disableactivehealthcheck"],
        Form(Member, "status", "2 for a member that is switched off"),
    ),
    of(&["loadbalancingweight", "initialweight"], Key(Member, "weight")),
    of(&["group", "priority"], Form(Member, "member_group_name", "the group stands in `member_groups`")),
    of(
        &["lbpolicy", "loadbalancer", "loadbalancing"],
        Form(Channel, "balance_strategy", "1 wrr, 2 wleastconn, 3 source, 4 uri"),
    ),
    of(
        &["roundrobin", "leastconn", "iphash", "hash"],
        Form(Channel, "balance_strategy", "1 wrr, 2 wleastconn, 3 source, 4 uri"),
    ),
    of(
        &["healthypanicthreshold", "panicthreshold"],
        Form(Balance, "fail_open", "it has no threshold: with `true` traffic goes on when no member is left"),
    ),
    of(
        &["initstate", "mandatory"],
        Form(Probe, "initial_state", "\"unhealthy\" keeps a new member out until a check is good"),
    ),
    of(
        &["maxconn", "maxconns", "maxconnections", "minconn", "maxqueue", "fullconn"],
        Nothing(NO_CONNECTIONS),
    ),
    of(
        &["observe", "errorlimit", "onerror", "outlierdetection", "agentcheck", "agentport", "agentinter"],
        Nothing(NO_PASSIVE),
    ),
    of(&["onmarkeddown", "onmarkedup", "alwaysloghealthcheckfailures", "eventlogpath"], Nothing(NO_HOOKS)),
];

const fn of(words: &'static [&'static str], here: Here) -> ForeignKey {
    ForeignKey { words, here }
}

/// What to do about a key that other tools know.
pub(super) struct ForeignRemedy<'k> {
    pub(super) text: String,
    /// The key of this very table that was meant.
    pub(super) meant: Option<&'k str>,
}

/// Tables in which people write keys of other tools' checks and servers.
const NOUNS: [&str; 8] = [
    "configuration",
    "channel",
    "group",
    "member",
    "health config",
    "probe table",
    "TLS table",
    "balance table",
];

/// The remedy for an unknown key in a table with that noun and these keys; none if no
/// other tool has the key.
pub(super) fn remedy_of<'k>(key: &str, noun: &str, known: &[&'k str]) -> Option<ForeignRemedy<'k>> {
    if !NOUNS.contains(&noun) {
        return None;
    }
    let plain = plain_key(key);
    let here = FOREIGN_KEYS.iter().find(|foreign| foreign.words.contains(&&*plain))?.here;
    let (home, ours, form) = match here {
        Nothing(why) => {
            return Some(ForeignRemedy { text: format!("remove it, vitald has none: {why}"), meant: None });
        }
        Key(home, ours) => (home, ours, None),
        Form(home, ours, form) => (home, ours, Some(form)),
    };
    let meant = known.iter().copied().find(|key| *key == ours).filter(|_| home.noun() == noun);
    if home.noun() == noun && meant.is_none() {
        // Another table for TLS, without that key.
        return None;
    }
    let place = if meant.is_some() { String::new() } else { format!(" in {}", home.written()) };
    let form = form.map(|form| format!(" ({form})")).unwrap_or_default();
    let text = format!("that is another tool's word; here it is `{ours}`{place}{form}");
    Some(ForeignRemedy { text, meant })
}

fn plain_key(key: &str) -> String {
    key.chars().filter(|letter| !"-_".contains(*letter)).map(|letter| letter.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::KNOWN_KEYS;
    use super::*;

    fn keys_of(home: Home) -> &'static [&'static str] {
        let table = match home {
            Channel => "channel",
            Member => "members",
            HealthCheck => "vpc_health_config",
            Probe => "probe",
            Tls => "tls",
            Balance => "balance",
        };
        KNOWN_KEYS.iter().find(|(name, _)| *name == table).expect("a table").1
    }

    #[test]
    fn every_key_of_ours_that_is_named_is_there() {
        for foreign in FOREIGN_KEYS {
            if let Key(home, key) | Form(home, key, _) = foreign.here {
                assert!(keys_of(home).contains(&key), "{key} is no key of {home:?}");
            }
        }
    }

    #[test]
    fn every_word_stands_once_and_as_it_is_looked_for() {
        let mut words: Vec<&str> = FOREIGN_KEYS.iter().flat_map(|foreign| foreign.words).copied().collect();
        for word in &words {
            assert_eq!(*word, plain_key(word));
        }
        words.sort_unstable();
        let ours =
            KNOWN_KEYS.iter().flat_map(|(_, keys)| *keys).find(|key| words.contains(&&*plain_key(key)));
        assert_eq!(ours, None, "a key of ours is no foreign one");
        let twice: Vec<&[&str]> = words.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
}
