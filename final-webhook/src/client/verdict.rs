//! What an answer means: for the caller, and for the circuit of the endpoint.
//!
//! Input: an answer, or the reason why there is none. Output: an outcome, and the evidence for the circuit. It keeps
//! no state.

use std::time::{Duration, SystemTime};

use hyper::header::LOCATION;

use crate::{
    Call, CallOutcome, Endpoint, NotDone, Step,
    client::circuit::Evidence,
    client::connection::{Answer, BodyEnd},
    client::destination::origin,
    client::endpoint::header_secrets,
    client::excerpt::excerpt,
    client::retry_after::retry_after,
};

/// An answer counts when it is complete, or longer than what is read. An endpoint that fails after the head of its
/// answer has not said that the call is done.
pub(crate) fn of_answer(
    answer: &Answer,
    endpoint: &Endpoint,
    call: &Call,
    now: SystemTime,
) -> (CallOutcome, Evidence) {
    let status = answer.status.as_u16();
    let done = if endpoint.exactly_200 {
        status == 200
    } else {
        answer.status.is_success()
    };
    let whole = matches!(answer.end, BodyEnd::Complete | BodyEnd::Cut);
    if done {
        let why = match &answer.end {
            BodyEnd::Complete | BodyEnd::Cut => {
                return (CallOutcome::Done(status), Evidence::Answers);
            }
            BodyEnd::Broken(error) => NotDone::Broken {
                error: error.clone(),
            },
            BodyEnd::Late => NotDone::Late {
                limit: endpoint.timeout,
                step: Step::Reading,
            },
        };
        return (retry(None, why), Evidence::FailsAt(call.message()));
    }
    if status == 410 && whole {
        return (CallOutcome::Gone, Evidence::Answers);
    }
    let after = match status {
        429 | 503 => retry_after(&answer.headers, now),
        _ => None,
    };
    let evidence = match (status, after) {
        (_, Some(rest)) if rest > Duration::ZERO => Evidence::WantsRest(rest),
        (408 | 429 | 500.., _) => Evidence::FailsAt(call.message()),
        // It works, and does not want this message.
        _ => Evidence::Answers,
    };
    let location = answer
        .headers
        .get(LOCATION)
        .filter(|_| answer.status.is_redirection());
    let why = match location {
        Some(location) => NotDone::Redirect {
            status,
            to: origin(&String::from_utf8_lossy(location.as_bytes())),
        },
        None => NotDone::Status {
            status,
            said: excerpt(&answer.body, secrets(endpoint, call)),
        },
    };
    (retry(after, why), evidence)
}

/// A failure before the request was sent is the endpoint's. Later, the message may be the reason, so each message
/// counts once.
pub(crate) fn of_failure(why: NotDone, call: &Call) -> (CallOutcome, Evidence) {
    let evidence = match &why {
        // Our own rules and limits say nothing of the endpoint.
        NotDone::Busy { .. } | NotDone::Forbidden { .. } => Evidence::Nothing,
        NotDone::Unresolved { .. } | NotDone::Unreachable { .. } | NotDone::Tls { .. } => {
            Evidence::Fails
        }
        NotDone::Late {
            step: Step::Resolving | Step::Connecting,
            ..
        } => Evidence::Fails,
        NotDone::Late { .. }
        | NotDone::Broken { .. }
        | NotDone::Status { .. }
        | NotDone::Redirect { .. } => Evidence::FailsAt(call.message()),
    };
    (retry(None, why), evidence)
}

fn retry(after: Option<Duration>, why: NotDone) -> CallOutcome {
    CallOutcome::Retry { after, why }
}

fn secrets<'a>(endpoint: &'a Endpoint, call: &'a Call) -> impl Iterator<Item = &'a str> {
    endpoint.secret_texts().chain(header_secrets(&call.headers))
}
