//! Layers: which routes they wrap and in which order, tower's own, and errors on their way through.

use std::{
    cell::Cell,
    io,
    task::{Context, Poll},
    time::Duration,
};

use final_core::{BoxError, HandlerError, Message, Outcome, Router, State, handler::Permanent};
use tower::{
    Layer, Service, ServiceBuilder,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    load_shed::LoadShedLayer,
    timeout::TimeoutLayer,
};

use crate::{Log, empty, nothing};

impl Log {
    fn layer(&self, name: &'static str) -> NoteLayer {
        let log = self.clone();
        NoteLayer { name, log }
    }
}

/// A layer as a user writes one: notes when messages pass.
#[derive(Clone)]
struct NoteLayer {
    name: &'static str,
    log: Log,
}

#[derive(Clone)]
struct Note<S> {
    inner: S,
    name: &'static str,
    log: Log,
}

impl<S> Layer<S> for NoteLayer {
    type Service = Note<S>;

    fn layer(&self, inner: S) -> Note<S> {
        let (name, log) = (self.name, self.log.clone());
        Note { inner, name, log }
    }
}

impl<S: Service<Message>> Service<Message> for Note<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> S::Future {
        self.log.add(self.name);
        self.inner.call(message)
    }
}

#[tokio::test]
async fn layers_wrap_the_routes_above_and_no_others() {
    let log = Log::default();
    let router = Router::new()
        .route("above", nothing)
        .layer(log.layer("layer"))
        .route("below", nothing);

    router.dispatch(empty("below")).await.unwrap();
    assert_eq!(log.take(), "");
    router.dispatch(empty("above")).await.unwrap();
    assert_eq!(log.take(), "layer");
}

#[tokio::test]
async fn layers_added_later_lie_outside() {
    let log = Log::default();
    let router = Router::new()
        .route("topic", async |State(log): State<Log>| log.add("handler"))
        .layer(log.layer("first"))
        .layer(
            ServiceBuilder::new()
                .layer(log.layer("second, outer"))
                .layer(log.layer("second, inner")),
        )
        .with_state(log.clone())
        .layer(log.layer("third"));

    router.dispatch(empty("topic")).await.unwrap();
    assert_eq!(
        log.take(),
        "third second, outer second, inner first handler"
    );
}

#[tokio::test]
async fn merged_routes_keep_their_own_layers() {
    let log = Log::default();
    let own = Router::new().route("a", nothing).layer(log.layer("own"));
    let router = Router::new()
        .route("b", nothing)
        .merge(own)
        .layer(log.layer("common"))
        .merge(Router::new().route("c", nothing));

    for (topic, expected) in [("a", "common own"), ("b", "common"), ("c", "")] {
        router.dispatch(empty(topic)).await.unwrap();
        assert_eq!(log.take(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn timeout_of_tower_ends_an_attempt() {
    let router = Router::new()
        .route("slow", std::future::pending::<()>)
        .route("fast", nothing)
        .layer(TimeoutLayer::new(Duration::from_secs(1)));

    assert_eq!(router.dispatch(empty("fast")).await.unwrap(), Outcome::Done);
    let error = router.dispatch(empty("slow")).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    assert!(!Permanent::is_in(&*error));
}

thread_local! {
    /// How many handlers run, and the most that ever did.
    static RUNNING: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Handles two messages at once, and tells the most that were inside.
async fn most_at_once(router: &Router, topics: [&str; 2]) -> usize {
    RUNNING.set((0, 0));
    let [first, second] = topics.map(|topic| router.dispatch(empty(topic)));
    let (first, second) = futures::join!(first, second);
    first.and(second).unwrap();
    RUNNING.get().1
}

async fn counted() {
    let step = |by: isize| {
        let (now, most) = RUNNING.get();
        let now = now.strict_add_signed(by);
        RUNNING.set((now, most.max(now)));
    };
    step(1);
    tokio::task::yield_now().await;
    step(-1);
}

#[tokio::test]
async fn concurrency_limit_of_tower_holds_per_route_or_for_all() {
    let routes = || Router::new().route("a", counted).route("b", counted);
    let free = routes();
    let each = routes().layer(ConcurrencyLimitLayer::new(1));
    let all = routes().layer(GlobalConcurrencyLimitLayer::new(1));

    assert_eq!(most_at_once(&free, ["a", "a"]).await, 2);
    assert_eq!(most_at_once(&each, ["a", "a"]).await, 1);
    assert_eq!(most_at_once(&each, ["a", "b"]).await, 2);
    assert_eq!(most_at_once(&all, ["a", "b"]).await, 1);
}

#[tokio::test]
async fn load_shedding_outside_sees_a_limit_inside() {
    let router = Router::new()
        .route("topic", counted)
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(LoadShedLayer::new());

    let (first, second) = futures::join!(
        router.dispatch(empty("topic")),
        router.dispatch(empty("topic"))
    );
    assert_eq!(first.unwrap(), Outcome::Done);
    let error = second.unwrap_err();
    assert!(error.is::<tower::load_shed::error::Overloaded>());
}

#[tokio::test(start_paused = true)]
async fn buffer_lets_services_be_used_that_are_not_clone() {
    let router = Router::new().route("topic", nothing).layer(
        ServiceBuilder::new()
            .buffer(4)
            .rate_limit(2, Duration::from_secs(1)),
    );

    let started = tokio::time::Instant::now();
    for _ in 0..5 {
        router.dispatch(empty("topic")).await.unwrap();
    }
    assert_eq!(started.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn layers_may_have_an_error_of_their_own() {
    #[derive(Clone)]
    struct Refuse<S>(S);

    impl<S> Service<Message> for Refuse<S> {
        type Response = Outcome;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<Outcome>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Message) -> Self::Future {
            std::future::ready(Err(io::Error::other("refused")))
        }
    }

    let router = Router::new()
        .route("topic", nothing)
        .layer(tower::layer::layer_fn(Refuse));
    let error = router.dispatch(empty("topic")).await.unwrap_err();
    assert_eq!(error.to_string(), "refused");
}

#[tokio::test]
async fn permanent_failure_stays_permanent_through_layers() {
    #[derive(Debug, thiserror::Error)]
    #[error("in a layer")]
    struct Wrapped(#[source] BoxError);

    let router = Router::new()
        .route("topic", async || {
            Err::<(), _>(HandlerError::permanent("never"))
        })
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .layer(tower::util::MapErrLayer::new(Wrapped));
    let error = router.dispatch(empty("topic")).await.unwrap_err();
    assert!(error.is::<Wrapped>());
    assert!(Permanent::is_in(&*error));
}
