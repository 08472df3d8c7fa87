//! databus's hashes in Redis.
//!
//! databus keeps a table as one hash: `tb:apptb` and `tb:authtb`, or `tb:app_tb` and `tb:auth_tb`. A field of the hash is
//! a column of a row: `7_AppKey`, `7_AppSecret`; `3_AppId`, `3_Group`, `3_Operation`, `3_Topic`. Columns are also read in
//! lower case and with `_`. A row that has been removed has no fields; a column `DeletedAt` is honoured where there is
//! one.

use std::{collections::BTreeMap, fmt, io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{DatabusApp, DatabusRight, sql::is_deleted};

/// How long Redis may take to connect, and to answer a command.
const ANSWER: Duration = Duration::from_secs(10);

/// How many bytes one text of an answer may have, and how many fields all tables together.
const MOST_BYTES: usize = 1024 * 1024;
const MOST_FIELDS: usize = 1_000_000;

/// The hashes, those of apps first.
const HASHES: [(&str, &str); 2] = [("tb:apptb", "tb:authtb"), ("tb:app_tb", "tb:auth_tb")];

/// Where databus's Redis is.
#[derive(Clone)]
pub struct RedisPlace {
    /// Host and port.
    pub address: String,
    /// The number of the database.
    pub database: u32,
    /// The password, if it has one.
    pub password: Option<String>,
}

/// Without the password.
impl fmt::Debug for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPlace")
            .field("address", &self.address)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// Why Redis could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// The connection failed.
    #[error("Redis at {address} cannot be reached: {source}")]
    Io {
        /// Where it is.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// Redis refused a command.
    #[error("Redis refused {command}: {answer}")]
    Refused {
        /// The command, without its arguments.
        command: &'static str,
        /// What it said.
        answer: String,
    },
    /// The answer is none of Redis, or too large.
    #[error("the answer of Redis to {0} cannot be read")]
    Answer(&'static str),
}

/// Reads the hashes of both names. Empty if there are none.
///
/// # Errors
///
/// Fails if Redis cannot be reached, refuses a command, or answers with something else.
pub async fn read_redis(place: &RedisPlace) -> Result<Vec<DatabusApp>, RedisError> {
    let mut redis = Redis::connect(place).await?;
    let mut all = Vec::new();
    for (apps, rights) in HASHES {
        let of_apps = redis.rows(apps).await?;
        let mut of_rights: BTreeMap<i64, Vec<DatabusRight>> = BTreeMap::new();
        for row in redis.rows(rights).await?.values() {
            let text = |name: &str| row.get(name).cloned().unwrap_or_default();
            let number = |name: &str| text(name).parse().unwrap_or_default();
            of_rights
                .entry(number("appid"))
                .or_default()
                .push(DatabusRight {
                    group: [text("group"), text("groupname")].concat(),
                    topic: text("topic"),
                    operation: number("operation"),
                    batch: number("batch"),
                    is_deleted: is_deleted(row.get("deletedat").map(String::as_str)),
                });
        }
        for (id, row) in of_apps {
            let text = |name: &str| row.get(name).cloned().unwrap_or_default();
            all.push(DatabusApp {
                place: format!("{apps}, id {id}"),
                key: text("appkey"),
                secret: text("appsecret"),
                is_deleted: is_deleted(row.get("deletedat").map(String::as_str)),
                rights: of_rights.remove(&id).unwrap_or_default(),
            });
        }
        all.extend(of_rights.into_keys().map(|id| DatabusApp {
            place: format!("{rights}, AppId {id}, which {apps} does not have"),
            key: String::new(),
            secret: String::new(),
            is_deleted: false,
            rights: Vec::new(),
        }));
    }
    Ok(all)
}

/// A row: its columns by their names in lower case and without `_`.
type Columns = BTreeMap<String, String>;

/// A connection that asks one command at a time.
struct Redis {
    address: String,
    stream: BufReader<TcpStream>,
    fields: usize,
}

/// The answers that the commands here have.
#[derive(Debug, PartialEq)]
enum Answer {
    Line(String),
    Error(String),
    Text(String),
    Page(String, Vec<String>),
}

impl Redis {
    async fn connect(place: &RedisPlace) -> Result<Self, RedisError> {
        let address = place.address.clone();
        let connected = timeout(ANSWER, TcpStream::connect(&address)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(RedisError::Io { address, source }),
            Err(late) => {
                let source = late.into();
                return Err(RedisError::Io { address, source });
            }
        };
        let mut redis = Self {
            address,
            stream: BufReader::new(stream),
            fields: 0,
        };
        if let Some(password) = &place.password {
            redis.ask("AUTH", &[password]).await?;
        }
        if place.database > 0 {
            redis.ask("SELECT", &[&place.database.to_string()]).await?;
        }
        Ok(redis)
    }

    /// The rows of a hash, by their numbers. A field that is no column of a row is left out, such as the counter.
    async fn rows(&mut self, hash: &str) -> Result<BTreeMap<i64, Columns>, RedisError> {
        const HSCAN: &str = "HSCAN";
        let mut rows: BTreeMap<i64, Columns> = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let answer = self.ask(HSCAN, &[hash, &cursor, "COUNT", "500"]).await?;
            let Answer::Page(next, fields) = answer else {
                return Err(RedisError::Answer(HSCAN));
            };
            self.fields += fields.len();
            if self.fields > MOST_FIELDS {
                return Err(RedisError::Answer(HSCAN));
            }
            for pair in fields.chunks_exact(2) {
                let [field, value] = pair else { continue };
                let Some((id, column)) = field.split_once('_') else {
                    continue;
                };
                let Ok(id) = id.parse() else { continue };
                let column = column.replace('_', "").to_ascii_lowercase();
                rows.entry(id).or_default().insert(column, value.clone());
            }
            if next == "0" {
                return Ok(rows);
            }
            cursor = next;
        }
    }

    async fn ask(&mut self, command: &'static str, args: &[&str]) -> Result<Answer, RedisError> {
        let mut request = format!("*{}\r\n${}\r\n{command}\r\n", args.len() + 1, command.len());
        for arg in args {
            request.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
        }
        let exchange = async {
            self.stream.get_mut().write_all(request.as_bytes()).await?;
            self.answer().await
        };
        let answer = match timeout(ANSWER, exchange).await {
            Ok(answer) => answer,
            Err(late) => Err(late.into()),
        };
        match answer {
            Ok(Some(Answer::Error(answer))) => Err(RedisError::Refused { command, answer }),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(RedisError::Answer(command)),
            Err(source) => Err(RedisError::Io {
                address: self.address.clone(),
                source,
            }),
        }
    }

    /// The next answer. None if it is another one than the commands here have.
    async fn answer(&mut self) -> io::Result<Option<Answer>> {
        let line = self.line().await?;
        let Some((kind, rest)) = line.split_at_checked(1) else {
            return Ok(None);
        };
        Ok(match kind {
            "+" => Some(Answer::Line(rest.to_owned())),
            "-" => Some(Answer::Error(rest.to_owned())),
            "$" => self.text(rest).await?.map(Answer::Text),
            "*" if rest == "2" => {
                let Some(cursor) = self.next_text().await? else {
                    return Ok(None);
                };
                let line = self.line().await?;
                let length = line
                    .strip_prefix('*')
                    .and_then(|length| length.parse().ok());
                let Some(length) = length.filter(|length| *length <= MOST_FIELDS) else {
                    return Ok(None);
                };
                let mut fields = Vec::new();
                for _ in 0..length {
                    match self.next_text().await? {
                        Some(text) => fields.push(text),
                        None => return Ok(None),
                    }
                }
                Some(Answer::Page(cursor, fields))
            }
            _ => None,
        })
    }

    async fn next_text(&mut self) -> io::Result<Option<String>> {
        let line = self.line().await?;
        match line.strip_prefix('$') {
            Some(length) => self.text(length).await,
            None => Ok(None),
        }
    }

    async fn text(&mut self, length: &str) -> io::Result<Option<String>> {
        let Some(length) = length.parse().ok().filter(|length| *length <= MOST_BYTES) else {
            return Ok(None);
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn line(&mut self) -> io::Result<String> {
        const LONGEST: u64 = 64 * 1024;
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LONGEST);
        limited.read_until(b'\n', &mut line).await?;
        let text = String::from_utf8_lossy(&line);
        match text.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
