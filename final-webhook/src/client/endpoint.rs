//! An endpoint: a URL that was checked, and how it is to be called.
//!
//! Input: what the owner of the endpoint has written into a configuration. Output: a value that can be called, and
//! that shows no secret.

use std::{fmt, time::Duration};

use hyper::header::{HeaderName, HeaderValue};

use crate::{
    Network, SIGNATURE_HEADER, SigningSecret, client::destination::Destination,
    client::network::Allowed,
};

/// The name of the header that tells a receiver which calls are repeats.
pub const IDEMPOTENCY_KEY_HEADER: &str = "Idempotency-Key";

/// The longest time that one call may take.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// More headers than a configuration has.
const MOST_HEADERS: usize = 50;

/// An HTTP endpoint of somebody else.
///
/// `Display` and `Debug` show the URL without user, query, and long parts of the path. Two endpoints with the same
/// URL and the same allowed networks share their circuit and their connections.
///
/// ```
/// # use std::time::Duration;
/// use final_webhook::{Endpoint, SigningSecret};
///
/// let endpoint = Endpoint::new("https://shop.example/hooks/orders?tenant=7")?
///     .secret(SigningSecret::new("0123456789abcdef0123456789abcdef")?)
///     .header("Authorization", "Bearer 12345678")?
///     .timeout(Duration::from_secs(5));
/// assert_eq!(endpoint.to_string(), "https://shop.example/hooks/orders");
///
/// let error = Endpoint::new("127.0.0.1:20000/x").unwrap_err();
/// assert!(error.to_string().contains("write http://127.0.0.1:20000"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) destination: Destination,
    pub(crate) secrets: Vec<SigningSecret>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) timeout: Duration,
    pub(crate) allowed: Allowed,
    pub(crate) exactly_200: bool,
}

/// Why something is no endpoint, or no call. No message has a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The URL has no scheme.
    #[error("the URL has no scheme: write http://{host} or https://{host}")]
    NoScheme {
        /// Host and port, as far as they can be told from the text.
        host: String,
    },
    /// The URL has another scheme than http or https.
    #[error("the URL has the scheme {scheme}; an endpoint is called by http or https")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The URL has an IPv6 address with a zone.
    #[error(
        "the URL has an IPv6 address with a zone (%), which names a wire of one machine; use a name, or an address without a zone ({error})"
    )]
    Zone {
        /// What the parser says.
        error: String,
    },
    /// The URL cannot be read.
    #[error("the URL cannot be used: {error}")]
    Url {
        /// What is wrong.
        error: String,
    },
    /// A header cannot be sent.
    #[error("the header {name} {problem}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An idempotency key cannot be sent.
    #[error("an idempotency key has 1 to 255 visible ASCII characters")]
    IdempotencyKey,
}

impl Endpoint {
    /// An endpoint with a time limit of three seconds, which is public, and is called without a signature.
    ///
    /// A user and a password in the URL are sent as `Authorization: Basic`.
    ///
    /// # Errors
    ///
    /// The URL cannot be read, or has another scheme than http or https.
    pub fn new(url: &str) -> Result<Self, EndpointError> {
        Ok(Self {
            destination: Destination::read(url)?,
            secrets: Vec::new(),
            headers: Vec::new(),
            timeout: Duration::from_secs(3),
            allowed: Allowed::default(),
            exactly_200: false,
        })
    }

    /// Signs each call with this secret, beside those that were given before.
    ///
    /// To replace a secret, sign with both until each receiver has the new one. A receiver reads 16 signatures at most.
    #[must_use]
    pub fn secret(mut self, secret: SigningSecret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Sends this header with each call. A header that was given before under the same name is replaced.
    ///
    /// # Errors
    ///
    /// The header cannot be sent, or is one that a call has by itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, EndpointError> {
        set_header(&mut self.headers, name, value)?;
        Ok(self)
    }

    /// The time limit of one call, from the resolution of the name to the end of the answer: 1 ms to 10 minutes.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(Duration::from_millis(1), LONGEST_TIMEOUT);
        self
    }

    /// The time limit of one call.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.timeout
    }

    /// Whether the endpoint may have a private address: loopback, RFC 1918, unique local, 100.64.0.0/10.
    ///
    /// Link-local addresses, and those where a cloud hands out credentials, stay refused. [`allow_network`](Self::allow_network) allows them one by one.
    #[must_use]
    pub fn allow_private(mut self, allow: bool) -> Self {
        self.allowed.private = allow;
        self
    }

    /// Allows the addresses of this network, whatever kind they are.
    #[must_use]
    pub fn allow_network(mut self, network: Network) -> Self {
        self.allowed.networks.push(network);
        self
    }

    /// Whether 200 alone means that a call is done, and no other status from 201 to 299.
    #[must_use]
    pub fn exactly_200(mut self, exactly: bool) -> Self {
        self.exactly_200 = exactly;
        self
    }

    /// What tells endpoints apart that must not share a connection or a circuit.
    pub(crate) fn identity(&self) -> String {
        let networks = self
            .allowed
            .networks
            .iter()
            .map(|network| format!(" {network}"));
        let private = if self.allowed.private { " private" } else { "" };
        format!(
            "{}{private}{}",
            self.destination.identity,
            networks.collect::<String>()
        )
    }

    /// Texts that an endpoint may repeat and that must not be kept.
    pub(crate) fn secret_texts(&self) -> impl Iterator<Item = &str> {
        header_secrets(&self.headers).chain(self.destination.secrets.iter().map(String::as_str))
    }
}

/// What headers have that a text of others must not repeat into a log.
pub(crate) fn header_secrets(headers: &[(HeaderName, HeaderValue)]) -> impl Iterator<Item = &str> {
    let values = headers.iter().filter_map(|(_, value)| value.to_str().ok());
    // Of `Bearer abc`, the second word is the secret.
    let words = values
        .clone()
        .filter_map(|value| value.rsplit_once(' '))
        .map(|(_, last)| last);
    values.chain(words)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.destination.shown)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Endpoint")
            .field("url", &self.destination)
            .field("signed", &!self.secrets.is_empty())
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .field("allowed", &self.allowed)
            .field("exactly_200", &self.exactly_200)
            .finish()
    }
}

/// Puts a header of the user's into the list, if it may be sent.
pub(crate) fn set_header(
    headers: &mut Vec<(HeaderName, HeaderValue)>,
    name: &str,
    value: &str,
) -> Result<(), EndpointError> {
    let wrong = |problem| EndpointError::Header {
        name: name
            .chars()
            .filter(|sign| !sign.is_control())
            .take(100)
            .collect(),
        problem,
    };
    let parsed: HeaderName = name
        .parse()
        .map_err(|_| wrong("has a name that no header can have"))?;
    if is_ours(&parsed) {
        return Err(wrong("is set by each call itself"));
    }
    let mut value: HeaderValue = value
        .parse()
        .map_err(|_| wrong("has a value with a control character"))?;
    value.set_sensitive(true);
    headers.retain(|(known, _)| *known != parsed);
    if headers.len() >= MOST_HEADERS {
        return Err(wrong("is one too many; 50 are allowed"));
    }
    headers.push((parsed, value));
    Ok(())
}

/// Whether a call sets the header itself, or another value of it would change where a request ends.
fn is_ours(name: &HeaderName) -> bool {
    const OURS: [&str; 14] = [
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-final-signature",
    ];
    debug_assert!(OURS.contains(&SIGNATURE_HEADER.to_lowercase().as_str()));
    OURS.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::new("http://user:hidden1@shop.example/x?key=hidden2").unwrap()
    }

    #[test]
    fn no_secret_is_shown() {
        let endpoint = endpoint()
            .secret(SigningSecret::new("hidden3 hidden3 hidden3").unwrap())
            .header("Authorization", "Bearer hidden4")
            .unwrap();

        for text in [
            format!("{endpoint:?}"),
            format!("{endpoint:#?}"),
            endpoint.to_string(),
        ] {
            assert!(text.contains("http://shop.example/x"), "{text}");
            assert!(!text.contains("hidden"), "{text}");
        }
    }

    #[test]
    fn a_header_cannot_change_what_a_call_says_itself() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Idempotency-Key",
            "X-Final-Signature",
        ] {
            let error = endpoint().header(name, "hidden").unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hidden"), "{error}");
        }
        for (name, value) in [("a b", "x"), ("", "x"), ("x", "a\r\nb: c"), ("x", "\0")] {
            assert!(
                endpoint().header(name, value).is_err(),
                "{name:?} {value:?}"
            );
        }
    }

    #[test]
    fn a_header_that_is_given_again_is_replaced() {
        let endpoint = endpoint()
            .header("X-A", "1")
            .unwrap()
            .header("x-a", "2")
            .unwrap();
        assert_eq!(endpoint.headers.len(), 1);
        assert_eq!(endpoint.headers[0].1, "2");
    }

    #[test]
    fn what_is_allowed_is_part_of_what_an_endpoint_is() {
        let network = "10.0.0.0/8".parse().unwrap();
        let all = [
            endpoint(),
            endpoint().allow_private(true),
            endpoint().allow_network(network),
        ];
        for (number, one) in all.iter().enumerate() {
            for other in &all[number + 1..] {
                assert_ne!(one.identity(), other.identity());
            }
        }
    }
}
