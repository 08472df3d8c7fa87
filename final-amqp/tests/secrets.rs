//! What our own logs say. (lapin's own are not ours: at trace level they show the login.)

#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

mod support;

use std::{
    fmt::{Debug, Write},
    sync::Mutex,
};

use support::*;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

static LOGGED: Mutex<String> = Mutex::new(String::new());

/// Writes down everything that this framework logs.
struct Everything;

impl Subscriber for Everything {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("final_")
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut Fields);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, fields: &span::Record<'_>) {
        fields.record(&mut Fields);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Fields;

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(LOGGED.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_of_ours_shows_the_password() {
    tracing::subscriber::set_global_default(Everything).unwrap();
    let url = url();
    let refused = format!("amqp://nobody:s3cret{}", &url[url.rfind('@').unwrap()..]);
    let away = "amqp://nobody:s3cret@127.0.0.1:1/%2f";

    let (service, topic) = (name("s"), name("t"));
    for url in [refused.as_str(), away] {
        let amqp = final_amqp::Amqp::new(url).unwrap();
        tracing::info!(target: "final_test", ?amqp);
        if let Ok(opened) = amqp.link(setup(&service, &[&topic])).await {
            end(&*opened.link).await;
        }
    }

    let logged = LOGGED.lock().unwrap();
    assert!(logged.contains("cannot be reached"), "{logged}");
    assert!(
        !logged.contains("s3cret") && !logged.contains("nobody"),
        "{logged}"
    );
}
