//! A run: its scenarios, one after the other, and what they have shown.

use std::time::{Duration, Instant};

use crate::{Result, args::Args, db::Db, plot::Plot, report, row::Row, scenarios};

/// What a scenario is given, and where it leaves what it finds.
#[derive(Debug)]
pub(crate) struct Bench {
    args: Args,
    pub(crate) rows: Vec<Row>,
    pub(crate) plots: Vec<Plot>,
}

/// Runs what the arguments ask for. False if something that must hold does not.
pub(crate) async fn run(args: Args) -> Result<bool> {
    let mut bench = Bench {
        args,
        rows: Vec::new(),
        plots: Vec::new(),
    };
    let names = bench.args.scenarios.clone();
    for scenario in scenarios::ALL.iter().filter(|it| names.contains(&it.name)) {
        bench.say(&format!("\n{}: {}", scenario.name, scenario.about));
        let (before, start) = (bench.rows.len(), Instant::now());
        (scenario.run)(&mut bench)
            .await
            .map_err(|error| format!("scenario {}: {error}", scenario.name))?;
        bench.say(&format!("  ({:.0} s)", start.elapsed().as_secs_f64()));
        let (rows, plots) = (bench.rows.get(before..), std::mem::take(&mut bench.plots));
        // Seconds measure nothing, and a part is not the whole.
        let is_whole = bench.args.databases.is_empty() && bench.args.rows.is_none();
        if !bench.args.smoke && is_whole {
            report::write(scenario, rows.unwrap_or_default(), &plots)?;
        }
    }
    let judged = bench
        .rows
        .iter()
        .filter(|row| !bench.args.smoke || row.counted);
    let failed: Vec<_> = judged.filter(|row| row.holds() == Some(false)).collect();
    bench.say(&format!(
        "\n{} rows fall short of what is judged",
        failed.len()
    ));
    // A time on somebody's machine is told and not judged; a count is the same everywhere.
    Ok(!failed.iter().any(|row| row.counted))
}

impl Bench {
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
