//! An endpoint of somebody else, which keeps what it gets.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU16, Ordering},
};

use axum::{Router, body::Bytes, http::HeaderMap, http::StatusCode, routing::post};
use serde_json::Value;

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Call {
    pub content_type: String,
    pub key: String,
    pub body: Value,
}

/// Answers POST at `/test/callback`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    calls: Arc<Mutex<Vec<Call>>>,
    status: Arc<AtomicU16>,
    /// Host and port.
    pub address: String,
}

impl Endpoint {
    /// Begins to answer, with this status.
    pub async fn start(status: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let endpoint = Self {
            calls: Arc::default(),
            status: Arc::new(AtomicU16::new(status)),
            address: listener.local_addr().expect("an address").to_string(),
        };
        let answers = endpoint.clone();
        let call = post(async move |headers: HeaderMap, body: Bytes| {
            let header = |name: &str| {
                let value = headers.get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            answers.calls.lock().expect("the calls").push(Call {
                content_type: header("content-type"),
                key: header("idempotency-key"),
                body: serde_json::from_slice(&body).expect("JSON"),
            });
            StatusCode::from_u16(answers.status.load(Ordering::Relaxed)).expect("a status")
        });
        let router = Router::new().route("/test/callback", call);
        tokio::spawn(async move { axum::serve(listener, router).await });
        endpoint
    }

    /// What it answers from now on.
    pub fn answers(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("the calls").clone()
    }
}
