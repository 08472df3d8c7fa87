//! Where the server is, and how to log in there.
//!
//! Input: a URL as libpq and sqlx take it. Output: an [`Address`], which both connections of a source use: the one in
//! replication mode, and sqlx's for the catalog.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::wire::PRINTED;
use crate::source::SourceError;

/// How long connecting and each command may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the server is, and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) endpoint: Endpoint,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) application: String,
    pub(super) ssl_mode: SslMode,
    pub(super) tls: TlsFiles,
    pub(super) patience: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Host(String),
    /// The folder of the server's socket.
    Unix(PathBuf),
}

/// The files of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// `sslrootcert`.
    pub(super) authorities: Option<PathBuf>,
    /// `sslcert`.
    pub(super) certificate: Option<PathBuf>,
    /// `sslkey`.
    pub(super) key: Option<PathBuf>,
}

/// `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "disable" => Self::Disable,
            // libpq's `allow` tries without TLS first. No server needs the difference.
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(()),
        })
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}

impl Address {
    /// Reads a URL. The environment gives the password that the URL does not have.
    pub(super) fn parse(url: &str) -> Result<Self, SourceError> {
        let mut address = Self::read(url).map_err(|why| {
            SourceError::Config(format!(
                "the URL of the source is wrong: {why}; write `postgres://user:password@host:5432/database`"
            ))
        })?;
        if address.password.is_none() {
            address.password = std::env::var("PGPASSWORD").ok().filter(|it| !it.is_empty());
        }
        Ok(address)
    }

    fn read(url: &str) -> Result<Self, String> {
        // The parser's errors do not repeat the text, which has the password.
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(format!("the scheme is `{}`, not `postgres`", url.scheme()));
        }
        let part = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(|_| "a part of it is not UTF-8".to_owned())
        };
        let host = part(url.host_str().unwrap_or_default())?;
        let mut address = Self {
            endpoint: Endpoint::of(if host.is_empty() { "localhost" } else { &host }),
            port: url.port().unwrap_or(5432),
            user: part(url.username())?,
            password: url.password().map(part).transpose()?,
            database: part(url.path().trim_start_matches('/'))?,
            application: "final-capture".to_owned(),
            ssl_mode: SslMode::default(),
            tls: TlsFiles::default(),
            patience: PATIENCE,
        };
        for (name, value) in url.query_pairs() {
            address.set(&name, &value)?;
        }
        if address.user.is_empty() {
            return Err("it names no user".to_owned());
        }
        if address.database.is_empty() {
            return Err("it names no database".to_owned());
        }
        if address.tls.certificate.is_some() != address.tls.key.is_some() {
            return Err("sslcert and sslkey belong together".to_owned());
        }
        // As libpq does it: who names an authority wants it checked.
        if address.ssl_mode == SslMode::Require && address.tls.authorities.is_some() {
            address.ssl_mode = SslMode::VerifyCa;
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "host" | "hostaddr" => self.endpoint = Endpoint::of(value),
            "port" => {
                self.port = value
                    .parse()
                    .map_err(|_| format!("port is `{value}`, not a number"))?;
            }
            "user" => value.clone_into(&mut self.user),
            "password" => self.password = Some(value.to_owned()),
            "dbname" => value.clone_into(&mut self.database),
            "application_name" => value.clone_into(&mut self.application),
            "sslmode" | "ssl-mode" => {
                self.ssl_mode = value.parse().map_err(|()| {
                    format!(
                        "sslmode is `{value}`, not disable, prefer, require, verify-ca or verify-full"
                    )
                })?;
            }
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => {
                self.tls.authorities = Some(value.into());
            }
            "sslcert" | "ssl-cert" => self.tls.certificate = Some(value.into()),
            "sslkey" | "ssl-key" => self.tls.key = Some(value.into()),
            "connect_timeout" => {
                let seconds: u32 = value
                    .parse()
                    .map_err(|_| format!("connect_timeout is `{value}`, not whole seconds"))?;
                if seconds > 0 {
                    self.patience = Duration::from_secs(seconds.into());
                }
            }
            // sqlx's own, which means nothing here.
            "statement-cache-capacity" => {}
            _ => return Err(format!("the parameter `{name}` is not known")),
        }
        Ok(())
    }

    /// The same for sqlx.
    pub(super) fn for_sqlx(&self) -> PgConnectOptions {
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .username(&self.user)
            .database(&self.database)
            .application_name(&self.application)
            .options(PRINTED)
            .ssl_mode(match self.ssl_mode {
                SslMode::Disable => PgSslMode::Disable,
                SslMode::Prefer => PgSslMode::Prefer,
                SslMode::Require => PgSslMode::Require,
                SslMode::VerifyCa => PgSslMode::VerifyCa,
                SslMode::VerifyFull => PgSslMode::VerifyFull,
            });
        options = match &self.endpoint {
            Endpoint::Host(host) => options.host(host),
            Endpoint::Unix(folder) => options.socket(folder),
        };
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        if let Some(file) = &self.tls.authorities {
            options = options.ssl_root_cert(file);
        }
        if let (Some(certificate), Some(key)) = (&self.tls.certificate, &self.tls.key) {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        options
    }
}

impl Endpoint {
    fn of(host: &str) -> Self {
        if host.starts_with('/') {
            Self::Unix(host.into())
        } else {
            // A URL has an IPv6 address in brackets.
            let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
            Self::Host(bare.unwrap_or(host).to_owned())
        }
    }
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            port,
            user,
            database,
            ..
        } = self;
        match endpoint {
            Endpoint::Host(host) if host.contains(':') => {
                write!(f, "postgres://{user}@[{host}]:{port}/{database}")
            }
            Endpoint::Host(host) => write!(f, "postgres://{user}@{host}:{port}/{database}"),
            Endpoint::Unix(folder) => {
                write!(
                    f,
                    "postgres://{user}@{}:{port}/{database}",
                    folder.display()
                )
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url).unwrap()
    }

    fn refused(url: &str) -> String {
        Address::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn a_url_has_all_that_a_connection_needs() {
        let it = address(
            "postgresql://us%40er:p%2Fw@db.example:6432/my%20shop?sslmode=verify-full&sslrootcert=/ca.pem",
        );
        assert_eq!(it.endpoint, Endpoint::Host("db.example".to_owned()));
        assert_eq!(
            (
                it.port,
                it.user.as_str(),
                it.password.as_deref(),
                it.database.as_str()
            ),
            (6432, "us@er", Some("p/w"), "my shop")
        );
        assert_eq!(it.ssl_mode, SslMode::VerifyFull);
        assert_eq!(it.tls.authorities, Some("/ca.pem".into()));
    }

    #[test]
    fn a_folder_is_the_place_of_a_socket() {
        let it = address("postgres://u@%2Frun%2Fpostgresql/shop");
        assert_eq!(it.endpoint, Endpoint::Unix("/run/postgresql".into()));
        let it = address("postgres:///shop?user=u&host=/run/pg&port=5433");
        assert_eq!(
            (it.endpoint, it.port),
            (Endpoint::Unix("/run/pg".into()), 5433)
        );
    }

    #[test]
    fn an_ipv6_address_loses_its_brackets() {
        let it = address("postgres://u@[::1]/shop");
        assert_eq!(it.endpoint, Endpoint::Host("::1".to_owned()));
        assert_eq!(it.to_string(), "postgres://u@[::1]:5432/shop");
    }

    #[test]
    fn who_names_an_authority_has_it_checked() {
        let it = address("postgres://u@h/d?sslmode=require&sslrootcert=/ca.pem");
        assert_eq!(it.ssl_mode, SslMode::VerifyCa);
        assert_eq!(
            address("postgres://u@h/d?sslmode=require").ssl_mode,
            SslMode::Require
        );
    }

    #[test]
    fn the_password_is_not_shown() {
        let it = address("postgres://u:secret@h/d?password=geheim");
        assert_eq!(
            format!("{it} {it:?}"),
            "postgres://u@h:5432/d postgres://u@h:5432/d"
        );
        for wrong in [
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/",
            "mysql://u:secret@h/d",
            "postgres://u:secret@h/d?sslmode=on",
            "postgres://u:secret@h/d?colour=red",
            "postgres://:secret@h/d",
            "postgres://u:secret@h/d?sslcert=/a",
        ] {
            let error = refused(wrong);
            assert!(!error.contains("secret"), "{error}");
            assert!(error.contains("write `postgres://"), "{error}");
        }
    }
}
