//! `GET /v1/groups/{group}/dead-letters` and `POST …/dead-letters/replay`.
//!
//! Input: a group, a topic, a filter. Output: a page of dead letters, bounded in bytes; how many were put back.

use std::time::Duration;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use final_core::{
    MessageId,
    broker::{DeadLetter, DeadLetterFilter, LetterCursor},
};
use serde::{Deserialize, Serialize};

use super::{
    answer::Answer,
    call::{Call, consumer, one_pair},
    front::Front,
    params::time,
    problem::Problem,
    publish::bad_path,
    rooms::Rooms,
    shown::ShownMessage,
};
use crate::names::Pair;

/// The most letters of one page.
const MAX_LETTERS: u32 = 1000;

/// A page ends after so many bytes of payloads.
const MAX_BYTES: usize = 1 << 20;

/// So many letters are read at once: each may be as large as a message can be.
const AT_ONCE: u32 = 16;

/// The most ids of a filter.
const MAX_IDS: usize = 512;

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// Which letters to put back. At least one field narrows them, or `all` says that none does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    ids: Option<Vec<String>>,
    key: Option<String>,
    reason: Option<String>,
    older_than: Option<String>,
    limit: Option<u32>,
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Serialize)]
struct Replayed {
    replayed: u64,
}

#[derive(Debug, Serialize)]
struct Page<'a> {
    dead_letters: Vec<ShownDeadLetter<'a>>,
    /// Where the next page begins; none after the last page.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownDeadLetter<'a> {
    #[serde(flatten)]
    message: Content<'a>,
    reason: &'a str,
    attempts: u32,
    age_seconds: f64,
}

/// The message, or what is known of one that cannot be read.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Message(Box<ShownMessage<'a>>),
    Unreadable {
        id: String,
        topic: &'a str,
        unreadable: &'a str,
    },
}

type Group = Result<Path<String>, PathRejection>;

pub(super) async fn list(State(front): State<Front>, group: Group, request: Request) -> Response {
    let mut call = Call::new(front, request);
    let result = page(&mut call, group).await;
    call.finish(result).await
}

pub(super) async fn replay(State(front): State<Front>, group: Group, request: Request) -> Response {
    let mut call = Call::new(front, request);
    let result = put_back(&mut call, group).await;
    call.finish(result).await
}

async fn page(call: &mut Call, group: Group) -> Result<Answer, Problem> {
    let caller = call.caller().await?;
    let Path(group) = group.map_err(bad_path)?;
    let params = call.params(&["topic", "color", "id", "key", "reason", "limit", "after"])?;
    let pair = one_pair(&*caller, &group, &params)?;
    let mut filter = DeadLetterFilter::all();
    let ids: Vec<_> = params.all("id").map(id).collect::<Result<_, _>>()?;
    filter = ids_of(filter, ids)?;
    if let Some(key) = params.one("key")? {
        filter = filter.key(key);
    }
    if let Some(reason) = params.one("reason")? {
        filter = filter.reason(reason);
    }
    if let Some(after) = params.one("after")? {
        let after = after.parse::<LetterCursor>();
        filter = filter.after(after.map_err(|why| Problem::bad("bad_parameter", why))?);
    }
    let limit = params.number("limit", 100, MAX_LETTERS)?;
    call.promise(MAX_BYTES)?;
    let (letters, next) = read(&*call.front.rooms, &pair, filter, limit).await?;
    let shown = Page {
        dead_letters: letters.iter().map(shown).collect(),
        next: next.map(|cursor| cursor.to_string()),
    };
    Ok(Answer::json(StatusCode::OK, &shown))
}

/// Reads a page in small steps, so that it stays within its bytes.
async fn read(
    rooms: &dyn Rooms,
    pair: &Pair,
    mut filter: DeadLetterFilter,
    limit: u32,
) -> Result<(Vec<DeadLetter>, Option<LetterCursor>), Problem> {
    let mut letters = Vec::new();
    let (mut left, mut bytes) = (limit, 0);
    loop {
        let step = left.min(AT_ONCE);
        let some = rooms
            .dead_letters(pair, &filter.clone().limit(step))
            .await?;
        let count = u32::try_from(some.len()).unwrap_or(u32::MAX);
        let sizes = some
            .iter()
            .filter_map(|letter| letter.message.as_ref().ok());
        bytes += sizes.map(|message| message.payload().len()).sum::<usize>();
        let cursor = some.last().and_then(|letter| letter.cursor);
        letters.extend(some);
        left = left.saturating_sub(count);
        // A list ends before so many where the letters are large.
        let Some(cursor) = cursor else {
            return Ok((letters, None));
        };
        if left == 0 || bytes >= MAX_BYTES {
            return Ok((letters, Some(cursor)));
        }
        filter = filter.after(cursor);
    }
}

fn shown(letter: &DeadLetter) -> ShownDeadLetter<'_> {
    ShownDeadLetter {
        message: match &letter.message {
            Ok(message) => Content::Message(Box::new(ShownMessage::of(message))),
            Err(why) => Content::Unreadable {
                id: letter.id.to_string(),
                topic: &letter.topic,
                unreadable: why,
            },
        },
        reason: &letter.reason,
        attempts: letter.attempts,
        age_seconds: letter.age.as_secs_f64(),
    }
}

async fn put_back(call: &mut Call, group: Group) -> Result<Answer, Problem> {
    let caller = call.caller().await?;
    let Path(group) = group.map_err(bad_path)?;
    let pair = one_pair(&*caller, &group, &call.params(&["topic", "color"])?)?;
    let wanted: Replay = call.object().await?;
    // The right may have been taken away while the body came.
    consumer(&*caller, &pair)?;
    let filter = wanted.filter()?;
    call.reserve(1)?;
    let replayed = call.front.rooms.replay(&pair, &filter).await?;
    Ok(Answer::json(StatusCode::OK, &Replayed { replayed }))
}

impl Replay {
    fn filter(self) -> Result<DeadLetterFilter, Problem> {
        let Self {
            ids,
            key,
            reason,
            older_than,
            limit,
            all,
        } = self;
        let narrows = ids.is_some() || key.is_some() || reason.is_some() || older_than.is_some();
        if narrows == all {
            let what = match all {
                true => "\"all\" and a filter exclude each other",
                false => {
                    "say which letters: \"ids\", \"key\", \"reason\" or \"older_than\"; or \"all\": true"
                }
            };
            return Err(Problem::bad("bad_filter", what));
        }
        let mut filter = DeadLetterFilter::all();
        if let Some(ids) = ids {
            if ids.is_empty() {
                return Err(Problem::bad("bad_filter", "\"ids\" is empty"));
            }
            let ids = ids.iter().map(|text| id(text)).collect::<Result<_, _>>()?;
            filter = ids_of(filter, ids)?;
        }
        if let Some(key) = key {
            filter = filter.key(key);
        }
        if let Some(reason) = reason {
            filter = filter.reason(reason);
        }
        if let Some(age) = older_than {
            let age = time(&age, Duration::ZERO, YEAR);
            let age =
                age.map_err(|why| Problem::bad("bad_filter", format!("older_than: {why}")))?;
            filter = filter.older_than(age);
        }
        if let Some(limit) = limit {
            filter = filter.limit(limit);
        }
        Ok(filter)
    }
}

fn id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| {
        Problem::bad(
            "bad_filter",
            "an id of a message is a UUID; a listing has it",
        )
    })
}

fn ids_of(filter: DeadLetterFilter, ids: Vec<MessageId>) -> Result<DeadLetterFilter, Problem> {
    match ids.len() {
        0 => Ok(filter),
        1..=MAX_IDS => Ok(filter.ids(ids)),
        _ => Err(Problem::bad(
            "bad_filter",
            format!("there are more than {MAX_IDS} ids"),
        )),
    }
}
