//! `GET /v1/groups/{group}/backlog`.
//!
//! Input: a group and a topic. Output: what waits.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;

use super::{
    answer::Answer,
    call::{Call, one_pair},
    front::Front,
    problem::Problem,
    publish::bad_path,
};

#[derive(Debug, Serialize)]
struct ShownBacklog<'a> {
    group: &'a str,
    topic: &'a str,
    waiting: u64,
    oldest_seconds: Option<f64>,
    dead_letters: u64,
}

pub(super) async fn backlog(
    State(front): State<Front>,
    group: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let mut call = Call::new(front, request);
    let result = ask(&mut call, group).await;
    call.finish(result).await
}

async fn ask(
    call: &mut Call,
    group: Result<Path<String>, PathRejection>,
) -> Result<Answer, Problem> {
    let caller = call.caller().await?;
    let Path(group) = group.map_err(bad_path)?;
    let pair = one_pair(&*caller, &group, &call.params(&["topic", "color"])?)?;
    call.reserve(1)?;
    let backlog = call.front.rooms.backlog(&pair).await?;
    let shown = ShownBacklog {
        group: pair.group(),
        topic: pair.topic(),
        waiting: backlog.waiting,
        oldest_seconds: backlog.oldest.map(|age| age.as_secs_f64()),
        dead_letters: backlog.dead_letters,
    };
    Ok(Answer::json(StatusCode::OK, &shown))
}
