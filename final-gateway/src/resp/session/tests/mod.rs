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
        Self::beside_others(fake, limits, limits.input_room(), pipe)
    }

    /// One that shares its memory for requests with others.
    fn beside_others(fake: &Fake, limits: SessionLimits, room: Budget, pipe: usize) -> Self {
        let (stream, other) = duplex(pipe);
        let stop = CancellationToken::new();
        let peer = "192.0.2.1:5000".parse().unwrap();
        let session = serve(other, peer, fake.clone(), limits, room, stop.clone());
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
        let read = within(SOON, self.stream.read_exact(&mut heard)).await;
        assert!(
            read.is_ok(),
            "{:?} before {answer:?}",
            String::from_utf8_lossy(&heard)
        );
        assert_eq!(String::from_utf8_lossy(&heard), answer);
    }

    /// Reads what comes up to the end of the connection.
    async fn hears_to_the_end(self) -> String {
        self.ends_within(SOON).await
    }

    async fn ends_within(mut self, limit: Duration) -> String {
        let mut heard = Vec::new();
        let read = within(limit, self.stream.read_to_end(&mut heard)).await;
        read.unwrap();
        drop(self.stream);
        within(SOON, self.session).await.unwrap();
        String::from_utf8(heard).unwrap()
    }
}

/// A limit of waiting, longer than an `MGET`. Only what is broken takes this long.
const SOON: Duration = Duration::from_secs(60);

async fn within<F: Future>(limit: Duration, future: F) -> F::Output {
    tokio::time::timeout(limit, future).await.expect("in time")
}

/// Waits until something is so. By the machine's clock: a paused one does not move while a task is busy.
async fn eventually(is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SOON, "it never was so");
        tokio::task::yield_now().await;
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
