//! Servers that stay up after the command, for examples and manual work.

use std::{fs, path::PathBuf, process::ExitCode};

use final_tests::{
    Error, Result,
    process::{Identity, Lifetime},
    servers::{Set, Shown},
};

use crate::{cargo::target, install};

/// The file that `up` writes and `down` reads.
struct State {
    servers: Vec<Shown>,
    exports: Vec<String>,
}

/// Starts the servers unless they run, and prints where they are, ready for a shell's `eval`.
pub(crate) fn up() -> Result<ExitCode> {
    if let Some(state) = read()? {
        if state.is_up() {
            return Ok(state.print());
        }
        state.discard()?;
    }
    install::servers()?;
    let set = Set::start(Lifetime::Outlive)?;
    let export = |(name, value): &(&str, String)| format!("export {name}='{value}'");
    let state = State {
        servers: set.show(),
        exports: set
            .env()
            .iter()
            .chain(&for_examples(&set))
            .map(export)
            .collect(),
    };
    write(&state)?;
    Ok(state.print())
}

/// The variables that a service reads, as the examples do.
fn for_examples(set: &Set) -> Vec<(&'static str, String)> {
    let named = |(name, value)| match name {
        "FINAL_TEST_POSTGRES_URL" => Some(("DATABASE_URL", value)),
        "FINAL_TEST_AMQP_URL" => Some(("AMQP_URL", value)),
        _ => None,
    };
    set.env().into_iter().filter_map(named).collect()
}

/// Prints where the servers are; fails if they do not all run.
pub(crate) fn status() -> Result<ExitCode> {
    match read()? {
        Some(state) if state.is_up() => Ok(state.print()),
        _ => Err(Error::new(
            "the servers are not running",
            "`cargo xtask services up`",
        )),
    }
}

/// Stops the servers and removes their data.
pub(crate) fn down() -> Result<ExitCode> {
    if let Some(state) = read()? {
        state.discard()?;
    }
    Ok(ExitCode::SUCCESS)
}

impl State {
    fn is_up(&self) -> bool {
        self.servers.iter().all(|server| server.id.is_alive())
    }

    fn print(&self) -> ExitCode {
        self.exports.iter().for_each(|line| println!("{line}"));
        ExitCode::SUCCESS
    }

    fn discard(self) -> Result<()> {
        self.servers.into_iter().try_for_each(Shown::discard)?;
        let path = path();
        fs::remove_file(&path).map_err(Error::io("cannot remove", &path))
    }
}

fn path() -> PathBuf {
    target().join("services/state")
}

/// One line for each server, `server PID START FOLDER`, then the exports.
fn write(state: &State) -> Result<()> {
    let server =
        |Shown { id, dir }: &Shown| format!("server {} {} {}", id.pid, id.started, dir.display());
    let lines: Vec<_> = state
        .servers
        .iter()
        .map(server)
        .chain(state.exports.iter().cloned())
        .collect();
    let path = path();
    fs::create_dir_all(path.with_file_name("")).map_err(Error::io("cannot make", &path))?;
    fs::write(&path, lines.join("\n") + "\n").map_err(Error::io("cannot write", &path))
}

fn read() -> Result<Option<State>> {
    let Ok(text) = fs::read_to_string(path()) else {
        return Ok(None);
    };
    let (servers, exports): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.starts_with("server "));
    let servers: Option<_> = servers.into_iter().map(server).collect();
    let servers = servers.ok_or_else(|| {
        Error::new(
            format!("{} is not what `services up` writes", path().display()),
            "stop the servers it names by hand, and remove it",
        )
    })?;
    Ok(Some(State {
        servers,
        exports: exports.into_iter().map(Into::into).collect(),
    }))
}

fn server(line: &str) -> Option<Shown> {
    let mut words = line.splitn(4, ' ').skip(1);
    let pid = words.next()?.parse().ok()?;
    let started = words.next()?.parse().ok()?;
    Some(Shown {
        id: Identity { pid, started },
        dir: words.next()?.into(),
    })
}
