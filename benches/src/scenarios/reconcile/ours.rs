//! Our comparison, in this process and in one of its own.

use std::{process::Command, time::Instant};

use final_reconcile::{Comparison, Job, Side};

use super::tables::{TABLE, Table, side_at};
use crate::{Result, process};

/// The first word of this program's command line in a process that compares; then where the tables are.
pub(crate) const COMPARER: &str = "reconcile-comparer";

/// Compares tables that are equal.
pub(super) async fn equal(source: &Table, target: &Table) -> Result<()> {
    let comparison = compared(source.side(), target.side()).await?;
    let is_right = comparison.is_equal() && comparison.rows == source.rows;
    match is_right && comparison.differing_chunks == 0 {
        true => Ok(()),
        false => Err(format!("equal tables are not equal: {comparison:?}").into()),
    }
}

pub(super) async fn compared(source: Side, target: Side) -> Result<Comparison> {
    let job = Job::new("bench").source(source).target(target, |map| map);
    // Nothing is written meanwhile.
    let job = job.settle(std::time::Duration::ZERO);
    let comparison = job.compare().await?.into_iter().next();
    Ok(comparison.ok_or("nothing was compared")?)
}

/// What another process has measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) differences: u64,
    pub(super) seconds: f64,
    pub(super) peak_mib: f64,
}

/// Compares in a process of its own, whose memory is that of the comparison.
pub(super) fn in_child(source: &Table, target: &Table) -> Result<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .args([COMPARER, source.url(), target.url()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut number = || -> Result<f64> {
        let word = words
            .next()
            .ok_or("the comparing process gave no result; see its error above")?;
        Ok(word.parse()?)
    };
    Ok(Measured {
        differences: number()? as u64,
        seconds: number()?,
        peak_mib: number()?,
    })
}

/// That process.
pub(crate) async fn compare(words: &[String]) -> Result<()> {
    let [source, target] = words else {
        return Err("a comparing process is told where both tables are".into());
    };
    let begun = Instant::now();
    let comparison = compared(side_at(source, TABLE)?, side_at(target, TABLE)?).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let peak = process::most_memory_mib_of("self")?;
    println!("{} {seconds} {peak}", comparison.differences());
    Ok(())
}
