//! `/openapi.json`, which needs no login.

use std::time::Duration;

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    answer::{Answer, Kept},
    front::{Front, HttpLimits},
};

/// The description of all this for programs, where the limits of the engine are filled in.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

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
