//! Where a database is.
//!
//! Input: a URL. Output: which of the three databases it is, and the place in a form that can be shown. The URL
//! itself, which may have a password, leaves this module only to the driver.

use std::fmt;

use crate::{
    exit::Failure,
    redact::{place, without_passwords},
};

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

    /// The error for a database that this build leaves out.
    #[cfg_attr(
        all(feature = "postgres", feature = "mysql", feature = "sqlite"),
        allow(dead_code)
    )]
    pub(crate) fn not_compiled_in(&self) -> Failure {
        let feature = self.kind.feature();
        Failure::usage(format!(
            "this build of `final` has no {self}: build it with the feature `{feature}` \
             (`cargo install --path final-cli --features {feature}`)"
        ))
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
    fn another_scheme_is_refused_without_its_url() {
        let failure = Target::new("oracle://ops:secret@db").expect_err("no such database");
        assert!(!format!("{failure:?}").contains("secret"));
    }
}
