//! Why a request is not let in: status, code and text
//! (docs/vendor-api.md, "Tokens", "Signatures" and "Errors").

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::signature::SignatureFault;

/// Why a request is not let in. The `Display` text is the answer's `error_msg`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthFault {
    /// Neither a token nor a signature.
    #[error("Token missing. Log in again or try again later.")]
    TokenMissing,
    /// The token was good once.
    #[error("Session expired. Please try again later.")]
    TokenExpired,
    /// No such token, or its user has changed since.
    #[error("Incorrect token or token resolution failed")]
    TokenUnknown,
    /// The token is for an account, not for a project.
    #[error("Token contains no project information.")]
    NoProject,
    /// Another project's, or more than the role allows.
    #[error("No permissions to request this method")]
    Forbidden,
    /// The signature was not accepted.
    #[error("Incorrect IAM authentication information: {0}")]
    Signature(#[from] SignatureFault),
    /// A signed request whose body is too large to be judged.
    #[error("The request body exceeds the size limit.")]
    BodyTooLarge,
    /// The body did not arrive whole.
    #[error("The request body could not be read.")]
    BodyUnreadable,
}

impl AuthFault {
    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TokenMissing
            | Self::TokenExpired
            | Self::TokenUnknown
            | Self::NoProject
            | Self::Signature(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyUnreadable => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer's `error_code`.
    #[must_use]
    pub fn error_code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "APIG.1000",
            Self::TokenExpired => "APIG.1001",
            Self::TokenUnknown => "APIG.1002",
            Self::NoProject => "APIG.1003",
            Self::Forbidden => "APIG.1005",
            Self::Signature(_) => "APIG.0301",
            Self::BodyTooLarge => "APIG.0201",
            Self::BodyUnreadable => "APIG.2000",
        }
    }

    /// The whole answer but for `X-Request-Id`, which belongs on every answer.
    #[must_use]
    pub fn into_answer(self, request_id: &str) -> Response {
        let mut body = json!({ "error_code": self.error_code(), "error_msg": self.to_string() });
        if let (Self::Signature(_), Some(fields)) = (&self, body.as_object_mut()) {
            fields.insert("request_id".to_owned(), request_id.into());
        }
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (self.status(), headers, body.to_string()).into_response()
    }
}
