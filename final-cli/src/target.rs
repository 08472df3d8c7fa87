//! Where a database is.
//!
//! Input: a URL. Output: which of the three databases it is, and the place in a form that can be shown. The URL
//! itself, which may have a password, leaves this module only to the driver.

use std::fmt;

use crate::exit::Failure;

/// The kinds of databases, whether they are compiled in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `postgres://` and `postgresql://`.
    Postgres,
    /// `mysql://` and `mariadb://`.
    MySql,
    /// `sqlite:`.
    Sqlite,
}

impl Kind {
    /// The cargo feature that compiles it in.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }
}

/// A database, by its URL. Its `Display` and `Debug` have no password.
#[derive(Clone)]
pub(crate) struct Target {
    url: String,
    pub(crate) kind: Kind,
}

impl Target {
    /// Reads the scheme of a URL.
    pub(crate) fn new(url: impl Into<String>) -> Result<Self, Failure> {
        let url = url.into();
        let scheme = url.split(':').next().unwrap_or_default();
        let kind = match scheme {
            "postgres" | "postgresql" => Kind::Postgres,
            "mysql" | "mariadb" => Kind::MySql,
            "sqlite" => Kind::Sqlite,
            _ => {
                return Err(Failure::usage(
                    "the database URL has to begin with `postgres://`, `mysql://`, `mariadb://` or \
                     `sqlite://`",
                ));
            }
        };
        Ok(Self { url, kind })
    }

    /// An error of the driver about the URL, without the values of its parameters, which the driver may quote.
    pub(crate) fn without_values(&self, text: &str) -> String {
        let parameters = self
            .url
            .split_once('?')
            .map_or("", |(_, parameters)| parameters);
        let values = parameters
            .split('&')
            .filter_map(|parameter| parameter.split_once('='));
        values.fold(text.to_owned(), |text, (_, value)| match value {
            "" => text,
            value => text.replace(&format!("{value:?}"), "\"***\""),
        })
    }

    /// For the driver only.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&place(&self.url))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", place(&self.url))
    }
}

/// A URL without its password and without its parameters, which may have another one.
pub(crate) fn place(url: &str) -> String {
    let without_parameters = |text: &str| {
        let end = text.find(['?', '#']).unwrap_or(text.len());
        text[..end].to_owned()
    };
    // The text is one URL. So the login ends with the last `@`, whatever stands before it.
    match url
        .split_once("://")
        .filter(|(scheme, _)| *scheme != "sqlite")
    {
        Some((scheme, rest)) if rest.contains('@') => {
            let (login, host) = rest.rsplit_once('@').unwrap_or_default();
            let end = login.find([':', '@', '/', '?', '#']).unwrap_or(login.len());
            let stars = if end < login.len() { ":***" } else { "" };
            let host = without_parameters(host);
            format!("{scheme}://{}{stars}@{host}", &login[..end])
        }
        _ => without_passwords(&without_parameters(url)),
    }
}

/// A text with three stars in place of each password of a URL in it, and of each value of a parameter that
/// is named like a secret.
pub(crate) fn without_passwords(text: &str) -> String {
    without_parameters(&without_user_infos(text))
}

/// Replaces what stands between the first `:` and the last `@` of an authority. A password may contain a `/`
/// that should have been escaped, so the authority ends at white space or a quotation mark only.
fn without_user_infos(text: &str) -> String {
    let (mut done, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        done.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>'))
            .unwrap_or(after.len());
        let url = &after[..end];
        rest = after;
        if let Some(host) = url.rfind('@')
            && let Some(colon) = url[..host].find(':')
        {
            done.push_str(&url[..colon]);
            done.push_str(":***");
            rest = &after[host..];
        }
    }
    done + rest
}

fn without_parameters(text: &str) -> String {
    const SECRET: [&str; 4] = ["password=", "passwd=", "pwd=", "secret="];
    let mut done = text.to_owned();
    for name in SECRET {
        let mut from = 0;
        while let Some(at) = done[from..].to_ascii_lowercase().find(name) {
            let begin = from + at + name.len();
            let end = done[begin..]
                .find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | '`' | ';'))
                .map_or(done.len(), |length| begin + length);
            done.replace_range(begin..end, "***");
            from = begin + 3;
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let shown = [
            (
                "postgres://ops:secret@db:5432/shop",
                "postgres://ops:***@db:5432/shop",
            ),
            (
                "postgres://ops@db/shop?password=secret",
                "postgres://ops@db/shop",
            ),
            ("mysql://ops:s@cr/et@db/shop", "mysql://ops:***@db/shop"),
            ("mysql://:secret@db/shop", "mysql://:***@db/shop"),
            ("sqlite:///var/shop.db?mode=rw", "sqlite:///var/shop.db"),
            ("postgres://db/shop", "postgres://db/shop"),
            (
                "postgres://ops:it's-secret@db/shop",
                "postgres://ops:***@db/shop",
            ),
            ("mysql://ops:a secret@db/shop", "mysql://ops:***@db/shop"),
            ("mysql://ops:a?secret@db/shop", "mysql://ops:***@db/shop"),
            (
                "mysql://ops:a#secret@db/shop?x=1",
                "mysql://ops:***@db/shop",
            ),
        ];
        for (url, shown) in shown {
            let target = Target::new(url).expect("a target");
            assert_eq!(target.to_string(), shown);
            assert!(!format!("{target:?}").contains("secret"));
        }
    }

    #[test]
    fn a_text_keeps_everything_but_its_passwords() {
        let text =
            "`amqps://u:p@ss@mq/%2f` and postgres://a:b@c/d?sslPassword=x&y=1, at 10:30 by a@b";
        let shown =
            "`amqps://u:***@mq/%2f` and postgres://a:***@c/d?sslPassword=***&y=1, at 10:30 by a@b";
        assert_eq!(without_passwords(text), shown);
    }

    #[test]
    fn another_scheme_is_refused_without_its_url() {
        let failure = Target::new("oracle://ops:secret@db").expect_err("no such database");
        assert!(!format!("{failure:?}").contains("secret"));
    }
}
