//! `/livez`, `/readyz`, `/metrics` and `/openapi.json`, which need no login.
//!
//! Input: what the gateway says of itself. Output: texts.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode, response::Response};
use futures::future::BoxFuture;

use super::{
    answer::{Answer, Kept},
    front::{Front, HttpLimits},
};

const TEXT: &str = "text/plain; charset=utf-8";

/// The description of all this for programs, where the limits of the engine are filled in.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

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

pub(super) async fn openapi(State(front): State<Front>) -> Response {
    let HttpLimits {
        most_visibility,
        most_delay,
        ..
    } = front.limits;
    let text = OPENAPI
        .replace("{most_visibility}", &short(most_visibility))
        .replace("{most_delay}", &short(most_delay));
    Answer::bytes(StatusCode::OK, "application/json", text).keeping(Kept::new())
}

/// A time as clients write it.
fn short(time: Duration) -> String {
    match time.as_secs() {
        hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
        minutes if minutes % 60 == 0 => format!("{}m", minutes / 60),
        seconds => format!("{seconds}s"),
    }
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
