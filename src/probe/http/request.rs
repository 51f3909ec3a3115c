//! The request of an HTTP check: made once for a channel, completed for each member, and
//! shown to people without its secrets. `http` and `https` send it.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;

use crate::channel::{CodeSet, Host, HttpCheck, HttpMethod, MASK, MemberAddress, ProbeHeader, ProbeOptions};

/// What all members of a channel are asked, and which answers are good.
pub(in crate::probe) struct HttpPlan {
    pub(super) codes: CodeSet,
    pub(super) method: HttpMethod,
    /// The request up to and including `Host: `.
    before_host: Box<[u8]>,
    /// The configured host, sent as written; none: the member's authority.
    host: Option<Box<[u8]>>,
    /// The port that an authority leaves out (RFC 9110 section 7.2, RFC 3986 section 3.2.3).
    default_port: u16,
    /// The rest of the request, from the end of the host's line.
    after_host: Box<[u8]>,
    /// Where in `after_host` the values of secret headers are, in order.
    secrets: Box<[Range<usize>]>,
}

impl fmt::Debug for HttpPlan {
    // The request stays out: it may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPlan")
            .field("codes", &self.codes)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl HttpPlan {
    /// Prepares the request of a channel. A configured header of one of our
    /// own names replaces ours, or leaves it out. `default_port` is that of the scheme:
    /// 80 or 443.
    pub(in crate::probe) fn new(check: &HttpCheck, options: &ProbeOptions, default_port: u16) -> Self {
        let configured = |name: &str| options.headers.iter().find(|header| header.is_named(name));
        let before_host = format!("{} {} HTTP/1.1\r\nHost: ", check.method.word(), check.path);
        let host = configured("host").and_then(ProbeHeader::value).or(options.host.as_deref());
        let mut after_host = String::from("\r\n");
        if configured("user-agent").is_none() {
            after_host.push_str(concat!("User-Agent: vitald/", env!("CARGO_PKG_VERSION"), "\r\n"));
        }
        if configured("accept").is_none() {
            after_host.push_str("Accept: */*\r\n");
        }
        if configured("connection").is_none() {
            after_host.push_str("Connection: close\r\n");
        }
        let mut secrets = Vec::new();
        for header in options.headers.iter().filter(|header| !header.is_named("host")) {
            let Some(value) = header.value() else { continue };
            after_host.push_str(header.name());
            after_host.push_str(": ");
            if header.is_secret() {
                secrets.push(after_host.len()..after_host.len() + value.len());
            }
            after_host.push_str(value);
            after_host.push_str("\r\n");
        }
        after_host.push_str("\r\n");
        Self {
            codes: check.codes.clone(),
            method: check.method,
            before_host: before_host.into_bytes().into(),
            host: host.map(|host| host.as_bytes().into()),
            default_port,
            after_host: after_host.into_bytes().into(),
            secrets: secrets.into(),
        }
    }

    /// Appends the whole request to one member.
    pub(in crate::probe) fn write_request(&self, member: &MemberAddress, out: &mut Vec<u8>) {
        self.write_host(member, out);
        out.extend_from_slice(&self.after_host);
    }

    fn write_host(&self, member: &MemberAddress, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before_host);
        match &self.host {
            Some(host) => out.extend_from_slice(host),
            None => write_authority(member, self.default_port, out),
        }
    }

    /// The request to one member for people to see: secret values are masked.
    pub(in crate::probe) fn shown_request(&self, member: &MemberAddress) -> String {
        let mut shown = Vec::new();
        self.write_host(member, &mut shown);
        let mut rest = 0;
        for secret in &self.secrets {
            shown.extend_from_slice(self.after_host.get(rest..secret.start).unwrap_or_default());
            shown.extend_from_slice(MASK.as_bytes());
            rest = secret.end;
        }
        shown.extend_from_slice(self.after_host.get(rest..).unwrap_or_default());
        String::from_utf8_lossy(&shown).into_owned()
    }
}

/// Appends the member's authority for the `Host` header: `host:port`, or the host alone
/// on the default port. Written for every probe.
fn write_authority(member: &MemberAddress, default_port: u16, out: &mut Vec<u8>) {
    match &member.host {
        // The common case, several times as fast as its `Display`.
        Host::Ip(IpAddr::V4(ip)) => {
            let mut digits = itoa::Buffer::new();
            for (octet, end) in ip.octets().into_iter().zip(*b"...:") {
                out.extend_from_slice(digits.format(octet).as_bytes());
                out.push(end);
            }
            out.extend_from_slice(digits.format(member.port).as_bytes());
        }
        // Writing to a vector cannot fail.
        Host::Ip(_) | Host::Name(_) => drop(write!(out, "{member}")),
    }
    if member.port == default_port {
        // A port has no colon in it, so the last one is before the port.
        let host = out.iter().rposition(|byte| *byte == b':');
        out.truncate(host.unwrap_or(out.len()));
    }
}

/// The authority in the Host header, against what an address shows and RFC 9110 wants.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_the_address_as_it_is_shown() {
        for (host, port) in [("10.0.0.255", 80), ("127.1.2.3", 65535), ("2001:db8::1", 8080)] {
            let member = MemberAddress { host: Host::Ip(host.parse().unwrap()), port };
            let mut authority = Vec::new();
            write_authority(&member, 443, &mut authority);
            assert_eq!(String::from_utf8(authority).unwrap(), member.to_string());
        }
    }

    #[test]
    fn an_authority_leaves_out_the_default_port() {
        let hosts = [
            (Host::Ip("10.0.0.1".parse().unwrap()), "10.0.0.1"),
            (Host::Ip("2001:db8::1".parse().unwrap()), "[2001:db8::1]"),
            (Host::Name("app".into()), "app"),
        ];
        for (host, alone) in hosts {
            for (port, default_port) in [(80, 80), (443, 443), (80, 443), (443, 80), (8080, 80)] {
                let member = MemberAddress { host: host.clone(), port };
                let mut authority = b"Host: ".to_vec();
                write_authority(&member, default_port, &mut authority);
                let port = if port == default_port { String::new() } else { format!(":{port}") };
                assert_eq!(String::from_utf8(authority).unwrap(), format!("Host: {alone}{port}"));
            }
        }
    }
}
