//! A workload that is broken on purpose, and books that show whether every message was handled.
//!
//! ```text
//! plan      a seed's schedule of faults
//! fault     the list of what can be broken
//! stage     servers, wires and worker processes, and how each fault is done to them
//! work      what runs inside a worker process: sellers that write, subscribers that handle
//! journal   what a worker has done, in a file of its own that no server knows of
//! books     all journals together: what is lost, invented, repeated, late or stuck
//! report    the table at the end
//! killers   another run: messages whose handlers kill their process
//! ```
//!
//! A sale is one row and one to five messages in one transaction. At the end the table says which sales
//! exist, and the journals say which messages were handled.

mod books;
mod fault;
mod journal;
mod killers;
mod plan;
mod report;
mod run;
mod stage;
pub mod work;

pub use killers::{KillerPlan, Verdict, VictimJob, be_victim, run_killers};
pub use plan::{DatabaseKind, Plan, Transport};
pub use report::Report;
pub use run::run;

/// Microseconds of the machine's monotonic clock: the same for all processes, whatever their wall
/// clocks say.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}
