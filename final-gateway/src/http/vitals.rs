//! `/livez`, `/readyz` and `/metrics`, which need no login.
//!
//! Input: what the gateway says of itself. Output: texts.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use futures::future::BoxFuture;

use super::answer::{Answer, Kept};

const TEXT: &str = "text/plain; charset=utf-8";

/// What a gateway says of itself.
pub trait Vitals: Send + Sync + 'static {
    /// Why only a restart helps; nothing if it does not need one.
    fn not_live(&self) -> BoxFuture<'_, Vec<String>>;

    /// Why it should get no requests now; nothing if it should.
    fn not_ready(&self) -> BoxFuture<'_, Vec<String>>;

    /// Numbers for Prometheus.
    fn metrics(&self) -> BoxFuture<'_, String>;
}

pub(super) async fn livez(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    condition(&vitals.not_live().await)
}

pub(super) async fn readyz(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    condition(&vitals.not_ready().await)
}

pub(super) async fn metrics(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Answer::bytes(StatusCode::OK, kind, vitals.metrics().await).keeping(Kept::new())
}

fn condition(reasons: &[String]) -> Response {
    let (status, mut text) = match reasons.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ok\n".to_owned()),
    };
    for reason in reasons {
        text.push_str(&reason.replace(['\r', '\n'], " "));
        text.push('\n');
    }
    Answer::bytes(status, TEXT, text).keeping(Kept::new())
}
