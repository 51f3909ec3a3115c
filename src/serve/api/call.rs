//! One request of the API: from its routed head to its parts, and from an error to
//! its answer.
//!
//! Credentials, project and role have been looked at before a request comes here, by
//! the layer of `serve::auth`, and path and method by the table of routes. What
//! follows is in the order of docs/vendor-api.md, "Order of the checks": the project,
//! the body's size, then the call itself.

use axum::extract::{FromRequest, FromRequestParts as _, RawPathParams, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::backend::ApiBackend;
use super::parameters::ApiQuery;
use crate::catalog::{ChannelPath, Fault, PathFamily};
use crate::serve::http::{BodyError, BodyReader, ErrorDetail, VendorError, WholeBody, json};

/// Most broken rules that one answer lists: 100,000 bad members must not make
/// an answer larger than the request.
const MOST_DETAILS: usize = 20;

/// What all requests share.
#[derive(Debug, Clone)]
pub(super) struct ApiState<B> {
    pub(super) backend: B,
    pub(super) bodies: BodyReader,
}

/// A request for something of this daemon's project, with its body.
#[derive(Debug)]
pub(super) struct ApiRequest {
    pub(super) family: PathFamily,
    /// The ids in the path, by the names that the table of routes gives them.
    ids: RawPathParams,
    pub(super) query: ApiQuery,
    pub(super) body: WholeBody,
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
    Fault(Fault),
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<B: ApiBackend> FromRequest<ApiState<B>> for ApiRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &ApiState<B>) -> Result<Self, ApiError> {
        let (mut head, body) = request.into_parts();
        // What is empty or not UTF-8 names nothing.
        let ids = RawPathParams::from_request_parts(&mut head, api).await.map_err(|_| ApiError::NoRoute)?;
        if ids.iter().any(|(_, id)| id.is_empty()) {
            return Err(ApiError::NoRoute);
        }
        let family = head.extensions.get().copied().ok_or(ApiError::NoRoute)?;
        if api.backend.channels().resources.project().id != id_of(&ids, "project")? {
            return Err(ApiError::ForeignProject);
        }
        // The body of a signed request was read to check the signature.
        let body = match head.extensions.remove::<WholeBody>() {
            Some(body) => body,
            None => api.bodies.read(body).await.map_err(ApiError::Body)?,
        };
        Ok(Self { family, ids, query: ApiQuery::read(head.uri.query()), body })
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
        match self {
            Self::NoRoute => error(
                StatusCode::NOT_FOUND,
                "APIG.0101",
                "The API does not exist or has not been published in the environment.",
            ),
            Self::NoMethod(methods) => {
                let text = "The API does not take this method.";
                let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "APIG.0101", text);
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
                response
            }
            Self::ForeignProject => {
                error(StatusCode::FORBIDDEN, "APIG.1005", "No permissions to request this method")
            }
            Self::Body(fault) => {
                let mut response = match fault {
                    BodyError::TooLarge => {
                        error(StatusCode::PAYLOAD_TOO_LARGE, "APIG.0201", "Request entity too large.")
                    }
                    BodyError::Lost => error(
                        StatusCode::REQUEST_TIMEOUT,
                        "APIG.0201",
                        "The request body did not arrive in time.",
                    ),
                };
                // What is left of the body would be read as the next request.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
            Self::Fault(fault) => {
                let details = fault.details().into_iter().map(|detail| ErrorDetail {
                    field: detail.field,
                    problem: detail.problem,
                    remedy: detail.remedy,
                });
                let answer = VendorError {
                    error_code: fault.code(),
                    error_msg: &fault.message(),
                    details: details.take(MOST_DETAILS).collect(),
                    request_id: None,
                };
                let status = StatusCode::from_u16(fault.status());
                json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &answer)
            }
        }
    }
}

fn error(status: StatusCode, error_code: &str, error_msg: &str) -> Response {
    json(status, &VendorError { error_code, error_msg, details: Vec::new(), request_id: None })
}
