//! A message that comes once more while this process still has an earlier delivery of it.
//!
//! Input: the later delivery, and what will be the settlement of the earlier one. Output: the same settlement for the
//! later one, so that the handler runs once. If the earlier one was given back unhandled, the later one is handled.
//!
//! ```text
//!   earlier: handler runs ─ Ack or DeadLetter ──▶ void; told to the later one ──▶ settled the same
//!                         └ Requeue, or lost ───▶ the later one waits for a slot, and is handled
//! ```

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{context::SubscriberContext, suspect_work::work_suspect, work::work};
use crate::broker::{Delivery, Settlement};

/// Settles a later delivery as the earlier one. It takes none of the slots while it waits.
pub(super) async fn once_more(
    context: Arc<SubscriberContext>,
    delivery: Delivery,
    earlier: oneshot::Receiver<Settlement>,
) {
    if let Ok(message) = delivery.message() {
        tracing::debug!(
            target: "final::consume",
            topic = message.topic(),
            id = %message.id(),
            "a message came again while this process still had it; no second handler begins"
        );
    }
    delivery.wait(true);
    match earlier.await {
        Ok(Settlement::Requeue) | Err(_) => begin(context, delivery).await,
        // It was counted and told with the earlier one.
        Ok(settlement) => {
            context.stats_of(&delivery).duplicates.add(1);
            delivery.settle(settlement);
        }
    }
}

/// Handles the later delivery, as the earlier one was not.
async fn begin(context: Arc<SubscriberContext>, delivery: Delivery) {
    let route = delivery
        .message()
        .ok()
        .and_then(|message| context.routes.get(message.topic()));
    // Without a route the broker delivers it once more, and then it is known as unrouted.
    let Some(route) = route.map(Arc::clone) else {
        return;
    };
    if delivery.is_suspect() {
        return work_suspect(context, delivery, route).await;
    }
    if let Some(slot) = context.slot().await {
        delivery.wait(false);
        work(context, delivery, route, slot).await;
    }
}
