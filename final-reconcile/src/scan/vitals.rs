//! What a health check and a monitoring system see of the scans in this process.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

use super::store::{ScanKind, Tally};
use crate::unit::UnitName;

/// What is known of all units.
#[derive(Debug, Default)]
pub(crate) struct Vitals(Mutex<BTreeMap<(String, String), UnitVitals>>);

/// What is known of a unit.
#[derive(Clone, Debug, Default)]
struct UnitVitals {
    is_ours: bool,
    is_paused: bool,
    troubles: BTreeMap<ScanKind, String>,
    /// Why the state cannot be read or written.
    state: Option<String>,
    tallies: BTreeMap<ScanKind, Tally>,
    opened: u64,
    /// How far the mirror is behind, where it tells that.
    lag: Option<Duration>,
}

/// Whether the scans of this process do their work, and if not why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReconcilerHealth {
    /// Why only a restart helps. Always empty: a task that panics begins again.
    pub not_live: Vec<String>,
    /// Why rows that differ are not found or repaired now.
    pub not_ready: Vec<String>,
}

impl ReconcilerHealth {
    /// Whether no restart is needed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.not_live.is_empty()
    }

    /// Whether all scans run, here or in another process.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.not_ready.is_empty()
    }
}

impl Vitals {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(String, String), UnitVitals>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, unit: &UnitName, change: impl FnOnce(&mut UnitVitals) -> T) -> T {
        let key = (unit.job.clone(), unit.target.clone());
        change(self.all().entry(key).or_default())
    }

    /// Whether this process runs the scans.
    pub(crate) fn ours(&self, unit: &UnitName, is_ours: bool) {
        self.change(unit, |vitals| {
            vitals.is_ours = is_ours;
            vitals.state = None;
            if !is_ours {
                vitals.troubles.clear();
                vitals.is_paused = false;
                vitals.lag = None;
            }
        });
    }

    pub(crate) fn paused(&self, unit: &UnitName, is_paused: bool) {
        self.change(unit, |vitals| vitals.is_paused = is_paused);
    }

    /// The state cannot be read or written.
    pub(crate) fn state(&self, unit: &UnitName, why: String) {
        self.change(unit, |vitals| vitals.state = Some(why));
    }

    /// How far the mirror is behind. None if it does not tell that.
    pub(crate) fn mirror(&self, unit: &UnitName, lag: Option<Duration>) {
        self.change(unit, |vitals| vitals.lag = lag);
    }

    /// Why a scan cannot run, or that it can. Whether there was no trouble before.
    pub(crate) fn trouble(&self, unit: &UnitName, scan: ScanKind, why: Option<String>) -> bool {
        self.change(unit, |vitals| {
            let before = match why {
                Some(why) => vitals.troubles.insert(scan, why),
                None => vitals.troubles.remove(&scan),
            };
            before.is_none()
        })
    }

    /// Why scans of a unit cannot run. None if all can.
    pub(crate) fn troubles(&self, unit: &UnitName) -> Option<String> {
        let key = (unit.job.clone(), unit.target.clone());
        self.all().get(&key).and_then(UnitVitals::all_troubles)
    }

    pub(crate) fn count(&self, unit: &UnitName, scan: ScanKind, tally: &Tally, opened: u64) {
        self.change(unit, |vitals| {
            let sum = vitals.tallies.entry(scan).or_default();
            sum.rows += tally.rows;
            sum.found += tally.found;
            sum.healed += tally.healed;
            sum.unsettled += tally.unsettled;
            vitals.opened += opened;
        });
    }

    pub(crate) fn health(&self) -> ReconcilerHealth {
        let mut health = ReconcilerHealth::default();
        for ((job, target), vitals) in &*self.all() {
            let mut tell = |why: &str| {
                health
                    .not_ready
                    .push(format!("job `{job}`, target {target}: {why}"));
            };
            if vitals.is_paused {
                tell("paused, until somebody resumes the job");
            }
            if let Some(why) = &vitals.state {
                tell(why);
            }
            if let Some(why) = vitals.all_troubles() {
                tell(&why);
            }
        }
        health
    }

    /// As text for Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        let all = self.all();
        let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, String)>| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        };
        let units = |value: fn(&UnitVitals) -> Option<String>| {
            all.iter()
                .filter_map(|((job, target), vitals)| Some((labels(job, target), value(vitals)?)))
                .collect::<Vec<_>>()
        };

        let scans = |value: fn(&Tally) -> u64| {
            all.iter()
                .flat_map(|((job, target), vitals)| {
                    vitals.tallies.iter().map(move |(scan, tally)| {
                        let labels = format!("{},scan=\"{}\"", labels(job, target), scan.name());
                        (labels, value(tally).to_string())
                    })
                })
                .collect::<Vec<_>>()
        };
        family(
            "final_reconcile_running",
            "gauge",
            "Whether this process runs the scans.",
            units(|unit| Some(u8::from(unit.is_ours).to_string())),
        );
        family(
            "final_reconcile_paused",
            "gauge",
            "Whether the scans wait until somebody resumes the job.",
            units(|unit| Some(u8::from(unit.is_paused).to_string())),
        );
        family(
            "final_reconcile_troubles",
            "gauge",
            "Scans that cannot run.",
            units(|unit| Some(unit.troubles.len().to_string())),
        );
        family(
            "final_reconcile_mirror_lag_seconds",
            "gauge",
            "How far the mirror is behind the source.",
            units(|unit| Some(format!("{:.3}", unit.lag?.as_secs_f64()))),
        );
        family(
            "final_reconcile_repairs_opened_total",
            "counter",
            "Repairs that scans have opened.",
            units(|unit| Some(unit.opened.to_string())),
        );
        family(
            "final_reconcile_rows_total",
            "counter",
            "Rows that were compared.",
            scans(|tally| tally.rows),
        );
        family(
            "final_reconcile_found_total",
            "counter",
            "Rows that differ.",
            scans(|tally| tally.found),
        );
        family(
            "final_reconcile_healed_total",
            "counter",
            "Rows that were only late.",
            scans(|tally| tally.healed),
        );
        family(
            "final_reconcile_unsettled_total",
            "counter",
            "Rows that changed too often to say.",
            scans(|tally| tally.unsettled),
        );
        text
    }
}

impl UnitVitals {
    fn all_troubles(&self) -> Option<String> {
        let all = self.troubles.iter();
        let all: Vec<String> = all
            .map(|(scan, why)| format!("{}: {why}", scan.name()))
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// The labels of a unit.
pub(super) fn labels(job: &str, target: &str) -> String {
    let escaped = |text: &str| {
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    format!("job=\"{}\",target=\"{}\"", escaped(job), escaped(target))
}

/// Shared by all scans of a process.
pub(crate) type SharedVitals = Arc<Vitals>;
