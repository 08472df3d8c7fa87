//! Durability of an SQLite file: its pragmas, and where it lies.
//!
//! Input: a session as the caller's are, and the mounted file systems. Output: findings.
//!
//! The pragmas belong to each connection. So of another process only the journal mode can be seen.

use std::path::Path;

use super::super::{
    finding::{COULD_NOT_CHECK, Diagnosis, Finding, Level},
    ward::Ward,
};
use crate::{OutboxDatabase, database::DbResult};

pub(in super::super) const SYNCHRONOUS: Diagnosis = Diagnosis::new(
    Level::Error,
    "sqlite_synchronous",
    "A power loss undoes commits, so a message and the business row beside it can be lost together",
);

pub(in super::super) const JOURNAL_IN_MEMORY: Diagnosis = Diagnosis::new(
    Level::Error,
    "sqlite_journal_in_memory",
    "A process that dies in the midst of a commit leaves a file that is damaged",
);

pub(in super::super) const IN_MEMORY: Diagnosis = Diagnosis::new(
    Level::Warning,
    "sqlite_in_memory",
    "Every message is gone with the process",
);

pub(in super::super) const NETWORK_FILE_SYSTEM: Diagnosis = Diagnosis::new(
    Level::Error,
    "sqlite_network_file_system",
    "SQLite's locks and its WAL need the memory of one machine: on a network file system two machines can write at \
     once and damage the file",
);

/// Values of `synchronous`.
const NORMAL: i64 = 1;
const FULL: i64 = 2;

pub(super) async fn look<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<Vec<Finding>> {
    let file = "SELECT file FROM pragma_database_list WHERE name = 'main'";
    let file: Vec<String> = ward.callers_rows(file).await?;
    let file = file.concat();
    if file.is_empty() {
        let what = "the database lives in memory";
        let mend = "Give the pool a file, as in `sqlite://orders.db?mode=rwc`";
        return Ok(vec![IN_MEMORY.found(what, mend)]);
    }
    let mut findings = Vec::new();
    let journal: Vec<String> = ward.callers_rows("PRAGMA main.journal_mode").await?;
    let journal = journal.concat();
    let synchronous: Vec<i64> = ward.callers_rows("PRAGMA main.synchronous").await?;
    let synchronous = synchronous.first().copied().unwrap_or(FULL);
    // Only with WAL does NORMAL leave the disk out of a commit.
    if synchronous < NORMAL || synchronous == NORMAL && journal == "wal" {
        let name = ["OFF", "NORMAL"][usize::from(synchronous == NORMAL)];
        findings.push(SYNCHRONOUS.found(
            format!("synchronous is {name} on the pool's connections, with the journal mode {journal}"),
            "Set `PRAGMA synchronous = FULL` on each connection: `SqliteConnectOptions::synchronous(SqliteSynchronous::Full)`",
        ));
    }
    if journal == "memory" {
        findings.push(JOURNAL_IN_MEMORY.found(
            "the journal mode of the pool's connections is MEMORY",
            "Leave the journal mode out of the connect options and run `PRAGMA journal_mode = WAL`",
        ));
    }
    findings.extend(mounted(Path::new(&file)));
    Ok(findings)
}

/// Where the file lies, by the list of mounts of this process.
fn mounted(file: &Path) -> Option<Finding> {
    let mounts = std::fs::read_to_string("/proc/self/mounts");
    match mounts {
        Ok(mounts) => on_network(file, &mounts),
        Err(error) => Some(COULD_NOT_CHECK.found(
            format!(
                "whether {} lies on a network file system cannot be told: the list of mounts cannot be read ({error})",
                file.display()
            ),
            "Make sure that it lies on a disk of this machine",
        )),
    }
}

/// File systems that other machines write to as well.
const NETWORK: [&str; 17] = [
    "nfs",
    "nfs3",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "beegfs",
    "gpfs",
    "ocfs2",
    "gfs2",
    "fuse.sshfs",
    "fuse.s3fs",
];

/// By the mount with the longest path that the file lies under; of two on one path, the later one is on top.
fn on_network(file: &Path, mounts: &str) -> Option<Finding> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (path, kind) = (words.nth(1)?, words.next()?);
        // As the kernel writes them.
        let path = path
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\134", "\\");
        file.starts_with(&path).then_some((path, kind))
    });
    let (path, kind) = mounts.max_by_key(|(path, _)| path.len())?;
    let is_network = NETWORK.contains(&kind)
        || kind.starts_with("fuse.gluster")
        || kind.starts_with("fuse.ceph");
    is_network.then(|| {
        NETWORK_FILE_SYSTEM.found(
            format!("{} lies on a file system of the kind {kind}, mounted at {path}", file.display()),
            "Move the file to a disk of this machine, or use PostgreSQL or MySQL for several machines",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        /dev/sda1 / ext4 rw 0 0\n\
        server:/home /home nfs4 rw,vers=4.2 0 0\n\
        /dev/sdb1 /home/local ext4 rw 0 0\n\
        //server/share /mnt/our\\040share cifs rw 0 0\n\
        server:/b /both nfs rw 0 0\n\
        tmpfs /both tmpfs rw 0 0\n";

    #[test]
    fn a_file_on_a_network_file_system_is_found() {
        for (file, kind) in [
            ("/home/shop/orders.db", Some("nfs4")),
            ("/mnt/our share/orders.db", Some("cifs")),
            ("/home/local/orders.db", None),
            ("/homes/orders.db", None),
            ("/both/orders.db", None),
        ] {
            let finding = on_network(Path::new(file), MOUNTS);
            let found = finding.as_ref().map(|finding| finding.name);
            assert_eq!(found, kind.map(|_| "sqlite_network_file_system"), "{file}");
            if let (Some(finding), Some(kind)) = (finding, kind) {
                assert!(finding.what.contains(kind), "{finding}");
            }
        }
    }
}
