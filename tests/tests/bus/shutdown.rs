//! Shutdown: one end for every caller, from wherever it is called.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use final_core::{Bus, Error, Message, MessageId, Options, Router};
use final_tests::eventually;
use futures::{FutureExt, poll};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, Semaphore},
};

use crate::{
    database::Database,
    house::{House, SOON},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        every_caller_of_shutdown_waits_for_the_same_end,
        a_late_end_is_told_to_every_caller_also_to_those_that_come_later,
        a_caller_that_is_dropped_does_not_stop_the_shutdown,
        a_handler_that_calls_shutdown_gets_an_error_at_once,
        a_task_of_a_handler_shuts_the_bus_down,
        a_bus_shuts_down_on_another_runtime_than_it_was_started_on,
        a_bus_shuts_down_after_the_runtime_of_its_start_has_ended,
        a_shutdown_whose_runtime_ends_is_finished_by_another_caller,
        a_start_whose_runtime_ends_can_be_begun_again,
    ],
);

mod alike {
    use super::{
        a_bus_that_was_never_started_shuts_down_without_a_runtime,
        a_shutdown_ends_where_no_thread_runs_the_runtime_of_the_start,
        a_start_after_a_shutdown_is_refused,
    };

    crate::suite!(
        on sqlx::Sqlite, Memory:
        everywhere: [
            a_bus_that_was_never_started_shuts_down_without_a_runtime,
            a_shutdown_ends_where_no_thread_runs_the_runtime_of_the_start,
            a_start_after_a_shutdown_is_refused,
        ],
    );
}

/// A handler at work until it is told to end.
#[derive(Clone, Default)]
struct AtWork {
    begun: Arc<Notify>,
    goes_on: Arc<Notify>,
}

impl AtWork {
    fn router<D: Database, T: Transport>(&self, house: &House<D, T>) -> Router {
        let own = self.clone();
        Router::new().route(house.topic("job"), move || {
            let own = own.clone();
            async move {
                own.begun.notify_one();
                own.goes_on.notified().await;
            }
        })
    }

    /// A started bus, with a message in the handler.
    async fn on<D: Database, T: Transport>(&self, house: &House<D, T>, options: Options) -> Bus<D> {
        let bus = house.bus_with(options);
        bus.start(self.router(house)).await.expect("start");
        publish(house, &bus).await;
        self.begun.notified().await;
        bus
    }
}

async fn publish<D: Database, T: Transport>(house: &House<D, T>, bus: &Bus<D>) -> MessageId {
    let published = bus.publish(house.topic("job"), &1_i64);
    published.await.expect("publish")
}

async fn has_begun<D: Database, T: Transport>(house: &House<D, T>, bus: &Bus<D>) {
    eventually("a shutdown that has begun", SOON, async || {
        // Not of the handler's topic: a message that is sent before would be in a handler as well.
        let publish = bus.publish(house.topic("other"), &0_i64).confirm(false);
        matches!(publish.await, Err(Error::ShutDown))
    })
    .await;
}

fn current_thread() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn multi_thread() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Runs blocking code of a test, such as a runtime of its own.
async fn on_a_thread<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

async fn every_caller_of_shutdown_waits_for_the_same_end<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let work = AtWork::default();
    let bus = work.on(&house, house.options()).await;

    let mut first = std::pin::pin!(bus.shutdown());
    assert!(poll!(&mut first).is_pending());
    has_begun(&house, &bus).await;
    let mut second = std::pin::pin!(bus.shutdown());
    let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(early.is_err(), "a handler is at work: {early:?}");

    work.goes_on.notify_one();
    let (first, second) = tokio::join!(first, second);
    first.expect("the first caller");
    second.expect("the second caller");
    bus.shutdown()
        .await
        .expect("a caller that comes after the end");
}

async fn a_late_end_is_told_to_every_caller_also_to_those_that_come_later<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let options = house.options().shutdown_timeout(Duration::from_millis(300));
    let bus = AtWork::default().on(&house, options).await;

    let (first, second) = tokio::join!(bus.shutdown(), bus.shutdown());
    let third = bus.shutdown().await;
    for told in [first, second, third] {
        assert!(matches!(told, Err(Error::Timeout { .. })), "{told:?}");
    }
}

async fn a_caller_that_is_dropped_does_not_stop_the_shutdown<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let work = AtWork::default();
    let bus = work.on(&house, house.options()).await;

    assert!(
        bus.shutdown().now_or_never().is_none(),
        "a handler is at work"
    );
    has_begun(&house, &bus).await;
    work.goes_on.notify_one();
    bus.shutdown().await.expect("another caller");
    assert!(bus.stats().await.is_err(), "it is shut down");
}

async fn a_handler_that_calls_shutdown_gets_an_error_at_once<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let (own, layers, layers_tell) = (bus.clone(), bus.clone(), told.clone());
    let router = Router::new()
        .route(house.topic("job"), move |_: Message| {
            let (own, told) = (own.clone(), told.clone());
            async move {
                let began = Instant::now();
                told.send((own.shutdown().await, began.elapsed()))
                    .expect("the test listens");
            }
        })
        .layer(tower::layer::layer_fn(
            move |inner: final_core::router::Route| {
                let (bus, told) = (layers.clone(), layers_tell.clone());
                tower::service_fn(move |message: Message| {
                    let (bus, told, inner) = (bus.clone(), told.clone(), inner.clone());
                    async move {
                        let began = Instant::now();
                        told.send((bus.shutdown().await, began.elapsed()))
                            .expect("the test listens");
                        tower::ServiceExt::oneshot(inner, message).await
                    }
                })
            },
        ));
    bus.start(router).await.expect("start");
    publish(&house, &bus).await;

    for _ in 0..2 {
        let (told, took) = tells.recv().await.expect("a call");
        assert!(matches!(told, Err(Error::InsideHandler)), "{told:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    house
        .stats_are(&bus, "one handled", |stats| {
            stats.handled == 1 && stats.connected
        })
        .await;
    bus.shutdown().await.expect("outside of the handler");
    assert!(
        tells.recv().now_or_never().is_none(),
        "the message does not come again"
    );
}

async fn a_task_of_a_handler_shuts_the_bus_down<D: Database, T: Transport>(house: House<D, T>) {
    let bus = house.bus();
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let own = bus.clone();
    let quits = move || {
        let (own, ended) = (own.clone(), ended.clone());
        async move {
            tokio::spawn(async move { ended.send(own.shutdown().await) });
        }
    };
    bus.start(Router::new().route(house.topic("job"), quits))
        .await
        .expect("start");
    publish(&house, &bus).await;

    ends.recv().await.expect("an end").expect("shutdown");
    let (bus, notes) = house.start_noting(house.options(), &["job"]).await;
    bus.publish(house.topic("job"), &2_i64)
        .await
        .expect("publish");
    notes.reach(1).await;
    assert_eq!(notes.numbers(), [2], "the message does not come again");
    bus.shutdown().await.expect("shutdown");
}

async fn a_bus_shuts_down_on_another_runtime_than_it_was_started_on<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let work = AtWork::default();
    let bus = work.on(&house, house.options()).await;
    let other = bus.clone();
    let there = tokio::task::spawn_blocking(move || current_thread().block_on(other.shutdown()));
    let here = tokio::spawn(async move { bus.shutdown().await });
    work.goes_on.notify_one();
    there.await.expect("joined").expect("on another runtime");
    here.await.expect("joined").expect("on its own");
}

async fn a_bus_shuts_down_after_the_runtime_of_its_start_has_ended<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    let (own, router) = (bus.clone(), AtWork::default().router(&house));
    on_a_thread(move || {
        let runtime = multi_thread();
        runtime.block_on(own.start(router)).expect("start");
        runtime.shutdown_timeout(Duration::from_secs(5));
    })
    .await;
    // Nothing of it runs any more, so there is nothing to wait for.
    let shutdown = tokio::time::timeout(SOON / 2, bus.shutdown());
    shutdown.await.expect("it ends").expect("shutdown");
}

async fn a_shutdown_whose_runtime_ends_is_finished_by_another_caller<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let work = AtWork::default();
    let bus = work.on(&house, house.options()).await;
    let (first, began) = (bus.clone(), Arc::new(Semaphore::new(0)));
    let (begins, (ends, end)) = (Arc::clone(&began), mpsc::channel::<()>());
    let runtime = thread::spawn(move || {
        let runtime = multi_thread();
        runtime.spawn(async move {
            let mut shutdown = std::pin::pin!(first.shutdown());
            assert!(poll!(&mut shutdown).is_pending());
            begins.add_permits(1);
            shutdown.await
        });
        let _ = end.recv();
        runtime.shutdown_timeout(Duration::from_secs(5));
    });
    let _begun = began.acquire().await.expect("open");
    let waits = bus.clone();
    let waiting = tokio::spawn(async move { waits.shutdown().await });
    drop(ends);
    on_a_thread(move || runtime.join().expect("no panic")).await;

    work.goes_on.notify_one();
    let waiting = tokio::time::timeout(SOON / 2, waiting).await;
    waiting
        .expect("it ends")
        .expect("joined")
        .expect("the caller that waits");
    bus.shutdown().await.expect("a caller that comes later");
}

async fn a_start_whose_runtime_ends_can_be_begun_again<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    let (own, router) = (bus.clone(), AtWork::default().router(&house));
    on_a_thread(move || {
        // The start waits for the database or its worker at least once.
        let started = current_thread().block_on(async { own.start(router).now_or_never() });
        assert!(started.is_none(), "{started:?}");
    })
    .await;

    let work = AtWork::default();
    bus.start(work.router(&house))
        .await
        .expect("a second start");
    publish(&house, &bus).await;
    work.begun.notified().await;
    work.goes_on.notify_one();
    bus.shutdown().await.expect("shutdown");
}

async fn a_shutdown_ends_where_no_thread_runs_the_runtime_of_the_start<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let bus = house.bus_with(house.options().shutdown_timeout(Duration::from_secs(1)));
    let (own, router) = (bus.clone(), AtWork::default().router(&house));
    let stands_still = on_a_thread(move || {
        let runtime = current_thread();
        runtime.block_on(own.start(router)).expect("start");
        runtime
    })
    .await;
    let shutdown = tokio::time::timeout(SOON, bus.shutdown());
    let told = shutdown.await.expect("it ends");
    assert!(matches!(told, Err(Error::Timeout { .. })), "{told:?}");
    on_a_thread(move || drop(stands_still)).await;
}

async fn a_bus_that_was_never_started_shuts_down_without_a_runtime<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    let own = bus.clone();
    let ended = thread::spawn(move || own.shutdown().now_or_never());
    let ended = ended.join().expect("no panic").expect("at once");
    ended.expect("shutdown");
    bus.shutdown().await.expect("a second call");
}

async fn a_start_after_a_shutdown_is_refused<D: Database, T: Transport>(house: House<D, T>) {
    let bus = house.bus();
    bus.shutdown().await.expect("shutdown");
    let started = bus.start(Router::new()).await;
    assert!(matches!(started, Err(Error::ShutDown)), "{started:?}");
    bus.shutdown().await.expect("shutdown");
}
