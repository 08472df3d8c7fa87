//! Repair by a call to an endpoint.

use final_webhook::{Call, CallOutcome, Caller, Endpoint};

use super::{Mended, Wanted, content_id};
use crate::error::Reconciled;

const JSON: &str = "application/json;charset=UTF-8";

const GONE: &str = "the endpoint has answered 410, so it wants no calls any more; give the job another endpoint, or close the repair";

pub(super) async fn mend(
    endpoint: &Endpoint,
    caller: &Caller,
    wanted: &Wanted<'_>,
) -> Reconciled<Mended> {
    let Some(body) = wanted.body().await? else {
        return Ok(Mended::Changed);
    };
    let body = body.to_string();
    // It begins with the repair's id, which an operator sees.
    let content = content_id(wanted.repair, &body).simple();
    let key = format!("{}-{content}", wanted.repair.id);
    let call = match Call::new(body, JSON, &key) {
        Ok(call) => call,
        Err(error) => {
            return Ok(Mended::Failed {
                error: error.to_string(),
                after: None,
            });
        }
    };
    Ok(match caller.call(endpoint, &call).await {
        CallOutcome::Done(_) => Mended::Done,
        // Nobody has mended the row, so the repair stays open and an operator is told.
        CallOutcome::Gone => Mended::Failed {
            error: GONE.to_owned(),
            after: None,
        },
        CallOutcome::Retry { after, why } => Mended::Failed {
            error: why.to_string(),
            after,
        },
        CallOutcome::Paused { until } => Mended::Paused { until },
    })
}
