//! The file that names the jobs: ours, or cupid's as it is.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use final_core::BoxError;
use final_reconcile::{Job, ReconcileError, Reconciler};

use super::{
    config::{JobConfig, ReconcileConfig},
    failed, nothing_yet, state_failed,
};
use crate::{
    config::{self, DatabaseAddress},
    cupid::{CupidError, CupidFile, CupidImport, Passwords},
    databases::{by_scheme, pool},
    exit::Failure,
};

/// A configuration is small. Anything larger is another file.
const MOST: u64 = 1024 * 1024;

/// Connections of the pool that is named; the library opens two of its own.
const CONNECTIONS: u32 = 1;

/// Which file names the jobs.
#[derive(Clone, Debug, Args)]
pub(super) struct FileArgs {
    /// The file with the jobs; docs/reconcile.md has all its keys
    #[arg(long, value_name = "FILE", required_unless_present = "cupid")]
    config: Option<PathBuf>,

    /// cupid's myConfig.json in its place, as it is
    #[arg(
        long,
        short = 'c',
        alias = "configPath",
        value_name = "FILE",
        conflicts_with = "config"
    )]
    cupid: Option<PathBuf>,
}

/// Which jobs are meant.
#[derive(Debug, Args)]
pub(super) struct JobsArgs {
    #[command(flatten)]
    file: FileArgs,

    /// Only this job; may be given several times
    #[arg(long, value_name = "NAME")]
    job: Vec<String>,
}

/// A file that was read.
pub(super) struct Jobs {
    pub(super) config: ReconcileConfig,
    /// What is to be said when jobs of cupid's start.
    pub(super) notes: Vec<String>,
}

/// The jobs of a file that are meant, by their names.
struct Selected {
    state: Option<DatabaseAddress>,
    jobs: Vec<(String, JobConfig)>,
    /// The names of all jobs of the file.
    known: Vec<String>,
    /// Names that are asked for, and that the file does not have.
    unknown: Vec<String>,
}

impl FileArgs {
    /// Reads the file. A job of cupid's that has no position yet begins with the id `start`.
    pub(super) fn read(&self, start: Option<i64>) -> Result<Jobs, Failure> {
        if let Some(file) = &self.cupid {
            let (config, import) = import(file, start, Passwords::Inside)?;
            return Ok(Jobs {
                config,
                notes: import.notes,
            });
        }
        if start.is_some() {
            return Err(Failure::usage(
                "--start-id is for --cupid; in a file of ours it is `fresh_ids.first`",
            ));
        }
        let file = self.config.as_deref().unwrap_or(Path::new(""));
        let loaded = config::read::<ReconcileConfig>(file).map_err(unread)?;
        loaded
            .warnings
            .iter()
            .for_each(|warning| eprintln!("{warning}"));
        Ok(Jobs {
            config: loaded.config,
            notes: Vec::new(),
        })
    }

    /// The failure of a job of the file. cupid's file has no place for a rule, so there is more to do.
    pub(super) fn failed(&self, job: &str, error: &ReconcileError) -> Failure {
        match (failed(job, error), &self.cupid, error) {
            (Failure::Usage(text), Some(file), ReconcileError::NoForm(_)) => {
                Failure::usage(format!(
                    "{text}; cupid's file has no rules: make one of ours by `final reconcile import-cupid {}`, and write \
                 {{ to = \"…\", text = true }} for the column",
                    file.display()
                ))
            }
            (failure, _, _) => failure,
        }
    }

    /// Its name for people.
    pub(super) fn shown(&self) -> String {
        let file = self.cupid.as_ref().or(self.config.as_ref());
        file.map_or_else(String::new, |file| file.display().to_string())
    }
}

fn unread(error: config::ConfigError) -> Failure {
    Failure::usage(error.to_string())
}

/// Reads cupid's file: what it says, and that as TOML.
pub(super) fn import(
    file: &Path,
    start: Option<i64>,
    passwords: Passwords,
) -> Result<(ReconcileConfig, CupidImport), Failure> {
    let is_stdin = file.as_os_str() == "-";
    let cannot =
        |error: io::Error| Failure::usage(format!("{} cannot be read: {error}", file.display()));
    let mut text = String::new();
    let read = match is_stdin {
        true => io::stdin().take(MOST + 1).read_to_string(&mut text),
        false => File::open(file).and_then(|file| file.take(MOST + 1).read_to_string(&mut text)),
    };
    read.map_err(cannot)?;
    if text.len() as u64 > MOST {
        return Err(Failure::usage(format!(
            "{} is larger than 1 MiB; look whether it is the right file",
            file.display()
        )));
    }
    let name = match is_stdin {
        true => "cupid".into(),
        false => file.file_stem().unwrap_or_default().to_string_lossy(),
    };
    // Links are not followed: behind that of a ConfigMap there is another path after each change.
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let path = match is_stdin {
        true => "-".into(),
        false => path.to_string_lossy(),
    };
    let (name, path) = (&*name, &*path);
    let made = |passwords| {
        let made = CupidImport::new(&text, CupidFile { name, path }, start, passwords);
        made.map_err(|error: CupidError| Failure::usage(format!("{}: {error}", file.display())))
    };
    let inside = made(Passwords::Inside)?;
    // What cannot be read is not printed either: a password may stand where none is looked for. Its warnings are about TOML
    // that nobody has written.
    let shown = format!("{} as TOML", file.display());
    let loaded = config::parse::<ReconcileConfig>(shown, &inside.toml).map_err(unread)?;
    let import = match passwords {
        Passwords::Inside => inside,
        Passwords::InVariables => made(passwords)?,
    };
    Ok((loaded.config, import))
}

impl JobsArgs {
    /// One job of a file.
    pub(super) fn one(file: FileArgs, job: String) -> Self {
        Self {
            file,
            job: vec![job],
        }
    }

    /// The failure of a job.
    pub(super) fn failed(&self, job: &str, error: &ReconcileError) -> Failure {
        self.file.failed(job, error)
    }

    /// The jobs that are meant, in the order of their names, as far as comparing needs them.
    pub(super) fn read(&self) -> Result<Vec<(String, Job)>, Failure> {
        let jobs = self.selected()?.jobs;
        jobs.into_iter()
            .map(|(name, config)| Ok((name.clone(), config.job(&name)?)))
            .collect()
    }

    /// The jobs that are meant, by their names, with the database of their state. A file that is not there is not made: it
    /// could belong to another user than that of the service.
    pub(super) fn reconciler(&self) -> Result<(Reconciler, Vec<String>), Failure> {
        self.made(self.selected()?)
    }

    /// The same. A job may also be one that the file does not have any more, if the state knows it.
    pub(super) async fn reconciler_of_any(&self) -> Result<(Reconciler, Vec<String>), Failure> {
        let selected = self.of_file()?;
        let (known, unknown) = (selected.known.clone(), selected.unknown.clone());
        let (reconciler, mut names) = self.made(selected)?;
        if !unknown.is_empty() {
            let in_state = reconciler.known_jobs().await;
            let in_state = in_state.map_err(|error| state_failed(&unknown.join(", "), &error))?;
            if let Some(unknown) = unknown.iter().find(|name| !in_state.contains(name)) {
                return Err(self.unknown(unknown, &known));
            }
            names.extend(unknown);
        }
        Ok((reconciler, names))
    }

    fn made(&self, selected: Selected) -> Result<(Reconciler, Vec<String>), Failure> {
        let Selected { state, jobs, .. } = selected;
        let state = state.ok_or_else(|| no_state(&self.file.shown()))?;
        if is_missing(&state) {
            return Err(nothing_yet());
        }
        let mut reconciler = with_state(&state)?;
        let mut names = Vec::new();
        for (name, config) in jobs {
            reconciler = reconciler.job(config.job(&name)?).map_err(wrong)?;
            names.push(name);
        }
        Ok((reconciler, names))
    }

    fn selected(&self) -> Result<Selected, Failure> {
        let selected = self.of_file()?;
        match selected.unknown.first() {
            Some(unknown) => Err(self.unknown(unknown, &selected.known)),
            None => Ok(selected),
        }
    }

    fn unknown(&self, name: &str, known: &[String]) -> Failure {
        let (file, known) = (self.file.shown(), known.join(", "));
        Failure::usage(format!("{file} has no job `{name}`; it has {known}"))
    }

    fn of_file(&self) -> Result<Selected, Failure> {
        let config = self.file.read(None)?.config;
        let jobs = config.jobs;
        if jobs.is_empty() {
            return Err(Failure::usage(no_jobs(&self.file.shown())));
        }
        let known: Vec<String> = jobs.keys().cloned().collect();
        let unknown = self.job.iter().filter(|name| !jobs.contains_key(*name));
        let unknown = unknown.cloned().collect();
        let jobs = jobs
            .into_iter()
            .filter(|(name, _)| self.job.is_empty() || self.job.contains(name));
        Ok(Selected {
            state: config.state.map(|state| state.database),
            jobs: jobs.collect(),
            known,
            unknown,
        })
    }
}

/// A reconciler without jobs. Nothing is connected yet.
pub(super) fn with_state(state: &DatabaseAddress) -> Result<Reconciler, Failure> {
    let made = by_scheme!(state, reconciler());
    made.map_err(|error: BoxError| Failure::usage(format!("`state.database`: {error}")))
}

/// Whether the database is a file that is not there. What cannot be seen is told by whatever opens it.
fn is_missing(state: &DatabaseAddress) -> bool {
    #[cfg(feature = "sqlite")]
    if state.scheme() == "sqlite"
        && let Ok(options) = state.expose().parse::<sqlx::sqlite::SqliteConnectOptions>()
    {
        return matches!(options.get_filename().try_exists(), Ok(false));
    }
    false
}

fn reconciler<DB: final_core::OutboxDatabase>(
    state: &DatabaseAddress,
) -> Result<Reconciler, BoxError> {
    Ok(Reconciler::new(&pool::<DB>(state, CONNECTIONS)?))
}

pub(super) fn no_state(file: &str) -> Failure {
    Failure::usage(format!(
        "{file} does not say where open repairs and positions are kept; add [state] with database = \"…\""
    ))
}

pub(super) fn no_jobs(file: &str) -> String {
    format!("{file} has no jobs; begin one by [jobs.NAME]")
}

/// A mistake of the file.
pub(super) fn wrong(error: ReconcileError) -> Failure {
    Failure::usage(error.to_string())
}
