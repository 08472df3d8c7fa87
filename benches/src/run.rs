//! A run: its scenarios, one after the other, and what they have shown.

use std::time::Instant;

use crate::{
    Result,
    args::Args,
    bench::{Bench, Scenario},
    report,
};

/// Runs what the arguments ask for. False if something that must hold does not.
pub(crate) async fn run(args: Args, scenarios: &[Scenario]) -> Result<bool> {
    let mut bench = Bench::new(args);
    let names = bench.args.scenarios.clone();
    for scenario in scenarios.iter().filter(|it| names.contains(&it.name)) {
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
            report::write(scenario.name, rows.unwrap_or_default(), &plots)?;
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
