//! Sessions: what a client may say, from its connection to its end.
//!
//! Input: requests of one connection. State: whether the client has logged in, and as what. Output: one answer for each
//! request, in their order.
//!
//! ```text
//!   connected ─ AUTH, HELLO … AUTH ─┬─▶ publisher  ─ SET, HSET ───▶ answered after their COMMIT
//!       ▲                           └─▶ subscriber ─ MGET, SET p o ─▶ answered at once
//!       └── RESET ◀─────────────────────┘
//! ```
//!
//! Reading and writing run beside each other in one task. Answers wait in a bounded queue, so a client that does not
//! take them is not read from.

mod answers;
mod backend;
mod commands;
mod common;
mod input;
mod login;
mod publisher;
mod room;
mod subscriber;

#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(super) use self::backend::{Backend, BoxedAnswer, Client, Hand};
use self::{
    answers::{Answer, Answers},
    input::{Input, InputEnd},
    login::Login,
};
use super::wire::{Protocol, WireLimits, Writer};
use crate::{listen::farewell, memory::Budget};

/// What a connection may take, in time and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionLimits {
    /// The longest value.
    pub(crate) max_message_bytes: usize,
    /// From the connection to the login.
    pub(crate) login: Duration,
    /// The memory of all connections together for requests that have not come in full. Each has 64 KiB beside it. An app
    /// has at most half of what the others leave.
    pub(crate) room: usize,
    /// Between two requests of a publisher.
    pub(crate) publisher_idle: Duration,
    /// Between two requests of a subscriber.
    pub(crate) subscriber_idle: Duration,
    /// From the first byte of a request to its last.
    pub(crate) request: Duration,
    /// Until the client takes something of an answer.
    pub(crate) write: Duration,
    /// How long `MGET` waits for the first message.
    pub(crate) wait: Duration,
    /// How long `MGET` gathers more.
    pub(crate) gather: Duration,
    /// The most messages of an `MGET`, where the right on the topic says nothing else.
    pub(crate) batch: usize,
    /// The most bytes of an `MGET`; the first message comes whatever its size.
    pub(crate) batch_bytes: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            max_message_bytes: 1_000_000,
            login: Duration::from_secs(5),
            room: 128 * 1024 * 1024,
            publisher_idle: Duration::from_mins(20),
            subscriber_idle: Duration::from_secs(40),
            request: Duration::from_secs(30),
            write: Duration::from_secs(10),
            wait: Duration::from_secs(30),
            gather: Duration::from_millis(100),
            batch: 100,
            batch_bytes: 4 * 1024 * 1024,
        }
    }
}

/// What a client may send before it has logged in: a login, and what libraries ask for.
const STRANGER: WireLimits = WireLimits {
    line: 16 * 1024,
    words: 64,
    word: 16 * 1024,
    request: 20 * 1024,
};

/// Room for keys, headers and the lines between them.
const BESIDE_VALUE: usize = 128 * 1024;

impl SessionLimits {
    /// What a client may send that has logged in.
    pub(crate) fn wire(&self) -> WireLimits {
        WireLimits {
            line: 64 * 1024,
            words: 1024,
            word: self.max_message_bytes + BESIDE_VALUE / 2,
            request: self.max_message_bytes + BESIDE_VALUE,
        }
    }

    /// The memory that all connections share. A buffer grows to twice the size of a request, so one of the largest size
    /// fits into the half that an app alone may have.
    pub(super) fn input_room(&self) -> Budget {
        let largest = self.wire().request.saturating_mul(2);
        Budget::new(self.room.max(largest.saturating_mul(2)))
    }
}

/// What a client reads whose request has no place in memory.
const BUSY: &str = "ERR busy: too many requests are in memory at once; connect again later";

/// What a client reads at the end of the gateway.
const STOPPING: &str = "ERR the gateway is being stopped; connect again";

/// Why a session ended, where that is not the client's own doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// The client went away, or said that it goes.
    Client,
    /// The client was silent, or slow.
    Late,
    /// The client was told why in its last answer.
    Refused,
}

/// Plays a connection from its beginning to its end.
pub(super) async fn serve<S, B>(
    stream: S,
    peer: SocketAddr,
    backend: B,
    limits: SessionLimits,
    room: Budget,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    B: Backend,
{
    let (read, mut write): (ReadHalf<S>, WriteHalf<S>) = tokio::io::split(stream);
    let (answers, queue) = answers::channel();
    let mut input = Input::new(read, STRANGER, limits.request, room);
    let written = {
        let session = Session::new(peer, backend, limits, &stop);
        let mut reading = pin!(session.run(&mut input, answers));
        let mut writing = pin!(queue.write_to(&mut write, limits.write));
        tokio::select! {
            biased;
            _ending = &mut reading => writing.await,
            written = &mut writing => written,
        }
    };
    if written.is_ok() {
        farewell(input.into_read().unsplit(write), b"").await;
    }
}

/// A connection between two requests.
struct Session<B: Backend> {
    peer: SocketAddr,
    backend: B,
    limits: SessionLimits,
    stop: CancellationToken,
    /// When it must have logged in.
    login_until: Instant,
    id: u64,
    name: Vec<u8>,
    protocol: Protocol,
    login: Option<Login<B>>,
}

impl<B: Backend> Session<B> {
    fn new(peer: SocketAddr, backend: B, limits: SessionLimits, stop: &CancellationToken) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self {
            peer,
            backend,
            limits,
            // All connections would wait at the lock of one.
            stop: stop.child_token(),
            login_until: Instant::now() + limits.login,
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            name: Vec::new(),
            protocol: Protocol::default(),
            login: None,
        }
    }

    /// Answers requests until the end.
    async fn run<R: AsyncRead + Unpin>(mut self, input: &mut Input<R>, answers: Answers) -> Ending {
        loop {
            let now = Instant::now();
            let (idle_until, revoked) = match &self.login {
                None => (self.login_until, None),
                Some(login) => (now + login.idle(&self.limits), Some(login.revoked.clone())),
            };
            let at_most = self.login.is_none().then_some(self.login_until);
            // Of a pipeline, all but the first request are here already.
            let request = match input.read() {
                Some(request) => request,
                None => tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return self.refuse(&answers, STOPPING).await,
                    () = until(revoked.as_ref()) => {
                        if let Some(denied) = self.look_again() {
                            return self.refuse(&answers, &denied).await;
                        }
                        continue;
                    }
                    request = input.next(idle_until, at_most) => request,
                },
            };
            let request = match request {
                Ok(request) => request,
                Err(InputEnd::Closed) => return Ending::Client,
                Err(InputEnd::Late) => return Ending::Late,
                Err(InputEnd::Full) => return self.refuse(&answers, BUSY).await,
                Err(InputEnd::Wire(error)) => {
                    tracing::debug!(
                        target: "final::gateway",
                        peer = %self.peer,
                        error = %error,
                        "a client broke the Redis protocol; its connection is closed"
                    );
                    return self.refuse(&answers, &format!("ERR {error}")).await;
                }
            };
            if let Some(ending) = self.answer(&request, input, &answers).await {
                return ending;
            }
            match &self.login {
                None => input.belongs_to(None, STRANGER),
                Some(login) => input.belongs_to(Some(login.app.key()), self.limits.wire()),
            }
        }
    }

    /// Says why, as the last answer.
    async fn refuse(&self, answers: &Answers, text: &str) -> Ending {
        self.push(answers, |writer| writer.error(text)).await;
        Ending::Refused
    }

    /// Puts an answer into the queue.
    async fn push(&self, answers: &Answers, write: impl FnOnce(&mut Writer)) {
        let mut writer = Writer::new(self.protocol);
        write(&mut writer);
        answers.push(Answer::Bytes(writer.into_bytes())).await;
    }

    /// The rights of the app have shrunk. Says why the connection must end, if it must.
    fn look_again(&mut self) -> Option<String> {
        let login = self.login.as_mut()?;
        // First the token: the next revocation may come just after the answer.
        login.revoked = login.app.revoked().child_token();
        match login.may() {
            Ok(()) => None,
            Err(denied) => Some(format!("ERR the rights were revoked: {denied}")),
        }
    }
}

/// Ends when the token is cancelled; never without one.
async fn until(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}
