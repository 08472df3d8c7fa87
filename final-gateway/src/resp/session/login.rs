//! `AUTH` and `HELLO … AUTH`: from a stranger to a publisher or a subscriber.
//!
//! Input: a DSN. State: none before, a [`Login`] after. Output: `+OK`, or why not, and the end of the connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    Ending, Session, SessionLimits,
    answers::{Answer, Answers},
    backend::{Backend, Client},
};
use crate::{
    names::{Pair, check_color, check_group, check_topic},
    resp::{
        databus::{Dsn, Role},
        wire::Protocol,
    },
    rights::{AuthError, Denied, Operation},
};

/// A client that has logged in.
pub(super) struct Login<B: Backend> {
    pub(super) app: B::App,
    /// What its rights are asked for: without the colour.
    pub(super) group: Arc<str>,
    /// What it publishes to or consumes.
    pub(super) pair: Pair,
    /// Empty for no colour.
    pub(super) color: Arc<str>,
    pub(super) work: Work<B>,
    pub(super) revoked: CancellationToken,
    _permit: <B::App as Client>::Permit,
}

/// What it has logged in for.
pub(super) enum Work<B: Backend> {
    Publish,
    Consume(B::Holder),
}

impl<B: Backend> Login<B> {
    pub(super) fn operation(&self) -> Operation {
        match self.work {
            Work::Publish => Operation::Publish,
            Work::Consume(_) => Operation::Subscribe,
        }
    }

    pub(super) fn may(&self) -> Result<(), Denied> {
        let topic = self.pair.topic();
        self.app.may(self.operation(), &self.group, topic)
    }

    pub(super) fn idle(&self, limits: &SessionLimits) -> Duration {
        match self.work {
            Work::Publish => limits.publisher_idle,
            Work::Consume(_) => limits.subscriber_idle,
        }
    }
}

impl<B: Backend> Session<B> {
    /// `AUTH dsn` or `AUTH user dsn`; the user is not looked at.
    pub(super) async fn auth(&mut self, words: &[Bytes], answers: &Answers) -> Option<Ending> {
        let ([dsn] | [_, dsn]) = words else {
            self.arity("auth", answers).await;
            return None;
        };
        match self.log_in(dsn).await {
            Ok(()) => answers.push(Answer::Fixed(b"+OK\r\n")).await,
            Err(text) => return Some(self.refuse(answers, &text).await),
        }
        None
    }

    /// `HELLO [2|3 [AUTH user dsn] [SETNAME name]]`.
    pub(super) async fn hello(&mut self, words: &[Bytes], answers: &Answers) -> Option<Ending> {
        let mut protocol = self.protocol;
        let mut name = None;
        let mut dsn = None;
        if let Some((version, mut options)) = words.split_first() {
            protocol = match &version[..] {
                b"2" => Protocol::Resp2,
                b"3" => Protocol::Resp3,
                _ => {
                    let text = "NOPROTO unsupported protocol version";
                    self.push(answers, |writer| writer.error(text)).await;
                    return None;
                }
            };
            while let Some((option, rest)) = options.split_first() {
                options = match (option.to_ascii_lowercase().as_slice(), rest) {
                    (b"auth", [_, secret, rest @ ..]) => {
                        dsn = Some(secret);
                        rest
                    }
                    (b"setname", [given, rest @ ..]) => {
                        name = Some(given);
                        rest
                    }
                    _ => {
                        let text = "ERR Syntax error in HELLO option";
                        self.push(answers, |writer| writer.error(text)).await;
                        return None;
                    }
                };
            }
        }
        if let Some(dsn) = dsn
            && let Err(text) = self.log_in(dsn).await
        {
            return Some(self.refuse(answers, &text).await);
        }
        self.protocol = protocol;
        if let Some(name) = name {
            self.name = name.iter().copied().take(128).collect();
        }
        self.push(answers, |writer| self.greeting(writer)).await;
        None
    }

    /// Logs in, also a second time as something else. The texts are databus's where it has one.
    async fn log_in(&mut self, dsn: &[u8]) -> Result<(), String> {
        // What the connection had in hand goes back first.
        self.login = None;
        let result = self.try_log_in(dsn).await;
        match &result {
            Ok(login) => tracing::debug!(
                target: "final::gateway",
                peer = %self.peer,
                group = login.pair.group(),
                topic = login.pair.topic(),
                operation = ?login.operation(),
                "a Redis client has logged in"
            ),
            Err(text) => tracing::debug!(
                target: "final::gateway",
                peer = %self.peer,
                error = text,
                "the login of a Redis client was refused; its connection is closed"
            ),
        }
        self.login = Some(result?);
        Ok(())
    }

    async fn try_log_in(&self, dsn: &[u8]) -> Result<Login<B>, String> {
        let dsn = Dsn::parse(dsn).map_err(|error| error.to_string())?;
        let from = self.peer.ip();
        let app = self
            .backend
            .authenticate(from, dsn.key, dsn.secret.as_bytes());
        let app = app.await.map_err(|error| match error {
            AuthError::Key => "error key".to_owned(),
            AuthError::Secret => "error secret".to_owned(),
            AuthError::Unknown => "ERR rights unknown: the database is away".to_owned(),
            other => format!("ERR {other}"),
        })?;
        check_group(dsn.group).map_err(|_| "error group".to_owned())?;
        check_topic(dsn.topic).map_err(|_| "error topic".to_owned())?;
        if !dsn.color.is_empty() {
            check_color(dsn.color).map_err(|error| format!("ERR {error}"))?;
        }
        let pair = match dsn.role {
            // The right is asked for the group, so the name must not be one that another group can have.
            Role::Sub if !dsn.color.is_empty() => Pair::colored(dsn.group, dsn.color, dsn.topic),
            _ => Pair::new(dsn.group, dsn.topic),
        };
        let pair = pair.map_err(|error| format!("ERR {error}"))?;
        let operation = match dsn.role {
            Role::Pub => Operation::Publish,
            Role::Sub => Operation::Subscribe,
        };
        let revoked = app.revoked().child_token();
        let may = app.may(operation, dsn.group, dsn.topic);
        may.map_err(|denied| refusal(&denied, operation))?;
        let permit = app
            .connect()
            .map_err(|denied| refusal(&denied, operation))?;
        let work = match dsn.role {
            Role::Pub => Work::Publish,
            Role::Sub => {
                let holder = self.backend.hold(&app, &pair, self.peer).await;
                Work::Consume(holder.map_err(|error| format!("ERR {error}"))?)
            }
        };
        Ok(Login {
            app,
            group: dsn.group.into(),
            pair,
            color: dsn.color.into(),
            work,
            revoked,
            _permit: permit,
        })
    }
}

/// Why an app may not, in databus's words where it has some.
pub(super) fn refusal(denied: &Denied, operation: Operation) -> String {
    match (denied, operation) {
        (Denied::Group, _) => "error group".to_owned(),
        (Denied::Topic, _) => "error topic".to_owned(),
        (Denied::Operation, Operation::Publish) => "no publish permission".to_owned(),
        (Denied::Operation, Operation::Subscribe) => "no subscribe permission".to_owned(),
        (other, _) => format!("ERR {other}"),
    }
}
