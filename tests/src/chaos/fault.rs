//! The faults.

use std::fmt;

use super::{
    plan::{DatabaseKind, Transport},
    work::{COMMIT_AFTER, CONFIRM_WINDOW, KillPlace, PREFETCH},
};

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL at any moment; a new process takes its place.
    Killed(Who),
    /// SIGKILL at this place of the code.
    KilledAt(KillPlace),
    /// SIGSTOP for longer than the lease.
    Paused(Who),
    /// A clean shutdown, and a new process.
    Restarted(Who),
    /// One more of them comes and goes.
    Joined(Who),
    /// A worker whose wall clock is five minutes off.
    ClockOff(Who),
    /// Somebody else holds all connections of a seller's pool.
    PoolExhausted,
    Server(End, Outage),
    /// Another program holds SQLite's lock.
    FileLocked,
    MemoryAlarm,
    DiskAlarm,
    /// The broker refuses (nacks) messages for which the queue has no room.
    QueueFull,
    QueueDeleted,
    ExchangeDeleted,
    /// The network between one worker and a server.
    Wire(End, Wire),
}

/// A kind of worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Seller,
    Subscriber,
}

/// A server, seen from a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Database,
    Broker,
}

/// How a server is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outage {
    Killed,
    Stopped,
    Paused,
    /// It closes every connection.
    Disconnecting,
}

/// How a network is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    Cut,
    Stalled,
    AnswersStalled,
    Delayed,
    Halved,
    RequestsClosed,
    AnswersClosed,
}

const WHO: [Who; 2] = [Who::Seller, Who::Subscriber];
const ENDS: [End; 2] = [End::Database, End::Broker];
const PLACES: [KillPlace; 6] = [
    KillPlace::AfterInsert,
    KillPlace::AfterCommit,
    KillPlace::AfterPublish,
    KillPlace::AfterConfirm,
    KillPlace::BeforeHandler,
    KillPlace::AfterHandler,
];
const OUTAGES: [Outage; 4] = [
    Outage::Killed,
    Outage::Stopped,
    Outage::Paused,
    Outage::Disconnecting,
];
const WIRES: [Wire; 7] = [
    Wire::Cut,
    Wire::Stalled,
    Wire::AnswersStalled,
    Wire::Delayed,
    Wire::Halved,
    Wire::RequestsClosed,
    Wire::AnswersClosed,
];

impl Fault {
    /// Every fault once.
    pub(crate) fn all(database: DatabaseKind, transport: Transport) -> Vec<Self> {
        let mut all = Self::with_servers();
        if database == DatabaseKind::Sqlite {
            // Its processes are on one machine, and SQLite reads that machine's clock.
            all.retain(|fault| {
                !fault.needs_a_database_server() && !matches!(fault, Self::ClockOff(_))
            });
            all.push(Self::FileLocked);
        }
        if transport == Transport::Log {
            all.retain(|fault| !fault.needs_rabbitmq());
            // The lanes of the group move from one member to another.
            all.push(Self::Joined(Who::Subscriber));
        }
        all
    }

    fn needs_rabbitmq(self) -> bool {
        match self {
            Self::MemoryAlarm
            | Self::DiskAlarm
            | Self::QueueFull
            | Self::QueueDeleted
            | Self::ExchangeDeleted
            | Self::KilledAt(KillPlace::AfterPublish | KillPlace::AfterConfirm) => true,
            Self::Server(end, _) | Self::Wire(end, _) => end == End::Broker,
            _ => false,
        }
    }

    fn needs_a_database_server(self) -> bool {
        matches!(
            self,
            Self::Server(End::Database, _) | Self::Wire(End::Database, _)
        )
    }

    fn with_servers() -> Vec<Self> {
        let mut all = vec![
            Self::Joined(Who::Seller),
            Self::PoolExhausted,
            Self::MemoryAlarm,
            Self::DiskAlarm,
            Self::QueueFull,
            Self::QueueDeleted,
            Self::ExchangeDeleted,
        ];
        for who in WHO {
            all.extend([
                Self::Killed(who),
                Self::Paused(who),
                Self::Restarted(who),
                Self::ClockOff(who),
            ]);
        }
        all.extend(PLACES.map(Self::KilledAt));
        for end in ENDS {
            all.extend(OUTAGES.map(|outage| Self::Server(end, outage)));
            all.extend(WIRES.map(|wire| Self::Wire(end, wire)));
        }
        all
    }

    /// Whether the fault may come together with others. Deleting a queue or an exchange deletes messages,
    /// unless everything is quiet before.
    pub(crate) fn mixes(self) -> bool {
        !matches!(self, Self::QueueDeleted | Self::ExchangeDeleted)
    }

    /// How many messages the fault may repeat, with so many workers of each kind: one window for each worker
    /// that it hits.
    pub(crate) fn may_repeat(
        self,
        transport: Transport,
        sellers: usize,
        subscribers: usize,
    ) -> usize {
        let (out, back) = match transport {
            Transport::RabbitMq => (CONFIRM_WINDOW, usize::from(PREFETCH)),
            // A publisher repeats nothing. A subscriber repeats the messages in flight and those whose
            // progress is not written yet.
            Transport::Log => (0, usize::from(PREFETCH) + COMMIT_AFTER),
        };
        match self {
            Self::Restarted(_) | Self::Joined(_) | Self::ClockOff(_) => 0,
            Self::Killed(Who::Seller) | Self::Paused(Who::Seller) | Self::PoolExhausted => out,
            Self::Killed(Who::Subscriber) | Self::Paused(Who::Subscriber) => back,
            Self::KilledAt(KillPlace::BeforeHandler | KillPlace::AfterHandler) => back,
            Self::KilledAt(_) => out,
            Self::Wire(..) => out.max(back),
            Self::Server(..)
            | Self::FileLocked
            | Self::MemoryAlarm
            | Self::DiskAlarm
            | Self::QueueFull
            | Self::QueueDeleted
            | Self::ExchangeDeleted => sellers * out + subscribers * back,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Killed(who) => format!("{who} killed"),
            Self::KilledAt(place) => format!("killed {place}"),
            Self::Paused(who) => format!("{who} paused past its lease"),
            Self::Restarted(who) => format!("{who} restarted"),
            Self::Joined(who) => format!("third {who} comes and goes"),
            Self::ClockOff(who) => format!("{who} with its clock 5 min off"),
            Self::PoolExhausted => "publisher's pool exhausted".into(),
            Self::Server(end, outage) => format!("{end} {outage}"),
            Self::FileLocked => "database's file locked".into(),
            Self::MemoryAlarm => "broker's memory alarm".into(),
            Self::DiskAlarm => "broker's disk alarm".into(),
            Self::QueueFull => "queue full, publishes refused".into(),
            Self::QueueDeleted => "queue deleted".into(),
            Self::ExchangeDeleted => "exchange deleted".into(),
            Self::Wire(end, wire) => format!("wire to the {end}: {wire}"),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seller => "publisher",
            Self::Subscriber => "subscriber",
        })
    }
}

impl fmt::Display for KillPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfterInsert => "between INSERT and COMMIT",
            Self::AfterCommit => "between COMMIT and publish",
            Self::AfterPublish => "between publish and confirm",
            Self::AfterConfirm => "between confirm and ack of the record",
            Self::BeforeHandler => "before the handler",
            Self::AfterHandler => "between handler and ack",
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Broker => "broker",
        })
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed (SIGKILL)",
            Self::Stopped => "stopped cleanly",
            Self::Paused => "paused (SIGSTOP)",
            Self::Disconnecting => "closes all connections",
        })
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "cut 20 times a second",
            Self::Stalled => "stalled",
            Self::AnswersStalled => "answers stalled",
            Self::Delayed => "delayed by 100 ms",
            Self::Halved => "half the bandwidth",
            Self::RequestsClosed => "requests closed",
            Self::AnswersClosed => "answers closed",
        })
    }
}
