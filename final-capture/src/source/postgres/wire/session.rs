//! One connection in replication mode: logging in, commands with their answers, and the start of the stream.
//!
//! Input: an address, commands. State: the socket and the bytes read of it. Output: rows of text.
//!
//! ```text
//!   connect ─▶ TLS ─▶ login ─▶ commands ─▶ START_REPLICATION ─▶ (Socket, Frames)
//! ```

use std::time::Duration;

use pgwire_replication::protocol::framing::{
    write_query, write_ssl_request, write_startup_message,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Frames, ServerError, SessionError, login::Login, tls};
use crate::source::postgres::address::{Address, Endpoint, SslMode};

/// Protocol 3.0.
const PROTOCOL: i32 = 196_608;
/// The seconds between 1970 and 2000, in microseconds.
pub(in super::super) const EPOCH: i64 = 946_684_800_000_000;

/// How values are printed, for the stream as for each SELECT of ours.
pub(in super::super) const PRINTED: [(&str, &str); 6] = [
    ("datestyle", "ISO,MDY"),
    ("intervalstyle", "iso_8601"),
    ("timezone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
];

/// A connection, encrypted or not.
pub(in super::super) type Socket = Box<dyn Duplex>;

/// What a connection can do.
pub(in super::super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection in replication mode that streams nothing yet.
pub(in super::super) struct Session {
    socket: Socket,
    frames: Frames,
    patience: Duration,
}

impl Session {
    /// Connects and logs in. No message of more than `most` bytes is taken, now or in the stream.
    pub(in super::super) async fn open(
        address: &Address,
        most: usize,
    ) -> Result<Self, SessionError> {
        let patience = address.patience;
        let silent = |_| SessionError::Silent(patience);
        timeout(patience, async {
            let mut session = Self {
                socket: connect(address).await?,
                frames: Frames::new(most),
                patience,
            };
            session.log_in(address).await?;
            Ok(session)
        })
        .await
        .map_err(silent)?
    }

    async fn log_in(&mut self, address: &Address) -> Result<(), SessionError> {
        let mut options = String::new();
        for (name, value) in PRINTED {
            options.push_str(&format!("-c {name}={value} "));
        }
        options.push_str("-c statement_timeout=0 -c lock_timeout=0");
        let settings = [
            ("user", address.user.as_str()),
            ("database", address.database.as_str()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", address.application.as_str()),
            ("options", options.as_str()),
        ];
        write_startup_message(&mut self.socket, PROTOCOL, &settings)
            .await
            .map_err(unsent)?;
        let mut login = Login::new(&address.user, address.password.as_deref());
        loop {
            let Some(frame) = self.frames.first()? else {
                self.fill().await?;
                continue;
            };
            match frame.tag {
                b'R' => login.answer(&mut self.socket, frame.body).await?,
                b'E' => {
                    return Err(SessionError::Server(Box::new(ServerError::parse(
                        frame.body,
                    ))));
                }
                b'Z' => {
                    self.frames.pop();
                    return Ok(());
                }
                // Settings, the key for a cancel, notices, a lower version of the protocol.
                b'S' | b'K' | b'N' | b'v' => {}
                other => return Err(unexpected(other, "the login")),
            }
            self.frames.pop();
        }
    }

    /// Runs a command and gives its rows.
    pub(in super::super) async fn ask(
        &mut self,
        command: &str,
    ) -> Result<Vec<Vec<Option<String>>>, SessionError> {
        self.ask_patiently(command, self.patience).await
    }

    /// As [`ask`](Self::ask), with a patience of its own. Dropped before its end, the session is of no use.
    pub(in super::super) async fn ask_patiently(
        &mut self,
        command: &str,
        patience: Duration,
    ) -> Result<Vec<Vec<Option<String>>>, SessionError> {
        let silent = |_| SessionError::Silent(patience);
        timeout(patience, self.answer(command))
            .await
            .map_err(silent)?
    }

    async fn answer(&mut self, command: &str) -> Result<Vec<Vec<Option<String>>>, SessionError> {
        write_query(&mut self.socket, command)
            .await
            .map_err(unsent)?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let Some(frame) = self.frames.first()? else {
                self.fill().await?;
                continue;
            };
            let is_ready = frame.tag == b'Z';
            match frame.tag {
                b'D' => rows.push(row(frame.body)?),
                b'E' => failed = Some(ServerError::parse(frame.body)),
                b'T' | b'C' | b'I' | b'S' | b'N' | b'Z' => {}
                other => return Err(unexpected(other, command)),
            }
            self.frames.pop();
            if is_ready {
                return match failed {
                    Some(error) => Err(SessionError::Server(Box::new(error))),
                    None => Ok(rows),
                };
            }
        }
    }

    /// Starts the stream.
    pub(in super::super) async fn start(
        mut self,
        command: &str,
    ) -> Result<(Socket, Frames), SessionError> {
        let patience = self.patience;
        let started = async {
            write_query(&mut self.socket, command)
                .await
                .map_err(unsent)?;
            loop {
                let Some(frame) = self.frames.first()? else {
                    self.fill().await?;
                    continue;
                };
                match frame.tag {
                    b'W' => {
                        self.frames.pop();
                        return Ok((self.socket, self.frames));
                    }
                    b'E' => {
                        let error = ServerError::parse(frame.body);
                        return Err(SessionError::Server(Box::new(error)));
                    }
                    b'S' | b'N' => self.frames.pop(),
                    other => return Err(unexpected(other, "START_REPLICATION")),
                }
            }
        };
        let silent = |_| SessionError::Silent(patience);
        timeout(patience, started).await.map_err(silent)?
    }

    async fn fill(&mut self) -> Result<(), SessionError> {
        match self.frames.fill(&mut self.socket).await? {
            0 => Err(SessionError::Closed),
            _ => Ok(()),
        }
    }
}

async fn connect(address: &Address) -> Result<Socket, SessionError> {
    let (host, mut socket) = match &address.endpoint {
        Endpoint::Unix(folder) => {
            let file = folder.join(format!(".s.PGSQL.{}", address.port));
            return Ok(Box::new(UnixStream::connect(file).await?));
        }
        Endpoint::Host(host) => {
            let socket = TcpStream::connect((host.as_str(), address.port)).await?;
            socket.set_nodelay(true)?;
            (host, socket)
        }
    };
    if address.ssl_mode == SslMode::Disable {
        return Ok(Box::new(socket));
    }
    write_ssl_request(&mut socket).await.map_err(unsent)?;
    // One byte and no more: what follows belongs to TLS, or else it was slipped in.
    match socket.read_u8().await? {
        b'S' => {}
        b'N' if address.ssl_mode == SslMode::Prefer => return Ok(Box::new(socket)),
        b'N' => {
            return Err(SessionError::Tls(format!(
                "the server does not speak TLS, and sslmode={} needs it; set `ssl = on` at the server",
                address.ssl_mode
            )));
        }
        // An error in place of an answer, by a server that has no room or is older than TLS.
        other => return Err(unexpected(other, "the request for TLS")),
    }
    let (mode, files) = (address.ssl_mode, address.tls.clone());
    let connector = tokio::task::spawn_blocking(move || tls::connector(mode, &files))
        .await
        .map_err(|error| SessionError::Tls(error.to_string()))?
        .map_err(SessionError::Tls)?;
    let name = ServerName::try_from(host.clone())
        .map_err(|error| SessionError::Tls(format!("`{host}` is no name of a server: {error}")))?;
    let socket = connector
        .connect(name, socket)
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => SessionError::Tls(error.to_string()),
            _ => SessionError::Io(error),
        })?;
    Ok(Box::new(socket))
}

/// Reads the columns of a row.
fn row(mut body: &[u8]) -> Result<Vec<Option<String>>, SessionError> {
    let cut = || SessionError::Protocol("the server sent a row that is cut off".to_owned());
    let count = u16::from_be_bytes(
        *body
            .split_off(..2)
            .and_then(<[u8]>::first_chunk)
            .ok_or_else(cut)?,
    );
    let mut columns = Vec::new();
    for _ in 0..count {
        let length = *body
            .split_off(..4)
            .and_then(<[u8]>::first_chunk)
            .ok_or_else(cut)?;
        columns.push(match usize::try_from(i32::from_be_bytes(length)) {
            Err(_) => None,
            Ok(length) => {
                let text = body.split_off(..length).ok_or_else(cut)?;
                Some(String::from_utf8_lossy(text).into_owned())
            }
        });
    }
    Ok(columns)
}

/// Tells the server what was received, and what of it is saved.
pub(in super::super) async fn feedback(
    socket: &mut Socket,
    received: u64,
    saved: u64,
    asks: bool,
) -> Result<(), SessionError> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - EPOCH;
    let message = [
        b"d".as_slice(),
        &38_u32.to_be_bytes(),
        b"r",
        &received.max(saved).to_be_bytes(),
        &saved.to_be_bytes(),
        &saved.to_be_bytes(),
        &now.to_be_bytes(),
        &[u8::from(asks)],
    ]
    .concat();
    socket.write_all(&message).await?;
    socket.flush().await?;
    Ok(())
}

fn unexpected(tag: u8, during: &str) -> SessionError {
    SessionError::Protocol(format!(
        "the server sent a message of the unknown kind `{}` during {during}",
        tag.escape_ascii()
    ))
}

fn unsent(error: pgwire_replication::PgWireError) -> SessionError {
    use pgwire_replication::PgWireError;
    match error {
        PgWireError::Io(error) => SessionError::Io(error.kind().into()),
        other => SessionError::Protocol(other.to_string()),
    }
}
