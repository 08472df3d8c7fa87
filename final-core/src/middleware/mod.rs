//! Layers for messages that tower does not have.
//!
//! Tower's own (`timeout`, `limit`, `load_shed`, `buffer`, …) are used as they are. A chain that reads
//! well, from the handler outwards:
//!
//! ```
//! # use std::time::Duration;
//! use final_core::{Router, middleware::TraceLayer};
//! use tower::{limit::ConcurrencyLimitLayer, timeout::TimeoutLayer};
//!
//! # async fn send_receipt() {}
//! let router: Router = Router::new()
//!     .route("order.placed", send_receipt)
//!     .layer(ConcurrencyLimitLayer::new(8))
//!     .layer(TimeoutLayer::new(Duration::from_secs(10))) // includes the wait for one of the eight
//!     .layer(TraceLayer::new()); // sees how the attempt ended, a timeout too
//! # let _ = router;
//! ```
//!
//! Panics need no layer: the router catches those of handlers inside all layers, so that layers see
//! them as failures, and the bus those of layers outside all of them. Retries need none either: the
//! bus tries again, outside all layers.

pub mod catch_panic;
pub mod trace;

pub use self::{catch_panic::CatchPanicLayer, trace::TraceLayer};
