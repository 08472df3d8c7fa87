//! The router: which handler, within which layers, takes which topic.
//!
//! A [`Router`] collects topics with their handlers and layers. `Bus::start` gives the routes their state,
//! checks all of them, and finds the [`Route`] of each message by its topic.

mod finish;
mod route;

use std::{
    any::type_name,
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use tower::{Layer, Service, ServiceExt};

pub use self::route::Route;
use crate::{
    BoxError, Error, Message, Outcome,
    handler::{Handler, HandlerService, IntoOutcome, OnFailure, SubscribeFn, SubscribedTopic},
    middleware::catch_panic::CatchPanic,
};

/// The finished routes of a service, by topic.
pub(crate) type Routes = HashMap<Arc<str>, Route>;

/// Brings each message to the handler of its topic, through the layers around it.
///
/// ```
/// use std::time::Duration;
///
/// use final_core::{Payload, Router, State, subscribe};
/// use tower::timeout::TimeoutLayer;
///
/// #[derive(Clone)]
/// struct Mailer;
///
/// #[subscribe("order.placed")]
/// async fn send_receipt(State(mailer): State<Mailer>, Payload(order): Payload<i64>) {}
///
/// async fn cancelled(Payload(order): Payload<i64>) {}
///
/// let router: Router = Router::new()
///     .subscribe(send_receipt)
///     .route("order.cancelled", cancelled)
///     .layer(TimeoutLayer::new(Duration::from_secs(10)))
///     .with_state(Mailer);
/// # let _ = router;
/// ```
///
/// `S` is the state its handlers still need; `Bus::start` takes a `Router<()>`, which
/// [`with_state`](Self::with_state) makes.
///
/// Topics are names, not patterns: a message finds the handler with exactly its topic. A topic with two
/// handlers, or one that is not a topic, is an error of `Bus::start`, which tells all of them at once.
///
/// # Layers
///
/// Every [`tower::Layer`] can be used whose service takes a [`Message`], gives an [`Outcome`], and is
/// `Clone`. [`layer`](Self::layer) says more; [`middleware`](crate::middleware) has layers of this
/// crate.
#[must_use = "a router does nothing until `Bus::start` takes it"]
pub struct Router<S = ()> {
    entries: Vec<RouteEntry<S>>,
    /// For [`dispatch`](Router::dispatch): built at its first call.
    finished: OnceLock<Result<Routes, String>>,
}

/// A route that waits for its state.
struct RouteEntry<S> {
    topic: String,
    /// Path of the handler, for errors.
    handler: &'static str,
    /// What the route says about messages that fail.
    on_failure: Option<OnFailure>,
    /// What its handler asks for, where the route says nothing.
    asked: Option<OnFailure>,
    /// Layers are applied late, as some of them need a running tokio.
    build: Build<S>,
}

/// How a route is built once the state is known.
type Build<S> = Box<dyn Fn(&Arc<S>) -> Route + Send + Sync>;

impl<S: Send + Sync + 'static> Router<S> {
    /// Makes a router without routes, which is all a service needs that only publishes.
    pub fn new() -> Self {
        Self::from_entries(Vec::new())
    }

    fn from_entries(entries: Vec<RouteEntry<S>>) -> Self {
        Self {
            entries,
            finished: OnceLock::new(),
        }
    }

    /// Adds a handler for a topic.
    ///
    /// ```
    /// use final_core::{Key, Router};
    ///
    /// async fn cancelled(Key(key): Key) {}
    ///
    /// let router: Router = Router::new()
    ///     .route("order.cancelled", cancelled)
    ///     .route(format!("order.{}", "returned"), async |Key(key): Key| println!("{key:?}"));
    /// # let _ = router;
    /// ```
    pub fn route<H, M>(self, topic: impl Into<String>, handler: H) -> Self
    where
        H: Handler<M, S>,
        M: 'static,
    {
        self.add_handler(topic.into(), type_name::<H>(), None, handler)
    }

    /// Adds a handler that knows its topic, from [`#[subscribe]`](macro@crate::subscribe).
    ///
    /// [`subscribers!`](crate::subscribers) adds several at once.
    pub fn subscribe<H, M>(self, handler: H) -> Self
    where
        H: SubscribeFn<M> + Handler<M, S>,
        M: 'static,
    {
        let (topic, said) = (H::Topic::TOPIC.to_owned(), H::Topic::ON_FAILURE);
        self.add_handler(topic, H::Topic::NAME, said, handler)
    }

    /// Adds a tower service that takes the messages of a topic.
    ///
    /// For handlers that are services already: a proxy that passes messages on, for example. The service
    /// is treated like a handler: it may return everything that a handler may, its errors are retried, and
    /// its panics are caught. It is cloned for every message, and does not see the router's state.
    ///
    /// ```
    /// use final_core::{Message, Router};
    /// use tower::{ServiceBuilder, service_fn};
    ///
    /// let forward = service_fn(|message: Message| async move {
    ///     println!("{}: {} bytes", message.topic(), message.payload().len());
    ///     Ok::<_, std::io::Error>(())
    /// });
    /// let forward = ServiceBuilder::new().concurrency_limit(4).service(forward);
    ///
    /// let router: Router = Router::new().route_service("order.placed", forward);
    /// # let _ = router;
    /// ```
    pub fn route_service<T>(self, topic: impl Into<String>, service: T) -> Self
    where
        T: Service<Message> + Clone + Send + Sync + 'static,
        T::Response: IntoOutcome + 'static,
        T::Error: Into<BoxError> + 'static,
        T::Future: Send + 'static,
    {
        let service = service
            .map_err(Into::<BoxError>::into)
            .map_result(|result: Result<T::Response, BoxError>| result?.into_outcome());
        self.add(RouteEntry {
            topic: topic.into(),
            handler: type_name::<T>(),
            on_failure: None,
            asked: None,
            build: Box::new(move |_| Route::new(CatchPanic::new(service.clone()))),
        })
    }

    fn add_handler<H, M>(
        self,
        topic: String,
        name: &'static str,
        on_failure: Option<OnFailure>,
        handler: H,
    ) -> Self
    where
        H: Handler<M, S>,
        M: 'static,
    {
        self.add(RouteEntry {
            topic,
            handler: name,
            on_failure,
            asked: H::ON_FAILURE,
            build: Box::new(move |state| {
                let service = HandlerService::new(handler.clone(), Arc::clone(state));
                // Caught here, so that the layers see a handler's panic as a failure.
                Route::new(CatchPanic::new(service))
            }),
        })
    }

    fn add(mut self, entry: RouteEntry<S>) -> Self {
        self.finished.take();
        self.entries.push(entry);
        self
    }

    /// Says what happens to messages that fail, for every route added so far that does not say it yet.
    ///
    /// Routes added later are not meant. What is said for a route goes before what its handler's arguments
    /// [ask for](crate::FromMessage::ON_FAILURE).
    ///
    /// ```
    /// use final_core::{Payload, Router, handler::{Hold, OnFailure}};
    ///
    /// async fn mirror(Payload(row): Payload<i64>) {}
    /// async fn send_receipt(Payload(order): Payload<i64>) {}
    ///
    /// let router: Router = Router::new()
    ///     // A row that cannot be written holds the later ones of its key back.
    ///     .route("stock.changed", mirror)
    ///     .on_failure(OnFailure::Hold(Hold::Key))
    ///     // A receipt that cannot be sent goes to the dead letters.
    ///     .route("order.placed", send_receipt);
    /// # let _ = router;
    /// ```
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.finished.take();
        for entry in &mut self.entries {
            entry.on_failure.get_or_insert(on_failure);
        }
        self
    }

    /// Adds the routes of another router, each with the layers it has there.
    ///
    /// This is how a layer wraps one route, or some:
    ///
    /// ```
    /// # use std::time::Duration;
    /// use final_core::Router;
    /// use tower::{limit::ConcurrencyLimitLayer, timeout::TimeoutLayer};
    ///
    /// # async fn print_label() {}
    /// # async fn send_receipt() {}
    /// let router: Router = Router::new()
    ///     .route("order.placed", send_receipt)
    ///     // One printer, so one at a time.
    ///     .merge(Router::new().route("order.packed", print_label).layer(ConcurrencyLimitLayer::new(1)))
    ///     // Both.
    ///     .layer(TimeoutLayer::new(Duration::from_secs(10)));
    /// # let _ = router;
    /// ```
    pub fn merge(mut self, other: Self) -> Self {
        self.finished.take();
        self.entries.extend(other.entries);
        self
    }

    /// Wraps every route added so far in a layer. Routes added later are not wrapped.
    ///
    /// A layer added later lies outside the earlier ones. Outside all of them stands the bus's retry, so
    /// that each attempt runs through the whole chain: a timeout is a timeout of one attempt.
    ///
    /// ```text
    ///                      message
    ///                         │
    ///    ┌─────────── the bus: retry, panics ──────┐
    ///    │ ┌────────── .layer(second) ───────────┐ │
    ///    │ │ ┌──────── .layer(first) ──────────┐ │ │
    ///    │ │ │      the handler's panics       │ │ │
    ///    │ │ │            handler              │ │ │
    ///    │ │ └─────────────────────────────────┘ │ │
    ///    │ └─────────────────────────────────────┘ │
    ///    └─────────────────────────────────────────┘
    ///                         │
    ///                      outcome
    /// ```
    ///
    /// Each call costs a box per message. Where that matters, put several layers into one
    /// `tower::ServiceBuilder`, whose first layer is the outermost.
    ///
    /// # State shared by all messages
    ///
    /// The service made by the layer is cloned for every message, and made once for every route. A limit
    /// such as `tower::limit::ConcurrencyLimitLayer` therefore counts each route on its own;
    /// `GlobalConcurrencyLimitLayer` counts all of them together.
    ///
    /// # Services that are not `Clone`
    ///
    /// Put tower's buffer in front of them; without it the compiler says that the service
    /// "is not satisfied" to be `Clone`:
    ///
    /// ```
    /// # use std::time::Duration;
    /// use final_core::Router;
    /// use tower::ServiceBuilder;
    ///
    /// # async fn call_partner() {}
    /// let router: Router = Router::new()
    ///     .route("order.placed", call_partner)
    ///     .layer(ServiceBuilder::new().buffer(32).rate_limit(5, Duration::from_secs(1)));
    /// # let _ = router;
    /// ```
    ///
    /// # A layer of one's own
    ///
    /// ```
    /// use std::task::{Context, Poll};
    ///
    /// use final_core::{Message, Router};
    /// use tower::{Service, layer::layer_fn};
    ///
    /// #[derive(Clone)]
    /// struct Count<S> {
    ///     inner: S,
    /// }
    ///
    /// impl<S: Service<Message>> Service<Message> for Count<S> {
    ///     type Response = S::Response;
    ///     type Error = S::Error;
    ///     type Future = S::Future;
    ///
    ///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
    ///         self.inner.poll_ready(cx)
    ///     }
    ///
    ///     fn call(&mut self, message: Message) -> S::Future {
    ///         println!("one more of {}", message.topic());
    ///         self.inner.call(message)
    ///     }
    /// }
    ///
    /// # async fn cancelled() {}
    /// let router: Router = Router::new()
    ///     .route("order.cancelled", cancelled)
    ///     .layer(layer_fn(|inner| Count { inner }));
    /// # let _ = router;
    /// ```
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Message, Response = Outcome> + Clone + Send + Sync + 'static,
        <L::Service as Service<Message>>::Error: Into<BoxError> + 'static,
        <L::Service as Service<Message>>::Future: Send + 'static,
    {
        let layer = Arc::new(layer);
        self.rebuild(|build| {
            let layer = Arc::clone(&layer);
            Box::new(move |state| Route::new(layer.layer(build(state))))
        })
    }

    /// Gives the handlers their state, which they take as [`State`](crate::State).
    ///
    /// The state is shared, so it need not be `Clone`; what a handler takes of it is cloned for every
    /// message. What is merged or added afterwards has a state of its own.
    pub fn with_state<S2: Send + Sync + 'static>(self, state: S) -> Router<S2> {
        let state = Arc::new(state);
        self.rebuild(|build| {
            let state = Arc::clone(&state);
            Box::new(move |_| build(&state))
        })
    }

    /// Puts something around how each route is built.
    fn rebuild<S2: Send + Sync + 'static>(
        self,
        wrap: impl Fn(Build<S>) -> Build<S2>,
    ) -> Router<S2> {
        let wrap = |entry: RouteEntry<S>| RouteEntry {
            topic: entry.topic,
            handler: entry.handler,
            on_failure: entry.on_failure,
            asked: entry.asked,
            build: wrap(entry.build),
        };
        Router::from_entries(self.entries.into_iter().map(wrap).collect())
    }
}

impl Router<()> {
    /// Runs one attempt for a message, as the bus would: through the layers and the handler of its topic.
    ///
    /// For tests of routes, without a bus, a broker and a retry:
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use final_core::{Message, Outcome, Router, handler::Permanent};
    ///
    /// let router = Router::new().route("order.cancelled", async || "no such order".parse::<i64>().map(drop));
    ///
    /// let error = router.dispatch(Message::new("order.cancelled", "")).await.unwrap_err();
    /// assert_eq!(error.to_string(), "invalid digit found in string");
    /// assert!(!Permanent::is_in(&*error)); // The bus would try again.
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// The handler's, or a layer's: the bus retries it, unless it [is `Permanent`](crate::handler::Permanent::is_in).
    /// Also [`Error::InvalidRouter`] where `Bus::start` would refuse the router, and an error if no route
    /// has the topic.
    pub async fn dispatch(&self, message: Message) -> Result<Outcome, BoxError> {
        let routes = self
            .finished
            .get_or_init(|| finish::routes(&self.entries))
            .as_ref()
            .map_err(|problems| Error::InvalidRouter(problems.clone()))?;
        let Some(route) = routes.get(message.topic()) else {
            return Err(format!("no route for topic {:?}", message.topic()).into());
        };
        route.attempt(message).await
    }

    /// Checks and finishes the routes.
    pub(crate) fn into_routes(self) -> Result<Routes, Error> {
        finish::routes(&self.entries).map_err(Error::InvalidRouter)
    }
}

impl<S: Send + Sync + 'static> Default for Router<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// The topics with their handlers.
impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Router ")?;
        f.debug_map()
            .entries(
                self.entries
                    .iter()
                    .map(|entry| (&entry.topic, entry.handler)),
            )
            .finish()
    }
}

/// Makes a [`Router`](crate::Router) of handlers with [`#[subscribe]`](macro@crate::subscribe).
///
/// ```
/// use final_core::{Router, subscribe, subscribers};
///
/// #[subscribe("order.placed")]
/// async fn send_receipt() {}
///
/// mod billing {
///     #[final_core::subscribe("order.paid")]
///     pub async fn on_paid() {}
/// }
///
/// let router: Router = Router::new().merge(subscribers![send_receipt, billing::on_paid]);
/// # let _ = router;
/// ```
#[macro_export]
macro_rules! subscribers {
    ($($handler:path),* $(,)?) => {
        $crate::Router::new()$(.subscribe($handler))*
    };
}
