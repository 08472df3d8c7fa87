//! On what it was measured.

use std::{fs, process::Command};

/// The machine and the versions, one line each.
pub(crate) fn describe() -> Vec<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |name| {
            name.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(0.0, |kib| kib / 1_048_576.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        format!(
            "{model}, {cores} cores, {gib:.0} GiB, Linux {}",
            kernel.trim()
        ),
        said(
            "postgres",
            &["/usr/lib/postgresql/15/bin/postgres", "--version"],
        ),
        said("mariadbd", &["mariadbd", "--version"]),
        said("RabbitMQ", &["dpkg-query", "-W", "rabbitmq-server"]),
        said("rustc", &["rustc", "--version"]),
    ]
}

fn said(what: &str, command: &[&str]) -> String {
    let Some((program, args)) = command.split_first() else {
        return String::new();
    };
    let output = Command::new(program).args(args).output();
    match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout)
            .trim()
            .replace('\t', " "),
        Err(error) => format!("{what}: {error}"),
    }
}
