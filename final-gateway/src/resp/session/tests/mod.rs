//! Sessions over a pipe in memory, before a backend whose every answer the test decides.

mod consuming;
mod fake;
mod limits;
mod publishing;
mod strangers;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};

use self::fake::Fake;
use super::*;

const PUB: &str = "AUTH k:s@g/topic=t&role=pub";
const SUB: &str = "AUTH k:s@g/topic=t&role=sub";

/// A client, and the task of its session.
struct Caller {
    stream: DuplexStream,
    session: JoinHandle<()>,
    stop: CancellationToken,
}

impl Caller {
    fn new(fake: &Fake) -> Self {
        Self::limited(fake, SessionLimits::default(), 64 * 1024)
    }

    /// With other limits, and a pipe that holds so many bytes.
    fn limited(fake: &Fake, limits: SessionLimits, pipe: usize) -> Self {
        let (stream, other) = duplex(pipe);
        let stop = CancellationToken::new();
        let peer = "192.0.2.1:5000".parse().unwrap();
        let session = serve(other, peer, fake.clone(), limits, stop.clone());
        Self {
            stream,
            session: tokio::spawn(session),
            stop,
        }
    }

    /// One that has logged in.
    async fn logged_in(fake: &Fake, login: &str) -> Self {
        let mut caller = Self::new(fake);
        caller.says(login, "+OK\r\n").await;
        caller
    }

    /// Sends bytes as they are.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends lines, and reads these bytes and no others.
    async fn says(&mut self, lines: &str, answer: &str) {
        self.send(format!("{lines}\r\n")).await;
        self.hears(answer).await;
    }

    async fn hears(&mut self, answer: &str) {
        let mut heard = vec![0; answer.len()];
        let read = self.stream.read_exact(&mut heard).await;
        assert!(
            read.is_ok(),
            "{:?} before {answer:?}",
            String::from_utf8_lossy(&heard)
        );
        assert_eq!(String::from_utf8_lossy(&heard), answer);
    }

    /// Reads what comes up to the end of the connection.
    async fn hears_to_the_end(mut self) -> String {
        let mut heard = Vec::new();
        self.stream.read_to_end(&mut heard).await.unwrap();
        drop(self.stream);
        self.session.await.unwrap();
        String::from_utf8(heard).unwrap()
    }
}

/// A request as clients send it.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}
