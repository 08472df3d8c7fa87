//! dbsync's `config.json`.
//!
//! Input: its text, and where dbsync stands in the binary log. Output: [`DbsyncImport`].

use std::{fmt::Write as _, net::IpAddr};

use serde::Deserialize;
use serde_json::Value;

use crate::position::SourcePoint;

/// The variable from which the printed configuration takes the password of the database.
const PASSWORD: &str = "DBSYNC_MYSQL_PASSWORD";

/// Where dbsync stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DbsyncStart(Option<SourcePoint>);

impl DbsyncStart {
    /// Not known: the capture begins with what is committed from its start on, and everything in between is lost.
    #[must_use]
    pub fn unknown() -> Self {
        Self(None)
    }

    /// A place in the binary log, as `file:mysql-bin.000010:1234`.
    ///
    /// # Errors
    ///
    /// The text is no such place.
    pub fn at(text: &str) -> Result<Self, DbsyncImportError> {
        match text.parse() {
            Ok(point @ SourcePoint::File { .. }) => Ok(Self(Some(point))),
            _ => Err(DbsyncImportError::new(format!(
                "`{text}` is no place in a binary log; write `file:mysql-bin.000010:1234`"
            ))),
        }
    }

    /// The value that dbsync keeps in Redis or bolt: `{"Name":"mysql-bin.000010","Pos":1234}`.
    ///
    /// # Errors
    ///
    /// The text is no such value.
    pub fn stored(text: &str) -> Result<Self, DbsyncImportError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Stored {
            name: String,
            pos: u64,
        }
        let stored: Stored = serde_json::from_str(text.trim()).map_err(|error| {
            DbsyncImportError::new(format!(
                "the position is not what dbsync stores ({error}); it looks like {{\"Name\":\"mysql-bin.000010\",\"Pos\":1234}}"
            ))
        })?;
        // The first event of a file begins behind its four bytes of magic.
        if stored.name.is_empty() || stored.pos < 4 {
            return Err(DbsyncImportError::new(
                "the position names no file, or a place before its first event: dbsync has saved none yet",
            ));
        }
        Ok(Self(Some(SourcePoint::File {
            file: stored.name.into(),
            offset: stored.pos,
        })))
    }
}

/// A configuration of dbsync as one for `final capture`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DbsyncImport {
    /// The configuration, in TOML. It has no password in it.
    pub toml: String,
    /// What a person must know or do.
    pub warnings: Vec<String>,
}

/// A text that is no configuration of dbsync.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DbsyncImportError(String);

impl DbsyncImportError {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// What dbsync knows. Anything else is told as a warning.
const KNOWN: [(&str, &[&str]); 8] = [
    ("version", &[]),
    ("proname", &[]),
    ("mqname", &[]),
    ("redis", &["host", "port", "password"]),
    ("mysql", &["host", "port", "username", "password"]),
    ("bolt", &["file", "bucket"]),
    ("stan", &["host", "port", "clusterid", "clientid"]),
    ("storage", &["daoname", "poskey"]),
];

impl DbsyncImport {
    /// Reads `config.json` as it is. `target` is where messages go: `amqp://…`, or the URL of the database with the log.
    ///
    /// # Errors
    ///
    /// The text is no JSON, names no MySQL server, or the target is neither.
    pub fn new(
        config: &str,
        start: &DbsyncStart,
        target: Option<&str>,
    ) -> Result<Self, DbsyncImportError> {
        let config = Config::read(config)?;
        let mut import = Self {
            toml: String::new(),
            warnings: config.unknown(),
        };
        let name = config.text(&["proname"]);
        import.put(format_args!(
            "# Made of dbsync's config.json. See docs/from-dbsync.md.\nname = {}\n",
            quoted(&capture_name(&name))
        ));
        import.source(&config, start)?;
        import.select();
        import.message(&name);
        import.target(target)?;
        import.position(&config, target);
        import.stan(&config);
        Ok(import)
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a text cannot fail.
        let _ = self.toml.write_fmt(text);
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    fn source(&mut self, config: &Config, start: &DbsyncStart) -> Result<(), DbsyncImportError> {
        let host = config.text(&["mysql", "host"]);
        if host.is_empty() {
            return Err(DbsyncImportError::new(
                "the text is no config.json of dbsync: `Mysql` with its `Host` is missing",
            ));
        }
        let host = match host.trim_matches(['[', ']']).parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ if host.contains(|c: char| c.is_whitespace() || ":/?#@[]".contains(c)) => {
                return Err(DbsyncImportError::new(format!(
                    "`Mysql.Host` is `{host}`, which is no name of a host; the port stands in `Mysql.Port`"
                )));
            }
            _ => host,
        };
        let port = Some(config.text(&["mysql", "port"])).filter(|port| !port.is_empty());
        let port = port.unwrap_or_else(|| "3306".to_owned());
        if port.parse::<u16>().is_err() {
            return Err(DbsyncImportError::new(format!(
                "`Mysql.Port` is `{port}`, which is no port"
            )));
        }
        let user = percent(&config.text(&["mysql", "username"]));
        let at = if user.is_empty() { "" } else { "@" };
        let url = quoted(&format!("mysql://{user}{at}{host}:{port}/"));
        if config.text(&["mysql", "password"]).is_empty() {
            self.put(format_args!("\n[source]\nmysql = {url}\n"));
        } else {
            self.put(format_args!(
                "\n[source]\nmysql = {{ url = {url}, password = \"env:{PASSWORD}\" }}\n"
            ));
            self.warn(format!(
                "the password of the database is not printed: put it into the variable {PASSWORD}, or name a file by `password = \
                 \"file:…\"`"
            ));
        }
        match &start.0 {
            Some(point) => self.put(format_args!("from = {}\n", quoted(&point.to_string()))),
            None => self.where_it_stands(config),
        }
        self.warn(
            "dbsync reads the names of columns from the tables of today, and this program from the binary log: \
             `SET GLOBAL binlog_row_metadata = 'FULL'` must be set before the first change that is to be captured. \
             `final capture doctor` checks it",
        );
        Ok(())
    }

    /// How to find out where dbsync stands.
    fn where_it_stands(&mut self, config: &Config) {
        self.put(format_args!("# from = \"file:mysql-bin.000010:1234\"\n"));
        let key = Some(config.text(&["storage", "poskey"])).filter(|key| !key.is_empty());
        let key = key.unwrap_or_else(|| "key".to_owned());
        let command = if config
            .text(&["storage", "daoname"])
            .eq_ignore_ascii_case("redis")
        {
            let (host, port) = (
                config.text(&["redis", "host"]),
                config.text(&["redis", "port"]),
            );
            format!("redis-cli -h {host} -p {port} GET {key}")
        } else {
            let (file, bucket) = (
                config.text(&["bolt", "file"]),
                config.text(&["bolt", "bucket"]),
            );
            format!("bbolt get {file} {bucket} {key}")
        };
        self.warn(format!(
            "where dbsync stands is not known, so the capture would begin with what is committed from its start on: stop dbsync, \
             read its position by `{command}`, and give the answer by `--position`, or the place by `--from file:NAME:POS`"
        ));
    }

    fn select(&mut self) {
        self.put(format_args!(
            "\n[select]\n# dbsync captures every table of every schema.\ntables = [\"*.*\"]\n"
        ));
        self.warn("dbsync captures every table of every schema; name yours in `select.tables`, as in [\"shop.*\"]");
    }

    fn message(&mut self, name: &str) {
        let topic = quoted(&format!(
            "{}{{table}}",
            name.replace(|c: char| c.is_control() || "{}*#".contains(c), "")
        ));
        self.put(format_args!(
            "\n[message]\n# One table is one queue, in order, as dbsync promises it.\norder = \"table\"\nformat = \"dbsync\"\n\
             # Tables of one name in two schemas share a topic, as in dbsync. `cdc.{{schema}}.{{table}}` keeps them apart.\n\
             topic = {topic}\n"
        ));
    }

    fn target(&mut self, target: Option<&str>) -> Result<(), DbsyncImportError> {
        let kind = match target.map(|target| target.split_once(':').unwrap_or((target, ""))) {
            None => None,
            Some(("amqp" | "amqps", rest)) if rest.starts_with("//") => Some("rabbitmq"),
            Some(("postgres" | "postgresql" | "mysql" | "mariadb", rest))
                if rest.starts_with("//") =>
            {
                Some("log")
            }
            Some(("sqlite", _)) => Some("log"),
            Some(_) => {
                return Err(DbsyncImportError::new(
                    "the target is neither `amqp://…` nor the URL of a database (`postgres://…`, `mysql://…`, `sqlite:…`)",
                ));
            }
        };
        match (kind, target) {
            (Some(kind), Some(target)) if !has_password(target) => {
                self.put(format_args!("\n[target]\n{kind} = {}\n", quoted(target)));
            }
            (Some(_), _) => {
                return Err(DbsyncImportError::new(
                    "the target's URL has a password, which would be printed; leave it out, and add `{ url = …, password = \
                     \"env:…\" }` to the file",
                ));
            }
            (None, _) => {
                self.put(format_args!(
                    "\n[target]\n# Or the log of a database, which gets each change exactly once: log = \"postgres://…\"\n\
                     rabbitmq = \"amqp://127.0.0.1:5672\"\n"
                ));
                self.warn("NATS Streaming has ended: correct the URL of RabbitMQ in `target`, or name a log there");
            }
        }
        Ok(())
    }

    fn position(&mut self, config: &Config, target: Option<&str>) {
        // With a log as the target the position is in its database, so that both are written together.
        if target.is_some_and(|target| !target.starts_with("amqp")) {
            return;
        }
        let file = config.text(&["bolt", "file"]);
        let file = if file.is_empty() {
            "dbsync.position".to_owned()
        } else {
            format!("{file}.position")
        };
        self.put(format_args!(
            "\n[position]\n# A new file: dbsync's own stays as it is, so that you can go back.\nfile = {}\n",
            quoted(&file)
        ));
    }

    fn stan(&mut self, config: &Config) {
        let name = config.text(&["mqname"]);
        if !name.is_empty() && !name.eq_ignore_ascii_case("stan") {
            self.warn(format!(
                "`MQName` is `{name}`: only the target above is used"
            ));
        }
        if config.0.contains_key("stan") {
            self.warn(
                "`Stan` is not used: consumers read from the target above. A durable subscription of dbsync was one for each table \
                 and client; here a service has one queue, or one group of the log",
            );
        }
    }
}

/// The configuration with its keys in lower case: Go reads keys in any case.
struct Config(serde_json::Map<String, Value>);

impl Config {
    fn read(text: &str) -> Result<Self, DbsyncImportError> {
        let value: Value =
            serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
                // The text of the error has no value of the file: it tells what was expected, and where.
                DbsyncImportError::new(format!("the text is no JSON: {error}"))
            })?;
        match lower(value) {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(DbsyncImportError::new(
                "the text is no config.json of dbsync: it is no object",
            )),
        }
    }

    /// A text or a number; empty if there is none.
    fn text(&self, path: &[&str]) -> String {
        let mut value = None;
        for (depth, name) in path.iter().enumerate() {
            value = if depth == 0 {
                self.0.get(*name)
            } else {
                value.and_then(|value: &Value| value.get(*name))
            };
        }
        match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    /// Warnings about what dbsync does not know either.
    fn unknown(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, value) in &self.0 {
            let Some((_, inner)) = KNOWN.iter().find(|(known, _)| known == name) else {
                warnings.push(format!("`{name}` is not known to dbsync, and is left out"));
                continue;
            };
            let inside = value
                .as_object()
                .into_iter()
                .flat_map(|object| object.keys());
            for key in inside.filter(|key| !inner.contains(&key.as_str())) {
                warnings.push(format!(
                    "`{name}.{key}` is not known to dbsync, and is left out"
                ));
            }
        }
        warnings
    }
}

fn lower(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .map(|(name, value)| (name.to_lowercase(), lower(value)))
                .collect(),
        ),
        other => other,
    }
}

/// Whether a URL has a password: before its host, or among its parameters. A password that is not encoded can have any
/// character in it, so everything before the last `@` counts.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    user.contains(':')
        || parameters.split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or("");
            name.to_ascii_lowercase().contains("pass")
        })
}

/// A name of a capture: lower-case letters, digits, `_` and `-`, at most 40 of them.
fn capture_name(name: &str) -> String {
    let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
    let name: String = name
        .to_lowercase()
        .chars()
        .filter(|c| plain(*c))
        .take(40)
        .collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let name = name.trim_end_matches(['_', '-']);
    if name.is_empty() {
        "dbsync".to_owned()
    } else {
        name.to_owned()
    }
}

/// A user's name in a URL.
fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A text of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
