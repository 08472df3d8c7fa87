//! Handlers with `#[subscribe]`.

use final_core::{Payload, Router, State, subscribers};

use crate::{Log, empty, message, orders};

#[tokio::test]
async fn subscribed_handler_can_be_called_directly() {
    let log = Log::default();
    let result = orders::placed(State(log.clone()), Payload(0)).await;
    assert_eq!(result.unwrap_err().0, 0);
    assert_eq!(log.take(), "placed");
}

#[tokio::test]
async fn subscribed_handlers_find_their_topics() {
    let log = Log::default();
    let router = Router::new()
        .merge(subscribers![orders::placed, orders::packed])
        .route("again", orders::packed)
        .with_state(log.clone());

    for topic in ["order.packed", "again"] {
        router.dispatch(empty(topic)).await.unwrap();
        assert_eq!(log.take(), "packed");
    }
    router.dispatch(message("order.placed", &1)).await.unwrap();
    let error = router
        .dispatch(message("order.placed", &0))
        .await
        .unwrap_err();
    assert!(error.is::<orders::Missing>());
}
