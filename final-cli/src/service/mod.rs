//! Runs a service from its start to its end, as an orchestrator, systemd or a person at a terminal expects it.
//!
//! Input: how a [`Service`] is started, [`ServiceOptions`], signals. State: starting, ready, stopping. Output: log
//! lines, the answers of `/livez`, `/readyz` and `/metrics`, messages to systemd, and an exit code.
//!
//! ```text
//!            ┌─ fails ───────────────────────────────┐
//!   starting ┼─ SIGTERM, SIGINT ─▶ given up ─▶ 0      ▼
//!            └─ started ─▶ ready ─┬─ dies ──────────▶ 1
//!                                 └─ SIGTERM, SIGINT ─▶ stopping ─┬─ stopped ─▶ 0
//!                                                                 └─ too late, fails, or a second signal ─▶ 1
//! ```
//!
//! The HTTP server is there from before the start until after the stop. So a probe hears that the service is alive and
//! not ready, and why.

mod ended;
mod http;
mod log;
mod notify;
mod options;
mod probe;
mod signals;

use std::{future::Future, panic::AssertUnwindSafe, process::ExitCode, sync::Arc, time::Duration};

use final_core::BoxError;
use futures::FutureExt;

use self::{ended::panic_text, http::Http, notify::Systemd, probe::Probe, signals::Signals};
pub use self::{
    ended::{Mistake, ServiceError},
    options::{LogFormat, RunArgs, ServiceOptions},
    probe::Condition,
};

/// How long the runtime may take to end what is left, once the service has stopped.
const GOODBYE: Duration = Duration::from_secs(2);

/// What runs until it is told to stop: a gateway, a capture, a program around a bus.
///
/// A value of it is a service that has started. How it starts is what [`run`] is given.
pub trait Service: Send + Sync + 'static {
    /// Waits until the service has died by itself, and says why. By default it never does.
    ///
    /// # Cancel safety
    ///
    /// It is dropped when the service is told to stop.
    fn died(&self) -> impl Future<Output = BoxError> + Send {
        std::future::pending()
    }

    /// Stops: takes no new work, finishes what is in hand, closes connections.
    ///
    /// # Errors
    ///
    /// An error makes the exit code 1.
    ///
    /// # Cancel safety
    ///
    /// It is dropped when `stop_within` is over, and at a second signal. The process ends then.
    fn stop(&self) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Whether the service is alive, and whether it can take work. Asked by each probe; an answer after five
    /// seconds counts as not ready.
    fn condition(&self) -> impl Future<Output = Condition> + Send {
        std::future::ready(Condition::good())
    }

    /// Metrics in the text format of Prometheus. By default there are none.
    fn metrics(&self) -> impl Future<Output = String> + Send {
        std::future::ready(String::new())
    }
}

/// Runs a service until a signal stops it, on a runtime of its own, with its log on the standard error.
///
/// `start` makes the service; when it returns, the service is ready. An error is written to the log and as a line to
/// the standard error.
///
/// ```no_run
/// use final_cli::service::{self, Condition, Service, ServiceOptions};
/// use final_core::{BoxError, Bus, Router, SqlBroker, SqliteBus};
///
/// struct Shop(SqliteBus);
///
/// impl Service for Shop {
///     async fn stop(&self) -> Result<(), BoxError> {
///         Ok(self.0.shutdown().await?)
///     }
///
///     async fn condition(&self) -> Condition {
///         self.0.health().await.into()
///     }
///
///     async fn metrics(&self) -> String {
///         let mut text = String::new();
///         self.0.metrics().await.write_prometheus(&mut text);
///         text
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     service::main("shop", ServiceOptions::default(), async || {
///         let pool = sqlx::SqlitePool::connect("sqlite:shop.db?mode=rwc").await?;
///         let bus: SqliteBus = Bus::new("shop", pool.clone(), SqlBroker::new(pool));
///         bus.start(Router::new()).await?;
///         Ok(Shop(bus))
///     })
/// }
/// ```
pub fn main<S, F>(name: &str, options: ServiceOptions, start: impl FnOnce() -> F) -> ExitCode
where
    S: Service,
    F: Future<Output = Result<S, BoxError>>,
{
    ExitCode::from(exit_code(name, options, start))
}

/// Does what [`main`] does, and returns the exit code as a number: 0, 1, or 2 for a mistake in the options.
pub fn exit_code<S, F>(name: &str, options: ServiceOptions, start: impl FnOnce() -> F) -> u8
where
    S: Service,
    F: Future<Output = Result<S, BoxError>>,
{
    let ended = log::init(&options).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(ServiceError::Runtime)?;
        let ended = runtime.block_on(run(name, options, start));
        runtime.shutdown_timeout(GOODBYE);
        ended
    });
    match ended {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {}", error.chain());
            error.exit_code()
        }
    }
}

/// Runs a service until a signal stops it, on the caller's runtime. The caller sets up the log.
///
/// # Errors
///
/// Fails if the address to listen on cannot be used, if the service does not start, dies, or does not stop in time.
///
/// # Cancel safety
///
/// Dropping the future cuts the service off.
pub async fn run<S, F>(
    name: &str,
    options: ServiceOptions,
    start: impl FnOnce() -> F,
) -> Result<(), ServiceError>
where
    S: Service,
    F: Future<Output = Result<S, BoxError>>,
{
    let mut signals = Signals::listen().map_err(ServiceError::Signals)?;
    let systemd = Systemd::from_environment();
    let probe: Arc<Probe<S>> = Arc::default();
    let http = match options.listen {
        Some(address) => Some(Http::open(address, Arc::clone(&probe)).await?),
        None => None,
    };
    let watchdog = systemd.watch(Arc::clone(&probe));
    let ended = supervised(name, &options, start, &mut signals, &systemd, &probe).await;
    drop(watchdog);
    if let Some(http) = http {
        http.close().await;
    }
    match &ended {
        Ok(()) => {
            tracing::info!(target: "final::service", service = name, "the service has stopped")
        }
        Err(error) => tracing::error!(
            target: "final::service",
            service = name, error = error.chain(),
            "the service has failed"
        ),
    }
    ended
}

/// Start, readiness, the wait for the end, and the stop.
async fn supervised<S, F>(
    name: &str,
    options: &ServiceOptions,
    start: impl FnOnce() -> F,
    signals: &mut Signals,
    systemd: &Systemd,
    probe: &Probe<S>,
) -> Result<(), ServiceError>
where
    S: Service,
    F: Future<Output = Result<S, BoxError>>,
{
    tracing::info!(target: "final::service", service = name, "the service is starting");
    // A future that panics while it is made counts as well.
    let start = guarded(async { start().await });
    let started = tokio::select! {
        started = start => started.map_err(ServiceError::Start)?.map_err(ServiceError::Start)?,
        signal = signals.next() => {
            systemd.tell("STOPPING=1").await;
            tracing::info!(
                target: "final::service",
                service = name, signal,
                "told to stop before the service was ready; its start is given up"
            );
            return Ok(());
        }
    };
    let service = probe.started(started);
    systemd.tell("READY=1").await;
    tracing::info!(target: "final::service", service = name, "the service is ready");

    let died = tokio::select! {
        died = guarded(service.died()) => Some(died.unwrap_or_else(|panic| panic)),
        signal = signals.next() => {
            tracing::info!(target: "final::service", service = name, signal, "the service is stopping");
            None
        }
    };
    probe.stopping();
    systemd.tell("STOPPING=1").await;
    // A service that has died has connections to close as well.
    let limit = options.stop_within.0;
    let stopped = tokio::select! {
        stopped = guarded(service.stop()) => match stopped {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(ServiceError::Stop(error)),
        },
        signal = signals.next() => Err(ServiceError::CutOff(signal)),
        () = tokio::time::sleep(limit) => Err(ServiceError::TooLate(options.stop_within)),
    };
    match died {
        Some(reason) => Err(ServiceError::Died(reason)),
        None => stopped,
    }
}

/// Turns a panic into an error.
async fn guarded<T>(future: impl Future<Output = T>) -> Result<T, BoxError> {
    let caught = AssertUnwindSafe(future).catch_unwind().await;
    caught.map_err(|panic| format!("panicked: {}", panic_text(&*panic)).into())
}
