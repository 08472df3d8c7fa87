//! Programs that show one thing each; see the examples beside this crate.

// The code in these pages is compiled here, because this crate has the databases and RabbitMQ.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
#[cfg(doctest)]
#[doc = include_str!("../docs/consuming.md")]
mod consuming {}
#[cfg(doctest)]
#[doc = include_str!("../docs/production.md")]
mod production {}
