//! What a router refuses, and what it looks like from outside.

use final_core::{Error, HandlerError, Router, handler::Handler};

use crate::{Log, empty, nothing, orders};

async fn problems(router: Router) -> String {
    let error = router.dispatch(empty("topic")).await.unwrap_err();
    match *error.downcast::<Error>().unwrap() {
        Error::InvalidRouter(problems) => problems,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn topic_with_several_handlers_names_them() {
    let router = Router::new()
        .subscribe(orders::placed)
        .merge(Router::new().subscribe(orders::placed_too))
        .route("order.placed", nothing)
        .route("fine", nothing)
        .with_state(Log::default());

    assert_eq!(
        problems(router).await,
        "topic \"order.placed\" has 3 handlers: router::orders::placed, router::orders::placed_too, \
         router::nothing; a topic has one handler in a service, which may call the others"
    );
}

#[tokio::test]
async fn topics_that_are_none_are_refused_all_at_once() {
    let hash = String::from("order.#");
    let router = Router::new()
        .route("order.*", nothing)
        .route(&hash, nothing)
        .route(String::new(), nothing)
        .route("twice", nothing)
        .route("twice", nothing);

    let problems = problems(router).await;
    let wildcard = "wildcards are not supported; subscribe each topic by its name";
    for expected in [
        format!("topic \"order.*\" is not usable: {wildcard} (handler router::nothing)"),
        format!("topic {hash:?} is not usable: {wildcard}"),
        "topic \"\" is not usable: it is empty or blank".to_owned(),
        "topic \"twice\" has 2 handlers: router::nothing, router::nothing".to_owned(),
    ] {
        assert!(problems.contains(&expected), "{problems}");
    }
}

#[tokio::test]
async fn topic_without_a_route_is_told() {
    let router = Router::new().route("order.placed", nothing);
    let error = router.dispatch(empty("order.paid")).await.unwrap_err();
    assert_eq!(error.to_string(), "no route for topic \"order.paid\"");
}

#[test]
fn router_shows_its_topics_and_handlers() {
    let router = Router::<Log>::default()
        .subscribe(orders::placed)
        .route("x", nothing);
    assert_eq!(
        format!("{router:?}"),
        "Router {\"order.placed\": \"router::orders::placed\", \"x\": \"router::nothing\"}"
    );
}

#[test]
fn public_types_and_futures_are_send_and_sync() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    fn send<T: Send>(_: &T) {}

    let router = Router::new().route("topic", nothing);
    shared(&router);
    send(&router.dispatch(empty("topic")));
    shared(&nothing.with_state(()));
    shared(&HandlerError::retry("x"));
}
