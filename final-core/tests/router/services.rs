//! Routes that are tower services.

use std::convert::Infallible;

use final_core::{
    BoxError, Error, HandlerError, Message, Outcome, Router,
    handler::{Handler, Permanent},
    middleware::catch_panic::Panicked,
};
use tower::service_fn;

use crate::{Log, empty, nothing};

#[tokio::test]
async fn a_service_takes_the_messages_of_its_topic_within_the_layers() {
    let log = Log::default();
    let seen = log.clone();
    let service = service_fn(move |message: Message| {
        seen.add(message.topic());
        std::future::ready(Ok::<_, Infallible>(()))
    });
    let router: Router = Router::new()
        .route("other", nothing)
        .route_service("order.placed", service)
        .layer(tower::util::MapRequestLayer::new(
            move |message: Message| message.with_attempt(7),
        ));

    let outcome = router.dispatch(empty("order.placed")).await.unwrap();
    assert_eq!(outcome, Outcome::Done);
    router.dispatch(empty("other")).await.unwrap();
    assert_eq!(log.take(), "order.placed");
}

#[tokio::test]
async fn a_service_may_return_what_a_handler_may() {
    let answer = service_fn(async |message: Message| match message.attempt() {
        1 => Ok(Ok(Outcome::Reject)),
        2 => Ok(Err(HandlerError::permanent("never"))),
        _ => Err(BoxError::from("later")),
    });
    let router: Router = Router::new().route_service("topic", answer);
    let attempt = async |number| router.dispatch(empty("topic").with_attempt(number)).await;

    assert_eq!(attempt(1).await.unwrap(), Outcome::Reject);
    let permanent = attempt(2).await.unwrap_err();
    assert!(Permanent::is_in(&*permanent), "{permanent}");
    let retried = attempt(3).await.unwrap_err();
    assert_eq!(retried.to_string(), "later");
    assert!(!Permanent::is_in(&*retried));
}

#[tokio::test]
async fn a_service_that_panics_has_failed() {
    let panics = service_fn(async |message: Message| -> Result<(), Infallible> {
        panic!("no {}", message.topic());
    });
    let router: Router = Router::new().route_service("topic", panics);

    let error = router.dispatch(empty("topic")).await.unwrap_err();
    assert_eq!(error.downcast::<Panicked>().unwrap().text(), "no topic");
}

#[tokio::test]
async fn a_handler_with_a_state_of_its_own_is_such_a_service() {
    async fn greet(
        final_core::State(greeting): final_core::State<&'static str>,
    ) -> Result<(), String> {
        Err(greeting.into())
    }

    let router = Router::<u32>::new()
        .route_service("topic", greet.with_state("hello"))
        .with_state(1);

    let error = router.dispatch(empty("topic")).await.unwrap_err();
    assert_eq!(error.to_string(), "hello");
}

#[tokio::test]
async fn a_topic_of_a_service_and_a_handler_is_refused() {
    let service = service_fn(async |_: Message| Ok::<_, Infallible>(()));
    let router: Router = Router::new()
        .route("topic", nothing)
        .route_service("topic", service);

    let error = router.dispatch(empty("topic")).await.unwrap_err();
    let Error::InvalidRouter(problems) = *error.downcast::<Error>().unwrap() else {
        panic!("another error");
    };
    assert!(problems.contains("has 2 handlers"), "{problems}");
}
