//! Answers on their way to the client.
//!
//! Input: answers in the order of their requests; some of them are known only after a COMMIT. State: a queue, bounded in
//! answers and bytes until they are written. Output: bytes, as many in one write as are known.

use std::{io, pin::Pin, sync::Arc, task::Poll, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::timeout,
};

use super::backend::BoxedAnswer;
use crate::publish::PublishError;

/// The room of the queue: answers that are not written, each with one more for every [`BYTES`].
const ROOM: u32 = 1024;

const BYTES: usize = 1024;

/// Bytes that are written together.
const BLOCK: usize = 16 * 1024;

/// An answer.
pub(super) enum Answer {
    /// Known, and always the same.
    Fixed(&'static [u8]),
    /// Known.
    Bytes(Vec<u8>),
    /// `+OK` after the COMMIT of a message, or why not.
    Later(BoxedAnswer),
}

struct Slot {
    answer: Answer,
    weight: u32,
}

/// Where answers are put.
pub(super) struct Answers {
    queue: UnboundedSender<Slot>,
    room: Arc<Semaphore>,
}

/// Where answers come from.
pub(super) struct AnswerQueue {
    queue: UnboundedReceiver<Slot>,
    room: Arc<Semaphore>,
}

/// All answers before have been written, and none may follow before this one's.
pub(super) struct Turn<'a> {
    answers: &'a Answers,
}

pub(super) fn channel() -> (Answers, AnswerQueue) {
    let (sender, receiver) = unbounded_channel();
    let room = Arc::new(Semaphore::new(ROOM as usize));
    let answers = Answers {
        queue: sender,
        room: Arc::clone(&room),
    };
    let queue = AnswerQueue {
        queue: receiver,
        room,
    };
    (answers, queue)
}

impl Answers {
    /// Puts an answer behind the others, once there is room for it.
    pub(super) async fn push(&self, answer: Answer) {
        let bytes = match &answer {
            Answer::Bytes(bytes) => bytes.len() / BYTES,
            _ => 0,
        };
        let weight = u32::try_from(bytes).map_or(ROOM, |bytes| bytes.saturating_add(1).min(ROOM));
        self.acquire(weight).await;
        self.send(Slot { answer, weight });
    }

    /// Waits until everything is written. For an answer that is large or takes something, so that a client which does
    /// not read gets no second one.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.acquire(ROOM).await;
        Turn { answers: self }
    }

    async fn acquire(&self, weight: u32) {
        // The semaphore is never closed. The writer gives the room back.
        if let Ok(permit) = self.room.acquire_many(weight).await {
            permit.forget();
        }
    }

    fn send(&self, slot: Slot) {
        // Without a writer the session is being dropped.
        let _ = self.queue.send(slot);
    }
}

impl Turn<'_> {
    pub(super) fn push(self, bytes: Vec<u8>) {
        self.answers.send(Slot {
            answer: Answer::Bytes(bytes),
            weight: ROOM,
        });
    }
}

impl AnswerQueue {
    /// Writes answers until no more can come.
    ///
    /// # Errors
    ///
    /// Fails if the connection does, or if the client takes nothing for so long.
    pub(super) async fn write_to<W>(mut self, write: &mut W, patience: Duration) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        let mut block = Block {
            write,
            patience,
            bytes: Vec::new(),
            weight: 0,
            room: &self.room,
        };
        loop {
            let slot = match self.queue.try_recv() {
                Ok(slot) => slot,
                Err(_) => {
                    block.flush().await?;
                    match self.queue.recv().await {
                        Some(slot) => slot,
                        None => return Ok(()),
                    }
                }
            };
            match slot.answer {
                Answer::Fixed(bytes) => block.bytes.extend_from_slice(bytes),
                Answer::Bytes(bytes) if block.bytes.is_empty() => block.bytes = bytes,
                Answer::Bytes(bytes) => block.bytes.extend_from_slice(&bytes),
                Answer::Later(mut later) => {
                    let published = match once(later.as_mut()).await {
                        Some(published) => published,
                        None => {
                            // What is known does not wait for what is not.
                            block.flush().await?;
                            later.await
                        }
                    };
                    put(&published, &mut block.bytes);
                }
            }
            block.weight += slot.weight;
            if block.bytes.len() >= BLOCK {
                block.flush().await?;
            }
        }
    }
}

fn put(published: &Result<(), PublishError>, bytes: &mut Vec<u8>) {
    match published {
        Ok(()) => bytes.extend_from_slice(b"+OK\r\n"),
        Err(error) => {
            let text = error.to_string().replace(['\r', '\n'], " ");
            bytes.extend_from_slice(format!("-ERR {text}\r\n").as_bytes());
        }
    }
}

/// What a future is now, without waiting for it.
async fn once<T>(mut future: Pin<&mut (dyn Future<Output = T> + Send)>) -> Option<T> {
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

/// Bytes that are written together.
struct Block<'a, W> {
    write: &'a mut W,
    patience: Duration,
    bytes: Vec<u8>,
    weight: u32,
    room: &'a Semaphore,
}

impl<W: AsyncWrite + Unpin> Block<'_, W> {
    async fn flush(&mut self) -> io::Result<()> {
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let wrote = timeout(self.patience, self.write.write(rest)).await??;
            rest = rest.get(wrote..).unwrap_or_default();
            if wrote == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        if !self.bytes.is_empty() {
            timeout(self.patience, self.write.flush()).await??;
        }
        // A connection that is idle keeps little.
        match self.bytes.capacity() <= 1024 {
            true => self.bytes.clear(),
            false => self.bytes = Vec::new(),
        }
        self.room.add_permits(self.weight as usize);
        self.weight = 0;
        Ok(())
    }
}
