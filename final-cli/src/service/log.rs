//! The log of a service: lines on the standard error, as text or as JSON.
//!
//! Input: [`ServiceOptions`], and the events of all crates. Output: lines. Crates that speak to servers never say more
//! than a warning, whatever the filter says: below that they write what they send, passwords included.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{LogFormat, ServiceError, ServiceOptions, ended::panic_text};

/// Crates that speak to servers.
const DRIVERS: [&str; 8] = [
    "lapin",
    "amq_protocol",
    "tcp_stream",
    "sqlx",
    "rustls",
    "hyper",
    "mysql_async",
    "reqwest",
];

/// Sets the log up for the whole process.
pub(super) fn init(options: &ServiceOptions) -> Result<(), ServiceError> {
    let filter = EnvFilter::builder()
        .parse(&options.log)
        .map_err(|error| ServiceError::LogFilter(error.into()))?;
    let drivers = DRIVERS.map(|name| (name, LevelFilter::WARN));
    let drivers = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(drivers)
        // A warning for each message that has no queue yet; the bus tells of the topic once.
        .with_target("lapin::returned_messages", LevelFilter::OFF);
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = match options.log_format {
        LogFormat::Text => fmt::layer()
            .with_writer(stderr)
            .with_ansi(stderr().is_terminal() && !is_plain)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        // As one filter: of two around a layer, an event that one of them leaves out can take the next one with it.
        .with(lines.with_filter(filter.and(drivers)))
        .try_init()
        .map_err(|error| ServiceError::Log(error.into()))?;
    if options.log_format == LogFormat::Json {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            let text = panic_text(panic.payload());
            tracing::error!(target: "final::service", place, panic = text, "a task has panicked");
        }));
    }
    Ok(())
}
