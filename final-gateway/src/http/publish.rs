//! `POST /v1/topics/{topic}/messages`.
//!
//! Input: one message, or up to a thousand in lines. Output: for each its id and place after its COMMIT, or why it was
//! not published.

use std::time::Duration;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::{StatusCode, header},
    response::Response,
};
use final_core::Message;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    answer::Answer,
    call::Call,
    front::Front,
    problem::{Problem, ProblemBody},
    records::{Form, Origin},
    rooms::Rooms,
};
use crate::{
    names,
    publish::{PublishError, Published},
    rights::Operation,
};

/// What came of a message.
pub(super) type Fate = Result<Published, Problem>;

/// A message that is committed.
#[derive(Debug, Serialize)]
struct Stored {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
}

/// One line of the answer to a batch, and one result of receipts.
#[derive(Debug, Serialize)]
struct Each<'a> {
    status: u16,
    #[serde(flatten)]
    stored: Option<Stored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemBody<'a>>,
}

pub(super) async fn messages(
    State(front): State<Front>,
    topic: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let mut call = Call::new(front, request);
    let result = publish(&mut call, topic).await;
    call.finish(result).await
}

async fn publish(
    call: &mut Call,
    topic: Result<Path<String>, PathRejection>,
) -> Result<Answer, Problem> {
    let caller = call.caller().await?;
    let Path(topic) = topic.map_err(bad_path)?;
    names::check_topic(&topic)?;
    let params = call.params(&["group", "place"])?;
    let group = params.one("group")?;
    group.map(names::check_group).transpose()?;
    let wants_place = params.flag("place", true)?;
    let operation = Operation::Publish;
    let denied = |denied| Problem::denied(denied, caller.key(), operation, group, &topic);
    caller.may(operation, group, &topic).map_err(denied)?;

    let form = Form::of(call.headers())?;
    let limits = call.front.limits;
    let at_most = match form {
        Form::Lines => limits.max_body_bytes,
        _ => limits.max_message_bytes,
    };
    let body = call.bytes(at_most).await?;
    // The right may have been taken away while the body came.
    caller.may(operation, group, &topic).map_err(denied)?;
    let origin = Origin {
        topic: &topic,
        app: caller.key(),
        limits: &limits,
    };
    let is_batch = form == Form::Lines;
    let messages = match is_batch {
        true => origin.lines(&body)?,
        false => vec![origin.single(call.headers(), form, body)],
    };
    let count = messages.iter().filter(|message| message.is_ok()).count();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    call.reserve(messages.len())?;
    if count > 0 {
        caller
            .spend(operation, group, &topic, count)
            .map_err(denied)?;
    }
    let rooms = &*call.front.rooms;
    let mut fates = submit(rooms, messages, wants_place, limits.patience).await;
    match fates.pop() {
        Some(fate) if !is_batch => Ok(Answer::json(StatusCode::OK, &stored(&fate?))),
        last => {
            fates.extend(last);
            Ok(batch(&fates))
        }
    }
}

/// Publishes messages in their order and waits for their COMMIT. A message that is refused holds up no later one; but
/// once there is no room, the later ones are not tried either, so that none overtakes an earlier one.
pub(super) async fn submit(
    rooms: &dyn Rooms,
    messages: Vec<Result<Message, Problem>>,
    wants_place: bool,
    patience: Duration,
) -> Vec<Fate> {
    let until = Instant::now() + patience;
    let mut closed: Option<PublishError> = None;
    let mut submitted = Vec::with_capacity(messages.len());
    for message in messages {
        submitted.push(match (message, &closed) {
            (Err(problem), _) => Err(problem),
            (Ok(_), Some(error)) => Err(error.clone().into()),
            (Ok(message), None) => {
                let left = until.saturating_duration_since(Instant::now());
                let taken = rooms.submit(message, wants_place, left).await;
                taken.map_err(|error| {
                    if error.is_retriable() {
                        closed = Some(error.clone());
                    }
                    error.into()
                })
            }
        });
    }
    let mut fates = Vec::with_capacity(submitted.len());
    for one in submitted {
        fates.push(match one {
            Ok(waiting) => waiting.await.map_err(Problem::from),
            Err(problem) => Err(problem),
        });
    }
    fates
}

fn stored(published: &Published) -> Stored {
    Stored {
        id: published.id.to_string(),
        partition: published.place.map(|place| place.partition),
        seq: published.place.map(|place| place.number),
    }
}

fn batch(fates: &[Fate]) -> Answer {
    answer(fates.iter().map(|fate| match fate {
        Ok(published) => Ok(Some(stored(published))),
        Err(problem) => Err(problem),
    }))
}

/// The answer for receipts: nothing but a status for each.
pub(super) fn results(fates: &[Result<(), Problem>]) -> Answer {
    answer(fates.iter().map(|fate| fate.as_ref().map(|()| None)))
}

/// One status for each; that of the answer is theirs if they have the same, and 207 otherwise.
fn answer<'a>(fates: impl Iterator<Item = Result<Option<Stored>, &'a Problem>>) -> Answer {
    #[derive(Serialize)]
    struct Results<'a> {
        results: Vec<Each<'a>>,
    }
    let mut problems = Vec::new();
    let mut statuses = Vec::new();
    let results = fates.map(|fate| {
        let (status, stored, error) = match fate {
            Ok(stored) => (StatusCode::OK, stored, None),
            Err(problem) => {
                problems.push(problem);
                (problem.status, None, Some(problem.body()))
            }
        };
        statuses.push(status);
        Each {
            status: status.as_u16(),
            stored,
            error,
        }
    });
    let results = Results {
        results: results.collect(),
    };
    statuses.dedup();
    let status = match statuses.as_slice() {
        [] => StatusCode::OK,
        [status] => *status,
        _ => StatusCode::MULTI_STATUS,
    };
    let answer = Answer::json(status, &results);
    match Problem::longest_wait(problems.into_iter()) {
        Some(seconds) => answer.with(header::RETRY_AFTER, seconds),
        None => answer,
    }
}

pub(super) fn bad_path(rejection: PathRejection) -> Problem {
    Problem::bad("bad_path", rejection.body_text())
}
