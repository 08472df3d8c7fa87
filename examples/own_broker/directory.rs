//! The broker: queues are directories, and a rename is what gives a message to one consumer.
//!
//! ```text
//!   <root>/topics/<topic>/<service>     the service subscribes the topic
//!   <root>/queues/<service>/ready/      messages that wait
//!                          /taken-<id>/ messages in flight to one consumer, and the lock it holds
//!                          /dead/       dead letters
//!   <root>/tmp/                         files that are being written
//! ```
//!
//! A message is confirmed when it is on the disk, in the queue of every subscriber. A consumer holds the
//! lock in its `taken` directory for as long as it lives; when its process dies, another consumer gets
//! the lock and moves the messages back.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, mpsc::*},
    time::{Duration, Instant, SystemTime},
};

use final_core::{
    Error, Message, MessageId,
    broker::{
        Broker, BrokerError, BrokerErrorKind, Cause, Confirm, DeadLetter, DeadLetterFilter,
        DeadLetters, Delivery, Link, LinkState, Opened, Outgoing, Settlement, Settler, Setup,
    },
};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot, watch};

const POLL: Duration = Duration::from_millis(20);
const PREFETCH: usize = 100;

/// A message, as a file.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    topic: String,
    key: Option<String>,
    headers: BTreeMap<String, String>,
    content_type: String,
    payload: Vec<u8>,
    expires: Option<SystemTime>,
}

/// A dead letter, as a file. The content is the message's file, which need not be readable.
#[derive(Serialize, Deserialize)]
struct Dead {
    reason: String,
    attempts: u32,
    since: SystemTime,
    content: Vec<u8>,
}

#[derive(Clone)]
pub struct DirectoryBroker {
    root: PathBuf,
}

impl DirectoryBroker {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn queue(&self, service: &str) -> PathBuf {
        self.root.join("queues").join(service)
    }

    fn topic(&self, topic: &str) -> PathBuf {
        // A topic may contain what a file name may not.
        let name: String = topic.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.root.join("topics").join(name)
    }

    /// Makes the service's queue, its subscriptions, and the `taken` directory of a new consumer.
    fn declare(&self, setup: &Setup) -> io::Result<(PathBuf, File)> {
        let queue = self.queue(&setup.service);
        for directory in [
            self.root.join("tmp"),
            queue.join("ready"),
            queue.join("dead"),
        ] {
            fs::create_dir_all(directory)?;
        }
        for topic in &setup.topics {
            fs::create_dir_all(self.topic(topic))?;
            File::create(self.topic(topic).join(&*setup.service))?;
        }
        // Locked before the others can see it.
        let id = MessageId::new().to_string();
        let new = self.root.join("tmp").join(&id);
        fs::create_dir(&new)?;
        let lock = File::create(new.join("lock"))?;
        lock.lock()?;
        let taken = queue.join(format!("taken-{id}"));
        fs::rename(new, &taken)?;
        Ok((taken, lock))
    }

    /// Stores a message for every subscriber of its topic. Returns how many there are.
    fn store(&self, message: &Message, expires_in: Option<Duration>) -> io::Result<usize> {
        let stored = Stored {
            id: message.id().to_string(),
            topic: message.topic().to_owned(),
            key: message.key().map(str::to_owned),
            headers: BTreeMap::from_iter(message.headers().iter().map(owned)),
            content_type: message.content_type().to_owned(),
            payload: message.payload().to_vec(),
            expires: expires_in.map(|left| SystemTime::now() + left),
        };
        let content = serde_json::to_vec(&stored)?;
        let services = names(&self.topic(message.topic()))?;
        for service in &services {
            self.put(&self.queue(service).join("ready"), &stored.id, &content)?;
        }
        Ok(services.len())
    }

    /// Writes a file that is there whole or not at all, and on the disk when this returns.
    fn put(&self, directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.root.join("tmp").join(MessageId::new().to_string());
        let mut file = File::create_new(&path)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(path, directory.join(name))?;
        File::open(directory)?.sync_all()
    }

    /// The dead letters that a filter means, each with its file.
    fn dead(
        &self,
        service: &str,
        filter: &DeadLetterFilter,
    ) -> io::Result<Vec<(PathBuf, DeadLetter)>> {
        let directory = self.queue(service).join("dead");
        let mut letters = Vec::new();
        for name in names(&directory)? {
            let path = directory.join(&name);
            let dead: Dead = read(&path)?;
            let (cause, age) = (Cause::new(dead.reason, dead.attempts), dead.since.elapsed());
            let letter =
                |message| DeadLetter::new(service, message, cause, age.unwrap_or_default());
            let letter = match serde_json::from_slice::<Stored>(&dead.content) {
                Ok(stored) => letter(stored.into_message()),
                Err(error) => letter(Message::identified(MessageId::from_text(&name), "", ""))
                    .unreadable(error.to_string()),
            };
            if filter.matches(&letter) && (letters.len() as u64) < filter.at_most() {
                letters.push((path, letter));
            }
        }
        Ok(letters)
    }
}

impl Broker for DirectoryBroker {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        Box::pin(async move {
            let (taken, lock) = self.declare(&setup).map_err(unusable)?;
            let (jobs, todo) = channel();
            let (sender, deliveries) = mpsc::channel(PREFETCH);
            let mut worker = Worker {
                broker: self.clone(),
                queue: self.queue(&setup.service),
                taken,
                deliveries: (!setup.topics.is_empty()).then_some(sender),
                settler: Arc::new(Jobs(jobs.clone())),
                in_flight: HashMap::new(),
                tags: 0,
                _lock: lock,
            };
            if setup.purge {
                worker.purge()?;
            }
            std::thread::spawn(move || worker.run(&todo));
            let state = watch::Sender::new(LinkState::Ready);
            Ok(Opened::new(
                Arc::new(DirectoryLink { jobs, state }),
                deliveries,
            ))
        })
    }
}

/// What the worker of a link is told. It does one after the other.
enum Job {
    Send(Outgoing),
    Settle(u64, Settlement),
    StopConsuming(oneshot::Sender<()>),
    FinishConsuming(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

struct Jobs(Sender<Job>);

impl Settler for Jobs {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let _ = self.0.send(Job::Settle(tag, settlement));
    }
}

struct DirectoryLink {
    jobs: Sender<Job>,
    state: watch::Sender<LinkState>,
}

impl DirectoryLink {
    fn ask(
        &self,
        job: impl FnOnce(oneshot::Sender<()>) -> Job,
        limit: Duration,
    ) -> BoxFuture<'_, ()> {
        let (done, is_done) = oneshot::channel();
        let _ = self.jobs.send(job(done));
        Box::pin(async move {
            let _ = tokio::time::timeout(limit, is_done).await;
        })
    }
}

impl Link for DirectoryLink {
    fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    fn send(&self, outgoing: Outgoing) {
        // If the worker has ended the message is dropped here, which confirms it as lost.
        let _ = self.jobs.send(Job::Send(outgoing));
    }

    fn stop_consuming(&self, limit: Duration) -> BoxFuture<'_, ()> {
        self.ask(Job::StopConsuming, limit)
    }

    fn finish_consuming(&self, limit: Duration) -> BoxFuture<'_, ()> {
        self.ask(Job::FinishConsuming, limit)
    }

    fn close(&self, limit: Duration) -> BoxFuture<'_, ()> {
        self.state.send_replace(LinkState::Closed);
        self.ask(Job::Close, limit)
    }
}

impl Drop for DirectoryLink {
    fn drop(&mut self) {
        drop(self.ask(Job::Close, Duration::ZERO));
    }
}

/// A thread of its own for one link, because work on files blocks.
struct Worker {
    broker: DirectoryBroker,
    queue: PathBuf,
    taken: PathBuf,
    deliveries: Option<mpsc::Sender<Delivery>>,
    settler: Arc<Jobs>,
    /// The file of each delivery, by tag.
    in_flight: HashMap<u64, String>,
    tags: u64,
    _lock: File,
}

impl Worker {
    fn run(mut self, todo: &Receiver<Job>) {
        let mut polled = Instant::now();
        let closed = loop {
            match todo.recv_timeout(POLL) {
                Ok(Job::Send(outgoing)) => self.send(outgoing),
                // A file that cannot be moved now stays, and is moved back when this consumer ends.
                Ok(Job::Settle(tag, settlement)) => drop(self.settle(tag, settlement)),
                Ok(Job::StopConsuming(done)) => drop((self.deliveries.take(), done)),
                Ok(Job::FinishConsuming(done)) => drop((self.requeue_all(), done)),
                Ok(Job::Close(done)) => break Some(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            if polled.elapsed() >= POLL {
                let _ = self.deliver();
                polled = Instant::now();
            }
        };
        let _ = self.requeue_all();
        let _ = fs::remove_dir_all(&self.taken);
        drop(closed);
    }

    fn send(&self, outgoing: Outgoing) {
        let Some(sending) = outgoing.into_sending() else {
            return;
        };
        let confirm = match self.broker.store(sending.message(), sending.expires_in()) {
            Ok(0) => Confirm::Unroutable,
            Ok(_) => Confirm::Stored,
            Err(_) => Confirm::Refused,
        };
        sending.confirm(confirm);
    }

    fn deliver(&mut self) -> io::Result<()> {
        self.recover()?;
        let Some(deliveries) = self.deliveries.clone() else {
            return Ok(());
        };
        for name in names(&self.queue.join("ready"))? {
            let Ok(room) = deliveries.try_reserve() else {
                return Ok(());
            };
            let path = self.taken.join(&name);
            // Fails if another consumer was faster.
            if fs::rename(self.queue.join("ready").join(&name), &path).is_err() {
                continue;
            }
            self.tags += 1;
            self.in_flight.insert(self.tags, name);
            let content = match read::<Stored>(&path) {
                Ok(stored) if stored.expires.is_some_and(|at| at <= SystemTime::now()) => {
                    self.settle(self.tags, Settlement::DeadLetter(Cause::new("expired", 0)))?;
                    continue;
                }
                content => content.map(Stored::into_message),
            };
            let content = content.map_err(|error| error.to_string());
            room.send(Delivery::new(content, self.tags, self.settler.clone()));
        }
        Ok(())
    }

    fn settle(&mut self, tag: u64, settlement: Settlement) -> io::Result<()> {
        // A tag that is not there was requeued when consuming ended.
        let Some(name) = self.in_flight.remove(&tag) else {
            return Ok(());
        };
        let path = self.taken.join(&name);
        match settlement {
            Settlement::Ack => fs::remove_file(path),
            Settlement::DeadLetter(cause) => {
                let dead = Dead {
                    reason: cause.reason,
                    attempts: cause.attempts,
                    since: SystemTime::now(),
                    content: fs::read(&path)?,
                };
                let dead = serde_json::to_vec(&dead)?;
                self.broker.put(&self.queue.join("dead"), &name, &dead)?;
                fs::remove_file(path)
            }
            // Also for a settlement that this broker does not know.
            _ => fs::rename(path, self.queue.join("ready").join(name)),
        }
    }

    fn requeue_all(&mut self) -> io::Result<()> {
        self.in_flight.clear();
        move_back(&self.taken, &self.queue)
    }

    /// Moves back what consumers had taken that are dead. Returns how many others are alive.
    fn recover(&self) -> io::Result<usize> {
        let mut alive = 0;
        for name in names(&self.queue)? {
            let taken = self.queue.join(name);
            let Ok(lock) = File::open(taken.join("lock")) else {
                continue;
            };
            if taken == self.taken {
                continue;
            }
            if lock.try_lock().is_err() {
                alive += 1;
                continue;
            }
            move_back(&taken, &self.queue)?;
            fs::remove_dir_all(&taken)?;
        }
        Ok(alive)
    }

    fn purge(&mut self) -> Result<(), BrokerError> {
        if self.recover().map_err(unusable)? > 0 {
            let text = "the queue has consumers; stop them before it is purged";
            return Err(BrokerError::new(BrokerErrorKind::InUse, text));
        }
        for directory in [self.queue.join("ready"), self.queue.join("dead")] {
            for name in names(&directory).map_err(unusable)? {
                fs::remove_file(directory.join(name)).map_err(unusable)?;
            }
        }
        Ok(())
    }
}

impl DeadLetters for DirectoryBroker {
    fn list<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, Error>> {
        Box::pin(async move {
            let dead = self.dead(service, filter).map_err(unusable)?;
            Ok(dead.into_iter().map(|(_, letter)| letter).collect())
        })
    }

    fn replay<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move {
            let (dead, ready) = (
                self.dead(service, filter),
                self.queue(service).join("ready"),
            );
            let mut replayed = 0;
            for (path, letter) in dead.map_err(unusable)? {
                let back = read::<Dead>(&path)
                    .and_then(|dead| self.put(&ready, &letter.id.to_string(), &dead.content))
                    .and_then(|()| fs::remove_file(path));
                back.map_err(unusable)?;
                replayed += 1;
            }
            Ok(replayed)
        })
    }

    fn discard<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move {
            let mut discarded = 0;
            for (path, _) in self.dead(service, filter).map_err(unusable)? {
                fs::remove_file(path).map_err(unusable)?;
                discarded += 1;
            }
            Ok(discarded)
        })
    }
}

impl Stored {
    fn into_message(self) -> Message {
        let id = MessageId::from_text(&self.id);
        let message = Message::identified(id, self.topic, self.payload)
            .with_headers(self.headers.into_iter().collect())
            .with_content_type(self.content_type);
        match self.key {
            Some(key) => message.with_key(key),
            None => message,
        }
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The names in a directory, sorted: message ids sort by their age. None if there is no directory.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into());
    let mut names: Vec<String> = entries.map(name).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn move_back(taken: &Path, queue: &Path) -> io::Result<()> {
    for name in names(taken)?.iter().filter(|name| *name != "lock") {
        fs::rename(taken.join(name), queue.join("ready").join(name))?;
    }
    Ok(())
}

fn unusable(error: io::Error) -> BrokerError {
    let text = "the broker's directory cannot be used; may the service read and write it?";
    BrokerError::new(BrokerErrorKind::Refused, text).because(error)
}
