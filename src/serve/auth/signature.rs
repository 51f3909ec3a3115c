//! `SDK-HMAC-SHA256`: whether a request was signed with a secret key.
//!
//! Pure: the clock's value and the body's hash are arguments. The gate reads a
//! [`Claim`] from a request's head, looks up the secret of its access key, and then has
//! the claim verified over the body's hash; so the body of a request that cannot pass is
//! not read. The scheme is the vendor's
//! (docs/vendor-api.md, "Signatures"); what it leaves open is decided here:
//!
//! * `x-sdk-date` must be signed. `host` need not be: the vendor's clients for Go and
//!   PHP and its Terraform provider leave it out. Every header that is listed counts.
//! * A listed header must be there, and only once: whichever of two the application
//!   reads might not be the one signed.
//! * `X-Sdk-Content-Sha256`, if sent with a body, must be the body's hash.
//!   `UNSIGNED-PAYLOAD` is refused: anybody on the way could replace the body.
//! * A query's `+` is a space, as the API's own reader has it, so that what was
//!   signed is what is read.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::health::Timestamp;

#[cfg(test)]
mod tests;

/// The only scheme that is understood.
const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// How far `X-Sdk-Date` may lie from this server's clock, either way.
pub const CLOCK_WINDOW: Duration = Duration::from_secs(15 * 60);
const CLOCK_WINDOW_NANOS: u64 = CLOCK_WINDOW.as_secs() * 1_000_000_000;
const DATE: HeaderName = HeaderName::from_static("x-sdk-date");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-sdk-content-sha256");
/// What the canonical form escapes: all but letters, digits and `-._~`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Longest access key that is looked up; the vendor's have 20 characters.
const LONGEST_ACCESS_KEY: usize = 128;

/// SHA-256 of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyHash([u8; 32]);

impl BodyHash {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

/// Why a signature was not accepted. The texts never hold anything secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// `Authorization` does not follow the scheme's grammar.
    #[error("the Authorization header is malformed: {0}")]
    Malformed(&'static str),
    /// Another scheme than `SDK-HMAC-SHA256`.
    #[error("unsupported signature algorithm, use SDK-HMAC-SHA256")]
    UnknownAlgorithm,
    /// The signature does not cover `X-Sdk-Date`.
    #[error("the header x-sdk-date must be signed")]
    DateNotSigned,
    /// A header that the signature lists is not in the request.
    #[error("the signed header {0} is missing")]
    Missing(HeaderName),
    /// A header that may come only once came twice.
    #[error("the header {0} appears more than once")]
    Repeated(HeaderName),
    /// `X-Sdk-Date` is no date.
    #[error("the x-sdk-date header must look like 20060102T150405Z")]
    BadDate,
    /// The signature is too old or from the future.
    #[error("the x-sdk-date header {date} is more than 15 minutes from the server's time {server}")]
    OutsideClockWindow {
        /// What the client wrote.
        date: String,
        /// This server's clock, in the same form.
        server: String,
    },
    /// `X-Sdk-Content-Sha256` is not the hash of the body.
    #[error("the x-sdk-content-sha256 header is not the body's SHA-256")]
    WrongContentHash,
    /// The body is not covered by the signature.
    #[error("UNSIGNED-PAYLOAD is not accepted, send JSON")]
    UnsignedPayload,
    /// Nobody has this access key.
    #[error("Get secretKey failed,ak:{0},err:ak not exist")]
    UnknownAccessKey(String),
    /// The signature does not fit the request.
    #[error("verify aksk signature fail")]
    Mismatch,
}

/// A signed request's claim to come from the holder of an access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    access_key: String,
    date: String,
    signature: [u8; 32],
    /// The canonical request but for its last line, the body's hash.
    canonical_head: String,
    content_hash: Option<Vec<u8>>,
}

/// The parts of a request that a signature covers, as they came.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// In upper case.
    pub method: &'a str,
    /// Percent-encoded, without the query.
    pub path: &'a str,
    /// Percent-encoded, without its `?`; empty if there is none.
    pub query: &'a str,
    /// All of them.
    pub headers: &'a HeaderMap,
}

impl Claim {
    /// Reads the claim and judges what needs no secret: form, coverage, clock.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(head: RequestHead<'_>, now: Timestamp) -> Result<Self, SignatureFault> {
        let authorization = only_value(head.headers, &AUTHORIZATION)?;
        let text =
            std::str::from_utf8(authorization).map_err(|_| SignatureFault::Malformed("it is not UTF-8"))?;
        let credential = Credential::parse(text)?;
        if !credential.signed_headers.contains(&DATE) {
            return Err(SignatureFault::DateNotSigned);
        }
        let date = std::str::from_utf8(trim(only_value(head.headers, &DATE)?))
            .map_err(|_| SignatureFault::BadDate)?;
        judge_date(date, now)?;
        let content_hash = match head.headers.contains_key(&CONTENT_HASH) {
            true => Some(trim(only_value(head.headers, &CONTENT_HASH)?).to_vec()),
            false => None,
        };
        Ok(Self {
            access_key: credential.access_key.to_owned(),
            date: date.to_owned(),
            signature: credential.signature,
            canonical_head: canonical_head(head, &credential)?,
            content_hash,
        })
    }

    /// Whose secret key the signature was made with, or so it says.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Whether the signature was made with this secret key over this request.
    /// Takes the same time wherever the two differ.
    ///
    /// # Errors
    /// It was not, or the body is not covered.
    pub fn verify(&self, body: BodyHash, secret_key: &[u8]) -> Result<(), SignatureFault> {
        let body_hash = hex(&body.0);
        let is_empty = body == BodyHash::of(b"");
        match self.content_hash.as_deref() {
            // Without a body the header counts for nothing, as in the SDK.
            Some(_) if is_empty => {}
            Some(b"UNSIGNED-PAYLOAD") => return Err(SignatureFault::UnsignedPayload),
            Some(declared) if declared != body_hash.as_bytes() => {
                return Err(SignatureFault::WrongContentHash);
            }
            Some(_) | None => {}
        }
        let canonical = format!("{}{body_hash}", self.canonical_head);
        let to_sign = format!("{ALGORITHM}\n{}\n{}", self.date, hex(&Sha256::digest(canonical)));
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret_key) else {
            return Err(SignatureFault::Mismatch);
        };
        mac.update(to_sign.as_bytes());
        let expected: [u8; 32] = mac.finalize().into_bytes().into();
        match bool::from(expected.ct_eq(&self.signature)) {
            true => Ok(()),
            false => Err(SignatureFault::Mismatch),
        }
    }
}

/// The `Authorization` header for a request with `host` and `x-sdk-date`, as a
/// client would make it: for tests of the layers behind.
#[cfg(test)]
pub(in crate::serve) fn sign<B>(
    request: &axum::http::Request<B>,
    body: &[u8],
    access_key: &str,
    secret_key: &[u8],
) -> String {
    let head = RequestHead {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: request.headers(),
    };
    let signed_headers = vec![axum::http::header::HOST, DATE];
    let credential = Credential { access_key, signed_headers, signature: [0; 32] };
    let canonical = canonical_head(head, &credential).expect("host and date");
    let canonical = format!("{canonical}{}", hex(&BodyHash::of(body).0));
    let date = request.headers()[DATE].to_str().expect("text");
    let to_sign = format!("{ALGORITHM}\n{date}\n{}", hex(&Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret_key).expect("any key");
    mac.update(to_sign.as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    format!("{ALGORITHM} Access={access_key}, SignedHeaders=host;x-sdk-date, Signature={signature}")
}

/// The `Authorization` header of the scheme, taken apart.
struct Credential<'a> {
    access_key: &'a str,
    /// In the order of the header, which is the order of the canonical form.
    signed_headers: Vec<HeaderName>,
    signature: [u8; 32],
}

impl<'a> Credential<'a> {
    fn parse(text: &'a str) -> Result<Self, SignatureFault> {
        let (algorithm, fields) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if algorithm != ALGORITHM {
            return Err(SignatureFault::UnknownAlgorithm);
        }
        let (mut access_key, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) =
                field.trim().split_once('=').ok_or(SignatureFault::Malformed("a field has no value"))?;
            let slot = match name {
                "Access" => &mut access_key,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(SignatureFault::Malformed("a field is unknown")),
            };
            if slot.replace(value).is_some() {
                return Err(SignatureFault::Malformed("a field appears twice"));
            }
        }
        let (Some(access_key), Some(signed_headers), Some(signature)) =
            (access_key, signed_headers, signature)
        else {
            return Err(SignatureFault::Malformed("it needs Access, SignedHeaders and Signature"));
        };
        let is_plain = access_key.bytes().all(|byte| byte.is_ascii_graphic());
        if access_key.is_empty() || access_key.len() > LONGEST_ACCESS_KEY || !is_plain {
            return Err(SignatureFault::Malformed("Access is no access key"));
        }
        Ok(Self {
            access_key,
            signed_headers: header_names(signed_headers)?,
            signature: unhex(signature)
                .ok_or(SignatureFault::Malformed("Signature is not 64 lower-case hexadecimal digits"))?,
        })
    }
}

fn header_names(list: &str) -> Result<Vec<HeaderName>, SignatureFault> {
    let mut names: Vec<HeaderName> = Vec::new();
    for word in list.split(';') {
        if word.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(SignatureFault::Malformed("SignedHeaders has a name that is not in lower case"));
        }
        let name = HeaderName::from_bytes(word.as_bytes())
            .map_err(|_| SignatureFault::Malformed("SignedHeaders has something that is no header name"))?;
        names.push(name);
    }
    // A long list of names must not cost its square.
    let mut sorted: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| matches!(pair, [first, second] if first == second)) {
        return Err(SignatureFault::Malformed("SignedHeaders names a header twice"));
    }
    Ok(names)
}

/// The value of a header that must come exactly once.
fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a [u8], SignatureFault> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or_else(|| SignatureFault::Missing(name.clone()))?;
    match values.next() {
        Some(_) => Err(SignatureFault::Repeated(name.clone())),
        None => Ok(value.as_bytes()),
    }
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

fn judge_date(date: &str, now: Timestamp) -> Result<(), SignatureFault> {
    let signed = parse_date(date).ok_or(SignatureFault::BadDate)?;
    if signed.0.abs_diff(now.0) <= CLOCK_WINDOW_NANOS {
        return Ok(());
    }
    Err(SignatureFault::OutsideClockWindow { date: date.to_owned(), server: format_date(now) })
}

/// `20200102T030405Z`, UTC, and nothing else.
fn parse_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let is_form = bytes.len() == 16
        && bytes.iter().enumerate().all(|(position, byte)| match position {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    if !is_form {
        return None;
    }
    let [year, month, day] = [text.get(..4)?, text.get(4..6)?, text.get(6..8)?];
    let [hour, minute, second] = [text.get(9..11)?, text.get(11..13)?, text.get(13..15)?];
    let rfc3339 = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    let time = humantime::parse_rfc3339(&rfc3339).ok()?;
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since_epoch.as_nanos()).ok().map(Timestamp)
}

fn format_date(time: Timestamp) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(time.0);
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.retain(|character| character != '-' && character != ':');
    text
}

fn canonical_head(head: RequestHead<'_>, credential: &Credential<'_>) -> Result<String, SignatureFault> {
    let mut canonical = format!("{}\n", head.method);
    push_canonical_path(head.path, &mut canonical);
    canonical.push('\n');
    push_canonical_query(head.query, &mut canonical);
    canonical.push('\n');
    for name in &credential.signed_headers {
        let value = std::str::from_utf8(trim(only_value(head.headers, name)?))
            .map_err(|_| SignatureFault::Malformed("a signed header is not UTF-8"))?;
        canonical.push_str(name.as_str());
        canonical.push(':');
        canonical.push_str(value);
        canonical.push('\n');
    }
    canonical.push('\n');
    for (position, name) in credential.signed_headers.iter().enumerate() {
        if position > 0 {
            canonical.push(';');
        }
        canonical.push_str(name.as_str());
    }
    canonical.push('\n');
    Ok(canonical)
}

/// The whole path is decoded before it is cut at `/`, so an encoded slash is one.
fn push_canonical_path(path: &str, canonical: &mut String) {
    let decoded = percent_decoded(path, Plus::IsItself);
    for (position, segment) in decoded.split(|byte| *byte == b'/').enumerate() {
        if position > 0 {
            canonical.push('/');
        }
        canonical.extend(percent_encode(segment, ESCAPED));
    }
    if !canonical.ends_with('/') {
        canonical.push('/');
    }
}

fn push_canonical_query(query: &str, canonical: &mut String) {
    let mut parameters: Vec<(Vec<u8>, Vec<u8>)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (percent_decoded(name, Plus::IsSpace), percent_decoded(value, Plus::IsSpace))
        })
        .collect();
    parameters.sort_unstable();
    for (position, (name, value)) in parameters.iter().enumerate() {
        if position > 0 {
            canonical.push('&');
        }
        canonical.extend(percent_encode(name, ESCAPED));
        canonical.push('=');
        canonical.extend(percent_encode(value, ESCAPED));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsItself,
    IsSpace,
}

/// A `%` that two hexadecimal digits do not follow stands for itself.
fn percent_decoded(text: &str, plus: Plus) -> Vec<u8> {
    match plus {
        Plus::IsItself => percent_decode_str(text).collect(),
        Plus::IsSpace => percent_decode_str(&text.replace('+', " ")).collect(),
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// 32 bytes from 64 lower-case hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |character: u8| match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}
