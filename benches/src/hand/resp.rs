//! A Redis client that does as little as it can, so that the server is what is measured.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::Result;

/// An answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A line: `+OK`, `:7`.
    Line,
    /// Bytes; none if there is nothing.
    Bytes(Option<Vec<u8>>),
    /// Several.
    All(Vec<Reply>),
}

/// A connection.
#[derive(Debug)]
pub(crate) struct RespClient {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    line: Vec<u8>,
}

impl RespClient {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (from, to) = stream.into_split();
        Ok(Self {
            from: BufReader::with_capacity(64 * 1024, from),
            to,
            line: Vec::new(),
        })
    }

    /// Connects, and logs in with a DSN of databus.
    pub(crate) async fn with_dsn(address: SocketAddr, dsn: &str) -> Result<Self> {
        let mut client = Self::connect(address).await?;
        client.send(&command(&[b"AUTH", dsn.as_bytes()])).await?;
        client.ok(1).await?;
        Ok(client)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.to.write_all(bytes).await?)
    }

    /// Reads so many answers. Each must be `+OK`.
    pub(crate) async fn ok(&mut self, answers: usize) -> Result<()> {
        for _ in 0..answers {
            self.read_line().await?;
            if self.line != b"+OK" {
                let line = String::from_utf8_lossy(&self.line);
                return Err(format!("the server answers {line}").into());
            }
        }
        Ok(())
    }

    async fn read_line(&mut self) -> Result<()> {
        self.line.clear();
        self.from.read_until(b'\n', &mut self.line).await?;
        if !self.line.ends_with(b"\r\n") {
            return Err("the server closed the connection".into());
        }
        self.line.truncate(self.line.len() - 2);
        Ok(())
    }

    /// Reads an answer. Errors of the server are errors.
    pub(crate) async fn reply(&mut self) -> Result<Reply> {
        self.read_line().await?;
        let text = String::from_utf8_lossy(&self.line).into_owned();
        let number = || text.get(1..).and_then(|it| it.parse::<i64>().ok());
        match self.line.first() {
            Some(b'-') => Err(format!("the server answers {text}").into()),
            Some(b'$') => {
                let Some(length) = number().and_then(|it| usize::try_from(it).ok()) else {
                    return Ok(Reply::Bytes(None));
                };
                let mut bytes = vec![0; length + 2];
                self.from.read_exact(&mut bytes).await?;
                bytes.truncate(length);
                Ok(Reply::Bytes(Some(bytes)))
            }
            Some(b'*') => {
                let mut all = Vec::new();
                for _ in 0..number().unwrap_or_default() {
                    all.push(Box::pin(self.reply()).await?);
                }
                Ok(Reply::All(all))
            }
            _ => Ok(Reply::Line),
        }
    }
}

/// A command, as clients write it.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}
