//! How a child is started, so that it never outlives the tests.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

use super::{Identity, Process};
use crate::{Error, Result};

/// How long a child may live.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as its handle, and at most as long as this process, even if this process is killed.
    #[default]
    Tests,
    /// Until somebody stops it.
    Outlive,
}

/// A program and everything it starts with.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    user: Option<String>,
    lifetime: Lifetime,
    farewell: &'static str,
    takes_lines: bool,
}

impl Launch {
    /// A program, by its path or by a name in `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            lifetime: Lifetime::Tests,
            farewell: "KILL",
            takes_lines: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().into()));
        self
    }

    /// Runs it as another user; only root can.
    #[must_use]
    pub fn user(mut self, user: Option<&str>) -> Self {
        self.user = user.map(Into::into);
        self
    }

    /// How long it may live; as long as the tests unless told otherwise.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The signal, as `setpriv` names it, that ends it when this process dies; `KILL` unless told
    /// otherwise.
    #[must_use]
    pub fn farewell(mut self, signal: &'static str) -> Self {
        self.farewell = signal;
        self
    }

    /// Gives it a standard input for [`tell`](Process::tell). The input ends when this process ends.
    #[must_use]
    pub fn takes_lines(mut self) -> Self {
        self.takes_lines = true;
        self
    }

    /// Starts it, with stdout and stderr going to the end of `log`.
    ///
    /// They do not go to our own stdout: a pipe that a child inherits stays open as long as the child.
    pub fn spawn(&self, name: &str, log: &Path) -> Result<Process> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(Error::io("cannot open the log", log))?;
        let errors = output
            .try_clone()
            .map_err(Error::io("cannot open the log", log))?;
        let mut command = self.command();
        command
            .stdin(if self.takes_lines {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let child = keep(command).map_err(|cause| self.cannot_start(&cause))?;
        let id = Identity::of(child.id());
        Ok(Process {
            name: name.into(),
            // The child is dead already: an identity that no process has.
            id: id.unwrap_or(Identity {
                pid: child.id(),
                started: 0,
            }),
            child: Mutex::new(Some(child)),
            log: log.into(),
            lifetime: self.lifetime,
        })
    }

    /// Runs it to its end and returns its stdout; an exit code other than 0 is an error.
    pub fn run(&self) -> Result<String> {
        let output = self
            .command()
            .stdin(Stdio::null())
            .output()
            .map_err(|e| self.cannot_start(&e))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(Error::new(
            format!(
                "{} ended with {}:\n{text}{}",
                self.shown(),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ),
            "the lines above are its own; run the command by hand to see more",
        ))
    }

    /// `setpriv` executes the program in its own process, so the child's pid is that of the program.
    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        if let Some(user) = &self.user {
            command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        if self.lifetime == Lifetime::Tests {
            command.args(["--pdeathsig", self.farewell]);
        }
        if command.get_args().len() == 0 {
            command = Command::new(&self.program);
        } else {
            command.arg("--").arg(&self.program);
        }
        command.args(&self.args).envs(self.env.iter().cloned());
        command
    }

    fn shown(&self) -> String {
        let args: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        format!("`{} {}`", self.program.display(), args.join(" "))
    }

    fn cannot_start(&self, cause: &io::Error) -> Error {
        Error::new(
            format!("cannot start {}: {cause}", self.shown()),
            "check that the program and `setpriv` (package util-linux) are installed",
        )
    }
}

type Job = (Command, Sender<io::Result<Child>>);

/// Starts the child from a thread that lives as long as this process: Linux ends a child by its
/// death signal when the *thread* that started it ends, and a test's thread ends with the test.
fn keep(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    let (answer, child) = mpsc::channel();
    let sent = spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer));
    sent.map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}
