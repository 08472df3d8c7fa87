//! A server on a free port that reads requests and does with each connection what a test says.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// A connection to the server.
pub(super) struct Visit<S = TcpStream> {
    pub(super) stream: S,
    /// 1 for the first one.
    pub(super) number: usize,
    seen: Arc<Seen>,
}

impl Server {
    pub(super) async fn start<F, W>(behave: F) -> Self
    where
        F: Fn(Visit) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1", behave).await
    }

    pub(super) async fn at<F, W>(host: &str, behave: F) -> Self
    where
        F: Fn(Visit) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        let task = tokio::spawn(async move {
            let mut visits = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                shared.open.fetch_add(1, Ordering::SeqCst);
                let visit = Visit {
                    stream,
                    number,
                    seen: shared.clone(),
                };
                let (work, shared) = (behave(visit), shared.clone());
                visits.spawn(async move {
                    work.await;
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// Answers every request with these bytes.
    pub(super) async fn answering(answer: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let answer: Arc<[u8]> = answer.as_ref().into();
        Self::start(move |mut visit| {
            let answer = answer.clone();
            async move {
                while visit.request().await.is_some() {
                    visit.write(&answer).await;
                }
            }
        })
        .await
    }

    /// Takes connections and requests, and never answers.
    pub(super) async fn silent() -> Self {
        Self::start(|mut visit| async move { while visit.request().await.is_some() {} }).await
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// How many connections were made in all.
    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Visit<S> {
    /// The next request; none when the client has closed the connection.
    pub(super) async fn request(&mut self) -> Option<Received> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if self.stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut received = Received {
            head,
            body: bytes[end + 4..].to_vec(),
        };
        let length = received
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        while received.body.len() < length {
            if self.stream.read_buf(&mut received.body).await.ok()? == 0 {
                return None;
            }
        }
        self.seen.requests.lock().unwrap().push(received.clone());
        Some(received)
    }

    /// Writes, and says whether the client still takes it.
    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Waits until the client has closed the connection.
    pub(super) async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while let Ok(1..) = self.stream.read(&mut rest).await {}
    }
}

impl Visit {
    /// The stream, and the rest of the visit.
    pub(super) fn split(self) -> (TcpStream, Visit<()>) {
        (
            self.stream,
            Visit {
                stream: (),
                number: self.number,
                seen: self.seen,
            },
        )
    }
}

impl Visit<()> {
    /// The same visit over another stream.
    pub(super) fn with<S>(self, stream: S) -> Visit<S> {
        Visit {
            stream,
            number: self.number,
            seen: self.seen,
        }
    }
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).next()
    }
}

/// Waits until something is so.
pub(super) async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(super::PATIENT, waiting)
        .await
        .expect("it does not come");
}
