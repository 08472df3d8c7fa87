//! Which path and method goes where, and what is said of the others.
//!
//! Input: a request. Output: its handler's response; 404, 405 with `Allow`, or 500 after a panic, in JSON.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    handler::Handler,
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::{MethodRouter, get, post},
};
use futures::FutureExt;

use super::{
    backlog,
    call::Call,
    databus,
    front::Front,
    letters, openapi,
    problem::Problem,
    publish, pull, settle,
    vitals::{self, Vitals},
};

impl Front {
    /// The routes, for our own server or to be nested. A server that nests them gives `ConnectInfo<SocketAddr>`
    /// (`into_make_service_with_connect_info`), so that failed logins are counted by address.
    pub fn router(self) -> Router {
        routes(self)
    }
}

fn routes(front: Front) -> Router {
    let probes = front.vitals.clone().map(probes).unwrap_or_default();
    Router::new()
        .route("/v1/topics/{topic}/messages", post(publish::messages))
        .route("/v1/groups/{group}/messages", get_only(pull::messages))
        .route("/v1/groups/{group}/ack", post(settle::ack))
        .route("/v1/groups/{group}/nack", post(settle::nack))
        .route("/v1/groups/{group}/extend", post(settle::extend))
        .route("/v1/groups/{group}/backlog", get(backlog::backlog))
        .route("/v1/groups/{group}/dead-letters", get(letters::list))
        .route(
            "/v1/groups/{group}/dead-letters/replay",
            post(letters::replay),
        )
        .route("/databus/pub", post(databus::publish))
        .route("/databus/consumer/addrs", get(databus::addresses))
        .route("/openapi.json", get(openapi::openapi))
        .merge(probes)
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn(caught))
        .with_state(front)
}

fn probes(vitals: Arc<dyn Vitals>) -> Router<Front> {
    Router::new()
        .route("/livez", get(vitals::livez))
        .route("/readyz", get(vitals::readyz))
        .route("/metrics", get(vitals::metrics))
        .with_state(vitals)
}

/// GET and not HEAD, which axum would send to the same handler: it would take messages and show none.
fn get_only<T: 'static, H: Handler<T, Front>>(handler: H) -> MethodRouter<Front> {
    get(handler).head(not_allowed_but_get)
}

async fn not_found(State(front): State<Front>, request: Request) -> Response {
    let what = "there is nothing at this path; /openapi.json has all paths";
    let problem = Problem::new(StatusCode::NOT_FOUND, "not_found", what);
    Call::new(front, request).finish(Err(problem)).await
}

async fn not_allowed(State(front): State<Front>, request: Request) -> Response {
    let what = "this path has no such method; the header Allow has its methods";
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", what);
    Call::new(front, request).finish(Err(problem)).await
}

async fn not_allowed_but_get(front: State<Front>, request: Request) -> Response {
    let mut response = not_allowed(front, request).await;
    let allow = axum::http::HeaderValue::from_static("GET");
    response
        .headers_mut()
        .insert(axum::http::header::ALLOW, allow);
    response
}

/// A panic ends its own request and no other.
async fn caught(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(target: "final::gateway", "an HTTP request panicked");
            let what = "the gateway failed; its log has the reason";
            let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", what);
            problem.answer().keeping(Vec::new())
        }
    }
}
