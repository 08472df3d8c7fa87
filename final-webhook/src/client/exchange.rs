//! One exchange with an endpoint: from a connection to an answer.
//!
//! Input: an endpoint, its contact and a call. Output: an answer, or why there is none. State: the places of
//! connections; an idle connection goes back to its contact.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Call, Endpoint, IDEMPOTENCY_KEY_HEADER, NotDone, SIGNATURE_HEADER, Step,
    client::caller::Inner,
    client::connection::{Answer, Connection, NoAnswer},
    client::contact::Contact,
    client::dial::dial,
    sign,
};

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("final-webhook/", env!("CARGO_PKG_VERSION")));

impl Inner {
    /// Sends the call and reads the answer, within the endpoint's timeout.
    ///
    /// If an idle connection turns out to be closed, the call is sent once more over a new one. The endpoint can get
    /// it twice that way, with the same idempotency key.
    pub(crate) async fn exchange(
        &self,
        contact: &Contact,
        endpoint: &Endpoint,
        call: &Call,
    ) -> Result<Answer, NotDone> {
        let reused = match contact.idle_connection(self.clock.now()) {
            Some(connection) => Ok(connection),
            None => Err(self.place(endpoint).await?),
        };
        let deadline = Instant::now() + endpoint.timeout;
        let mut step = Step::Waiting;
        let sent = timeout_at(deadline, async {
            let place = match reused {
                Err(place) => place,
                Ok(mut connection) => match connection.send(self.request(endpoint, call)).await {
                    Ok(answer) => return Ok((connection, answer)),
                    Err(NoAnswer::Failed(why)) => return Err(why),
                    Err(NoAnswer::Stale(_)) => connection.into_place(),
                },
            };
            let dialled = dial(endpoint, &*self.resolver, &self.trust, &mut step);
            let dialled = timeout(self.connect_timeout, dialled).await;
            let stream = dialled.map_err(|_| NotDone::Late {
                limit: self.connect_timeout,
                step,
            })??;
            let mut connection = Connection::new(stream, place).await?;
            step = Step::Waiting;
            let answer = connection.send(self.request(endpoint, call)).await;
            Ok((connection, answer.map_err(NoAnswer::into_not_done)?))
        });
        let Ok(sent) = sent.await else {
            return Err(NotDone::Late {
                limit: endpoint.timeout,
                step,
            });
        };
        let (mut connection, answer) = sent?;
        let answer = connection.read(answer, deadline).await;
        self.keep(contact, connection);
        Ok(answer)
    }

    /// Keeps a connection for the next call, unless its answer was not read to its end, or a call waits for its place.
    fn keep(&self, contact: &Contact, connection: Connection) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return;
        }
        contact.keep(connection, self.clock.now());
        // One that has begun to wait meanwhile may have looked for an idle connection too early.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.contacts.close_idle();
        }
    }

    /// A place for one more connection. An idle one of any endpoint is closed for it if need be.
    async fn place(&self, endpoint: &Endpoint) -> Result<OwnedSemaphorePermit, NotDone> {
        let _waiting = Waiting::begin(&self.waiting);
        loop {
            if let Ok(place) = self.connections.clone().try_acquire_owned() {
                return Ok(place);
            }
            if !self.contacts.close_idle() {
                break;
            }
        }
        match timeout(endpoint.timeout, self.connections.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(NotDone::Busy {
                limit: endpoint.timeout,
            }),
        }
    }

    fn request(&self, endpoint: &Endpoint, call: &Call) -> Request<Full<Bytes>> {
        let destination = &endpoint.destination;
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = destination.target.clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, AGENT);
        if let Some(authorization) = &destination.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        for (name, value) in endpoint.headers.iter().chain(&call.headers) {
            headers.insert(name, value.clone());
        }
        headers.insert(HOST, destination.authority.clone());
        headers.insert(CONTENT_TYPE, call.content_type.clone());
        // An answer that was never compressed cannot grow.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(IDEMPOTENCY_KEY_HEADER, call.idempotency_key.clone());
        if !endpoint.secrets.is_empty() {
            let signature = sign(&endpoint.secrets, &call.body, self.clock.wall());
            if let Ok(signature) = HeaderValue::try_from(signature) {
                headers.insert(SIGNATURE_HEADER, signature);
            }
        }
        request
    }
}

/// Counts a call that waits for a place, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
