//! Rights: which app may publish and consume what, and how much.
//!
//! Input: keys and secrets of clients; the tables `final_gateway_apps` and `final_gateway_rights`. State: the last good
//! copy of the tables, buckets, counts. Output: an [`App`] that answers whether it may, and hears when it was revoked.
//!
//! | part | does |
//! | --- | --- |
//! | `known` | [`Rights`]: logins |
//! | `keeping` | keeps the copy of the tables current |
//! | `registry`, `entry` | the copy; one app of it |
//! | `app` | what an app may, and its limits |
//! | `grant`, `grants` | what a right covers; what a caller decides |
//! | `checking`, `secret`, `slowing` | whether a secret is right; how secrets are stored; failures per address |
//! | `bucket`, `clock` | messages per second |
//! | `tables` | the tables on three databases |
//! | `apps` | [`Apps`]: what an operator does |
//! | [`databus`] | rights of databus, to be taken over |

mod app;
mod apps;
mod bucket;
mod checking;
mod clock;
pub mod databus;
mod entry;
mod grant;
mod grants;
mod keeping;
mod known;
mod registry;
mod secret;
mod slowing;
mod tables;
#[cfg(test)]
mod tests;

pub use self::{
    app::{App, AppLimits, ConnectionPermit},
    apps::{AppInfo, Apps, AppsError},
    grant::{Grant, Operations},
    grants::Grants,
    known::Rights,
    secret::AppSecret,
};

/// What an app may do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Publish to it.
    Publish,
    /// Consume from it.
    Subscribe,
}

/// Why a client is not who it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// There is no such app, or it is disabled.
    #[error("unknown or disabled app key")]
    Key,
    /// The secret is wrong.
    #[error("wrong secret")]
    Secret,
    /// Too many failures came from this address, or too many logins have to be checked; try again later.
    #[error("too many failed logins from this address; try again later")]
    Slowed,
    /// The rights could not be read for so long that the last good copy is too old.
    #[error("the rights are unknown: the database is away")]
    Unknown,
}

/// Why an app may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// It has no right on the group.
    #[error("no right on this group")]
    Group,
    /// It has no right on the topic.
    #[error("no right on this topic")]
    Topic,
    /// It has a right on the topic, but not this one.
    #[error("no right for this operation")]
    Operation,
    /// It has used up its messages per second. Again after so long.
    #[error("over the limit of messages per second; try again in {0:?}")]
    Rate(std::time::Duration),
    /// It has as many connections as it may have.
    #[error("the app has {0} connections, and may have no more")]
    Connections(u32),
}
