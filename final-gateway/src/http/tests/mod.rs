//! HTTP over rooms made up here, which fail as they are told; and over a real connection.

mod connection;
mod consume;
mod edges;
mod http2;
mod openapi;
mod publish;
mod rooms;
mod seed;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use base64::Engine as _;
use bytes::Bytes;
use serde_json::Value;
use tower::ServiceExt;

use self::rooms::Made;
use super::{Front, HttpLimits};

/// A request of the app `shop`.
fn request(method: &str, uri: &str) -> axum::http::request::Builder {
    login(method, uri, "shop:secret:1")
}

fn login(method: &str, uri: &str, login: &str) -> axum::http::request::Builder {
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::AUTHORIZATION, format!("Basic {login}"))
}

fn small() -> HttpLimits {
    HttpLimits {
        max_message_bytes: 1000,
        max_body_bytes: 4000,
        ..HttpLimits::default()
    }
}

fn router(rooms: &Made) -> Router {
    Front::over(rooms.shared(), small()).router()
}

/// What came back.
#[derive(Debug)]
struct Back {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Back {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}

async fn ask(rooms: &Made, request: Request<Body>) -> Back {
    ask_router(router(rooms), request).await
}

async fn ask_router(router: Router, request: Request<Body>) -> Back {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Back {
        status: parts.status,
        headers: parts.headers,
        body: to_bytes(body, usize::MAX).await.unwrap(),
    }
}

async fn post(rooms: &Made, uri: &str, content_type: &str, body: impl Into<Body>) -> Back {
    let request = request("POST", uri).header(header::CONTENT_TYPE, content_type);
    ask(rooms, request.body(body.into()).unwrap()).await
}

async fn get(rooms: &Made, uri: &str) -> Back {
    ask(rooms, request("GET", uri).body(Body::empty()).unwrap()).await
}
