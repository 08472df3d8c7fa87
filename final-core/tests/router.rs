//! The router: routes, layers, state, and what handlers may take and return.
#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

use std::{
    cell::Cell,
    error::Error as StdError,
    fmt, io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use final_core::{
    Attempt, BoxError, Bytes, Error, FromMessage, FromRef, Handler, HandlerError, Headers,
    IntoOutcome, IntoPayload, Json, Key, Message, MessageId, Outcome, Payload, Permanent, Router,
    State, Topic,
    middleware::{CatchPanicLayer, TraceLayer, catch_panic::Panicked},
    subscribe, subscribers,
};
use tower::{
    Layer, Service, ServiceBuilder,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    load_shed::LoadShedLayer,
    timeout::TimeoutLayer,
};

/// A message with a msgpack payload.
fn message<T: serde::Serialize>(topic: &str, payload: &T) -> Message {
    Message::new(topic, payload.into_payload().unwrap().bytes)
}

fn empty(topic: &str) -> Message {
    Message::new(topic, "")
}

async fn nothing() {}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join(" ")
    }

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

// ===== layers =====

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

// ===== state =====

#[derive(Clone, Debug, PartialEq)]
struct Mailer(&'static str);

/// Not `Clone`: handlers take parts of it.
struct App {
    mailer: Mailer,
    limit: u32,
}

impl FromRef<App> for Mailer {
    fn from_ref(app: &App) -> Self {
        app.mailer.clone()
    }
}

impl FromRef<App> for u32 {
    fn from_ref(app: &App) -> Self {
        app.limit
    }
}

#[tokio::test]
async fn state_is_taken_whole_or_in_parts() {
    let parts = Router::new()
        .route(
            "parts",
            async |State(mailer): State<Mailer>, State(limit): State<u32>| {
                assert_eq!((mailer, limit), (Mailer("app"), 3));
            },
        )
        .with_state(App {
            mailer: Mailer("app"),
            limit: 3,
        });
    let router = Router::new()
        .route("whole", async |State(mailer): State<Mailer>| {
            assert_eq!(mailer, Mailer("whole"));
        })
        .with_state(Mailer("whole"))
        .merge(parts);

    for topic in ["parts", "whole"] {
        router.dispatch(empty(topic)).await.unwrap();
    }
}

// ===== extractors =====

#[tokio::test]
async fn every_extractor_gives_its_part() {
    #[expect(clippy::too_many_arguments)]
    async fn all(
        Topic(topic): Topic,
        Key(key): Key,
        headers: Headers,
        id: MessageId,
        Attempt(attempt): Attempt,
        bytes: Bytes,
        message: Message,
        Payload(number): Payload<u16>,
    ) {
        assert_eq!(&*topic, "topic");
        assert_eq!(key.as_deref(), Some("42"));
        assert_eq!(headers.get("tenant"), Some("acme"));
        assert_eq!(id, message.id());
        assert_eq!(attempt, 2);
        assert_eq!(bytes, message.payload());
        assert_eq!(number, 7);
    }

    let sent = message("topic", &7_u16)
        .with_key("42")
        .with_header("tenant", "acme")
        .with_attempt(2);
    let router = Router::new().route("topic", all);
    assert_eq!(router.dispatch(sent).await.unwrap(), Outcome::Done);
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Order {
    id: i64,
    items: Vec<String>,
}

#[tokio::test]
async fn payloads_go_and_come_as_msgpack_json_or_bytes() {
    fn order() -> Order {
        Order {
            id: -1,
            items: vec!["tea".into()],
        }
    }

    let router = Router::new()
        .route("msgpack", async |Payload(got): Payload<Order>| {
            assert_eq!(got, order());
        })
        .route("json", async |Json(got): Json<Order>| {
            assert_eq!(got, order());
        })
        .route("bytes", async |bytes: Bytes| assert_eq!(bytes, "raw"));

    let sent = [
        ("msgpack", (&order()).into_payload(), "application/msgpack"),
        ("json", Json(order()).into_payload(), "application/json"),
        (
            "bytes",
            Bytes::from("raw").into_payload(),
            "application/octet-stream",
        ),
    ];
    for (topic, payload, content_type) in sent {
        let payload = payload.unwrap();
        assert_eq!(payload.content_type, content_type);
        let message = Message::new(topic, payload.bytes).with_content_type(content_type);
        assert_eq!(router.dispatch(message).await.unwrap(), Outcome::Done);
    }
}

#[tokio::test]
async fn payload_that_cannot_be_decoded_is_a_permanent_failure_with_its_reason() {
    let router = Router::new()
        .route("msgpack", async |_: Payload<Order>| {})
        .route("json", async |_: Json<Order>| {});

    #[derive(serde::Serialize)]
    struct Other {
        id: &'static str,
    }
    let sent = Other { id: "secret" };
    let json = Message::new("json", "{\"id\":\"secret\"}").with_content_type("application/json");
    for (sent, expected) in [
        (
            message("msgpack", &sent),
            "the payload (11 bytes, \"application/msgpack\") is not msgpack for `router::Order`: \
             unexpected FixStr",
        ),
        (
            message("msgpack", &(7, 4111)),
            "the payload (5 bytes, \"application/msgpack\") is not msgpack for `router::Order`: \
             invalid type: integer, expected a sequence",
        ),
        (
            json.clone(),
            "the payload (15 bytes, \"application/json\") is not JSON for `router::Order`: \
             invalid type: string, expected i64 at line 1 column 14",
        ),
        (
            Message::new("msgpack", json.payload().clone()).with_content_type("application/json"),
            "the payload (15 bytes, \"application/json\") is not msgpack for `router::Order`: \
             there are bytes after its end",
        ),
    ] {
        let error = router.dispatch(sent).await.unwrap_err();
        assert!(Permanent::is_in(&*error));
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn reason_stays_short_whatever_was_sent() {
    #[derive(Debug)]
    struct Picky;

    impl<'de> serde::Deserialize<'de> for Picky {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(serde::de::Error::custom(text))
        }
    }

    let router = Router::new().route("topic", async |_: Payload<Picky>| {});
    let sent = message("topic", &"é".repeat(100_000)).with_content_type("x".repeat(100_000));
    let error = router.dispatch(sent).await.unwrap_err();
    assert!(error.to_string().chars().count() < 512);
}

#[tokio::test]
async fn extractor_of_ones_own_can_refuse_a_message_before_the_handler_runs() {
    struct Tenant(String);

    impl<S: Sync> FromMessage<S> for Tenant {
        async fn from_message(message: &Message, _: &S) -> Result<Self, HandlerError> {
            let tenant = message.headers().get("tenant").ok_or("no tenant")?;
            Ok(Self(tenant.to_owned()))
        }
    }

    let router = Router::new().route("topic", async |Tenant(tenant): Tenant| {
        assert_eq!(tenant, "acme");
    });
    let error = router.dispatch(empty("topic")).await.unwrap_err();
    assert_eq!(error.to_string(), "no tenant");
    assert!(!Permanent::is_in(&*error));
    let sent = empty("topic").with_header("tenant", "acme");
    assert_eq!(router.dispatch(sent).await.unwrap(), Outcome::Done);
}

// ===== results =====

/// An error type that hides what is inside once it is boxed, as anyhow's does.
struct Opaque(BoxError);

#[derive(Debug)]
struct Hidden(BoxError);

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Hidden {}

impl From<Opaque> for BoxError {
    fn from(error: Opaque) -> Self {
        Box::new(Hidden(error.0))
    }
}

#[tokio::test]
async fn every_result_is_an_outcome() {
    #[track_caller]
    fn check(result: impl IntoOutcome, expected: Result<Outcome, (&str, bool)>) {
        let result = result.into_outcome();
        let result = result.map_err(|error| (error.to_string(), Permanent::is_in(&*error)));
        let expected = expected.map_err(|(text, permanent)| (text.to_owned(), permanent));
        assert_eq!(result, expected);
    }

    let failed = |text| Err((text, false));
    check((), Ok(Outcome::Done));
    check(Outcome::Retry, Ok(Outcome::Retry));
    check(Ok::<_, io::Error>(()), Ok(Outcome::Done));
    check(Ok::<_, io::Error>(Outcome::Reject), Ok(Outcome::Reject));
    check(Err::<(), _>(io::Error::other("typed")), failed("typed"));
    check(Err::<(), _>("text"), failed("text"));
    check(Err::<(), _>(String::from("owned")), failed("owned"));
    check(Err::<(), _>(BoxError::from("boxed")), failed("boxed"));
    check(Err::<(), _>(Opaque("opaque".into())), failed("opaque"));
    check(Err::<(), _>(HandlerError::retry("again")), failed("again"));
    check(
        Err::<(), _>(HandlerError::permanent("never")),
        Err(("never", true)),
    );
    check(
        Err::<(), BoxError>(Permanent("boxed never".into()).into()),
        Err(("boxed never", true)),
    );
}

#[tokio::test]
async fn question_mark_works_on_different_errors() {
    async fn handle(Payload(which): Payload<u8>) -> Result<(), HandlerError> {
        match which {
            0 => io::Result::Err(io::Error::other("io"))?,
            1 => drop("x".parse::<i32>()?),
            2 => Err("text")?,
            3 => Err(BoxError::from("boxed"))?,
            4 => Err(Opaque("opaque".into()))?,
            5 => "x"
                .parse::<i32>()
                .map(drop)
                .map_err(HandlerError::permanent)?,
            _ => {}
        }
        Ok(())
    }

    let router = Router::new().route("topic", handle);
    for (which, expected) in [
        (0, "io"),
        (1, "invalid digit found in string"),
        (2, "text"),
        (3, "boxed"),
        (4, "opaque"),
        (5, "invalid digit found in string"),
    ] {
        let error = router.dispatch(message("topic", &which)).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(Permanent::is_in(&*error), which == 5);
    }
    router.dispatch(message("topic", &6)).await.unwrap();
}

// ===== subscribe =====

mod orders {
    use super::*;

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
}

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

// ===== what is refused =====

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

// ===== panics =====

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

// ===== tracing =====

/// Writes spans and events, with their fields, to a log.
struct Recorder(Log);

struct Fields<'a>(&'a mut String);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Times and ids differ from run to run.
        match field.name() {
            "elapsed" | "message_id" => write!(self.0, " {field}").unwrap(),
            _ => write!(self.0, " {field}={value:?}").unwrap(),
        }
    }
}

impl tracing::Subscriber for Recorder {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("final_core::middleware")
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut line = format!("[{}", span.metadata().name());
        span.record(&mut Fields(&mut line));
        self.0.add(line + "]");
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        let mut line = String::from("[");
        values.record(&mut Fields(&mut line));
        self.0.add(line + "]");
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut Fields(&mut line));
        self.0.add(line);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn every_attempt_has_a_span_and_tells_its_end() {
    let log = Log::default();
    let _recording = tracing::subscriber::set_default(Recorder(log.clone()));
    let router = Router::new()
        .route("done", nothing)
        .route("retry", async || Outcome::Retry)
        .route("failed", async || Err::<(), _>("mail server is away"))
        .route("permanent", async || {
            Err::<(), _>(HandlerError::permanent("never"))
        })
        .route("slow", std::future::pending::<()>)
        .layer(TraceLayer::new())
        .layer(TimeoutLayer::new(Duration::from_secs(1)));

    for (topic, end) in [
        ("done", "DEBUG message=handled outcome=Done elapsed"),
        ("retry", "WARN message=not handled outcome=Retry elapsed"),
        (
            "failed",
            "WARN message=failed error=mail server is away permanent=false elapsed",
        ),
        (
            "permanent",
            "WARN message=failed error=never permanent=true elapsed",
        ),
        ("slow", "WARN message=dropped before its end elapsed"),
    ] {
        let sent = message(topic, &"secret")
            .with_header("token", "secret")
            .with_attempt(2);
        let _ = router.dispatch(sent).await;
        let span = format!("[consume topic={topic:?} message_id attempt=2]");
        assert_eq!(log.take(), format!("{span} {end}"));
    }
}

#[tokio::test]
async fn traceparent_is_recorded_only_if_it_is_one() {
    let log = Log::default();
    let _recording = tracing::subscriber::set_default(Recorder(log.clone()));
    let router = Router::new()
        .route("topic", nothing)
        .layer(TraceLayer::new());

    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (sent, recorded) in [(good, true), ("secret", false), (&good[1..], false)] {
        let sent = empty("topic").with_header("traceparent", sent);
        router.dispatch(sent).await.unwrap();
        let told = log.take();
        assert_eq!(told.contains(&format!("traceparent={good:?}")), recorded);
        assert_eq!(told.contains("traceparent"), recorded, "{told}");
    }
}
