//! Reads the broker's URL.
//!
//! Input: a URL, which may contain a password anywhere. Output: its parts, or an error that repeats nothing
//! of it except the name of a parameter.
//!
//! lapin's parser is lenient: it puts `guest` or `localhost` where something is missing, and ignores what it
//! does not know. A service would then use another login or host than its URL seems to say. So everything
//! that is not certain is an error here.

mod parameters;
#[cfg(test)]
mod tests;

use final_core::broker::{BrokerError, BrokerErrorKind};
use lapin::uri::{AMQPUri, SASLMechanism};

const EXPECTED: &str = "expected amqp://user:password@host:port/vhost, with the virtual host \
                        percent-encoded (`/` is `%2f`), or amqps:// for TLS";

/// The longest name of a virtual host, in bytes. AMQP has no room for more.
const MAX_VHOST: usize = 255;

/// Reads a URL. The error says what is wrong with it. A malformed URL may have its password anywhere, so the
/// error repeats only names of parameters.
pub(crate) fn parse(url: &str) -> Result<AMQPUri, BrokerError> {
    read(url).map_err(|reason| {
        BrokerError::new(
            BrokerErrorKind::Invalid,
            format!("the broker's URL cannot be used: {reason}; {EXPECTED}"),
        )
    })
}

fn read(url: &str) -> Result<AMQPUri, String> {
    let rest = url
        .strip_prefix("amqp://")
        .or_else(|| url.strip_prefix("amqps://"))
        .ok_or("it starts with neither amqp:// nor amqps://")?;
    // The parser ignores these, and they would be part of what is shown or connected to.
    if url.chars().any(char::is_control) || url.trim() != url {
        return Err("it contains a control character, or ends with white space".into());
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if rest.contains('@') {
        return Err(
            "it has an `@` behind the host; if a password contains `/`, `?` or `#`, write them as \
             `%2f`, `%3f` and `%23`, and an `@` of the virtual host as `%40`"
                .into(),
        );
    }
    if rest.contains('#') {
        return Err("it has a `#` behind the host; write it as `%23`".into());
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    check_host(host)?;
    parameters::check(query)?;
    let vhost = vhost(path)?;
    let login = login.map(read_login).transpose()?;
    let mut uri: AMQPUri = url.parse().map_err(|_| "it is malformed")?;
    // The parser takes `.` and `..` in a virtual host for steps of a path.
    uri.vhost = vhost;
    // The parser finds no host in an IPv6 address and would connect to localhost.
    if let Some(host) = ipv6_host(host) {
        uri.authority.host = host.to_owned();
    }
    if uri.authority.host.is_empty() || uri.authority.host.chars().any(char::is_control) {
        return Err("it has no usable host".into());
    }
    if let Some((user, password)) = login {
        let mechanism = uri.query.auth_mechanism.unwrap_or_default();
        let needs_none = [SASLMechanism::External, SASLMechanism::Anonymous].contains(&mechanism);
        uri.authority.userinfo.username = user;
        uri.authority.userinfo.password = match password {
            Some(password) => password,
            None if needs_none => String::new(),
            None => {
                return Err(
                    "it has a user and no password; write `user:@` if the password is empty, and \
                     leave both out if `Amqp::credentials` gives them"
                        .into(),
                );
            }
        };
    }
    Ok(uri)
}

/// The broker's address without user and password, for logs and errors.
pub(crate) fn address(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

/// Whether a login can have these bytes. AMQP's PLAIN login separates user and password by a zero byte.
pub(crate) fn can_be_login(text: &str) -> bool {
    !text.contains('\0')
}

fn check_host(host: &str) -> Result<(), String> {
    if host.contains(',') {
        return Err(
            "it has more than one host; put a load balancer or a DNS name before them".into(),
        );
    }
    let (name, port) = match host.rsplit_once(':') {
        // The colons of an IPv6 address stand inside of brackets.
        Some((_, port)) if port.contains(']') => (host, ""),
        Some((name, port)) => (name, port),
        None => (host, ""),
    };
    if name.is_empty() {
        return Err("it has no host".into());
    }
    // The parser reads a host with other characters in its own way, and may connect elsewhere.
    let is_of_name = |letter: char| letter.is_alphanumeric() || "-._".contains(letter);
    let is_of_ipv6 = |letter: char| letter.is_ascii_alphanumeric() || ":.".contains(letter);
    let is_host = match name.strip_prefix('[') {
        Some(ipv6) => ipv6
            .strip_suffix(']')
            .is_some_and(|ipv6| ipv6.chars().all(is_of_ipv6)),
        None => name.chars().all(is_of_name),
    };
    if !is_host {
        return Err("its host has a character that no host name and no address has".into());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        Err(_) if port.is_empty() => Ok(()),
        _ => Err("its port is no number from 1 to 65535".into()),
    }
}

/// User and password as they are written. The parser would put `guest` in place of an empty one.
fn read_login(login: &str) -> Result<(String, Option<String>), String> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let user = decoded(user)?;
    let password = password.map(decoded).transpose()?;
    if !can_be_login(&user) || !password.as_deref().is_none_or(can_be_login) {
        return Err("its user or password has a zero byte".into());
    }
    Ok((user, password))
}

fn vhost(path: &str) -> Result<String, String> {
    let Some(name) = path.strip_prefix('/') else {
        return Ok("/".into());
    };
    if name.is_empty() {
        return Err(
            "it ends with a slash, which means a virtual host without a name; for the virtual host \
             `/`, write `/%2f` or leave the slash out"
                .into(),
        );
    }
    let name = decoded(name)?;
    if name.len() > MAX_VHOST {
        return Err("its virtual host is longer than 255 bytes".into());
    }
    Ok(name)
}

/// Undoes the percent encoding.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = |byte: u8| char::from(byte).to_digit(16);
        let byte = match rest {
            [high, low, ..] => hex(*high).zip(hex(*low)),
            _ => None,
        };
        let Some(byte) = byte.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) else {
            return Err(
                "it has a `%` without two hexadecimal digits behind it; write a `%` itself as `%25`"
                    .into(),
            );
        };
        bytes.push(byte);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| "its percent encoding is not UTF-8".into())
}

fn ipv6_host(host: &str) -> Option<&str> {
    host.strip_prefix('[')?
        .split_once(']')
        .map(|(host, _)| host)
}
