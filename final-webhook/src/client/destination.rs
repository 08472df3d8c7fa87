//! Where a URL leads: read once, and shown without what may be secret.
//!
//! Input: the text of a URL. Output: host, port, target and credentials of a call, a text for logs, and the parts
//! that must not be shown.

use std::{fmt, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{Uri, header::HeaderValue};
use url::{Host, Url};

use crate::EndpointError;

/// A longer part of a path is mostly a token, as in the webhooks of chat programs.
const LONGEST_SHOWN: usize = 20;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: DestinationHost,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// Path and query, as they stand in the first line of a request.
    pub(crate) target: Uri,
    /// The header `Host`.
    pub(crate) authority: HeaderValue,
    /// The header `Authorization`, if the URL has a user.
    pub(crate) authorization: Option<HeaderValue>,
    /// Parts that a text of others must not repeat into a log.
    pub(crate) secrets: Vec<String>,
    /// The URL without user, query and long parts of the path.
    pub(crate) shown: String,
    /// The whole URL without user: two endpoints are the same if this is the same.
    pub(crate) identity: String,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DestinationHost {
    Name(String),
    Address(IpAddr),
}

impl Destination {
    pub(crate) fn read(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        let mut url = match Url::parse(text) {
            // `localhost:20000/x` is a URL of the scheme `localhost` by the letter.
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                let rest = text.get(url.scheme().len()..).unwrap_or_default();
                return Err(match rest.starts_with("://") {
                    true => EndpointError::Scheme {
                        scheme: url.scheme().to_owned(),
                    },
                    false => without_scheme(text),
                });
            }
            Ok(url) => url,
            Err(url::ParseError::RelativeUrlWithoutBase) => return Err(without_scheme(text)),
            Err(error) if text.contains("%25") && text.contains('[') => {
                return Err(EndpointError::Zone {
                    error: error.to_string(),
                });
            }
            Err(error) => {
                return Err(EndpointError::Url {
                    error: error.to_string(),
                });
            }
        };
        let missing = |part: &str| EndpointError::Url {
            error: format!("it has no {part}"),
        };
        let host = match url.host().ok_or_else(|| missing("host"))? {
            Host::Domain(name) => DestinationHost::Name(name.to_owned()),
            Host::Ipv4(address) => DestinationHost::Address(address.into()),
            Host::Ipv6(address) => DestinationHost::Address(address.into()),
        };
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let port = port.ok_or_else(|| missing("port"))?;

        let mut secrets = Vec::new();
        let authorization = authorization(&url, &mut secrets)?;
        // Neither fails: the URL has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        let query = url.query().filter(|query| !query.is_empty());
        if let Some(query) = query {
            secrets.push(query.to_owned());
            secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
            let raw = query
                .split('&')
                .map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
            secrets.extend(raw.map(str::to_owned));
        }
        let long = url
            .path()
            .split('/')
            .filter(|part| part.len() > LONGEST_SHOWN);
        secrets.extend(long.map(str::to_owned));
        let target = match query {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let unfit = |_| EndpointError::Url {
            error: "it has a sign that no request can carry".to_owned(),
        };
        let authority = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        Ok(Self {
            host,
            port,
            tls: url.scheme() == "https",
            target: target
                .parse()
                .map_err(|error: hyper::http::uri::InvalidUri| unfit(error.to_string()))?,
            shown: format!("{}://{authority}{}", url.scheme(), shown_path(&url)),
            authority: authority.parse().map_err(|_| unfit(String::new()))?,
            authorization,
            secrets,
            identity: url.into(),
        })
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for DestinationHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The origin that a `Location` of an answer names, and nothing of its path or query.
pub(crate) fn origin(location: &str) -> String {
    match Url::parse(location) {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        _ => "another path of the same host".to_owned(),
    }
}

fn authorization(
    url: &Url,
    secrets: &mut Vec<String>,
) -> Result<Option<HeaderValue>, EndpointError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let (user, password) = (
        unescape(url.username()),
        unescape(url.password().unwrap_or_default()),
    );
    let encoded = STANDARD.encode([&user[..], b":", &password].concat());
    for secret in [
        // Of many services the user is the key of the API.
        url.username(),
        &String::from_utf8_lossy(&user),
        url.password().unwrap_or_default(),
        &String::from_utf8_lossy(&password),
        &encoded,
    ] {
        secrets.push(secret.to_owned());
    }
    let value: Result<HeaderValue, _> = format!("Basic {encoded}").parse();
    let error = || EndpointError::Url {
        error: "its user cannot be sent".to_owned(),
    };
    value.map(Some).map_err(|_| error())
}

/// The bytes that a text with `%41` stands for.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |sign: &u8| {
            char::from(*sign)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        rest = match tail {
            [high, low, after @ ..] if *first == b'%' => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high * 16 + low);
                    after
                }
                _ => {
                    bytes.push(*first);
                    tail
                }
            },
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    bytes
}

/// The error for a text such as `127.0.0.1:20000/x`. It names the host alone, because the rest may be secret.
fn without_scheme(text: &str) -> EndpointError {
    let host = text.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let rest = text.get(host.len()..).unwrap_or_default();
    let host = match rest.contains('@') {
        // Either it is part of a query, or the text before it is a password with a sign that nobody has escaped.
        true => "host",
        false => host.rsplit('@').next().unwrap_or_default(),
    };
    EndpointError::NoScheme {
        host: host
            .chars()
            .filter(|sign| !sign.is_control())
            .take(100)
            .collect(),
    }
}

fn shown_path(url: &Url) -> String {
    let shown = |part: &str| match part.get(..4) {
        // A path of a URL is ASCII.
        Some(start) if part.len() > LONGEST_SHOWN => format!("{start}…"),
        _ => part.to_owned(),
    };
    let parts: Vec<_> = url.path().split('/').collect();
    // Up to an `@`, the path may be a password with a slash that nobody has escaped.
    let hidden = parts.iter().rposition(|part| part.contains('@'));
    let (start, rest) = match hidden {
        Some(last) => ("/…/", parts.get(last + 1..).unwrap_or_default()),
        None => ("", &*parts),
    };
    let rest: Vec<_> = rest.iter().map(|part| shown(part)).collect();
    format!("{start}{}", rest.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Destination {
        Destination::read(text).unwrap()
    }

    fn refused(text: &str) -> String {
        Destination::read(text).unwrap_err().to_string()
    }

    #[test]
    fn a_url_without_a_scheme_is_told_what_it_lacks() {
        for (text, host) in [
            ("127.0.0.1:20000/test/callback?k=hidden", "127.0.0.1:20000"),
            ("localhost:20000/x", "localhost:20000"),
            ("user:hidden@shop.example:1/x", "shop.example:1"),
            ("shop.example/hidden", "shop.example"),
            (
                "shop.example:8443/cb?k=hidden&next=https://x",
                "shop.example:8443",
            ),
            ("user:hidden@shop.example/x?u=http://y", "shop.example"),
            ("ops:hid/den@shop.example:1/cb", "host"),
            ("shop.example/cb?to=ann@shop.example&k=hidden", "host"),
        ] {
            let error = refused(text);
            assert!(error.contains(&format!("http://{host}")), "{error}");
            assert!(!error.contains("hid"), "{error}");
        }
        for text in [
            "ftp://shop.example/hidden",
            "file:///hidden",
            "unix://hidden",
        ] {
            let error = refused(text);
            assert!(error.contains(text.split(':').next().unwrap()), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
        for text in [
            "",
            "http://",
            "https:///",
            "http://a b/",
            "http://shop.example:0/",
            "http://shop.example:99999/",
        ] {
            let _ = refused(text);
        }
    }

    #[test]
    fn an_address_is_read_in_every_notation() {
        let v4 = [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "127.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "１２７.0.0.1",
            "127。0。0。1",
            "%31%32%37.0.0.1",
        ];
        for text in v4 {
            let host = read(&format!("http://{text}/")).host;
            assert_eq!(
                host,
                DestinationHost::Address([127, 0, 0, 1].into()),
                "{text}"
            );
        }
        for text in ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]"] {
            let host = read(&format!("http://{text}/")).host;
            assert_eq!(
                host,
                DestinationHost::Address("::1".parse().unwrap()),
                "{text}"
            );
        }
        let mapped = read("http://[::ffff:7f00:1]/").host;
        assert_eq!(
            mapped,
            DestinationHost::Address("::ffff:127.0.0.1".parse().unwrap())
        );
        assert!(refused("http://[fe80::1%25eth0]/").contains("zone"));
        let _ = refused("http://[fe80::1%eth0]/");
        let _ = refused("http://1.2.3.256/");
    }

    #[test]
    fn what_may_be_secret_is_sent_and_not_shown() {
        let url = read(
            "https://us%2Fer:pa%3Ass@hooks.example:8443/services/T0000/abcdefghijklmnopqrstuvwx?key=hidden&b=hid%2Fden#x",
        );

        assert_eq!(url.shown, "https://hooks.example:8443/services/T0000/abcd…");
        assert_eq!(format!("{url:?}"), url.shown);
        assert_eq!(
            url.target,
            "/services/T0000/abcdefghijklmnopqrstuvwx?key=hidden&b=hid%2Fden"
        );
        assert_eq!(url.authority, "hooks.example:8443");
        assert_eq!(
            url.authorization.unwrap(),
            format!("Basic {}", STANDARD.encode("us/er:pa:ss"))
        );
        for secret in [
            "us%2Fer",
            "us/er",
            "pa%3Ass",
            "pa:ss",
            "abcdefghijklmnopqrstuvwx",
            "key=hidden&b=hid%2Fden",
            "hidden",
            "hid%2Fden",
            "hid/den",
        ] {
            assert!(url.secrets.iter().any(|known| known == secret), "{secret}");
        }
    }

    #[test]
    fn signs_that_a_url_may_have_reach_the_endpoint() {
        let url = read("http://h/ä b|c?d={e}|[f]^`g\"&h=a+b%20c");
        assert_eq!(url.target, "/%C3%A4%20b|c?d={e}|[f]^`g%22&h=a+b%20c");
        assert_eq!(read("http://h").target, "/");
        assert_eq!(read("http://h?").target, "/");
        assert_eq!(read("http://h?x").target, "/?x");
    }

    #[test]
    fn a_redirect_is_told_by_its_origin() {
        assert_eq!(
            origin("https://other.example/path?secret"),
            "https://other.example"
        );
        assert_eq!(
            origin("http://169.254.169.254/latest"),
            "http://169.254.169.254"
        );
        assert_eq!(origin("/secret"), "another path of the same host");
    }

    #[test]
    fn the_same_url_is_the_same_endpoint_however_it_is_written() {
        let one = read("HTTP://Shop.Example:80/a/../b");
        assert_eq!(
            one.identity,
            read("http://user:pw@shop.example/b#x").identity
        );
        assert_ne!(one.identity, read("http://shop.example/b?c").identity);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC*") {
            let _ = Destination::read(&text);
        }

        #[test]
        fn user_and_query_are_never_shown(
            scheme in "(http|https|ftp|)", separator in "(://|:|//|)", user in "[a-z]{0,3}", host in "[a-z0-9.:\\[\\]-]{0,12}",
            tail in "(|&next=https://x|&a=b://c|&to=a@b&k=hidden4)", sign in "(|/|#|://)",
        ) {
            let text = format!("{scheme}{separator}{user}:{sign}hidden1@{host}/path?key=hidden2{tail}#hidden3");
            let shown = match Destination::read(&text) {
                Ok(url) => format!("{url:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains("hidden"), "{text}: {shown}");
        }
    }
}
