//! Connections to the source.
//!
//! Input: a URL such as `mysql://capture@db:3306/?ssl-mode=verify_identity&ssl-ca=/etc/ca.pem`. Output: connections, for
//! questions and for the stream, over TLS by ring where the URL or the server wants it.

use std::{path::PathBuf, time::Duration};

use mysql_async::{ClientIdentity, Conn, DriverError, Error, Opts, OptsBuilder, SslOpts};
use tokio::time::timeout;

use crate::source::SourceError;

/// How long a server may take to let us in.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SslMode {
    Disabled,
    /// If the server can.
    #[default]
    Preferred,
    Required,
    /// The certificate is checked, and so is its name: the client library cannot leave that out.
    Verify,
}

/// Where the source is.
#[derive(Clone)]
pub(super) struct Server {
    opts: Opts,
    ssl_mode: SslMode,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.place()).finish()
    }
}

impl Server {
    /// Reads a URL. `most` is the largest packet that is taken.
    pub(super) fn new(url: &str, most: usize) -> Result<Self, SourceError> {
        let bad = |why: String| SourceError::Config(format!("the URL of the source: {why}"));
        let url = url
            .strip_prefix("mariadb://")
            .map_or_else(|| url.to_owned(), |rest| format!("mysql://{rest}"));
        let (place, query) = url.split_once('?').unwrap_or((&url, ""));
        let mut ssl_mode = None;
        let (mut ca, mut cert, mut key, mut hostname) = (None, None, None, None);
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name.to_ascii_lowercase().replace('_', "-").as_str() {
                "ssl-mode" | "sslmode" => ssl_mode = Some(mode(value).map_err(bad)?),
                "ssl-ca" => ca = Some(path(value).map_err(bad)?),
                "ssl-cert" => cert = Some(path(value).map_err(bad)?),
                "ssl-key" => key = Some(path(value).map_err(bad)?),
                "ssl-hostname" => hostname = Some(value.to_owned()),
                // Names that other clients of the same URL know. They do not matter to a stream.
                "charset" | "collation" | "timezone" => {}
                _ => others.push(pair),
            }
        }
        let has_files = ca.is_some() || cert.is_some();
        let ssl_mode = ssl_mode.unwrap_or(if has_files {
            SslMode::Verify
        } else {
            SslMode::Preferred
        });
        let plain = if others.is_empty() {
            place.to_owned()
        } else {
            format!("{place}?{}", others.join("&"))
        };
        // The library's own texts have the URL in them, and the URL may have a password.
        let opts = Opts::from_url(&plain).map_err(|error| match error {
            mysql_async::UrlError::UnknownParameter { param } => {
                bad(format!("the parameter `{param}` is not known"))
            }
            mysql_async::UrlError::UnsupportedScheme { .. } => {
                bad("it does not begin with `mysql://` or `mariadb://`".to_owned())
            }
            mysql_async::UrlError::InvalidParamValue { param, .. } => {
                bad(format!("the value of `{param}` is not valid"))
            }
            _ => bad("it is no URL: write `mysql://user:password@host:3306/`".to_owned()),
        })?;
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some(ClientIdentity::new(cert.into(), key.into())),
            (None, None) => None,
            _ => return Err(bad("`ssl-cert` and `ssl-key` belong together".to_owned())),
        };
        let ssl = (ssl_mode != SslMode::Disabled).then(|| {
            let named = ca.is_some();
            let options = SslOpts::default()
                .with_root_certs(ca.into_iter().map(Into::into).collect())
                .with_disable_built_in_roots(named)
                .with_client_identity(identity)
                .with_danger_accept_invalid_certs(matches!(
                    ssl_mode,
                    SslMode::Preferred | SslMode::Required
                ));
            match hostname {
                Some(hostname) => options.with_danger_tls_hostname_override(Some(hostname)),
                None => options,
            }
        });
        let opts = OptsBuilder::from_opts(opts)
            .ssl_opts(ssl)
            .prefer_socket(false)
            .max_allowed_packet(Some(most))
            .tcp_keepalive(Some(Duration::from_secs(60)))
            .tcp_nodelay(true)
            .into();
        Ok(Self { opts, ssl_mode })
    }

    /// The server, without user and password.
    pub(super) fn place(&self) -> String {
        match self.opts.socket() {
            Some(socket) => format!("mysql:{socket}"),
            None => format!(
                "mysql://{}:{}",
                self.opts.ip_or_hostname(),
                self.opts.tcp_port()
            ),
        }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Conn, Error> {
        match self.connect_by(self.opts.clone()).await {
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer))
                if self.ssl_mode == SslMode::Preferred =>
            {
                let plain = OptsBuilder::from_opts(self.opts.clone()).ssl_opts(None);
                self.connect_by(plain.into()).await
            }
            connected => connected,
        }
    }

    async fn connect_by(&self, opts: Opts) -> Result<Conn, Error> {
        match timeout(PATIENCE, Conn::new(opts)).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::Other(
                format!("no answer within {} s", PATIENCE.as_secs()).into(),
            )),
        }
    }
}

fn mode(text: &str) -> Result<SslMode, String> {
    Ok(match text.to_ascii_lowercase().replace('-', "_").as_str() {
        "disabled" | "disable" => SslMode::Disabled,
        "preferred" | "prefer" => SslMode::Preferred,
        "required" | "require" => SslMode::Required,
        "verify_ca" | "verify_identity" | "verify_full" => SslMode::Verify,
        _ => {
            return Err(
                "`ssl-mode` is one of `disabled`, `preferred`, `required`, `verify_ca`, `verify_identity`"
                    .to_owned(),
            );
        }
    })
}

/// A path, in which a URL writes some characters as `%20`.
fn path(text: &str) -> Result<PathBuf, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let hex = rest.split_at_checked(2).and_then(|(hex, after)| {
                rest = after;
                u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
            });
            bytes.push(hex.ok_or_else(|| format!("`{text}` has a bad `%`"))?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes)
        .map(PathBuf::from)
        .map_err(|_| format!("`{text}` is no path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_other_clients_read_it_and_a_wrong_one_shows_no_password() {
        let server = Server::new(
            "mysql://me:secret@db.example:3307/shop?ssl-mode=DISABLED",
            1 << 20,
        )
        .unwrap();
        assert_eq!(server.place(), "mysql://db.example:3307");
        assert!(!format!("{server:?}").contains("secret"));
        let server = Server::new("mariadb://me@db?ssl-ca=%2Fetc%2Fmy%20ca.pem", 1 << 20).unwrap();
        assert_eq!(
            server.ssl_mode,
            SslMode::Verify,
            "who names a CA wants it checked"
        );
        for url in [
            "mysql://me:secret@db/?ssl-mode=maybe",
            "mysql://me:secret@db/?ssl-cert=a",
            "mysql://me:secret@db/?unknown=1",
            "postgres://me:secret@db/",
            "secret",
            "mysql://me:secret@db:port/",
        ] {
            let error = Server::new(url, 1 << 20).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
