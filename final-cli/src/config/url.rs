//! Addresses of databases, of RabbitMQ and of endpoints, whose passwords are secrets.
//!
//! Input: a URL, or where one is as for a [`Secret`], or `{ url = "…", password = … }`. Output: a URL with its
//! password, which shows itself only where it is asked for by [`expose`](DatabaseAddress::expose).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use super::{
    context::{Context, Note},
    secret::{Secret, Source, Word},
};

/// The address of a PostgreSQL, MySQL, MariaDB or SQLite database.
///
/// `Debug` and `Display` show neither its password nor its parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseAddress(String);

/// The address of a RabbitMQ.
///
/// `Debug` and `Display` show neither its password nor its parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAddress(String);

/// The address of an endpoint that is called over HTTP.
///
/// `Debug` and `Display` show neither its password nor its parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct WebAddress(String);

const DATABASES: &[&str] = &["postgres", "postgresql", "mysql", "mariadb", "sqlite"];
const BROKERS: &[&str] = &["amqp", "amqps"];
const WEB: &[&str] = &["http", "https"];

macro_rules! address {
    ($name:ident, $schemes:ident, $what:literal) => {
        impl $name {
            /// The whole URL, password included.
            pub fn expose(&self) -> &str {
                &self.0
            }

            /// The word in front of the colon.
            pub fn scheme(&self) -> &str {
                self.0.split(':').next().unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&shown(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name))
                    .field(&shown(&self.0))
                    .finish()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let parts = deserializer.deserialize_any(UrlVisitor)?;
                parts
                    .read($schemes, $what)
                    .map(Self)
                    .map_err(D::Error::custom)
            }
        }
    };
}

address!(DatabaseAddress, DATABASES, "database");
address!(BrokerAddress, BROKERS, "RabbitMQ");
address!(WebAddress, WEB, "web server");

/// The parts of an address as they are written.
struct Parts {
    url: Source,
    password: Option<Secret>,
}

impl Parts {
    /// The whole URL. The text of an error is what is wrong, a semicolon, and the cure.
    fn read(self, schemes: &[&str], what: &str) -> Result<String, String> {
        let url = match self.url {
            Source::Text(text) => {
                if Split::of(&text).is_some_and(|split| split.has_password) || is_hidden(&text) {
                    Context::note(Note::PlainText(text.clone()));
                }
                text
            }
            elsewhere => elsewhere.read()?.expose().to_owned(),
        };
        let scheme = url.split(':').next().unwrap_or_default();
        if !url.contains(':') || !schemes.contains(&scheme) {
            let all: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}:")).collect();
            return Err(format!(
                "this is no URL of a {what}; begin it with {}",
                all.join(", ")
            ));
        }
        if url.contains(|c: char| c.is_control() || c == ' ') {
            let cure = "write %20 for a space";
            return Err(format!(
                "the URL has a space or an invisible character in it; {cure}"
            ));
        }
        if is_cut(&url) {
            let cure =
                "write / as %2F, ? as %3F, # as %23 and @ as %40, or put the password elsewhere";
            return Err(format!(
                "the password in this URL has a character that ends it; {cure}"
            ));
        }
        let Some(password) = self.password else {
            return Ok(url);
        };
        match Split::of(&url) {
            None => Err("this URL has no place for a password; remove `password`".to_owned()),
            Some(split) if split.has_password => {
                Err("the password is in the URL as well; leave it in one place".to_owned())
            }
            Some(split) if split.user.is_empty() => {
                let cure = "name the user in the URL, as \"scheme://user@host\"";
                Err(format!("there is a password for no user; {cure}"))
            }
            Some(Split {
                before, user, rest, ..
            }) => Ok(format!(
                "{before}{user}:{}@{rest}",
                encoded(password.expose())
            )),
        }
    }
}

/// A URL with an authority: `before` ends with `//`, `rest` begins with the host.
struct Split<'a> {
    before: &'a str,
    user: &'a str,
    has_password: bool,
    rest: &'a str,
}

impl<'a> Split<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let begin = url.find("://")? + 3;
        // The path of a SQLite file comes after the same slashes.
        if url.starts_with("sqlite") {
            return None;
        }
        let (before, after) = url.split_at(begin);
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let Some(at) = after.get(..end)?.rfind('@') else {
            return Some(Self {
                before,
                user: "",
                has_password: false,
                rest: after,
            });
        };
        let (login, rest) = (after.get(..at)?, after.get(at + 1..)?);
        let user = login.split(':').next().unwrap_or_default();
        Some(Self {
            before,
            user,
            has_password: login.contains(':'),
            rest,
        })
    }
}

/// Whether a parameter holds a password, as PostgreSQL has it.
fn is_hidden(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|part| part.contains("password="))
}

/// Whether a password with a slash in it has cut the authority: then an `@` comes after it.
fn is_cut(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    Split::of(url).is_some_and(|split| {
        split.user.is_empty()
            && split.rest.contains('@')
            && !path.is_empty()
            && split
                .rest
                .split('@')
                .next()
                .is_some_and(|login| login.contains(':'))
    })
}

/// A URL for the eyes of others: without password, and without parameters, which can hold one.
fn shown(url: &str) -> String {
    let (path, parameters) = match url.split_once('?') {
        Some((path, _)) if !path.is_empty() => (path, "?…"),
        _ => (url, ""),
    };
    let Some((scheme, rest)) = path.split_once("://") else {
        return format!("{path}{parameters}");
    };
    // The last @, wherever it is: what stands before it may be a password that should have been encoded.
    match rest.rsplit_once('@') {
        Some((login, rest)) => {
            let (user, password) = login
                .split_once(':')
                .map_or((login, ""), |(user, _)| (user, ":***"));
            format!("{scheme}://{user}{password}@{rest}{parameters}")
        }
        None => format!("{scheme}://{rest}{parameters}"),
    }
}

/// A password as it stands in a URL.
fn encoded(password: &str) -> String {
    let mut text = String::with_capacity(password.len());
    for byte in password.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(byte.into())
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

const WANTED: &str =
    "this is no address; write a URL in quotes, or { url = \"…\", password = \"env:NAME\" }";

/// Reads the parts of an address.
struct UrlVisitor;

impl<'de> Visitor<'de> for UrlVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL in quotes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Parts, E> {
        Ok(Parts {
            url: Source::of_text(text),
            password: None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let (mut url, mut password) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let one = match key.as_str() {
                "url" => Source::of_text(&map.next_value::<Word>()?.0),
                "env" => Source::Env(map.next_value::<Word>()?.0),
                "file" => Source::File(map.next_value::<Word>()?.0),
                "password" => {
                    password = Some(map.next_value::<Secret>()?);
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    let known = "`url`, `password`, `env`, `file`";
                    return Err(A::Error::custom(format_args!(
                        "unknown field `{key}`, expected one of {known}"
                    )));
                }
            };
            if url.replace(one).is_some() {
                return Err(A::Error::custom(WANTED));
            }
        }
        let url = url.ok_or_else(|| A::Error::custom(WANTED))?;
        Ok(Parts { url, password })
    }
}
