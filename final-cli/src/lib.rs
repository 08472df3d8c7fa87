//! The operators' program of the event bus, and what programs of this house share: the reader of configuration
//! and the runner of services.
//!
//! The program `final` is a thin `main` around this library, so that its parts can be tested.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`program`] | the program from its arguments to its exit code |
//! | `command_line` | the whole command line: the options before the command, and the command |
//! | `arguments`, `filter` | the words of the command line that commands have in common; those that say which rows |
//! | `contexts`, `target`, `session` | which database is meant; where it is, without its password; a pool to it |
//! | `broker` | which RabbitMQ is meant |
//! | `databases` | the database of an address, as a type |
//! | `commands` | one file for each command |
//! | `cupid` | the configuration of cupid as one for `final reconcile` |
//! | `views` | what the admin API gives, as rows |
//! | `ask`, `who` | the question before anything is changed; who is asked |
//! | `output` | tables, JSON lines, payloads, progress bars |
//! | `exit` | exit codes, and what has failed |

#![allow(
    dead_code,
    unused_imports,
    reason = "the next commands use the rest of the frame"
)]

mod arguments;
mod ask;
mod broker;
mod causes;
mod command_line;
mod commands;
pub mod config;
mod contexts;
#[cfg(feature = "reconcile")]
mod cupid;
#[cfg(any(feature = "capture", feature = "gateway", feature = "reconcile"))]
mod databases;
mod exit;
mod filter;
mod hookq;
mod output;
pub mod program;
mod redact;
pub mod service;
mod session;
mod target;
mod views;
mod who;
