//! The books: what clients were told, and what they got.
//!
//! Input: what each client notes at the moment when it hears of it, and when the last fault was over. Output: what is
//! lost, invented, stuck or repeated without a reason.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// The name of a message: its publisher, and a number of that publisher.
pub type Id = (u32, u64);

/// All notes, of all clients.
#[derive(Default)]
pub struct Books(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    sent: HashMap<Id, Instant>,
    acknowledged: HashSet<Id>,
    /// When each message came.
    received: HashMap<Id, Vec<Instant>>,
    /// Since when nothing is broken.
    calm: Option<Instant>,
    /// Answers that no protocol allows.
    nonsense: Vec<String>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    pub sent: usize,
    pub acknowledged: usize,
    pub received: usize,
    pub lost: Vec<Id>,
    pub invented: Vec<Id>,
    pub repeats: usize,
    /// Repeats of messages that were sent when nothing was broken.
    pub unexplained: Vec<Id>,
    pub nonsense: Vec<String>,
}

impl Books {
    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a client sends.
    pub fn sending(&self, id: Id) {
        self.notes().sent.insert(id, Instant::now());
    }

    /// The gateway has said that the message is stored.
    pub fn acknowledged(&self, id: Id) {
        self.notes().acknowledged.insert(id);
    }

    /// A client has a message in hand.
    pub fn received(&self, id: Id) {
        let now = Instant::now();
        self.notes().received.entry(id).or_default().push(now);
    }

    /// A client got what no protocol allows.
    pub fn nonsense(&self, what: impl Into<String>) {
        self.notes().nonsense.push(what.into());
    }

    /// From now on nothing is broken, and nothing is left of what was.
    pub fn calm(&self) {
        self.notes().calm = Some(Instant::now());
    }

    /// How many messages were acknowledged and have not come.
    pub fn missing(&self) -> usize {
        let notes = self.notes();
        notes
            .acknowledged
            .iter()
            .filter(|id| !notes.received.contains_key(id))
            .count()
    }

    /// How many messages were sent and acknowledged since a moment, and how many of these have come.
    pub fn since(&self, moment: Instant) -> (usize, usize) {
        let notes = self.notes();
        let since = notes.sent.iter().filter(|(_, sent)| **sent >= moment);
        let acknowledged = since
            .map(|(id, _)| id)
            .filter(|id| notes.acknowledged.contains(id));
        acknowledged.fold((0, 0), |(sent, came), id| {
            (
                sent + 1,
                came + usize::from(notes.received.contains_key(id)),
            )
        })
    }

    /// When a message came last.
    pub fn last_received(&self) -> Option<Instant> {
        self.notes().received.values().flatten().max().copied()
    }

    /// Compares all notes.
    pub fn close(&self) -> Verdict {
        let notes = self.notes();
        let mut verdict = Verdict {
            sent: notes.sent.len(),
            acknowledged: notes.acknowledged.len(),
            received: notes.received.len(),
            nonsense: notes.nonsense.clone(),
            ..Verdict::default()
        };
        let is_lost = |id: &&Id| !notes.received.contains_key(id);
        verdict.lost = notes.acknowledged.iter().filter(is_lost).copied().collect();
        for (id, came) in &notes.received {
            let Some(sent) = notes.sent.get(id) else {
                verdict.invented.push(*id);
                continue;
            };
            let repeats = came.len() - 1;
            verdict.repeats += repeats;
            if repeats > 0 && notes.calm.is_some_and(|calm| *sent >= calm) {
                verdict.unexplained.push(*id);
            }
        }
        verdict
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent, {} acknowledged, {} received; {} lost, {} invented, {} repeats, {} of them without a fault, \
             {} wrong answers",
            self.sent,
            self.acknowledged,
            self.received,
            self.lost.len(),
            self.invented.len(),
            self.repeats,
            self.unexplained.len(),
            self.nonsense.len()
        )
    }
}
