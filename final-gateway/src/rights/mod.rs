//! Rights: which app may publish and consume what, and how much.
//!
//! Input: keys and secrets of clients; the tables `final_gateway_apps` and `final_gateway_rights`. State: the last good
//! copy of the tables, buckets, counts. Output: an [`App`] that answers whether it may, and hears when it was revoked.

use std::net::IpAddr;

use tokio_util::sync::CancellationToken;

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
    /// Too many failures came from this address; try again later.
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

/// The rights of all apps, as this node knows them. Clones share them.
#[derive(Clone, Debug)]
pub struct Rights {}

impl Rights {
    /// Checks who a client is. Failures are counted and slowed per address.
    ///
    /// # Errors
    ///
    /// Says what is wrong, for the log and the databus dialect. HTTP tells the client less.
    pub async fn authenticate(
        &self,
        from: Option<IpAddr>,
        key: &str,
        secret: &[u8],
    ) -> Result<App, AuthError> {
        let _ = (from, key, secret);
        Err(AuthError::Unknown)
    }
}

/// An app whose secret was right. Clones are the same app. Its answers follow the tables as they change.
#[derive(Clone, Debug)]
pub struct App {}

/// Counts a connection of an app until it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {}

impl App {
    /// The app's key.
    pub fn key(&self) -> &str {
        ""
    }

    /// Whether it may. Without a group any of its groups will do, as for publishing by HTTP.
    ///
    /// # Errors
    ///
    /// Says what it has no right on.
    pub fn may(
        &self,
        operation: Operation,
        group: Option<&str>,
        topic: &str,
    ) -> Result<(), Denied> {
        let _ = (operation, group, topic);
        Err(Denied::Group)
    }

    /// Takes so many messages out of the app's bucket, and out of that of its right on the topic. While a bucket has
    /// anything, all of them are taken, however many: the bucket then owes the rest, and refuses until that is paid. So
    /// deliveries are counted after they went out.
    ///
    /// # Errors
    ///
    /// [`Denied::Rate`] says when there is room again. Nothing was taken then.
    pub fn spend(
        &self,
        operation: Operation,
        group: Option<&str>,
        topic: &str,
        messages: u32,
    ) -> Result<(), Denied> {
        let _ = (operation, group, topic, messages);
        Ok(())
    }

    /// Counts a connection.
    ///
    /// # Errors
    ///
    /// [`Denied::Connections`].
    pub fn connect(&self) -> Result<ConnectionPermit, Denied> {
        Ok(ConnectionPermit {})
    }

    /// The most messages of one answer, if the app's right on the pair has a limit.
    pub fn batch(&self, group: &str, topic: &str) -> Option<u32> {
        let _ = (group, topic);
        None
    }

    /// Cancelled once the app was disabled, its secret of this login is no longer valid, or its rights shrank: close
    /// the connection, or ask [`may`](Self::may) again.
    pub fn revoked(&self) -> CancellationToken {
        CancellationToken::new()
    }
}
