//! What `/proc` knows: who is alive, and who descends from whom.

use std::{collections::HashMap, fs};

/// A process for good: a number alone is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// Its start, in clock ticks since the machine's.
    pub started: u64,
}

/// The fields of `/proc/<pid>/stat` that matter here.
struct Stat {
    parent: u32,
    started: u64,
    is_dead: bool,
}

impl Identity {
    /// The identity of the process that now has this number.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = stat(pid).filter(|stat| !stat.is_dead)?;
        Some(Self {
            pid,
            started: stat.started,
        })
    }

    /// Whether it still runs; a zombie that waits for its parent does not.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Itself first, then children, grandchildren and so on.
    pub(super) fn with_descendants(self) -> Vec<Self> {
        let mut children: HashMap<u32, Vec<Self>> = HashMap::new();
        for (pid, stat) in all() {
            let child = Self {
                pid,
                started: stat.started,
            };
            children.entry(stat.parent).or_default().push(child);
        }
        let mut family = vec![self];
        let mut next = 0;
        while let Some(member) = family.get(next) {
            family.extend(children.remove(&member.pid).unwrap_or_default());
            next += 1;
        }
        family
    }
}

fn all() -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .filter(|(_, stat)| !stat.is_dead)
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name, in brackets and with anything inside.
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        is_dead: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}
