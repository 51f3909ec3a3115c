//! One request of the API: from its routed head to its parts, and from an error to
//! its answer.
//!
//! Credentials, project and role have been looked at before a request comes here, by
//! the layer of `serve::auth`, and path and method by the table of routes. What
//! follows is in the order of docs/vendor-api.md, "Order of the checks": the project,
//! the body's size, then the call itself. Query parameters are those of "Lists and
//! filters" there: unknown ones are passed over, and of one given twice the first counts.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts as _, RawPathParams, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::catalog::{
    Call, ChannelFilter, ChannelPath, Channels, Client, Fault, InstanceFilter, MemberFilter, Paging,
    PathFamily, Reply, Snapshot, TextFilter,
};
use crate::channel::ChannelKind;
use crate::serve::app::SnapshotError;
use crate::serve::audit::AuditNote;
use crate::serve::auth::client_of;
use crate::serve::http::{BodyError, BodyReader, ErrorForm, VendorError, WholeBody};
use crate::serve::peer::ConnectionInfo;

/// Most broken rules that one answer lists: 100,000 bad members must not make
/// an answer larger than the request.
const MOST_DETAILS: usize = 20;

/// The daemon, as the API sees it. Cloned once per request.
pub trait ApiBackend: Clone + Send + Sync + 'static {
    /// The channels as of the last durable change.
    fn channels(&self) -> Arc<Channels>;

    /// Does a client's call: durable and in effect before this returns, or not at all.
    ///
    /// # Errors
    /// Why it was refused.
    fn write(&self, call: Call, client: Client) -> impl Future<Output = Result<Reply, Fault>> + Send;

    /// The live verdicts; one snapshot may serve requests that come together.
    ///
    /// # Errors
    /// Nobody answered.
    fn observe(&self) -> impl Future<Output = Result<Arc<Snapshot>, SnapshotError>> + Send;

    /// The addresses that instances are shown with: those this daemon serves on.
    fn addresses(&self) -> Vec<SocketAddr>;
}

/// What all requests share.
#[derive(Debug, Clone)]
pub(super) struct ApiState<B> {
    pub(super) backend: B,
    pub(super) bodies: BodyReader,
    /// Which of the two families the route belongs to.
    pub(super) family: PathFamily,
}

/// A request for something of this daemon's project, with its body.
#[derive(Debug)]
pub(super) struct ApiRequest {
    pub(super) family: PathFamily,
    /// The ids in the path, by the names that the table of routes gives them.
    ids: RawPathParams,
    pub(super) query: ApiQuery,
    pub(super) body: WholeBody,
    /// Who sends it.
    pub(super) client: Client,
    /// What the audit is told of it.
    pub(super) audit: Option<AuditNote>,
}

/// Why a request got no further, as an answer.
#[derive(Debug)]
pub(super) enum ApiError {
    /// No such path.
    NoRoute,
    /// The path does not take the method; the methods it takes, as `Allow` has them.
    NoMethod(&'static str),
    /// A project that is not this daemon's.
    ForeignProject,
    /// The body is too large or did not arrive.
    Body(BodyError),
    /// The call was refused.
    Refused(Fault, PathFamily),
}

/// For reads, which the families refuse alike.
impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault, PathFamily::Apig)
    }
}

impl<B: ApiBackend> FromRequest<ApiState<B>> for ApiRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &ApiState<B>) -> Result<Self, ApiError> {
        let (mut head, body) = request.into_parts();
        // An id that is empty or not UTF-8 names nothing.
        let ids = RawPathParams::from_request_parts(&mut head, api).await.map_err(|_| ApiError::NoRoute)?;
        if ids.iter().any(|(_, id)| id.is_empty()) {
            return Err(ApiError::NoRoute);
        }
        if api.backend.channels().resources.project().id != id_of(&ids, "project")? {
            return Err(ApiError::ForeignProject);
        }
        // The body of a signed request was read to check the signature.
        let body = match head.extensions.remove::<WholeBody>() {
            Some(body) => body,
            None => {
                let network = ConnectionInfo::of(&head.extensions).network;
                api.bodies.read(body, network).await.map_err(ApiError::Body)?
            }
        };
        let query = ApiQuery::read(head.uri.query());
        let (audit, client) = (head.extensions.remove(), client_of(&mut head.extensions));
        Ok(Self { family: api.family, ids, query, body, client, audit })
    }
}

impl ApiRequest {
    /// The id of that name in the path, decoded.
    ///
    /// # Errors
    /// The route has no such id, which is a mistake in the table of routes.
    pub(super) fn id(&self, name: &str) -> Result<&str, ApiError> {
        id_of(&self.ids, name)
    }

    /// The ids that lead to a channel.
    pub(super) fn channel_path(&self) -> Result<ChannelPath, ApiError> {
        let (instance, channel) = (self.id("instance")?, self.id("channel")?);
        Ok(ChannelPath { instance: instance.to_owned(), channel: channel.to_owned() })
    }
}

fn id_of<'p>(ids: &'p RawPathParams, name: &str) -> Result<&'p str, ApiError> {
    ids.iter().find(|(key, _)| *key == name).map(|(_, id)| id).ok_or(ApiError::NoRoute)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error_code, error_msg) = match &self {
            Self::Refused(fault, family) => return fault_response(fault, *family),
            Self::NoRoute => (
                StatusCode::NOT_FOUND,
                "APIG.0101",
                "The API does not exist or has not been published in the environment.",
            ),
            Self::NoMethod(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, "APIG.0101", "The API does not take this method.")
            }
            Self::ForeignProject => {
                (StatusCode::FORBIDDEN, "APIG.1005", "No permissions to request this method")
            }
            Self::Body(BodyError::TooLarge) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "APIG.0201", "Request entity too large.")
            }
            Self::Body(BodyError::Lost) => {
                (StatusCode::REQUEST_TIMEOUT, "APIG.0201", "The request body did not arrive in time.")
            }
            Self::Body(BodyError::Malformed) => {
                (StatusCode::BAD_REQUEST, "APIG.2000", "The request body could not be read.")
            }
            Self::Body(BodyError::NoPlace) => return ErrorForm::Vendor.no_place(),
        };
        let answer = VendorError { error_code, error_msg, details: &[], request_id: None };
        let mut response = answer.answer(status);
        let (header, value) = match self {
            Self::NoMethod(methods) => (header::ALLOW, methods),
            // What is left of the body would be read as the next request.
            Self::Body(_) => (header::CONNECTION, "close"),
            _ => return response,
        };
        response.headers_mut().insert(header, HeaderValue::from_static(value));
        response
    }
}

fn fault_response(fault: &Fault, family: PathFamily) -> Response {
    let (status, error_code, error_msg) = fault.answer(family);
    let mut details = fault.details();
    details.truncate(MOST_DETAILS);
    let answer = VendorError { error_code, error_msg: &error_msg, details: &details, request_id: None };
    answer.answer(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

/// Whether the answer about a project channel lists its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MembersReturn {
    Listed,
    Omitted,
}

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct ApiQuery {
    pairs: Vec<(String, String)>,
}

impl ApiQuery {
    pub(super) fn read(query: Option<&str>) -> Self {
        Self { pairs: form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect() }
    }

    /// A parameter's text; an empty one counts as absent.
    fn text(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(key, _)| key == name)?;
        Some(found.1.as_str()).filter(|text| !text.is_empty())
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// A whole number that fits its type, whatever its size.
    fn number(&self, name: &'static str, least: i64, most: i64) -> Result<Option<i64>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::Invalid(name, format!("{text:?} is no whole number")));
        }
        match text.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => Err(Fault::OutOfRange(name)),
        }
    }

    /// `offset` (int64) and `limit` (int32).
    pub(super) fn paging(&self) -> Result<Paging, Fault> {
        let offset = self.number("offset", i64::MIN, i64::MAX)?;
        let limit = self.number("limit", i32::MIN.into(), i32::MAX.into())?;
        Ok(Paging::new(offset.unwrap_or(0), limit.unwrap_or(0)))
    }

    /// A text filter, exact when `precise_search` names its parameter.
    fn text_filter(&self, name: &str) -> Option<TextFilter> {
        let text = self.owned(name)?;
        let precise = self.text("precise_search").unwrap_or_default();
        let is_precise = precise.split(',').any(|word| word.trim() == name);
        Some(if is_precise { TextFilter::Whole(text) } else { TextFilter::Part(text) })
    }

    /// Filters of the lists of channels. `vpc_channel_type` is APIG's alone.
    pub(super) fn channel_filter(&self, family: PathFamily) -> Result<ChannelFilter, Fault> {
        let member_port = self.number("member_port", 0, 65535)?;
        let kind = match (family, self.text("vpc_channel_type")) {
            (PathFamily::Roma, _) | (_, None) => None,
            (PathFamily::Apig, Some(word)) => Some(kind_of(word)?),
        };
        Ok(ChannelFilter {
            id: self.owned("id"),
            name: self.text_filter("name"),
            member_host: self.owned("member_host"),
            member_port: member_port.and_then(|port| u16::try_from(port).ok()),
            group_name: self.text_filter("member_group_name"),
            group_id: self.owned("member_group_id"),
            kind,
        })
    }

    /// Filters of the list of members.
    pub(super) fn member_filter(&self) -> MemberFilter {
        MemberFilter {
            name: self.text_filter("name"),
            group_name: self.text_filter("member_group_name"),
            group_id: self.owned("member_group_id"),
        }
    }

    /// The filter of the list of groups.
    pub(super) fn group_filter(&self) -> Option<TextFilter> {
        self.text_filter("member_group_name")
    }

    /// Filters of the list of instances.
    pub(super) fn instance_filter(&self) -> InstanceFilter {
        InstanceFilter {
            id: self.owned("instance_id"),
            name: self.owned("instance_name"),
            status: self.owned("status"),
        }
    }

    /// `members_return` of the list of project channels; no members unless it is given.
    pub(super) fn members_return(&self) -> Result<MembersReturn, Fault> {
        match self.text("members_return") {
            None => Ok(MembersReturn::Omitted),
            Some(word) if word.eq_ignore_ascii_case("true") => Ok(MembersReturn::Listed),
            Some(word) if word.eq_ignore_ascii_case("false") => Ok(MembersReturn::Omitted),
            Some(_) => Err(Fault::Invalid("members_return", "write true or false".to_owned())),
        }
    }
}

fn kind_of(word: &str) -> Result<ChannelKind, Fault> {
    let kinds = [ChannelKind::Builtin, ChannelKind::Microservice, ChannelKind::Reference];
    let found = kinds.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| {
        Fault::Invalid("vpc_channel_type", "write builtin, microservice or reference".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_is_forgiving_within_its_types() {
        let page = |query| ApiQuery::read(Some(query)).paging();
        let cases = [
            ("", 0, 20),
            ("offset=&limit=", 0, 20),
            ("offset=-5&limit=0", 0, 20),
            ("offset=7&limit=-1", 7, 20),
            ("offset=9223372036854775807&limit=501", usize::MAX >> 1, 500),
            ("limit=500&limit=1", 0, 500),
        ];
        for (query, offset, limit) in cases {
            assert_eq!(page(query), Ok(Paging { offset, limit }), "{query}");
        }
        for (query, code) in [
            ("limit=x", "APIG.2012"),
            ("limit=1.5", "APIG.2012"),
            ("limit=2147483648", "APIG.2004"),
            ("offset=9223372036854775808", "APIG.2004"),
            ("offset=--1", "APIG.2012"),
        ] {
            assert_eq!(page(query).expect_err(query).code(), code, "{query}");
        }
    }

    #[test]
    fn precise_search_names_parameters() {
        let query = "name=web&member_group_name=blue&precise_search=x%2Cmember_group_name";
        let filter = ApiQuery::read(Some(query)).channel_filter(PathFamily::Apig).expect("good");
        assert_eq!(filter.name, Some(TextFilter::Part("web".to_owned())));
        assert_eq!(filter.group_name, Some(TextFilter::Whole("blue".to_owned())));
    }

    #[test]
    fn filters_with_bad_values_are_refused() {
        for query in ["member_port=65536", "member_port=-1", "member_port=x", "vpc_channel_type=other"] {
            assert!(ApiQuery::read(Some(query)).channel_filter(PathFamily::Apig).is_err(), "{query}");
        }
        let roma = ApiQuery::read(Some("vpc_channel_type=other")).channel_filter(PathFamily::Roma);
        assert_eq!(roma, Ok(ChannelFilter::default()));
    }
}
