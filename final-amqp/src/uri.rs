//! Reads the broker's URL.
//!
//! Input: a URL, which may contain a password anywhere. Output: its parts, or an error that repeats nothing
//! of it.

use final_core::broker::{BrokerError, BrokerErrorKind};
use lapin::uri::AMQPUri;

const EXPECTED: &str = "expected amqp://user:password@host:port/vhost, with the virtual host \
                        percent-encoded (`/` is `%2f`), or amqps:// for TLS";

/// Reads a URL. The error says what is expected and repeats nothing of the input, because a malformed URL may
/// have its password anywhere.
pub(crate) fn parse(url: &str) -> Result<AMQPUri, BrokerError> {
    let invalid = |reason: &str| {
        BrokerError::new(
            BrokerErrorKind::Invalid,
            format!("the broker's URL cannot be used: {reason}; {EXPECTED}"),
        )
    };
    if !url.starts_with("amqp://") && !url.starts_with("amqps://") {
        return Err(invalid("it starts with neither amqp:// nor amqps://"));
    }
    // The parser ignores control characters, and they would be part of what is shown or connected to.
    if url.chars().any(char::is_control) {
        return Err(invalid("it contains a control character"));
    }
    let (authority, rest) = split(url);
    if rest.contains('@') {
        return Err(invalid(
            "it has an `@` behind the host; if a password contains `/`, `?` or `#`, write them as \
             `%2f`, `%3f` and `%23`, and an `@` of the virtual host as `%40`",
        ));
    }
    let mut uri: AMQPUri = url.parse().map_err(|_| invalid("it is malformed"))?;
    // The parser finds no host in an IPv6 address and would connect to localhost.
    if let Some(host) = ipv6_host(authority) {
        uri.authority.host = host.to_owned();
    }
    if uri.authority.host.is_empty() || uri.authority.host.chars().any(char::is_control) {
        return Err(invalid("it has no usable host"));
    }
    Ok(uri)
}

/// Splits a URL into user, password, host and port on one side and the rest on the other.
fn split(url: &str) -> (&str, &str) {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

/// The broker's address without user and password, for logs and errors.
pub(crate) fn address(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

fn ipv6_host(authority: &str) -> Option<&str> {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?
        .split_once(']')
        .map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_url_says() {
        let uri = parse("amqps://mary:s3cret@mq.example:5999/shop").unwrap();

        assert_eq!(address(&uri), "mq.example:5999");
        assert_eq!(uri.vhost, "shop");
        assert_eq!(uri.authority.userinfo.password, "s3cret");
    }

    #[test]
    fn reads_an_ipv6_address() {
        let uri = parse("amqp://guest:guest@[::1]:5673/%2f").unwrap();

        assert_eq!(uri.authority.host, "::1");
        assert_eq!(uri.authority.port, 5673);
    }

    #[test]
    fn errors_repeat_nothing_of_the_url() {
        for url in [
            "s3cret",
            "s3cret://guest:guest@host",
            "amqp://guest:s3cret@host:port/",
            "amqp://guest:s3cret@host:99999/",
            "amqp://guest:s3cret@host/?heartbeat=s3cret",
            "amqp:s3cret",
            "",
            // The parser accepts each of these, as host `guest` and port 12.
            "amqp://guest:12/s3cret@host/%2f",
            "amqp://guest:12?s3cret@host/%2f",
            "amqp://guest:12#s3cret@host/%2f",
            "amqp://[::1\t]/s3cret",
            "amqp://ho%0ast/s3cret",
        ] {
            let error = parse(url).unwrap_err();

            assert_eq!(error.kind(), BrokerErrorKind::Invalid);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}");
        }
    }
}
