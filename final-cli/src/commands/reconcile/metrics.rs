//! What the state of jobs says, as text for Prometheus, beside what the library counts in this process.

use std::fmt::Write as _;

use final_reconcile::JobStatus;

/// A name, what it counts, and how it is read.
type Family = (&'static str, &'static str, fn(&JobStatus) -> u64);

const FAMILIES: [Family; 2] = [
    (
        "open_repairs",
        "Rows that differ and are not repaired yet.",
        |job| job.open_repairs,
    ),
    ("suspects", "Rows that wait for a look.", |job| job.suspects),
];

/// The text.
pub(super) fn text(jobs: &[JobStatus]) -> String {
    let mut text = String::new();
    for (name, help, value) in FAMILIES {
        // Writing into a text cannot fail.
        let _ = writeln!(
            text,
            "# HELP final_reconcile_{name} {help}\n# TYPE final_reconcile_{name} gauge"
        );
        // The labels do not tell sources apart.
        for job in jobs.iter().filter(|job| job.is_of_job) {
            let (labels, value) = (labels(job), value(job));
            let _ = writeln!(text, "final_reconcile_{name}{{{labels}}} {value}");
        }
    }
    text
}

fn labels(job: &JobStatus) -> String {
    let escaped = |text: &str| {
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    format!(
        "job=\"{}\",target=\"{}\"",
        escaped(&job.job),
        escaped(&job.target)
    )
}
