//! Searches everything that is logged in this process for a secret, and keeps the warnings.

use std::{
    fmt::{Debug, Write},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use final_tests::eventually;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, filter, layer::Context, registry::LookupSpan};

use crate::shop::SOON;

/// Whether the search is on. TRACE logs much, and other tests run at the same time.
static LISTENING: AtomicBool = AtomicBool::new(false);
static HEARD: LazyLock<Mutex<Heard>> = LazyLock::new(Mutex::default);

/// What the libraries have warned of.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A secret, in all forms in which it could be logged.
#[derive(Clone, Debug)]
pub struct Secret(Vec<String>);

#[derive(Debug, Default)]
struct Heard {
    secrets: Vec<Secret>,
    /// The logged texts that contain a secret.
    leaks: Vec<String>,
    /// The targets that have logged anything.
    targets: std::collections::BTreeSet<String>,
}

impl Secret {
    /// The text is at least twelve letters and digits, which no percent encoding changes.
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        // The Debug of bytes.
        let list = format!("{bytes:?}");
        let list = list.trim_matches(['[', ']']).to_owned();
        let mut forms = vec![text.to_owned(), hex, list];
        // The Base64 of a longer text that contains the secret. The characters that depend on its neighbours
        // are left out.
        forms.extend((0..3).map(|skip| {
            let whole = &bytes[skip..];
            base64(&whole[..whole.len() / 3 * 3])
        }));
        Self(forms)
    }

    /// Whether this text contains the secret.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.iter().any(|form| text.contains(form))
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks_exact(3).flat_map(|three| {
        let number = three.iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[number >> shift & 63]))
    });
    digits.collect()
}

/// Starts the search.
pub fn listen(secrets: &[Secret]) {
    let mut heard = HEARD.lock().expect("lock");
    *heard = Heard {
        secrets: secrets.to_vec(),
        ..Heard::default()
    };
    LISTENING.store(true, Ordering::SeqCst);
}

/// Ends the search. Returns the leaks, and the targets that have logged anything.
pub fn stop() -> (Vec<String>, Vec<String>) {
    LISTENING.store(false, Ordering::SeqCst);
    let heard = std::mem::take(&mut *HEARD.lock().expect("lock"));
    (heard.leaks, heard.targets.into_iter().collect())
}

/// The warnings that name this service, each with its fields.
pub fn warnings(service: &str) -> Vec<String> {
    let all = WARNINGS.lock().expect("lock");
    let about = all.iter().filter(|text| text.contains(service));
    about.cloned().collect()
}

/// Waits for a warning that names this service and has these words.
pub async fn is_warned(service: &str, words: &str) {
    eventually(&format!("a warning of {words:?}"), SOON, async || {
        let warnings = warnings(service);
        let has = warnings.iter().any(|text| text.contains(words));
        if has { Ok(()) } else { Err(warnings) }
    })
    .await;
}

/// The layer that keeps the warnings of the libraries.
pub fn warnings_layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let of_ours = |meta: &tracing::Metadata<'_>| {
        meta.target().starts_with("final::") && *meta.level() <= tracing::Level::WARN
    };
    Warnings.with_filter(filter::filter_fn(of_ours))
}

struct Warnings;

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        WARNINGS.lock().expect("lock").push(text.0);
    }
}

/// The layer for the subscriber of the whole process.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let listening = |meta: &tracing::Metadata<'_>| {
        // lapin prints the login bytes at TRACE, as the README says.
        let foreign = ["lapin", "amq_protocol"];
        LISTENING.load(Ordering::Relaxed)
            && !foreign.iter().any(|name| meta.target().starts_with(name))
    };
    Listener.with_filter(filter::dynamic_filter_fn(move |meta, _| listening(meta)))
}

struct Listener;

impl<S: Subscriber> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        note(attributes.metadata().target(), |text| {
            attributes.record(text)
        });
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        note(event.metadata().target(), |text| event.record(text));
    }
}

fn note(target: &str, record: impl FnOnce(&mut Text)) {
    let mut text = Text(String::new());
    record(&mut text);
    let mut heard = HEARD.lock().expect("lock");
    if heard.secrets.iter().any(|secret| secret.is_in(&text.0)) {
        heard.leaks.push(format!("{target}: {}", text.0));
    }
    if !heard.targets.contains(target) {
        heard.targets.insert(target.to_owned());
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, "{}={value} ", field.name());
    }
}
