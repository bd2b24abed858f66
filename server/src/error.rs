//! Errors as clients of the OpenAI API read them: `{"error": {message, type, param, code}}`.
//!
//! Every validation is a 400. Messages state what was given and what is allowed, and hold nothing of our insides.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lmrun_engine::RequestError;
use serde_json::{Value, json};

/// Seconds after which a client refused for lack of room should try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An error and the status it is sent with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// The field of the request that is wrong.
    pub(crate) param: Option<String>,
    /// A stable name, where clients tell errors apart by it.
    pub(crate) code: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code,
        }
    }

    /// A 400 about the field `param`, written as a path: `messages[2].content`.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about(param)
    }

    /// A 400 about something that is known and not served.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            Some("unsupported_parameter"),
            message,
        )
        .about(param)
    }

    /// A 429: there is no room now.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, Some("queue_full"), message)
    }

    /// A 503: the server is on its way out.
    pub(crate) fn shutting_down() -> Self {
        let message = "the server is shutting down";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Some("shutting_down"),
            message,
        )
    }

    /// A 500 that says nothing but that.
    pub(crate) fn internal() -> Self {
        let message = "the server failed while it computed this request";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Some("internal_error"),
            message,
        )
    }

    fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// What the OpenAI API calls the type.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind(),
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::ContextLength { .. } | RequestError::PoolTooSmall { .. } => Self::new(
                StatusCode::BAD_REQUEST,
                Some("context_length_exceeded"),
                message,
            )
            .about("messages"),
            RequestError::QueueFull { .. } => Self::busy(message),
            RequestError::BudgetTooSmall { .. } => Self::invalid("max_tokens", message),
            RequestError::Invalid(_) => {
                Self::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message)
            }
            RequestError::ShuttingDown => Self::shutting_down(),
            RequestError::Internal => Self::internal(),
        }
    }
}
