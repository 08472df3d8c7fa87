//! Installs what the tests need on this machine: the servers, and clients in other languages.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use final_tests::{Error, Result, clients, process::Launch, promtool, servers};

use crate::cargo::exec_aside;

/// Installs the servers that are missing; does nothing if none is.
pub(crate) fn servers() -> Result<()> {
    let missing = servers::missing();
    let packages: Vec<_> = missing.iter().map(|missing| missing.package).collect();
    apt(
        &packages,
        "or set the FINAL_TEST_*_URL of running servers and use `cargo test`",
    )
}

/// Installs the clients and tools that are missing. Where that fails, the tests that use them fail too, and no other.
pub(crate) fn clients() {
    let otherwise = "or leave the tests of `bus::clients` and of the gateway's `redis` out";
    let installed = apt(&clients::missing(), otherwise);
    if let Err(error) = installed.and_then(|()| node()) {
        eprintln!(
            "warning: the tests of `bus::clients` and of the gateway's `redis` will fail: {error}"
        );
    }
    if let Err(error) = promtool() {
        eprintln!("warning: the tests of `bus::metrics` that need promtool will fail: {error}");
    }
}

/// Redis, which one benchmark has as a column. It does without.
pub(crate) fn redis() {
    let missing = clients::missing();
    let missing: Vec<_> = missing
        .into_iter()
        .filter(|package| *package == "redis-tools")
        .collect();
    if let Err(error) = apt(&missing, "or leave the column of Redis out") {
        eprintln!("warning: the benchmark of the gateway has no column of Redis: {error}");
    }
}

/// Other programs that compare tables, which one benchmark has as columns. Returns where data-diff is. The benchmark does
/// without.
pub(crate) fn comparers(target: &Path) -> Option<PathBuf> {
    let is_there = Launch::new("pt-table-checksum")
        .arg("--version")
        .run()
        .is_ok();
    let missing: &[&str] = if is_there { &[] } else { &["percona-toolkit"] };
    if let Err(error) = apt(missing, "or leave the column of pt-table-checksum out") {
        eprintln!(
            "warning: the benchmark of comparing has no column of pt-table-checksum: {error}"
        );
    }
    let folder = target.join("data-diff");
    let program = folder.join("bin/data-diff");
    if program.exists() {
        return Some(program);
    }
    // The last release, with versions of what it needs that it still runs with.
    let script = "set -e; python3 -m venv \"$0\"; \"$0/bin/pip\" install -q data-diff==0.11.1 dbt-core==1.6.19 \
        'pydantic<2' mysql-connector-python psycopg2-binary; \"$0/bin/data-diff\" --version";
    match exec_aside("sh", &["-c", script, &folder.to_string_lossy()]) {
        Ok(ExitCode::SUCCESS) => Some(program),
        _ => {
            eprintln!(
                "warning: the benchmark of comparing has no column of data-diff: pip failed, see above"
            );
            None
        }
    }
}

/// What checks rules for Prometheus, taken out of Debian's package: the package itself would start a server.
fn promtool() -> Result<()> {
    if promtool::find().is_ok() {
        return Ok(());
    }
    let folder = promtool::folder();
    let shown = folder.to_string_lossy();
    let script = "set -e; mkdir -p \"$0\"; cd \"$0\"; apt-get -q download prometheus || { apt-get -q update; apt-get -q download prometheus; }; \
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool; \
        rm prometheus_*.deb";
    match exec_aside("sh", &["-c", script, &shown])? {
        ExitCode::SUCCESS => Ok(()),
        _ => Err(Error::new(
            "promtool could not be taken out of Debian's package prometheus, see above",
            "check that apt reaches its mirror; or put promtool into PATH",
        )),
    }
}

/// Node's clients. npm compares their hashes with those in `package-lock.json`.
fn node() -> Result<()> {
    let Some(folder) = clients::missing_of_node() else {
        return Ok(());
    };
    let shown = folder.to_string_lossy();
    let install = ["ci", "--no-audit", "--no-fund", "--prefix", &shown];
    match exec_aside("npm", &install)? {
        ExitCode::SUCCESS => Ok(()),
        _ => Err(Error::new(
            "npm failed, see above",
            format!("check that npm's registry can be reached; by hand: `npm ci` in {shown}"),
        )),
    }
}

/// Installs what libFuzzer is built with, if it is missing.
pub(crate) fn compiler() -> Result<()> {
    if Launch::new("c++").arg("--version").run().is_ok() {
        return Ok(());
    }
    apt(&["g++"], "or put another C++ compiler into PATH as `c++`")
}

/// Installs what makes a Debian in a folder, if it is missing.
pub(crate) fn debootstrap() -> Result<()> {
    if Launch::new("debootstrap").arg("--version").run().is_ok() {
        return Ok(());
    }
    apt(&["debootstrap"], "or put it into PATH")
}

fn apt(packages: &[&str], otherwise: &str) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("as root: apt-get install {}", packages.join(" "));
    if !is_root_on_debian() {
        return Err(Error::new(
            format!("these packages are not installed: {}", packages.join(", ")),
            format!("{by_hand}; {otherwise}"),
        ));
    }
    let quiet = ["DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    for args in [&["update"][..], &install] {
        if exec_aside("env", &[&quiet, args].concat())? != ExitCode::SUCCESS {
            return Err(Error::new("apt-get failed, see above", by_hand));
        }
    }
    Ok(())
}

/// Whether this is root, and a machine with apt.
pub(crate) fn is_root_on_debian() -> bool {
    let is_root = Launch::new("id")
        .arg("-u")
        .run()
        .is_ok_and(|id| id.trim() == "0");
    is_root && Launch::new("apt-get").arg("--version").run().is_ok()
}
