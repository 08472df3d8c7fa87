//! What tracing is told of an attempt.

use std::{fmt, time::Duration};

use final_core::{HandlerError, Outcome, Router, middleware::TraceLayer};
use tower::timeout::TimeoutLayer;

use crate::{Log, empty, message, nothing};

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
        metadata.target() == "final::consume"
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
