//! What this process uses: memory and processor time, from `/proc`.

use crate::Result;

/// Resident memory, in MiB.
pub(crate) fn memory_mib() -> Result<f64> {
    memory_mib_of("self")
}

/// The same of a process, by its id.
pub(crate) fn memory_mib_of(process: &str) -> Result<f64> {
    mib_of(process, "VmRSS:")
}

/// The most resident memory that a process has had, in MiB.
pub(crate) fn most_memory_mib_of(process: &str) -> Result<f64> {
    mib_of(process, "VmHWM:")
}

fn mib_of(process: &str, what: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse::<f64>().ok());
    Ok(kib.ok_or(format!("/proc/{process}/status names no {what}"))? / 1024.0)
}

/// Seconds of processor time so far, all threads together, at 100 ticks a second.
pub(crate) fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<_> = after.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<f64>().ok());
    let (user, system) = (ticks(11), ticks(12));
    Ok((user.unwrap_or_default() + system.unwrap_or_default()) / 100.0)
}
