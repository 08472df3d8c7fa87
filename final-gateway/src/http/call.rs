//! A request on its way through a handler: who sent it, its parameters, its body, its end.
//!
//! Input: a request. State: whether its body was read; what its answer has to keep. Output: a response.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::Response,
};
use base64::Engine as _;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, Kept},
    body,
    front::Front,
    json,
    params::Params,
    problem::Problem,
    rooms::Caller,
    serve::Ending,
};
use crate::{
    memory::Share,
    names::Pair,
    rights::{AuthError, Operation},
};

/// What an answer needs for each thing that was done.
const EACH: usize = 256;

/// The longest `Authorization`, in bytes.
const MAX_LOGIN: usize = 4096;

/// Why a request has no caller.
#[derive(Debug)]
pub(super) enum NoCaller {
    /// There is no login, or it cannot be read.
    Unreadable(&'static str),
    Refused(AuthError),
    /// It is somebody, and may not now.
    Limited(Problem),
}

impl From<NoCaller> for Problem {
    fn from(error: NoCaller) -> Self {
        match error {
            NoCaller::Unreadable(what) => Self::unauthorized(what),
            NoCaller::Refused(error) => Self::login(&error),
            NoCaller::Limited(problem) => problem,
        }
    }
}

/// A request that is being answered.
pub(super) struct Call {
    pub(super) front: Front,
    parts: Parts,
    body: Option<Body>,
    /// The memory of the answer.
    room: Share,
    kept: Kept,
}

impl Call {
    pub(super) fn new(front: Front, request: Request) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            room: front.budget.share(""),
            front,
            parts,
            body: Some(body),
            kept: Kept::new(),
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Cancelled when the gateway stops. Never, in another service's server.
    pub(super) fn ending(&self) -> CancellationToken {
        let ending = self.parts.extensions.get::<Ending>();
        ending.map_or_else(CancellationToken::new, |Ending(stop)| stop.clone())
    }

    /// The parameters of the query.
    pub(super) fn params(&self, known: &[&'static str]) -> Result<Params, Problem> {
        Params::strict(&self.parts.uri, known)
    }

    /// The same for the seed's dialect, which ignores those that it does not know.
    pub(super) fn loose_params(&self) -> Params {
        Params::loose(&self.parts.uri)
    }

    /// Finds out who sends this, and counts it as a connection of the app.
    pub(super) async fn caller(&mut self) -> Result<Arc<dyn Caller>, NoCaller> {
        let login = self.parts.headers.get(header::AUTHORIZATION);
        let login = login.ok_or(NoCaller::Unreadable(
            "the request has no login; send the app's key and secret by basic authentication",
        ))?;
        let (key, secret) = basic(login.as_bytes()).ok_or(NoCaller::Unreadable(
            "the login cannot be read; send the app's key and secret by basic authentication",
        ))?;
        let peer = self.parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let from = peer.map(|ConnectInfo(address)| address.ip());
        let caller = self.front.rooms.authenticate(from, &key, &secret).await;
        let caller = caller.map_err(NoCaller::Refused)?;
        let permit = caller.connect().map_err(|denied| {
            let operation = Operation::Subscribe;
            NoCaller::Limited(Problem::denied(denied, caller.key(), operation, None, ""))
        })?;
        self.kept.push(permit);
        self.room = self.front.budget.share(caller.key());
        Ok(caller)
    }

    /// The bytes of the body.
    pub(super) async fn bytes(&mut self, at_most: usize) -> Result<Bytes, Problem> {
        let length = self.parts.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > at_most as u64) {
            return Err(body::too_large(at_most));
        }
        let encoding = self.parts.headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_encoding",
                "a body with Content-Encoding is not taken; send it as it is, or without this header and with the \
                 name of the encoding in a header of your own (X-Header-…)",
            ));
        }
        let Some(body) = self.body.take() else {
            return Ok(Bytes::new());
        };
        let mut share = self.room.another();
        let bytes = body::read(body, at_most, &mut share, &self.front.limits).await?;
        self.kept.push(Box::new(share));
        Ok(bytes)
    }

    /// The body as a JSON object of ours.
    pub(super) async fn object<T: DeserializeOwned>(&mut self) -> Result<T, Problem> {
        let bytes = self.bytes(self.front.limits.max_body_bytes).await?;
        json::read(&bytes).map_err(|flaw| Problem::bad("bad_json", flaw.to_string()))
    }

    /// Takes room for an answer about so many things, before they are done: a client that hears 503 may rely on it that
    /// nothing was done.
    pub(super) fn reserve(&mut self, things: usize) -> Result<(), Problem> {
        Ok(self.room.grow(EACH.saturating_mul(things))?)
    }

    /// Asks for room for the messages of a pull, before they are taken. Says how many bytes there may be.
    pub(super) fn promise(&mut self, bytes: usize) -> Result<usize, Problem> {
        Ok(self.room.promise(bytes)?)
    }

    /// Sends the answer, whatever room it needs: it says what was done. What of the body was not read, is read before, so
    /// that the client gets to read the answer.
    pub(super) async fn finish(mut self, result: Result<Answer, Problem>) -> Response {
        let answer = result.unwrap_or_else(|problem| problem.answer());
        // A client that asks first sends its body only if somebody wants it.
        let asks_first = self.parts.headers.contains_key(header::EXPECT);
        if let Some(body) = self.body.take().filter(|_| !asks_first) {
            body::drain(body).await;
        }
        self.room.set(answer.len());
        self.kept.push(Box::new(self.room));
        answer.keeping(self.kept)
    }
}

/// Whether a caller may consume a pair.
pub(super) fn consumer(caller: &dyn Caller, pair: &Pair) -> Result<(), Problem> {
    // A colour needs no right beside that of its group.
    let (group, topic) = (pair.plain_group(), pair.topic());
    let operation = Operation::Subscribe;
    caller
        .may(operation, Some(group), topic)
        .map_err(|denied| Problem::denied(denied, caller.key(), operation, Some(group), topic))
}

/// The pair of a group and the one topic of the query, of one colour if the query has one, if the caller may consume it.
pub(super) fn one_pair(caller: &dyn Caller, group: &str, params: &Params) -> Result<Pair, Problem> {
    let topic = params.required("topic")?;
    let pair = match params.one("color")? {
        None => Pair::new(group, topic)?,
        Some(color) => Pair::colored(group, color, topic)?,
    };
    consumer(caller, &pair)?;
    Ok(pair)
}

/// Key and secret of `Basic …`. The key has no colon; the secret may have some.
fn basic(login: &[u8]) -> Option<(String, Vec<u8>)> {
    let login = Some(login).filter(|login| login.len() <= MAX_LOGIN)?;
    let (scheme, rest) = login.split_at_checked(6)?;
    let encoded = rest.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let key = std::str::from_utf8(decoded.get(..colon)?).ok()?.to_owned();
    let secret = decoded.get(colon + 1..)?.to_vec();
    Some((key, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> String {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        format!("Basic {encoded}")
    }

    #[test]
    fn a_secret_may_have_colons_and_the_scheme_any_case() {
        let read = |text: String| basic(text.as_bytes());
        let expected = Some(("key".to_owned(), b"a:b".to_vec()));
        assert_eq!(read(login("key:a:b")), expected);
        assert_eq!(read(login("key:a:b").replace("Basic", "bAsIc")), expected);
        for broken in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Bearer a2V5OmE=",
            "Basicly",
        ] {
            assert_eq!(read(broken.to_owned()), None, "{broken:?}");
        }
        assert_eq!(read(login("no colon")), None);
        assert_eq!(read(login(&"k:".repeat(4096))), None);
    }
}
