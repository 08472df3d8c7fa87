//! Handlers as a service has them.

use final_core::{Payload, State, subscribe};

use crate::Log;

#[derive(Debug, thiserror::Error)]
#[error("no order {0}")]
pub(super) struct Missing(pub(super) i64);

/// Documented.
#[subscribe("order.placed")]
pub(super) async fn placed(
    State(log): State<Log>,
    Payload(id): Payload<i64>,
) -> Result<(), Missing> {
    log.add("placed");
    if id == 0 { Err(Missing(id)) } else { Ok(()) }
}

#[subscribe("order.placed")]
pub(super) async fn placed_too() {}

#[subscribe("order.packed")]
pub(super) async fn packed(State(log): State<Log>) {
    log.add("packed");
}
