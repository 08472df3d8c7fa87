//! Counts what goes over connections: a wire between a client and a server that reads along.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::Result;

/// What is spoken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    Postgres,
    MySql,
    Amqp,
}

/// What a client has sent so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Statements executed, or AMQP frames of messages published. Not those of acks: how many go
    /// together is a matter of time.
    pub(crate) statements: u64,
    /// Times the client has asked and has to wait for an answer.
    pub(crate) round_trips: u64,
    /// Bytes, both ways.
    pub(crate) bytes: u64,
}

/// A wire; it ends with this value.
#[derive(Debug)]
pub(crate) struct Wire {
    port: u16,
    counts: Arc<[AtomicU64; 3]>,
    task: AbortHandle,
}

impl Wire {
    /// Lays a wire to the server of a URL.
    pub(crate) async fn to(url: &str, protocol: Protocol) -> Result<Self> {
        let server = address(url)?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let counts = Arc::<[AtomicU64; 3]>::default();
        let seen = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, seen) = (server.clone(), Arc::clone(&seen));
                // An end on one side ends the other; there is nothing to tell.
                tokio::spawn(async move { carry(client, &server, protocol, &seen).await });
            }
        });
        Ok(Self {
            port,
            counts,
            task: task.abort_handle(),
        })
    }

    /// The URL by which a client goes over this wire.
    pub(crate) fn url(&self, url: &str) -> Result<String> {
        Ok(url.replacen(address(url)?, &format!("127.0.0.1:{}", self.port), 1))
    }

    pub(crate) fn counts(&self) -> Counts {
        let [statements, round_trips, bytes] = &*self.counts;
        Counts {
            statements: statements.load(Relaxed),
            round_trips: round_trips.load(Relaxed),
            bytes: bytes.load(Relaxed),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The `host:port` in a URL.
fn address(url: &str) -> Result<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let address = authority.rsplit('@').next().unwrap_or(authority);
    if address.contains(':') {
        Ok(address)
    } else {
        Err("the server's URL names no port".into())
    }
}

async fn carry(
    client: TcpStream,
    server: &str,
    protocol: Protocol,
    counts: &Arc<[AtomicU64; 3]>,
) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answered = Arc::clone(counts);
    let back = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let read = from_server.read(&mut buffer).await?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return Ok::<_, std::io::Error>(());
            };
            let [_, _, carried] = &*answered;
            carried.fetch_add(bytes.len() as u64, Relaxed);
            to_client.write_all(bytes).await?;
        }
    });
    let [statements, round_trips, carried] = &**counts;
    let mut reader = Reader::new(protocol);
    let mut buffer = vec![0; 65_536];
    loop {
        let read = from_client.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        carried.fetch_add(bytes.len() as u64, Relaxed);
        for seen in reader.read(bytes) {
            statements.fetch_add(u64::from(seen.statement), Relaxed);
            round_trips.fetch_add(u64::from(seen.asks), Relaxed);
        }
        to_server.write_all(bytes).await?;
    }
    to_server.shutdown().await?;
    back.await??;
    Ok(())
}

/// The code by which a client of PostgreSQL asks whether TLS is spoken, in place of a version.
const TLS_QUESTION: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// Class 60, method 40: the first frame of a message; its header and body have frames of their own.
const BASIC_PUBLISH: [u8; 4] = [0, 60, 0, 40];

/// What one message of the client is.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    statement: bool,
    asks: bool,
}

/// Cuts a stream into messages.
struct Reader {
    protocol: Protocol,
    buffer: Vec<u8>,
    is_first: bool,
}

impl Reader {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            buffer: Vec::new(),
            is_first: true,
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Vec<Seen> {
        self.buffer.extend_from_slice(bytes);
        let mut seen = Vec::new();
        while let Some((length, what)) = self.head() {
            if self.buffer.len() < length {
                break;
            }
            let asks_for_tls = self.buffer.get(4..8) == Some(&TLS_QUESTION);
            self.is_first &= asks_for_tls;
            self.buffer.drain(..length);
            seen.push(what);
        }
        seen
    }

    /// The length of the first message in the buffer, and what it is.
    fn head(&self) -> Option<(usize, Seen)> {
        let b = &self.buffer;
        let size = |at: usize| Some(u32::from_be_bytes(*b.get(at..)?.first_chunk()?) as usize);
        match self.protocol {
            // The start-up message has no letter, nor the question for TLS before it.
            Protocol::Postgres if self.is_first => Some((size(0)?, Seen::default())),
            Protocol::Postgres => {
                let (letter, length) = (*b.first()?, size(1)? + 1);
                let seen = Seen {
                    statement: matches!(letter, b'Q' | b'E'),
                    asks: matches!(letter, b'Q' | b'S'),
                };
                Some((length, seen))
            }
            Protocol::MySql => {
                let [low, middle, high, number, command] = *b.first_chunk()?;
                let length = u32::from_le_bytes([low, middle, high, 0]) as usize + 4;
                // Of a login, every packet but the first of the server's has a number.
                let is_command = number == 0;
                let seen = Seen {
                    statement: is_command && matches!(command, 0x03 | 0x17),
                    // Closing a statement is not answered.
                    asks: is_command && command != 0x19,
                };
                Some((length, seen))
            }
            // "AMQP" and the version.
            Protocol::Amqp if self.is_first => Some((8, Seen::default())),
            Protocol::Amqp => {
                let (kind, length) = (*b.first()?, size(3)? + 8);
                let is_publish = kind == 1 && b.get(7..11)? == BASIC_PUBLISH;
                let seen = Seen {
                    statement: is_publish || matches!(kind, 2 | 3),
                    asks: false,
                };
                Some((length, seen))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(protocol: Protocol, bytes: &[u8]) -> (usize, usize) {
        let mut reader = Reader::new(protocol);
        // One byte at a time: messages come cut anywhere.
        let seen: Vec<_> = bytes
            .iter()
            .flat_map(|byte| reader.read(&[*byte]))
            .collect();
        let count = |is: fn(&Seen) -> bool| seen.iter().filter(|it| is(it)).count();
        (count(|it| it.statement), count(|it| it.asks))
    }

    #[test]
    fn a_postgres_statement_is_an_execute_and_its_round_trip_a_sync() {
        let tls = [[0, 0, 0, 8], TLS_QUESTION].concat();
        let start = [0, 0, 0, 8, 0, 3, 0, 0];
        let bind = [b'B', 0, 0, 0, 5, 0];
        let execute = [b'E', 0, 0, 0, 5, 0];
        let sync = [b'S', 0, 0, 0, 4];
        let bytes = [&tls[..], &start, &bind, &execute, &sync].concat();
        assert_eq!(count(Protocol::Postgres, &bytes), (1, 1));
    }

    #[test]
    fn closing_a_mysql_statement_is_no_round_trip() {
        let login = [2, 0, 0, 1, 0x03, 0];
        let execute = [1, 0, 0, 0, 0x17];
        let close = [1, 0, 0, 0, 0x19];
        let bytes = [&login[..], &execute, &close].concat();
        assert_eq!(count(Protocol::MySql, &bytes), (1, 1));
    }

    #[test]
    fn only_the_frames_of_messages_are_counted() {
        let hello = *b"AMQP\0\0\x09\x01";
        let publish = [1, 0, 1, 0, 0, 0, 4, 0, 60, 0, 40, 0xce];
        let ack = [1, 0, 1, 0, 0, 0, 4, 0, 60, 0, 80, 0xce];
        let header = [2, 0, 1, 0, 0, 0, 1, 9, 0xce];
        let body = [3, 0, 1, 0, 0, 0, 1, 9, 0xce];
        let heartbeat = [8, 0, 0, 0, 0, 0, 0, 0xce];
        let frames = [&hello[..], &publish, &header, &body, &ack, &heartbeat];
        assert_eq!(count(Protocol::Amqp, &frames.concat()).0, 3);
    }

    #[test]
    fn the_address_is_found_behind_user_and_password() {
        let found = address("amqp://guest:guest@127.0.0.1:5672/%2f").ok();
        assert_eq!(found, Some("127.0.0.1:5672"));
    }
}
