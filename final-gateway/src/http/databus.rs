//! `POST /databus/pub` and `GET /databus/consumer/addrs`: the answers of databus, byte for byte.
//!
//! Input: `{"records":[{"key":…,"value":…}]}`, whose values are any JSON; or a group. Output:
//! `{"offsets":[{"partition":…,"offset":…,"error_code":…}]}`, or `{"code":0,"message":"0","ttl":1,"data":[…]}` with
//! addresses, or a text.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use final_core::{Message, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    answer::Answer,
    call::{Call, NoCaller},
    front::Front,
    json,
    problem::Problem,
    publish::{Fate, submit},
    records::{JSON, MAX_RECORDS, present},
    rooms::Caller,
};
use crate::{
    names,
    rights::{AuthError, Denied, Operation},
};

/// The same record can never be published.
const NOT_RETRIABLE: u8 = 1;

/// The same record may be published later.
const RETRIABLE: u8 = 2;

/// The header in which a message carries its colour.
const COLOR: &str = "color";

#[derive(Deserialize)]
struct Records<'a> {
    #[serde(borrow, default, alias = "Records")]
    records: Option<Vec<Option<KeyValue<'a>>>>,
}

#[derive(Deserialize)]
struct KeyValue<'a> {
    #[serde(default, alias = "Key")]
    key: Option<String>,
    #[serde(borrow, default, alias = "Value", deserialize_with = "present")]
    value: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
struct Offsets {
    offsets: Option<Vec<Offset>>,
}

#[derive(Debug, Serialize)]
struct Offset {
    partition: u8,
    offset: i64,
    error_code: u8,
}

/// A failure in databus's form: a line of text.
struct Line(StatusCode, String);

impl Line {
    fn bad(text: &str) -> Self {
        Self(StatusCode::BAD_REQUEST, text.to_owned())
    }
}

impl From<Problem> for Line {
    fn from(problem: Problem) -> Self {
        Self(problem.status, problem.message().to_owned())
    }
}

pub(super) async fn publish(State(front): State<Front>, request: Request) -> Response {
    let mut call = Call::new(front, request);
    let answer = match records(&mut call).await {
        Ok(offsets) => {
            let text = serde_json::to_vec(&Offsets { offsets }).unwrap_or_default();
            Answer::bytes(StatusCode::OK, "application/json", text)
        }
        Err(Line(status, text)) => {
            Answer::bytes(status, "text/plain; charset=utf-8", format!("{text}\n"))
        }
    };
    call.finish(Ok(answer)).await
}

/// What databus answers by about a group's connections.
#[derive(Debug, Serialize)]
struct Data {
    code: u8,
    message: &'static str,
    ttl: u8,
    data: Vec<String>,
}

pub(super) async fn addresses(State(front): State<Front>, request: Request) -> Response {
    let mut call = Call::new(front, request);
    let answer = match of_group(&mut call).await {
        Ok(data) => {
            let text = serde_json::to_vec(&Data {
                code: 0,
                message: "0",
                ttl: 1,
                data,
            });
            let kind = "application/json; charset=utf-8";
            Answer::bytes(StatusCode::OK, kind, text.unwrap_or_default())
        }
        Err(Line(status, text)) => {
            Answer::bytes(status, "text/plain; charset=utf-8", format!("{text}\n"))
        }
    };
    call.finish(Ok(answer)).await
}

/// The addresses of a group. databus tells them to anybody; here they are told to an app that may consume in the group.
async fn of_group(call: &mut Call) -> Result<Vec<String>, Line> {
    let caller = caller(call).await?;
    let params = call.loose_params();
    let group = params.all("group").next().unwrap_or_default();
    names::check_group(group).map_err(|_| Line::bad("error group"))?;
    if !caller.consumes(group) {
        return Err(Line::bad("error group"));
    }
    let addresses = call.front.rooms.addresses(group);
    call.reserve(addresses.len())?;
    Ok(addresses.iter().map(ToString::to_string).collect())
}

async fn caller(call: &mut Call) -> Result<Arc<dyn Caller>, Line> {
    call.caller().await.map_err(|error| match error {
        NoCaller::Unreadable(_) | NoCaller::Refused(AuthError::Key) => Line::bad("error key"),
        NoCaller::Refused(AuthError::Secret) => Line::bad("error secret"),
        other => Problem::from(other).into(),
    })
}

async fn records(call: &mut Call) -> Result<Option<Vec<Offset>>, Line> {
    let caller = caller(call).await?;
    let params = call.loose_params();
    let value = |name| params.all(name).next().unwrap_or_default();
    let (group, topic, color) = (value("group"), value("topic"), value("color"));
    names::check_group(group).map_err(|_| Line::bad("error group"))?;
    names::check_topic(topic).map_err(|_| Line::bad("error topic"))?;
    if !color.is_empty() {
        names::check_color(color).map_err(|error| Line::bad(&error.to_string()))?;
    }
    may(&*caller, group, topic)?;

    let limits = call.front.limits;
    let body = call.bytes(limits.max_body_bytes).await?;
    // The right may have been taken away while the body came.
    may(&*caller, group, topic)?;
    let records: Option<Records<'_>> =
        json::read(&body).map_err(|flaw| Line::bad(&flaw.to_string()))?;
    let records = records
        .and_then(|records| records.records)
        .unwrap_or_default();
    if records.is_empty() {
        return Ok(None);
    }
    if records.len() > MAX_RECORDS {
        let text = format!("there are more than {MAX_RECORDS} records; send them in parts");
        return Err(Line::bad(&text));
    }
    call.reserve(records.len())?;
    let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
    let operation = Operation::Publish;
    if caller.spend(operation, Some(group), topic, count).is_err() {
        let later = records.iter().map(|_| failed(RETRIABLE));
        return Ok(Some(later.collect()));
    }
    let messages = records.into_iter().map(|record| {
        let (key, value) = record
            .map(|record| (record.key, record.value))
            .unwrap_or_default();
        message(&body, topic, color, key, value, limits.max_message_bytes)
    });
    let fates = submit(
        &*call.front.rooms,
        messages.collect(),
        true,
        limits.patience,
    )
    .await;
    Ok(Some(fates.iter().map(offset).collect()))
}

fn may(caller: &dyn Caller, group: &str, topic: &str) -> Result<(), Line> {
    let denied = caller.may(Operation::Publish, Some(group), topic);
    denied.map_err(|denied| match denied {
        Denied::Group => Line::bad("error group"),
        Denied::Topic => Line::bad("error topic"),
        Denied::Operation => Line::bad("no publish permission"),
        other => {
            Problem::denied(other, caller.key(), Operation::Publish, Some(group), topic).into()
        }
    })
}

fn message(
    body: &Bytes,
    topic: &str,
    color: &str,
    key: Option<String>,
    value: Option<&RawValue>,
    at_most: usize,
) -> Result<Message, Problem> {
    let value = value.ok_or_else(|| Problem::bad("bad_record", "a record has no value"))?;
    let payload = body.slice_ref(value.get().as_bytes());
    if payload.len() > at_most {
        return Err(Problem::too_large("the value is too large"));
    }
    let mut message = Message::identified(MessageId::new(), topic, payload).with_content_type(JSON);
    if let Some(key) = key.filter(|key| !key.is_empty()) {
        message = message.with_key(key);
    }
    if !color.is_empty() {
        message = message.with_header(COLOR, color);
    }
    Ok(message)
}

fn offset(fate: &Fate) -> Offset {
    match fate {
        Ok(published) => Offset {
            partition: published.place.map_or(0, |place| place.partition),
            offset: published.place.map_or(0, |place| place.number),
            error_code: 0,
        },
        Err(problem) => failed(match problem.status {
            StatusCode::TOO_MANY_REQUESTS => RETRIABLE,
            status if status.is_server_error() => RETRIABLE,
            _ => NOT_RETRIABLE,
        }),
    }
}

fn failed(error_code: u8) -> Offset {
    Offset {
        partition: 0,
        offset: 0,
        error_code,
    }
}
