//! A scenario, and what it is given.

use std::time::Duration;

use futures::future::LocalBoxFuture;

use crate::{Result, args::Args, db::Db, plot::Plot, report, row::Row};

/// A scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: for<'a> fn(&'a mut Bench) -> LocalBoxFuture<'a, Result<()>>,
}

/// What a scenario is given, and where it leaves what it finds.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) args: Args,
    pub(crate) rows: Vec<Row>,
    pub(crate) plots: Vec<Plot>,
}

impl Bench {
    pub(crate) fn new(args: Args) -> Self {
        Self {
            args,
            rows: Vec::new(),
            plots: Vec::new(),
        }
    }

    /// Keeps rows, and shows them.
    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            if self.args.json {
                println!("{}", row.json());
            } else {
                println!("{}", report::line(&row));
            }
            self.rows.push(row);
        }
    }

    /// For the person who watches.
    pub(crate) fn say(&self, text: &str) {
        if self.args.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    /// So many, or few where it is only to be seen that it runs.
    pub(crate) fn count(&self, count: u64) -> u64 {
        if self.args.smoke {
            (count / 500).clamp(2, 1_000)
        } else {
            count
        }
    }

    /// So many rows, or as many as the command line says.
    pub(crate) fn rows(&self, rows: u64) -> u64 {
        self.args.rows.unwrap_or_else(|| self.count(rows))
    }

    /// So many rounds, or one.
    pub(crate) fn rounds(&self, rounds: usize) -> usize {
        if self.args.smoke { 1 } else { rounds }
    }

    /// So many seconds, or an instant.
    pub(crate) fn time(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(if self.args.smoke {
            seconds.min(0.3)
        } else {
            seconds
        })
    }

    /// How many times 100,000 records are kept in the table.
    pub(crate) fn kept_steps(&self) -> usize {
        if self.args.smoke { 1 } else { 50 }
    }

    /// Whether a database takes part.
    pub(crate) fn wants<DB: Db>(&self) -> bool {
        self.args.wants(DB::LABEL)
    }
}
