//! The table at the end.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    books::{Books, Comparison, Repeat},
    fault::Fault,
    plan::{Plan, Transport},
};

/// The result of a run. `Display` writes it as Markdown.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    pub(super) time: Duration,
    told: Vec<Told>,
    /// How many repeats each step explains.
    repeats: Vec<usize>,
    unexplained: usize,
    early: u64,
    verdict: Comparison,
    unknown: u64,
    dropped: u64,
    missed: u64,
    late: u64,
    pub(super) stuck: i64,
    pub(super) failed: i64,
    /// Everything that went wrong, as text.
    pub(super) problems: Vec<String>,
}

/// The result of a step.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) faults: Vec<Fault>,
    /// The workers that a fault hit alone.
    pub(super) hit: Vec<u32>,
    pub(super) begin: u64,
    /// The step explains repeats until this time.
    pub(super) end: u64,
    /// Seconds until new messages of every worker were handled again. `None` if that never happened.
    pub(super) recovery: Option<f64>,
    /// Seconds until everything that was committed before was handled.
    pub(super) caught_up: Option<f64>,
}

impl Told {
    pub(super) fn shown(&self, seconds: Option<f64>) -> String {
        seconds.map_or("never".into(), |seconds| format!("{seconds:.1} s"))
    }

    /// Whether the step may have caused this repeat.
    fn may_explain(&self, repeat: Repeat) -> bool {
        (self.begin..=self.end).contains(&repeat.at)
    }

    /// Whether the step hit a worker that sent or handled the message. Another step may be the cause all the
    /// same: one seller sends what another has left behind.
    fn hit_one_of(&self, repeat: Repeat) -> bool {
        repeat
            .workers
            .iter()
            .any(|worker| self.hit.contains(worker))
    }

    fn may_repeat(&self, transport: Transport) -> usize {
        let each = self.faults.iter();
        each.map(|fault| fault.may_repeat(transport, 3, 3)).sum()
    }
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            time: Duration::ZERO,
            told: Vec::new(),
            repeats: Vec::new(),
            unexplained: 0,
            early: 0,
            verdict: Comparison::default(),
            unknown: 0,
            dropped: 0,
            missed: 0,
            late: 0,
            stuck: 0,
            failed: 0,
            problems: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, told: Told) {
        let names: Vec<_> = told.faults.iter().map(Fault::to_string).collect();
        let limit = self.plan.recovers_within;
        match told.recovery {
            Some(seconds) if seconds <= limit.as_secs_f64() => {}
            Some(_) => self.problems.push(format!(
                "{}: traffic flowed after {}, not within {limit:?}",
                names.join(" + "),
                told.shown(told.recovery)
            )),
            None => self
                .problems
                .push(format!("{}: traffic never flowed again", names.join(" + "))),
        }
        if told.recovery.is_some() && told.caught_up.is_none() {
            self.problems
                .push(format!("{}: never caught up", names.join(" + ")));
        }
        self.told.push(told);
    }

    /// Reads the books for the last time.
    pub(super) fn close(&mut self, books: &Books, verdict: Comparison) {
        self.explain(&books.repeats);
        self.early = books.early;
        self.unknown = books.unknown;
        self.dropped = books.dropped;
        self.missed = books.missed;
        self.late = books.late;
        let mut wrong = |what: &str, which: &dyn fmt::Debug, is_wrong: bool| {
            if is_wrong {
                let mut which = format!("{which:?}");
                which.truncate(500);
                self.problems.push(format!("{what}: {which}"));
            }
        };
        wrong("lost", &verdict.lost, !verdict.lost.is_empty());
        wrong("invented", &verdict.invented, !verdict.invented.is_empty());
        wrong(
            "sales whose callers were told wrongly",
            &verdict.belied,
            !verdict.belied.is_empty(),
        );
        wrong(
            "handled before they were due",
            &books.early,
            books.early > 0,
        );
        wrong(
            "repeats with another message id",
            &books.other_id,
            books.other_id > 0,
        );
        wrong(
            "repeats that no fault explains",
            &self.unexplained,
            self.unexplained > 0,
        );
        wrong(
            "other problems",
            &books.problems,
            !books.problems.is_empty(),
        );
        self.verdict = verdict;
    }

    /// Assigns each repeat to a step that may have caused it and explains fewer repeats than it may cause. A
    /// step that hit a worker of the message comes first, else the newest step.
    fn explain(&mut self, repeats: &[Repeat]) {
        let mut counts = vec![0; self.told.len()];
        for repeat in repeats {
            let has_room = |n: &usize| {
                self.told[*n].may_explain(*repeat)
                    && counts[*n] < self.told[*n].may_repeat(self.plan.transport)
            };
            let possible: Vec<_> = (0..counts.len()).rev().filter(has_room).collect();
            let hit = possible.iter().find(|n| self.told[**n].hit_one_of(*repeat));
            match hit.or(possible.first()) {
                Some(n) => counts[*n] += 1,
                None => self.unexplained += 1,
            }
        }
        self.repeats = counts;
    }

    /// Everything that went wrong. Empty if every promise was kept.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, database, .. } = self.plan;
        let way = match self.plan.transport {
            Transport::RabbitMq => "",
            Transport::Log => "'s log",
        };
        if self.told.is_empty() {
            return write!(f, "chaos on {database}{way} with seed {seed}");
        }
        let Comparison {
            committed,
            rolled_back,
            messages,
            handled,
            poison,
            lost,
            invented,
            belied,
        } = &self.verdict;
        writeln!(
            f,
            "{database}{way}, seed {seed}: {} faults in {:.0} min {:02.0} s\n",
            self.told
                .iter()
                .map(|told| told.faults.len())
                .sum::<usize>(),
            (self.time.as_secs() / 60),
            (self.time.as_secs() % 60),
        )?;
        writeln!(f, "| what | number |\n| --- | ---: |")?;
        let repeats = self.repeats.iter().sum::<usize>() + self.unexplained;
        let longest = self.told.iter().filter_map(|told| told.recovery);
        let longest = longest.fold(0.0, f64::max);
        let rows: [(&str, &dyn fmt::Display); 15] = [
            ("transactions committed", committed),
            (
                "… whose caller was told that they are rolled back",
                rolled_back,
            ),
            ("… whose COMMIT was not answered", &self.unknown),
            ("… whose caller went away in the middle", &self.dropped),
            ("messages committed", messages),
            ("messages handled", handled),
            ("messages dead-lettered, as they should be", poison),
            ("**lost**", &lost.len()),
            ("**invented**", &invented.len()),
            ("**stuck**", &self.stuck),
            ("callers told wrongly", &belied.len()),
            ("handled before they were due", &self.early),
            ("handled again", &repeats),
            ("… without a fault that explains it", &self.unexplained),
            ("longest recovery, s", &format!("{longest:.1}")),
        ];
        for (what, number) in rows {
            writeln!(f, "| {what} | {number} |")?;
        }
        self.by_fault(f)?;
        for problem in &self.problems {
            writeln!(f, "\nWRONG: {problem}")?;
        }
        Ok(())
    }
}

impl Report {
    /// One line for each kind of fault: alone, and among others.
    fn by_fault(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[derive(Default)]
        struct Line {
            times: usize,
            recovery: f64,
            caught_up: f64,
            repeats: usize,
        }
        let mut lines: BTreeMap<(bool, Fault), Line> = BTreeMap::new();
        for (told, repeats) in self.told.iter().zip(&self.repeats) {
            let is_mixture = told.faults.len() > 1;
            for fault in &told.faults {
                let line = lines.entry((is_mixture, *fault)).or_default();
                line.times += 1;
                line.recovery = line.recovery.max(told.recovery.unwrap_or(f64::INFINITY));
                line.caught_up = line.caught_up.max(told.caught_up.unwrap_or(f64::INFINITY));
                // The repeats of a mixture have several causes.
                line.repeats = line.repeats.max(*repeats);
            }
        }
        let mut was_mixture = None;
        for ((is_mixture, fault), line) in lines {
            if was_mixture != Some(is_mixture) {
                was_mixture = Some(is_mixture);
                let head = if is_mixture { "among others" } else { "alone" };
                writeln!(
                    f,
                    "\n| fault, {head} | times | longest until new commits flow, s | until all before is handled, s | most repeats |\n| --- | ---: | ---: | ---: | ---: |"
                )?;
            }
            let Line {
                times,
                recovery,
                caught_up,
                repeats,
            } = line;
            writeln!(
                f,
                "| {fault} | {times} | {recovery:.1} | {caught_up:.1} | {repeats} |"
            )?;
        }
        if self.missed > 0 {
            writeln!(
                f,
                "\n{} processes did not come by the place they should die at within 15 s and were killed where they were.",
                self.missed
            )?;
        }
        if self.late > 0 {
            writeln!(
                f,
                "\n{} shutdowns ran out of time, in the middle of another fault.",
                self.late
            )?;
        }
        Ok(())
    }
}
