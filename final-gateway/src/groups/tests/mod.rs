//! Groups over the in-process broker, on a clock that jumps: what clients see, without a server.

mod closing;
mod connections;
mod kit;
mod model;
mod opening;
mod pulls;
mod repeats;
