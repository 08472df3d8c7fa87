//! Where a MySQL is, as Go's driver has it: `user:password@tcp(host:port)/database?charset=utf8`.
//!
//! Input: a DSN. Output: a URL without its password, and the password.
//!
//! It is taken apart as Go's driver does it, from its end: the last `/` comes before the database, and the last `@` before
//! it ends the login. So a password may have all signs but none needs to be encoded.

use std::fmt::Write as _;

/// A database server, a login and a database.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct GoDsn {
    user: String,
    pub(super) password: String,
    place: Place,
    pub(super) database: String,
    ssl_mode: Option<&'static str>,
    /// Parameters that change what a session does, and that are not used here.
    pub(super) unused: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    /// Host and port.
    Tcp(String),
    /// The path of a socket.
    Unix(String),
}

/// Parameters for Go's side of a connection, and for the charset, which is always UTF-8 here.
const NOT_NEEDED: [&str; 22] = [
    "allowAllFiles",
    "allowCleartextPasswords",
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "allowOldPasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "serverPubKey",
    "timeTruncate",
    "timeout",
    "writeTimeout",
];

const FORM: &str = "write it as user:password@tcp(host:port)/database";

impl GoDsn {
    /// Takes a DSN apart. An error is what is wrong, a semicolon, and the cure; it has nothing of the DSN.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains(char::is_control) {
            return Err(format!("the DSN has an invisible character in it; {FORM}"));
        }
        let (server, database) = text
            .rsplit_once('/')
            .ok_or_else(|| format!("the DSN has no / before the database; {FORM}"))?;
        let (login, address) = server.rsplit_once('@').unwrap_or(("", server));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (database, parameters) = database.split_once('?').unwrap_or((database, ""));
        let mut dsn = Self {
            user: user.to_owned(),
            password: password.to_owned(),
            place: place(address)?,
            database: database.to_owned(),
            ssl_mode: None,
            unused: Vec::new(),
        };
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "tls" => dsn.ssl_mode = ssl_mode(value)?,
                name if NOT_NEEDED.contains(&name) => {}
                name => dsn.unused.push(name.escape_debug().to_string()),
            }
        }
        if dsn.user.is_empty() && !dsn.password.is_empty() {
            return Err(format!("the DSN has a password for no user; {FORM}"));
        }
        Ok(dsn)
    }

    /// The same as a URL, without the password.
    pub(super) fn url(&self) -> String {
        let mut url = "mysql://".to_owned();
        if !self.user.is_empty() {
            url.push_str(&encoded(&self.user));
            url.push('@');
        }
        let mut parameters = Vec::new();
        match &self.place {
            Place::Tcp(address) => url.push_str(address),
            Place::Unix(path) => {
                url.push_str("localhost");
                parameters.push(format!("socket={}", encoded(path)));
            }
        }
        url.push('/');
        url.push_str(&encoded(&self.database));
        if let Some(mode) = self.ssl_mode {
            parameters.push(format!("ssl-mode={mode}"));
        }
        if !parameters.is_empty() {
            url.push('?');
            url.push_str(&parameters.join("&"));
        }
        url
    }
}

/// `tcp(host:port)`, `tcp`, `unix(/path)`, or nothing, with the defaults of Go's driver.
fn place(text: &str) -> Result<Place, String> {
    let (protocol, address) = match text.split_once('(') {
        None => (text, ""),
        Some((protocol, address)) => (
            protocol,
            address.strip_suffix(')').ok_or_else(|| {
                format!("the address of the DSN has no ) at its end, or a parameter has a / that is to be %2F; {FORM}")
            })?,
        ),
    };
    match protocol {
        "" | "tcp" => tcp(address).map(Place::Tcp),
        "unix" if address.is_empty() => Ok(Place::Unix("/tmp/mysql.sock".to_owned())),
        "unix" => Ok(Place::Unix(address.to_owned())),
        _ => Err(format!(
            "the DSN has another protocol than tcp and unix; {FORM}"
        )),
    }
}

fn tcp(address: &str) -> Result<String, String> {
    const PORT: &str = "3306";
    let (host, port) = match (address.starts_with('['), address.rsplit_once(':')) {
        _ if address.is_empty() => ("127.0.0.1", PORT),
        (true, _) if address.ends_with(']') => (address, PORT),
        (_, Some((host, port))) => (host, port),
        (_, None) => (address, PORT),
    };
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match inside {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    if !is_host {
        return Err(format!("the host of the DSN cannot be one; {FORM}"));
    }
    if port.parse::<u16>().is_err() {
        return Err(format!("the port of the DSN is none; {FORM}"));
    }
    // Go takes a port alone for one of this machine.
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(format!("{host}:{port}"))
}

fn ssl_mode(value: &str) -> Result<Option<&'static str>, String> {
    match value.to_lowercase().as_str() {
        "true" | "1" => Ok(Some("VERIFY_IDENTITY")),
        "skip-verify" => Ok(Some("REQUIRED")),
        "preferred" => Ok(Some("PREFERRED")),
        "false" | "0" => Ok(Some("DISABLED")),
        _ => Err(
            "`tls` of the DSN names something that only Go's program knows; write true, skip-verify, preferred or false"
                .to_owned(),
        ),
    }
}

/// A text as it stands in a part of a URL.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte.into())
            }
            _ => {
                // Writing into a text cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(dsn: &str) -> String {
        GoDsn::parse(dsn).unwrap().url()
    }

    #[test]
    fn a_dsn_is_taken_apart_as_go_does_it() {
        for (dsn, wanted) in [
            (
                "user:password@tcp(127.0.0.1:3306)/db?charset=utf8",
                "mysql://user@127.0.0.1:3306/db",
            ),
            ("u:p@tcp(db)/shop", "mysql://u@db:3306/shop"),
            ("u@tcp([::1]:33)/a b", "mysql://u@[::1]:33/a%20b"),
            ("u@tcp([::1])/x", "mysql://u@[::1]:3306/x"),
            ("u@/x", "mysql://u@127.0.0.1:3306/x"),
            ("/", "mysql://127.0.0.1:3306/"),
            ("tcp(:33)/", "mysql://127.0.0.1:33/"),
            (
                "u@unix(/var/run/mysql.sock)/x?tls=skip-verify",
                "mysql://u@localhost/x?socket=%2Fvar%2Frun%2Fmysql.sock&ssl-mode=REQUIRED",
            ),
        ] {
            assert_eq!(url(dsn), wanted, "{dsn}");
        }
    }

    #[test]
    fn a_password_may_have_every_sign() {
        let dsn = GoDsn::parse("u:a:b@c/d?(e)@tcp(h:1)/db").unwrap();
        assert_eq!(dsn.password, "a:b@c/d?(e)");
        assert_eq!(dsn.url(), "mysql://u@h:1/db");
    }

    #[test]
    fn what_changes_a_session_and_is_not_used_is_named() {
        let dsn = GoDsn::parse("u@/x?charset=utf8&time_zone=%27%2B08:00%27&tls=true").unwrap();
        assert_eq!(dsn.unused, ["time_zone"]);
        assert!(dsn.url().ends_with("?ssl-mode=VERIFY_IDENTITY"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_dsn() {
        for (dsn, wanted) in [
            ("hunter2", "no / before the database"),
            ("u:hunter2@tcp(h:1)/x?loc=Asia/Shanghai", "%2F"),
            ("u:hunter2@tcp(h:x)/x", "port"),
            ("u:hunter2@tcp(a b:1)/x", "host"),
            ("u:hunter2@cloudsql(a)/x", "protocol"),
            ("u:hunter2@tcp(h:1)/x?tls=mine", "`tls`"),
            (":hunter2@tcp(h:1)/x", "no user"),
            ("u:hunter2\n@tcp(h:1)/x", "invisible"),
        ] {
            let error = GoDsn::parse(dsn).err().unwrap();
            assert!(error.contains(wanted), "{dsn}: {error}");
            assert!(
                !error.contains("hunter2") && error.contains("; "),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Ok(dsn) = GoDsn::parse(&text) {
                prop_assert!(!dsn.url().contains([' ', '"', '\\']));
            }
        }

        #[test]
        fn a_login_comes_out_as_it_went_in(user in "[^:@]{1,8}", password in "\\PC{0,12}") {
            let dsn = GoDsn::parse(&format!("{user}:{password}@tcp(h:1)/x"));
            let Ok(dsn) = dsn else { return Ok(()); };
            prop_assert_eq!(&dsn.password, &password);
            let wanted = format!("mysql://{}@h:1/x", encoded(&user));
            prop_assert_eq!(dsn.url(), wanted);
        }
    }
}
