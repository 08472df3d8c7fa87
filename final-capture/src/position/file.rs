//! A position in a file.
//!
//! Input: a path. State: the file, and a lock on the file beside it for as long as a reader has the capture. Output:
//! positions that survive a crash: each is written to a new file, brought to the disk, and renamed over the old one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    ParkedChange, Partial, Position, PositionError, PositionStore, SourceIdentity, Standing,
    TakenTerm, Term,
};

/// A position in a file, for a capture that only one machine runs.
#[derive(Debug)]
pub struct FilePositions {
    path: PathBuf,
    /// Held while a reader of this process has the capture.
    lock: Arc<Mutex<Option<Holder>>>,
}

#[derive(Debug)]
struct Holder {
    owner: Uuid,
    /// The lock ends with the file.
    _file: File,
}

/// What the file has.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    capture: String,
    identity: String,
    position: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partial_transaction: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partial_changes: Option<u64>,
    number: i64,
}

impl FilePositions {
    /// A position in that file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            lock: Arc::default(),
        }
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> PositionError {
        let path = self.path.clone();
        move |source| PositionError::File {
            path,
            doing,
            source,
        }
    }
}

/// Takes the lock, unless another process has it. True if it is ours.
fn lock(path: &Path, holder: &Mutex<Option<Holder>>, owner: Uuid) -> io::Result<bool> {
    let mut holder = holder.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(held) = &*holder {
        return Ok(held.owner == owner);
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(beside(path, ".lock"))?;
    match file.try_lock() {
        Ok(()) => {
            *holder = Some(Holder { owner, _file: file });
            Ok(true)
        }
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Reads the file. `None` only if there is none.
fn load(path: &Path) -> io::Result<Option<Stored>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let stored = serde_json::from_slice(&text);
    stored
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes the file so that it has either the old position or the new one, whenever the machine stops.
fn store(path: &Path, stored: &Stored) -> io::Result<()> {
    let new = beside(path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(stored)?)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    // The name is in the folder, which has to be on the disk as well.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Runs work that waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(io::Error::other(error)),
    }
}

impl Stored {
    fn position(self) -> Result<Position, String> {
        let point = self.position.parse();
        Ok(Position {
            identity: SourceIdentity(self.identity.into()),
            point: point.map_err(|error: super::NoPoint| error.to_string())?,
            partial: self.partial_transaction.map(|transaction| Partial {
                transaction: transaction.into(),
                changes: self.partial_changes.unwrap_or_default(),
            }),
        })
    }
}

impl PositionStore for FilePositions {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), PositionError>> {
        let folder = self.path.parent().map(Path::to_owned).unwrap_or_default();
        Box::pin(async move {
            let make = blocking(move || match folder.as_os_str().is_empty() {
                true => Ok(()),
                false => std::fs::create_dir_all(folder),
            });
            make.await.map_err(self.failed("making its folder"))
        })
    }

    fn take<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        _lease: Duration,
    ) -> BoxFuture<'a, Result<Option<TakenTerm>, PositionError>> {
        Box::pin(async move {
            let (path, holder) = (self.path.clone(), Arc::clone(&self.lock));
            let taken = blocking(move || match lock(&path, &holder, owner)? {
                true => Ok(Some(load(&path)?)),
                false => Ok(None),
            });
            let taken = taken.await.map_err(|error| match error.kind() {
                // A later try reads the same.
                io::ErrorKind::InvalidData => PositionError::Unreadable(format!(
                    "{} has no position: {error}; bring the file back from a copy, or delete it and say where the \
                     capture begins",
                    self.path.display()
                )),
                _ => self.failed("reading the position")(error),
            })?;
            let Some(stored) = taken else {
                return Ok(None);
            };
            let number = stored.as_ref().map_or(0, |stored| stored.number);
            let path = self.path.display();
            let position = match stored {
                None => None,
                Some(stored) if stored.capture != name => {
                    return Err(PositionError::Unreadable(format!(
                        "{path} has the position of the capture {:?} and not of {name:?}; give each capture a file",
                        stored.capture
                    )));
                }
                Some(stored) => Some(stored.position().map_err(|error| {
                    PositionError::Unreadable(format!(
                        "the position in {path} cannot be read: {error}"
                    ))
                })?),
            };
            Ok(Some(TakenTerm {
                term: Term {
                    name: name.into(),
                    owner,
                    epoch: 1,
                },
                position,
                number,
            }))
        })
    }

    fn save<'a>(
        &'a self,
        term: &'a Term,
        standing: &'a Standing,
        parked: &'a [ParkedChange],
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(async move {
            if !parked.is_empty() {
                return Err(PositionError::CannotPark);
            }
            let position = &standing.position;
            let partial = position.partial.as_ref();
            let stored = Stored {
                capture: term.name.to_string(),
                identity: position.identity.0.to_string(),
                position: position.point.to_string(),
                partial_transaction: partial.map(|partial| partial.transaction.to_string()),
                partial_changes: partial.map(|partial| partial.changes),
                number: standing.number,
            };
            let (path, holder, owner) = (self.path.clone(), Arc::clone(&self.lock), term.owner);
            let saved = blocking(move || {
                // Held until the file is written, so that a release cannot come in between.
                let holder = holder.lock().unwrap_or_else(PoisonError::into_inner);
                let is_ours = holder.as_ref().is_some_and(|held| held.owner == owner);
                if is_ours {
                    store(&path, &stored)?;
                }
                Ok(is_ours)
            });
            match saved.await.map_err(self.failed("saving the position"))? {
                true => Ok(()),
                false => Err(PositionError::Deposed),
            }
        })
    }

    fn release<'a>(&'a self, term: &'a Term) -> BoxFuture<'a, Result<(), PositionError>> {
        let mut holder = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.as_ref().is_some_and(|held| held.owner == term.owner) {
            *holder = None;
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::SourcePoint;

    fn standing(number: i64, partial: Option<u64>) -> Standing {
        Standing {
            position: Position {
                identity: SourceIdentity("mysql:1".into()),
                point: SourcePoint::Gtid("0-1-345".into()),
                partial: partial.map(|changes| Partial {
                    transaction: "0-1-346".into(),
                    changes,
                }),
            },
            at: None,
            number,
        }
    }

    fn path(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("final-positions-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder.join("shop.position")
    }

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_position_is_the_same_after_a_restart_and_belongs_to_one_reader() {
        let path = path("restart");
        let (first, second) = (FilePositions::new(&path), FilePositions::new(&path));
        first.migrate().await.unwrap();
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let taken = first.take("shop", one, LEASE).await.unwrap().unwrap();
        assert_eq!(taken.position, None);
        for partial in [None, Some(7)] {
            first
                .save(&taken.term, &standing(1, partial), &[])
                .await
                .unwrap();
        }
        assert_eq!(second.take("shop", two, LEASE).await.unwrap(), None);
        first.release(&taken.term).await.unwrap();
        let late = first.save(&taken.term, &standing(2, None), &[]).await;
        assert!(matches!(late, Err(PositionError::Deposed)), "{late:?}");

        let taken = second.take("shop", two, LEASE).await.unwrap().unwrap();
        assert_eq!(taken.position, Some(standing(1, Some(7)).position));
        assert_eq!(taken.number, 1);
        assert_eq!(first.take("shop", one, LEASE).await.unwrap(), None);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_file_without_a_position_stops_the_capture_and_is_not_no_position() {
        let path = path("broken");
        let positions = FilePositions::new(&path);
        positions.migrate().await.unwrap();
        let owner = Uuid::now_v7();
        for text in ["", "{}", "{\"Name\":\"mysql-bin.000010\",\"Pos\":4}", "[1]"] {
            std::fs::write(&path, text).unwrap();
            let error = positions.take("shop", owner, LEASE).await.unwrap_err();
            assert!(matches!(error, PositionError::Unreadable(_)), "{error:?}");
            assert!(error.to_string().contains("shop.position"), "{error}");
        }
        let other = r#"{"capture":"other","identity":"","position":"gtid:1","number":1}"#;
        std::fs::write(&path, other).unwrap();
        let error = positions
            .take("shop", owner, LEASE)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("other"), "{error}");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
