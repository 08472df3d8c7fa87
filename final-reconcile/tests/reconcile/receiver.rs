//! An HTTP endpoint that answers as a test says, also as no endpoint should.
//!
//! Input: calls, one to a connection. Output: each is kept as it came, and answered by the test's function.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use final_webhook::Endpoint;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Came {
    /// Its idempotency key.
    pub key: String,
    /// How many calls with this key came before.
    pub before: usize,
    pub body: Value,
}

/// What an endpoint does about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(u16),
    /// With one header more.
    With(u16, String),
    /// The connection is closed without a word.
    Close,
    /// It is closed in the middle of the answer.
    CloseInAnswer,
    /// It stays open, and nothing comes.
    Silence,
}

type Replies = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Answer = Arc<dyn Fn(Came) -> Replies + Send + Sync>;

/// The endpoint. It listens until the test's runtime ends.
#[derive(Clone, Debug)]
pub struct Receiver {
    pub url: String,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Receiver {
    /// `answer` gets a call, and how many calls with its idempotency key came before. It says a status.
    pub async fn start(answer: impl Fn(&Came, usize) -> u16 + Send + Sync + 'static) -> Self {
        Self::replying(move |came| {
            let status = answer(&came, came.before);
            async move { Reply::Status(status) }
        })
        .await
    }

    /// `answer` gets each call.
    pub async fn replying<F>(answer: impl Fn(Came) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/repair", listener.local_addr().unwrap());
        let came = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&came);
        let answer: Answer = Arc::new(move |came| Box::pin(answer(came)));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&answer), Arc::clone(&all)));
            }
        });
        Self { url, came }
    }

    /// The calls so far.
    pub fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(&self.url).unwrap().allow_private(true)
    }
}

async fn serve(mut socket: TcpStream, answer: Answer, all: Arc<Mutex<Vec<Came>>>) -> Option<()> {
    let mut came = read(&mut socket).await?;
    {
        let mut all = all.lock().unwrap();
        came.before = all.iter().filter(|other| other.key == came.key).count();
        all.push(came.clone());
    }
    let head = match answer(came).await {
        Reply::Status(status) => head(status, ""),
        Reply::With(status, header) => head(status, &format!("{header}\r\n")),
        Reply::Close => return None,
        Reply::CloseInAnswer => "HTTP/1.1 200 Answer\r\ncontent-len".into(),
        Reply::Silence => {
            // Until the caller has gone.
            while socket.read(&mut [0]).await.ok()? > 0 {}
            return None;
        }
    };
    socket.write_all(head.as_bytes()).await.ok()
}

fn head(status: u16, more: &str) -> String {
    format!("HTTP/1.1 {status} Answer\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n")
}

/// A whole call.
async fn read(socket: &mut TcpStream) -> Option<Came> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let field = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                let found = lines.find(|(field, _)| field.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_owned())
            };
            if body.len() >= field("content-length")?.parse().ok()? {
                return Some(Came {
                    key: field("idempotency-key")?,
                    before: 0,
                    body: serde_json::from_str(body).ok()?,
                });
            }
        }
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await.ok()? {
            0 => return None,
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
