//! Reads `/proc`: which processes are alive, and their children.

use std::{collections::HashMap, fs};

/// The identity of a process. The number alone is not unique, because Linux reuses numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// Its start time, in clock ticks since the start of the machine.
    pub started: u64,
}

/// The fields of `/proc/<pid>/stat` that are needed here.
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

    /// Whether it still runs. A zombie counts as ended.
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
