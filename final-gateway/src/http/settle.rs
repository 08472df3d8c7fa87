//! `POST /v1/groups/{group}/ack`, `nack` and `extend`.
//!
//! Input: receipts. Output: one result for each.

use std::{collections::HashMap, time::Duration};

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use serde::Deserialize;

use super::{
    answer::Answer,
    call::{Call, consumer},
    front::Front,
    params::time,
    problem::Problem,
    publish::{bad_path, results},
    pull::LEAST_VISIBILITY,
    rooms::{Caller, Order, Rooms},
};
use crate::{groups::ReceiptError, names::Pair};

/// The most receipts of one request.
const MAX_RECEIPTS: usize = 1000;

/// The longest reason, in bytes: that of a dead letter.
const MAX_REASON: usize = final_core::broker::Cause::MAX_REASON;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ack {
    receipts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nack {
    receipts: Vec<String>,
    delay: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extend {
    receipts: Vec<String>,
    visibility: Option<String>,
}

type Group = Result<Path<String>, PathRejection>;

pub(super) async fn ack(State(front): State<Front>, group: Group, request: Request) -> Response {
    let mut call = Call::new(front, request);
    let result = settle(&mut call, group, Form::Ack).await;
    call.finish(result).await
}

pub(super) async fn nack(State(front): State<Front>, group: Group, request: Request) -> Response {
    let mut call = Call::new(front, request);
    let result = settle(&mut call, group, Form::Nack).await;
    call.finish(result).await
}

pub(super) async fn extend(State(front): State<Front>, group: Group, request: Request) -> Response {
    let mut call = Call::new(front, request);
    let result = settle(&mut call, group, Form::Extend).await;
    call.finish(result).await
}

#[derive(Clone, Copy)]
enum Form {
    Ack,
    Nack,
    Extend,
}

async fn settle(call: &mut Call, group: Group, form: Form) -> Result<Answer, Problem> {
    let caller = call.caller().await?;
    let Path(group) = group.map_err(bad_path)?;
    crate::names::check_group(&group)?;
    call.params(&[])?;
    let (receipts, order) = read(call, form).await?;
    match receipts.len() {
        0 => return Err(Problem::bad("no_receipts", "there are no receipts")),
        1..=MAX_RECEIPTS => {}
        _ => {
            let what = format!("there are more than {MAX_RECEIPTS} receipts; send them in parts");
            return Err(Problem::too_large(what));
        }
    }
    call.reserve(receipts.len())?;
    let rooms = &*call.front.rooms;
    let mut fates = allowed(rooms, &*caller, &group, &receipts);
    let theirs = receipts.into_iter().zip(&fates);
    let theirs: Vec<_> = theirs
        .filter_map(|(receipt, fate)| fate.is_ok().then_some(receipt))
        .collect();
    let settled = rooms.settle(&group, &theirs, &order).await;
    for (fate, one) in fates.iter_mut().filter(|fate| fate.is_ok()).zip(settled) {
        *fate = one.map_err(Problem::from);
    }
    Ok(results(&fates))
}

/// For each receipt, whether the caller may settle it.
fn allowed(
    rooms: &dyn Rooms,
    caller: &dyn Caller,
    group: &str,
    receipts: &[String],
) -> Vec<Result<(), Problem>> {
    let mut known = HashMap::<Pair, Result<(), Problem>>::new();
    let each = receipts.iter().map(|receipt| {
        let pair = rooms.pair_of(receipt)?;
        if pair.group() != group {
            return Err(ReceiptError::Foreign.into());
        }
        match known.get(&pair) {
            Some(answer) => answer.clone(),
            None => {
                let answer = consumer(caller, &pair);
                known.insert(pair, answer.clone());
                answer
            }
        }
    });
    each.collect()
}

async fn read(call: &mut Call, form: Form) -> Result<(Vec<String>, Order), Problem> {
    let field = |name: &str, why: String| Problem::bad("bad_field", format!("{name}: {why}"));
    Ok(match form {
        Form::Ack => (call.object::<Ack>().await?.receipts, Order::Ack),
        Form::Nack => {
            let Nack {
                receipts,
                delay,
                reason,
            } = call.object().await?;
            let most_delay = call.front.limits.most_delay;
            let delay = delay.map_or(Ok(Duration::ZERO), |text| {
                time(&text, Duration::ZERO, most_delay).map_err(|why| field("delay", why))
            });
            if reason
                .as_ref()
                .is_some_and(|reason| reason.len() > MAX_REASON)
            {
                return Err(field(
                    "reason",
                    format!("it is longer than {MAX_REASON} bytes"),
                ));
            }
            let order = Order::Nack {
                delay: delay?,
                reason,
            };
            (receipts, order)
        }
        Form::Extend => {
            let Extend {
                receipts,
                visibility,
            } = call.object().await?;
            let limits = &call.front.limits;
            let (default, most) = (limits.visibility, limits.most_visibility);
            let visibility = visibility.map_or(Ok(default), |text| {
                time(&text, LEAST_VISIBILITY, most).map_err(|why| field("visibility", why))
            });
            (receipts, Order::Extend(visibility?))
        }
    })
}
