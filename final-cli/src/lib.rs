//! The operators' program of the event bus, and what programs of this house share: the reader of configuration
//! and the runner of services.
//!
//! The program `final` is a thin `main` around this library, so that its parts can be tested.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`program`] | the program from its arguments to its exit code |
//! | `arguments` | the words of the command line that every command has in common |
//! | `contexts`, `target`, `session` | which database is meant; where it is, without its password; a pool to it |
//! | `commands` | one file for each command |
//! | `ask` | the question before anything is changed |
//! | `output` | tables, JSON lines, payloads, progress bars |
//! | `exit` | exit codes, and what has failed |

#![allow(
    dead_code,
    unused_imports,
    reason = "the next commands use the rest of the frame"
)]

mod arguments;
mod ask;
mod commands;
pub mod config;
mod contexts;
mod exit;
mod output;
pub mod program;
pub mod service;
mod session;
mod target;
