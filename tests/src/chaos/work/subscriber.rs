//! The handlers.

use std::{sync::Arc, time::Duration};

use final_core::{Attempt, BoxError, MessageId, Payload, Router};
use tower::timeout::TimeoutLayer;

use super::{Behavior, Role, Sold};
use crate::chaos::{
    journal::{Entry, Handled, Journal},
    now,
};

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn router(role: Role, journal: &Arc<Journal>) -> Router {
    let mut router = Router::new();
    for topic in role.topics() {
        let journal = Arc::clone(journal);
        router = router.route(
            *topic,
            move |Payload(sold): Payload<Sold>, Attempt(attempt), id: MessageId| {
                let journal = Arc::clone(&journal);
                async move { handle(&journal, sold, attempt, id).await }
            },
        );
    }
    if !role.topics().is_empty() {
        router = router.layer(TimeoutLayer::new(TIMEOUT));
    }
    router
}

async fn handle(
    journal: &Journal,
    sold: Sold,
    attempt: u32,
    id: MessageId,
) -> Result<(), BoxError> {
    let Sold {
        sale, index, due, ..
    } = sold;
    let early = now() < due;
    match Behavior::of(sale, index) {
        Behavior::Slow(pause) => tokio::time::sleep(pause).await,
        Behavior::FailsFirst if attempt == 1 => return Err("not the first time".into()),
        Behavior::PanicsFirst if attempt == 1 => panic!("not the first time"),
        Behavior::HangsFirst if attempt == 1 => std::future::pending().await,
        Behavior::FailsAlways => return Err("never".into()),
        _ => {}
    }
    let handled = Handled {
        sale,
        index,
        id: id.to_string(),
        early,
        at: now(),
    };
    journal.write(&Entry::Handled(handled))?;
    Ok(())
}
