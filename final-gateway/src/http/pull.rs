//! `GET /v1/groups/{group}/messages`: a lot of messages, at once or as soon as there are some.
//!
//! Input: a group, its topics, and how many, how long, for how long. Output: messages with their receipts. A client that
//! goes away before its answer has come gets them again when their time in hand is over.

use std::time::Duration;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use tokio::time::timeout;

use super::{
    answer::Answer,
    call::{Call, consumer},
    front::Front,
    params::Params,
    problem::Problem,
    publish::bad_path,
    rooms::Caller,
    shown::ShownMessage,
};
use crate::{
    groups::{GroupError, Lot, Pulled},
    names::Pair,
    rights::Operation,
};

const MAX_MESSAGES: u32 = 1000;
const MAX_TOPICS: usize = 16;
const MAX_BYTES: u32 = 4 << 20;
const MAX_WAIT: Duration = Duration::from_secs(60);
pub(super) const LEAST_VISIBILITY: Duration = Duration::from_secs(1);

/// A group that nobody has consumed yet is opened first, so this is longer than that takes.
const WAIT: Duration = Duration::from_secs(10);

/// What arrives together goes out together.
const GATHER: Duration = Duration::from_millis(5);

/// A pull ends, whatever the groups do.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct Lots<'a> {
    messages: Vec<ShownPulled<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownPulled<'a> {
    receipt: &'a str,
    #[serde(flatten)]
    message: ShownMessage<'a>,
    attempt: u32,
    partition: i32,
    seq: Option<i64>,
}

pub(super) async fn messages(
    State(front): State<Front>,
    group: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let mut call = Call::new(front, request);
    let result = pull(&mut call, group).await;
    call.finish(result).await
}

async fn pull(
    call: &mut Call,
    group: Result<Path<String>, PathRejection>,
) -> Result<Answer, Problem> {
    let caller = call.caller().await?;
    let revoked = caller.revoked();
    let Path(group) = group.map_err(bad_path)?;
    let params = call.params(&["topic", "max", "max_bytes", "wait", "visibility"])?;
    let pairs = pairs(&group, &params)?;
    let mut most = params.number("max", 100, MAX_MESSAGES)?;
    for pair in &pairs {
        consumer(&*caller, pair)?;
        charge(&*caller, pair, 0)?;
        most = most.min(caller.batch(pair.group(), pair.topic()).unwrap_or(most));
    }
    let limits = &call.front.limits;
    let (default, most_of_it) = (limits.visibility, limits.most_visibility);
    let visibility = params.time("visibility", default, LEAST_VISIBILITY, most_of_it)?;
    let bytes = params.number("max_bytes", 1 << 20, MAX_BYTES)? as usize;
    let lot = Lot {
        messages: most as usize,
        bytes: call.promise(bytes)?,
        wait: params.time("wait", WAIT, Duration::ZERO, MAX_WAIT)?,
        gather: GATHER,
    };

    let ending = call.ending();
    let pulling = timeout(
        lot.wait + GRACE,
        call.front.rooms.pull(&*caller, &pairs, lot, visibility),
    );
    let pulled = tokio::select! {
        pulled = pulling => pulled.unwrap_or_else(|_| Ok(Vec::new()))?,
        () = ending.cancelled() => return Err(GroupError::Stopping.into()),
        () = revoked.cancelled() => {
            return Err(Problem::unauthorized(
                "the app's rights have changed while the request waited; send it again",
            ));
        }
    };
    for pair in &pairs {
        let mine = pulled
            .iter()
            .filter(|one| one.message.topic() == pair.topic());
        let count = u32::try_from(mine.count()).unwrap_or(u32::MAX);
        if count > 0 {
            // They are out already. The debt is paid before the next pull.
            let _ = charge(&*caller, pair, count);
        }
    }
    Ok(Answer::json(StatusCode::OK, &shown(&pulled)))
}

fn pairs(group: &str, params: &Params) -> Result<Vec<Pair>, Problem> {
    let mut pairs = Vec::new();
    for topic in params.all("topic") {
        let pair = Pair::new(group, topic)?;
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    match pairs.len() {
        0 => Err(Problem::bad(
            "bad_parameter",
            "parameter \"topic\": it is missing",
        )),
        1..=MAX_TOPICS => Ok(pairs),
        _ => Err(Problem::bad(
            "bad_parameter",
            format!("parameter \"topic\": it is there more than {MAX_TOPICS} times"),
        )),
    }
}

/// Takes messages out of the app's bucket. None of them asks only whether the bucket is in debt.
fn charge(caller: &dyn Caller, pair: &Pair, messages: u32) -> Result<(), Problem> {
    let (operation, group, topic) = (Operation::Subscribe, Some(pair.group()), pair.topic());
    caller
        .spend(operation, group, topic, messages)
        .map_err(|denied| Problem::denied(denied, caller.key(), operation, group, topic))
}

fn shown(pulled: &[Pulled]) -> Lots<'_> {
    let messages = pulled.iter().map(|one| ShownPulled {
        receipt: &one.receipt,
        message: ShownMessage::of(&one.message),
        attempt: one.attempt,
        partition: one.partition,
        seq: one.seq,
    });
    Lots {
        messages: messages.collect(),
    }
}
