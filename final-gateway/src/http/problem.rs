//! Why a request, or a record of one, did not succeed: its status, a stable code, and a text that says what to do.
//!
//! Input: what publisher, groups and rights say. Output: `{"error":{"code":…,"message":…}}`. No text has a secret or
//! a payload.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::answer::Answer;
use crate::{
    groups::{GroupError, ReceiptError},
    memory::Full,
    names::NameError,
    publish::PublishError,
    rights::{AuthError, Denied, Operation},
};

/// The longest text of an error, in bytes: some errors repeat what the client sent.
const MAX_TEXT: usize = 512;

/// A failure that the client hears of.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

/// A problem as JSON.
#[derive(Debug, Serialize)]
pub(super) struct ProblemBody<'a> {
    code: &'static str,
    message: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT)
                .rev()
                .find(|at| message.is_char_boundary(*at));
            message.truncate(end.unwrap_or(0));
            message.push('…');
        }
        Self {
            status,
            code,
            message,
            retry_after: None,
        }
    }

    /// The request is wrong as it is.
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// Something passes: the same request may succeed later.
    pub(super) fn later(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        after: Duration,
    ) -> Self {
        let mut problem = Self::new(status, code, message);
        problem.retry_after = Some(after);
        problem
    }

    fn unavailable(code: &'static str, message: impl Into<String>, seconds: u64) -> Self {
        let after = Duration::from_secs(seconds);
        Self::later(StatusCode::SERVICE_UNAVAILABLE, code, message, after)
    }

    pub(super) fn busy(message: &str) -> Self {
        Self::unavailable("busy", message, 1)
    }

    /// The app may not do that.
    pub(super) fn denied(
        denied: Denied,
        key: &str,
        operation: Operation,
        group: Option<&str>,
        topic: &str,
    ) -> Self {
        let forbidden = |code, message: String| Self::new(StatusCode::FORBIDDEN, code, message);
        let to_do = match operation {
            Operation::Publish => "publish to",
            Operation::Subscribe => "consume",
        };
        let in_group = match group {
            Some(group) => format!(" in group {group:?}"),
            None => String::new(),
        };
        match denied {
            Denied::Group => forbidden(
                "no_right_on_group",
                format!("app {key:?} has no right{in_group}; an operator can allow it"),
            ),
            Denied::Topic => forbidden(
                "no_right_on_topic",
                format!(
                    "app {key:?} has no right on topic {topic:?}{in_group}; an operator can allow it"
                ),
            ),
            Denied::Operation => forbidden(
                "no_right_to_operation",
                format!(
                    "app {key:?} may not {to_do} topic {topic:?}{in_group}; an operator can allow it"
                ),
            ),
            Denied::Rate(after) => Self::later(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_messages",
                format!(
                    "app {key:?} is over its limit of messages per second; send the request again after the time in Retry-After"
                ),
                after,
            ),
            Denied::Connections(most) => Self::later(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_connections",
                format!(
                    "app {key:?} has {most} connections and requests at once, and may have no more"
                ),
                Duration::from_secs(1),
            ),
        }
    }

    /// What the client hears: the same text whether it was the key or the secret.
    pub(super) fn login(error: &AuthError) -> Self {
        match error {
            AuthError::Slowed => Self::later(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_logins",
                error.to_string(),
                Duration::from_secs(5),
            ),
            AuthError::Unknown => Self::unavailable("rights_unknown", error.to_string(), 5),
            _ => Self::unauthorized("the app's key or secret is wrong"),
        }
    }

    /// The seconds of `Retry-After`, rounded up.
    fn retry_seconds(&self) -> Option<u64> {
        let after = self.retry_after?;
        Some((after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1))
    }

    /// The header `Retry-After` of an answer with several problems: the longest.
    pub(super) fn longest_wait<'a>(
        problems: impl Iterator<Item = &'a Self>,
    ) -> Option<HeaderValue> {
        problems
            .filter_map(Self::retry_seconds)
            .max()
            .map(HeaderValue::from)
    }

    pub(super) fn body(&self) -> ProblemBody<'_> {
        ProblemBody {
            code: self.code,
            message: &self.message,
        }
    }

    /// The text alone, for the seed's dialect.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The whole answer.
    pub(super) fn answer(&self) -> Answer {
        #[derive(Serialize)]
        struct Whole<'a> {
            error: ProblemBody<'a>,
        }
        let whole = Whole { error: self.body() };
        let mut answer = Answer::json(self.status, &whole);
        if let Some(seconds) = self.retry_seconds() {
            answer = answer.with(header::RETRY_AFTER, seconds.into());
        }
        match self.status {
            StatusCode::UNAUTHORIZED => answer.with(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"final-gateway\", charset=\"UTF-8\""),
            ),
            // The rest of the body may still be on its way.
            StatusCode::REQUEST_TIMEOUT => {
                answer.with(header::CONNECTION, HeaderValue::from_static("close"))
            }
            _ => answer,
        }
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::bad("bad_name", error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let message = error.to_string();
        match error {
            PublishError::Refused(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", message)
            }
            PublishError::Away(_) => Self::unavailable("away", message, 5),
            PublishError::Busy => Self::unavailable("busy", message, 1),
            PublishError::Stopping => Self::unavailable("stopping", message, 5),
            PublishError::Unknown => Self::later(
                StatusCode::GATEWAY_TIMEOUT,
                "commit_unknown",
                format!(
                    "{message}. Send it again with the same X-Id, and consumers that keep ids drop the repeat"
                ),
                Duration::from_secs(5),
            ),
        }
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Self {
        let message = error.to_string();
        match error {
            GroupError::Refused(_) => Self::new(StatusCode::CONFLICT, "group_refused", message),
            GroupError::Away(_) => Self::unavailable("away", message, 5),
            GroupError::TooMany(_) => Self::unavailable("too_many_groups", message, 30),
            GroupError::TooManyOfApp { .. } => Self::later(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_groups",
                message,
                Duration::from_secs(30),
            ),
            GroupError::CannotTell => {
                Self::new(StatusCode::NOT_IMPLEMENTED, "cannot_tell", message)
            }
            GroupError::Stopping => Self::unavailable("stopping", message, 5),
        }
    }
}

impl From<Full> for Problem {
    fn from(_: Full) -> Self {
        Self::busy("too many bodies are in memory at once; send the request again later")
    }
}

impl From<ReceiptError> for Problem {
    fn from(error: ReceiptError) -> Self {
        let message = error.to_string();
        match error {
            ReceiptError::Foreign => Self::bad("foreign_receipt", message),
            ReceiptError::Gone => Self::new(StatusCode::GONE, "gone", message),
            ReceiptError::OtherNode(_) => {
                Self::new(StatusCode::MISDIRECTED_REQUEST, "other_node", message)
            }
        }
    }
}
