//! A Redis client that sends what the test says, and nothing else.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::engine::SOON;

/// A connection to the Redis port.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Whether nobody listens there.
    pub async fn connect_refused(address: SocketAddr) -> bool {
        TcpStream::connect(address).await.is_err()
    }

    /// A connection that has logged in.
    pub async fn log_in(address: SocketAddr, dsn: &str) -> Self {
        let mut raw = Self::connect(address).await;
        assert_eq!(raw.ask(&["AUTH", dsn]).await, "+OK");
        raw
    }

    pub async fn send(&mut self, words: &[impl AsRef<[u8]>]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend(word);
            bytes.extend(b"\r\n");
        }
        self.stream.write_all(&bytes).await.expect("sent");
    }

    /// One line of an answer, without its end. Empty at the end of the connection.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(SOON, self.stream.read_line(&mut line)).await;
        let _ = read.expect("an answer in time");
        line.trim_end().to_owned()
    }

    /// Sends a request, and reads an answer of one line.
    pub async fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> String {
        self.send(words).await;
        self.line().await
    }

    /// Takes a lot of messages, which is not empty.
    pub async fn take(&mut self) -> Vec<Value> {
        loop {
            let taken = self.mget(&["MGET", ""]).await;
            if !taken.is_empty() {
                let parsed = taken.iter().map(|one| serde_json::from_slice(one));
                return parsed.collect::<Result<_, _>>().expect("JSON");
            }
        }
    }

    /// Takes a lot of messages as they come.
    pub async fn mget(&mut self, words: &[&str]) -> Vec<Vec<u8>> {
        let line = self.ask(words).await;
        let count = line.strip_prefix('*').expect(&line);
        let mut taken = Vec::new();
        for _ in 0..count.parse().expect("a number") {
            let line = self.line().await;
            let length: usize = line
                .strip_prefix('$')
                .expect(&line)
                .parse()
                .expect("a number");
            let mut bytes = vec![0; length + 2];
            self.stream
                .read_exact(&mut bytes)
                .await
                .expect("the message");
            bytes.truncate(length);
            taken.push(bytes);
        }
        taken
    }

    /// Takes lots until there are so many messages.
    pub async fn take_all(&mut self, count: usize) -> Vec<Value> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(self.take().await);
        }
        taken
    }

    /// Commits what was taken.
    pub async fn commit(&mut self, taken: &[Value]) {
        for message in taken {
            let (partition, offset) = (&message["partition"], &message["offset"]);
            let words = ["SET", &partition.to_string(), &offset.to_string()];
            assert_eq!(self.ask(&words).await, "+OK");
        }
    }
}
