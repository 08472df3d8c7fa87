//! Panics of handlers and of layers.

use std::task::{Context, Poll};

use final_core::{
    BoxError, Message, Outcome, Payload, Router,
    middleware::{CatchPanicLayer, catch_panic::Panicked},
};
use tower::Service;

use crate::{Log, empty, message, nothing};

#[tokio::test]
async fn handlers_panic_is_a_failure_that_layers_see() {
    async fn panics(Payload(text): Payload<String>) {
        if text.is_empty() {
            panic!("static text");
        }
        panic!("text of {text}");
    }

    let log = Log::default();
    let seen = log.clone();
    let router = Router::new()
        .route("topic", panics)
        .layer(tower::util::MapErrLayer::new(move |error: BoxError| {
            seen.add(error.to_string());
            error
        }));

    for (payload, expected) in [("", "static text"), ("x", "text of x")] {
        let error = router
            .dispatch(message("topic", &payload))
            .await
            .unwrap_err();
        assert_eq!(error.downcast::<Panicked>().unwrap().text(), expected);
        assert_eq!(log.take(), format!("panicked: {expected}"));
    }
}

#[tokio::test]
async fn layers_panic_is_a_failure_wherever_it_happens() {
    #[derive(Clone)]
    struct Panics {
        when_ready: bool,
    }

    impl Service<Message> for Panics {
        type Response = Outcome;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Outcome, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            assert!(!self.when_ready, "getting ready");
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Message) -> Self::Future {
            std::panic::panic_any(7)
        }
    }

    for (when_ready, expected) in [
        (true, "panicked: getting ready"),
        (false, "panicked: with a value that is no text"),
    ] {
        let layer = tower::layer::layer_fn(move |_| Panics { when_ready });
        let router = Router::new().route("topic", nothing).layer(layer);
        let error = router.dispatch(empty("topic")).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn catch_panic_can_stand_between_layers() {
    let router = Router::new()
        .route("topic", nothing)
        .layer(tower::util::MapRequestLayer::new(|message: Message| {
            assert_eq!(message.topic(), "other");
            message
        }))
        .layer(CatchPanicLayer::new())
        .layer(tower::util::MapErrLayer::new(|error: BoxError| {
            format!("outside: {}", error.is::<Panicked>())
        }));
    let error = router.dispatch(empty("topic")).await.unwrap_err();
    assert_eq!(error.to_string(), "outside: true");
}
