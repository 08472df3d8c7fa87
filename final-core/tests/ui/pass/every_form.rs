#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub)]
//! Every form a handler may have.

use std::{future::Future, io};

use final_core::{
    Attempt, Bytes, HandlerError, Headers, Json, Key, Message, MessageId, Outcome, Payload, Router, State,
    Topic, handler::Handler, subscribe, subscribers,
};

/// Documented.
#[subscribe("nothing")]
pub async fn nothing() {}

/// Takes all there is.
#[subscribe("all")]
#[allow(clippy::too_many_arguments)]
pub async fn all(
    Topic(topic): Topic,
    Key(mut key): Key,
    headers: Headers,
    MessageId(_): MessageId,
    attempt @ Attempt(_): Attempt,
    _: Message,
    bytes: Bytes,
    State(mut state): State<String>,
) -> Result<Outcome, io::Error> {
    state += &topic;
    key.take();
    let _ = (headers, attempt, bytes, state);
    Ok(Outcome::Done)
}

#[subscribe("tuple",)]
async fn tuple(Payload((id, _)): Payload<(i64, String)>) -> Result<(), &'static str> {
    if id == 0 { Err("zero") } else { Ok(()) }
}

#[subscribe("mixed", crate = ::final_core)]
async fn mixed(Json(text): Json<String>) -> Result<(), HandlerError> {
    let _: i64 = text.parse()?;
    io::Result::Ok(())?;
    Err("text")?;
    Err(String::from("text"))?;
    Err(Box::<dyn std::error::Error + Send + Sync>::from("boxed"))?;
    Err(HandlerError::permanent("never"))
}

#[subscribe("static")]
async fn leaked(State(_): State<&'static str>) {}

#[subscribe("raw")]
async fn r#type() {}

/// A module may have the name of its handler.
pub mod packed {
    /// Packs.
    #[final_core::subscribe("packed")]
    pub async fn packed() {}
}
pub use packed::packed;

#[subscribe("old")]
#[deprecated = "use `nothing`"]
pub(crate) async fn old() {}

// As for any function, there is a warning when a handler is never registered.
#[subscribe("forgotten")]
#[expect(dead_code)]
async fn forgotten() {}

#[cfg(any())]
#[subscribe("never compiled")]
async fn cut_above(_: Missing) {}

#[subscribe("never compiled")]
#[cfg(any())]
async fn cut_below(_: Missing) {}

fn is_send<T: Send>(_: T) {}
fn is_future_of<T>(_: impl Future<Output = T>) {}
fn is_handler<M, S>(_: impl Handler<M, S>) {}

fn main() {
    is_send(nothing());
    is_future_of::<()>(nothing());
    is_future_of::<Result<(), &str>>(tuple(Payload((1, "text".into()))));
    is_handler::<_, ()>(nothing);
    #[allow(deprecated)]
    let _: Router = Router::new()
        .merge(subscribers![nothing, tuple, packed, packed::packed, mixed, r#type])
        .subscribe(old)
        .route("again", nothing)
        .route("closure", |_: Message| async {})
        .route(&String::from("async closure"), async |_: Message| Ok::<_, io::Error>(()));
    let _: Router<String> = Router::new().subscribe(all);
    let _: Router = Router::new().subscribe(leaked).with_state("text");
}
