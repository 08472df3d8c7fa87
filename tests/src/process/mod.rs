//! A child process that can be killed hard, frozen, waited for, and that dies with the test run.

pub(crate) mod clock;
mod launch;
mod procfs;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, kill_process};

use crate::{Error, Result};

pub use clock::clock_offset;
pub use launch::{Launch, Lifetime};
pub use procfs::Identity;
pub use rustix::process::Signal;

/// A running child process. Signals reach its descendants too where that matters.
///
/// A signal is sent only to a process whose start time is still the one that was noted, never to another
/// process that got the same number later.
#[derive(Debug)]
pub struct Process {
    name: String,
    id: Identity,
    child: Mutex<Option<Child>>,
    log: PathBuf,
    lifetime: Lifetime,
}

impl Process {
    /// Finds a process that an earlier run left behind, if it still runs.
    pub fn attach(name: &str, id: Identity, log: PathBuf) -> Option<Self> {
        id.is_alive().then(|| Self {
            name: name.into(),
            id,
            child: Mutex::new(None),
            log,
            lifetime: Lifetime::Outlive,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.id.pid
    }

    /// Its process id and start time. Together they are unique.
    pub fn identity(&self) -> Identity {
        self.id
    }

    /// What it has written to stdout and stderr so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// The path of that log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Sends a line to its standard input, if it was started with [`takes_lines`](Launch::takes_lines).
    /// Returns false if it does not read its input.
    pub fn tell(&self, line: &str) -> bool {
        let mut child = self.lock();
        let input = child.as_mut().and_then(|child| child.stdin.as_mut());
        input.is_some_and(|input| input.write_all(format!("{line}\n").as_bytes()).is_ok())
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.exited().is_none() && self.id.is_alive()
    }

    /// Kills it and everything below it with SIGKILL, and returns when they are gone.
    ///
    /// The process is frozen first, so that it can neither fork nor notice the death of its children.
    pub fn kill9(&self) {
        self.id.signal(Signal::STOP);
        let family = self.family();
        for member in &family {
            member.signal(Signal::KILL);
        }
        pause_until(Duration::from_secs(10), || {
            self.exited();
            family.iter().all(|member| !member.is_alive())
        });
    }

    /// Sends `signal` and waits for the end; falls back to [`kill9`](Self::kill9) when `patience` is
    /// over, and says so.
    pub fn end(&self, signal: Signal, patience: Duration) -> Result<()> {
        self.resume();
        self.id.signal(signal);
        if pause_until(patience, || !self.is_alive()) {
            return Ok(());
        }
        self.kill9();
        Err(Error::new(
            format!(
                "{} did not stop within {patience:?}, it was killed",
                self.name
            ),
            format!("see its log: {}", self.log.display()),
        ))
    }

    /// Waits for its end: what it exited with, or `None` when `patience` is over first.
    pub fn wait(&self, patience: Duration) -> Option<String> {
        let is_child = self.lock().is_some();
        // A child with threads looks dead a moment before its exit status is available.
        pause_until(patience, || match is_child {
            true => self.exited().is_some(),
            false => !self.is_alive(),
        });
        self.exited()
    }

    /// Sends a signal to the process alone, and does not wait for what comes of it.
    pub fn signal(&self, signal: Signal) {
        self.id.signal(signal);
    }

    /// Freezes it and everything below it (SIGSTOP): sockets stay open, nobody answers.
    pub fn pause(&self) {
        self.id.signal(Signal::STOP);
        self.family()
            .iter()
            .for_each(|member| member.signal(Signal::STOP));
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.family()
            .iter()
            .for_each(|member| member.signal(Signal::CONT));
    }

    /// Its exit status, if it has ended.
    pub fn exited(&self) -> Option<String> {
        let mut child = self.lock();
        child
            .as_mut()?
            .try_wait()
            .ok()
            .flatten()
            .map(|status| status.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self) -> Vec<Identity> {
        if self.is_alive() {
            self.id.with_descendants()
        } else {
            Vec::new()
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Tests && self.is_alive() {
            self.kill9();
        }
    }
}

impl Identity {
    /// Sends the signal, unless the process is gone.
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && self.is_alive()
        {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Waits until `done` says so or `patience` is over; returns whether it was done.
pub(crate) fn pause_until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "runs beside the runtime, never on it"
        )]
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The end of a log, for an error message.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = read(log);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(20);
    lines[from..]
        .iter()
        .map(|line| format!("    {line}\n"))
        .collect()
}

fn read(log: &Path) -> String {
    fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkDir;

    fn shell(dir: &WorkDir, script: &str) -> Process {
        Launch::new("sh")
            .args(["-c", script])
            .spawn("shell", &dir.join("log"))
            .unwrap()
    }

    #[test]
    fn kill9_takes_the_descendants_along() {
        let dir = WorkDir::new("process").unwrap();
        let shell = shell(&dir, "sleep 600 & sleep 600");
        assert!(pause_until(Duration::from_secs(5), || shell.family().len() == 3));
        let family = shell.family();
        shell.kill9();
        assert!(family.iter().all(|member| !member.is_alive()));
        assert_eq!(shell.exited().as_deref(), Some("signal: 9 (SIGKILL)"));
    }

    #[test]
    fn a_paused_process_goes_on_when_resumed() {
        let dir = WorkDir::new("process").unwrap();
        let shell = shell(&dir, "sleep .2; echo done");
        shell.pause();
        assert_eq!(shell.wait(Duration::from_millis(500)), None);
        assert_eq!(shell.log(), "");
        shell.resume();
        assert_eq!(
            shell.wait(Duration::from_secs(5)).as_deref(),
            Some("exit status: 0")
        );
        assert_eq!(shell.log(), "done\n");
    }

    #[test]
    fn a_process_dies_with_its_handle() {
        let dir = WorkDir::new("process").unwrap();
        let shell = shell(&dir, "sleep 600");
        let id = shell.identity();
        drop(shell);
        assert!(!id.is_alive());
    }
}
