//! The schedule of a seed.

use std::time::Duration;

use fastrand::Rng;

use super::{
    fault::{End, Fault, Outage, Wire},
    work::{LEASE, LOG_LEASE},
};

/// What to run, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Chooses the faults, their targets and their lengths.
    pub seed: u64,
    /// The database of all services.
    pub database: DatabaseKind,
    /// The transport of the messages.
    pub transport: Transport,
    /// How long faults go on; each fault comes once even if that takes longer.
    pub time: Duration,
    /// Whether some outages last a minute.
    pub long_outages: bool,
    /// How soon after a fault new messages have to flow. A short limit means something only on a machine
    /// without other work.
    pub recovers_within: Duration,
}

/// A database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    MariaDb,
    /// A file of SQLite, for all processes.
    Sqlite,
}

/// A way from the publishers to the subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Outboxes, and RabbitMQ behind them.
    RabbitMq,
    /// The database's own log.
    Log,
}

impl Transport {
    /// How long a silent process keeps its records or lanes.
    fn lease(self) -> Duration {
        match self {
            Self::RabbitMq => LEASE,
            Self::Log => LOG_LEASE,
        }
    }
}

/// Faults at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) faults: Vec<Planned>,
    /// The calm after it.
    pub(crate) pause: Duration,
    /// Whether every fault has already come alone.
    pub(crate) is_extra: bool,
}

/// A fault with its random values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    /// After the step's begin.
    pub(crate) after: Duration,
    pub(crate) lasts: Duration,
    /// Chooses a worker.
    pub(crate) pick: usize,
}

impl Plan {
    /// Five minutes, or longer if the faults take longer, once each. The seed chooses the database.
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            database: if seed.is_multiple_of(2) {
                DatabaseKind::Postgres
            } else {
                DatabaseKind::MariaDb
            },
            transport: Transport::RabbitMq,
            time: Duration::from_secs(5 * 60),
            long_outages: false,
            recovers_within: Duration::MAX,
        }
    }

    /// The same on the log, where there is less to break: about two minutes.
    pub fn short_on_log(seed: u64) -> Self {
        Self {
            transport: Transport::Log,
            time: Duration::from_secs(90),
            ..Self::short(seed)
        }
    }

    /// First each fault alone, in random order; then two or three at once, without end.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step> + use<> {
        let mut rng = Rng::with_seed(self.seed);
        let (long, transport) = (self.long_outages, self.transport);
        let all = Fault::all(self.database, transport);
        let mut alone = all.clone();
        rng.shuffle(&mut alone);
        let mixing: Vec<_> = all.into_iter().filter(|one| one.mixes()).collect();
        let mut alone = alone.into_iter();
        std::iter::from_fn(move || {
            let (faults, is_extra) = match alone.next() {
                Some(fault) => (vec![fault], false),
                None => {
                    let number = rng.usize(2..=3);
                    (rng.choose_multiple(mixing.iter().copied(), number), true)
                }
            };
            let faults = faults.into_iter().map(|fault| Planned {
                fault,
                after: Duration::from_millis(if is_extra { rng.u64(0..3_000) } else { 0 }),
                lasts: lasts(fault, &mut rng, long, transport),
                pick: rng.usize(0..1_000),
            });
            Some(Step {
                faults: faults.collect(),
                pause: Duration::from_millis(rng.u64(200..1_500)),
                is_extra,
            })
        })
    }
}

fn lasts(fault: Fault, rng: &mut Rng, long: bool, transport: Transport) -> Duration {
    let is_long = long && rng.u8(0..4) == 0;
    let millis = match fault {
        Fault::Paused(_) => {
            return transport.lease() + Duration::from_millis(rng.u64(1_000..3_000));
        }
        Fault::Server(End::Broker, Outage::Stopped) if is_long => 60_000,
        // Longer than a heartbeat, or than a confirm's deadline.
        Fault::Wire(_, Wire::Stalled | Wire::AnswersStalled) if is_long => rng.u64(20_000..40_000),
        Fault::Server(..) if is_long => rng.u64(5_000..20_000),
        _ => rng.u64(500..4_000),
    };
    Duration::from_millis(millis)
}

impl std::fmt::Display for DatabaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::Sqlite => "SQLite",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(seed: u64) -> Vec<String> {
        let steps = Plan::short(seed).steps().take(100);
        steps.map(|step| format!("{step:?}")).collect()
    }

    #[test]
    fn a_seed_always_makes_the_same_schedule() {
        assert_eq!(names(7), names(7));
        assert_ne!(names(7), names(8));
    }

    #[test]
    fn each_fault_comes_alone_before_any_come_together() {
        for plan in [Plan::short(7), Plan::short_on_log(7)] {
            let mut all = Fault::all(plan.database, plan.transport);
            let steps: Vec<_> = plan.steps().take(all.len() + 50).collect();
            let (alone, together) = steps.split_at(all.len());
            let mut faults: Vec<_> = alone.iter().map(|step| step.faults[0].fault).collect();
            faults.sort();
            all.sort();
            assert_eq!(faults, all);
            assert!(together.iter().all(|step| step.faults.len() >= 2));
        }
    }

    #[test]
    fn no_server_of_sqlite_breaks_and_its_file_is_locked() {
        let plan = Plan {
            database: DatabaseKind::Sqlite,
            ..Plan::short(7)
        };
        let faults = plan.steps().take(200).flat_map(|step| step.faults);
        let texts: Vec<_> = faults.map(|one| one.fault.to_string()).collect();
        let has = |words: &str| texts.iter().any(|text| text.contains(words));
        assert!(has("file locked") && has("broker killed"));
        assert!(!has("database killed") && !has("wire to the database"));
    }

    #[test]
    fn on_the_log_nothing_of_rabbitmq_breaks() {
        let steps = Plan::short_on_log(7).steps().take(200);
        let faults = steps.flat_map(|step| step.faults);
        let of_broker = |fault: &Fault| fault.to_string().contains("broker");
        assert_eq!(faults.map(|one| one.fault).find(of_broker), None);
    }
}
