//! The bar of an operation that takes longer than two seconds.
//!
//! Input: how much is done. Output: a bar on the standard error, if that is a terminal; otherwise nothing.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// An operation shorter than this has no bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// How far an operation is.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    bar: ProgressBar,
    wanted: bool,
}

impl Progress {
    /// Of so many, where that is known.
    pub(crate) fn of(total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = match total {
            Some(_) => "{bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left",
            None => "{spinner} {human_pos}, {per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            begun: Instant::now(),
            bar,
            wanted: std::io::stderr().is_terminal(),
        }
    }

    /// So many are done.
    pub(crate) fn at(&self, done: u64) {
        if self.wanted && self.bar.is_hidden() && self.begun.elapsed() >= PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
