//! What taking rights over would change.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use super::{DatabusApp, DatabusRight};
use crate::rights::{
    Grant, Operations,
    apps::check_key,
    secret::{LONGEST, StoredSecret},
    tables::{AppRow, Loaded},
};

/// What taking rights over would change. Taking them over a second time changes nothing.
///
/// Only apps that are missing are added, each with its rights. An app that is here already keeps its secret and its
/// rights: a right of databus that it has not may have been revoked here. Such a right, and an app that was deleted in
/// databus and is still here, is named in [`skipped`](Self::skipped), for an operator to decide.
#[derive(Debug)]
pub struct DatabusPlan {
    pub(in crate::rights) planned: Vec<Planned>,
    /// Apps and rights that are left out, each with the reason.
    pub skipped: Vec<Skipped>,
    /// How many apps and rights are here already.
    pub unchanged: usize,
}

/// One change.
#[derive(Clone)]
pub(in crate::rights) enum Planned {
    App { key: String, secret: String },
    Right { app: String, grant: Grant },
}

/// Without the secret.
impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App { key, .. } => f
                .debug_struct("App")
                .field("key", key)
                .finish_non_exhaustive(),
            Self::Right { app, grant } => f
                .debug_struct("Right")
                .field("app", app)
                .field("grant", grant)
                .finish(),
        }
    }
}

/// What is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The app or the right, with its place.
    pub what: String,
    /// The reason.
    pub why: String,
}

impl DatabusPlan {
    /// Compares secrets, so it takes tens of milliseconds for each app that is here already.
    pub(in crate::rights) fn new(apps: &[DatabusApp], known: &Loaded) -> Self {
        let mut plan = Self {
            planned: Vec::new(),
            skipped: Vec::new(),
            unchanged: 0,
        };
        let here: HashMap<&str, &AppRow> = known
            .apps
            .iter()
            .map(|app| (app.app_key.as_str(), app))
            .collect();
        // What each app may, here and by what is planned so far.
        let mut may: BTreeMap<(String, String, String), Operations> = BTreeMap::new();
        for row in &known.grants {
            let operations = Operations::from_number(row.operations).unwrap_or(Operations::NONE);
            let of = (
                row.app_key.clone(),
                row.group_name.clone(),
                row.topic.clone(),
            );
            may.insert(of, operations);
        }
        let mut new: HashMap<&str, &str> = HashMap::new();
        for app in apps {
            let what = format!("app {:?} ({})", app.key, app.place);
            match plan.app(app, &here, &new) {
                Ok(true) => {
                    new.insert(&app.key, &app.secret);
                    plan.planned.push(Planned::App {
                        key: app.key.clone(),
                        secret: app.secret.clone(),
                    });
                }
                Ok(false) => plan.unchanged += 1,
                Err(why) => {
                    plan.skip(what, why);
                    continue;
                }
            }
            for right in &app.rights {
                let is_new = new.contains_key(app.key.as_str());
                plan.right(app, right, is_new, &mut may);
            }
        }
        plan
    }

    /// Whether the app is to be created, or why neither it nor its rights are taken over.
    fn app(
        &self,
        app: &DatabusApp,
        here: &HashMap<&str, &AppRow>,
        new: &HashMap<&str, &str>,
    ) -> Result<bool, String> {
        let known = here.get(app.key.as_str());
        if app.is_deleted {
            return Err(match known {
                Some(row) if row.disabled_at.is_none() => {
                    "it is deleted in databus and enabled here; disable it if it should be gone"
                        .into()
                }
                _ => "it is deleted in databus".into(),
            });
        }
        check_key(&app.key).map_err(|error| error.to_string())?;
        if app.secret.is_empty() || app.secret.len() > LONGEST {
            return Err(format!(
                "its secret is empty or longer than {LONGEST} bytes"
            ));
        }
        if let Some(secret) = new.get(app.key.as_str()) {
            return match *secret == app.secret {
                true => Ok(false),
                false => Err("another app of databus has the same key and another secret".into()),
            };
        }
        let Some(row) = known else {
            return Ok(true);
        };
        let now = StoredSecret::read(&row.secret_kind, &row.secret_hash).ok();
        let old = row.old_kind.as_deref().zip(row.old_hash.as_deref());
        let old = old.and_then(|(kind, hash)| StoredSecret::read(kind, hash).ok());
        let secret = app.secret.as_bytes();
        match now.iter().chain(&old).any(|stored| stored.is(secret)) {
            true => Ok(false),
            false => Err(
                "an app of this key is here already, with another secret; it is left as it is"
                    .into(),
            ),
        }
    }

    fn right(
        &mut self,
        app: &DatabusApp,
        right: &DatabusRight,
        is_new: bool,
        may: &mut BTreeMap<(String, String, String), Operations>,
    ) {
        let DatabusRight { group, topic, .. } = right;
        let what = || format!("right of {:?} on group {group:?}, topic {topic:?}", app.key);
        if right.is_deleted {
            return self.skip(what(), "it is deleted in databus".into());
        }
        let Some(operations) = Operations::from_number(right.operation) else {
            let why = format!("its operation is {}, and not 1, 2 or 3", right.operation);
            return self.skip(what(), why);
        };
        // A star is a letter of the name in databus. Here it would allow more than it did there.
        let grant = match group.contains('*') || topic.contains('*') {
            true => Err("it has a `*` in a name, which is a pattern here".to_owned()),
            false => Grant::new(group, topic, operations).map_err(|error| error.to_string()),
        };
        let mut grant = match grant {
            Ok(grant) => grant,
            Err(why) => return self.skip(what(), why),
        };
        grant.batch = u32::try_from(right.batch).ok().filter(|batch| *batch > 0);
        let of = (app.key.clone(), group.clone(), topic.clone());
        let before = may.entry(of).or_insert(Operations::NONE);
        let missing = operations.without(*before);
        if missing == Operations::NONE {
            self.unchanged += 1;
            return;
        }
        if !is_new {
            let why = format!(
                "the app is here and may not {missing}; rights of an app that is here are decided here: \
                 `final gateway apps allow` gives it"
            );
            return self.skip(what(), why);
        }
        *before = before.and(operations);
        self.planned.push(Planned::Right {
            app: app.key.clone(),
            grant,
        });
    }

    fn skip(&mut self, what: String, why: String) {
        self.skipped.push(Skipped { what, why });
    }

    /// Keys of apps that would be created.
    pub fn new_apps(&self) -> impl Iterator<Item = &str> {
        self.planned.iter().filter_map(|planned| match planned {
            Planned::App { key, .. } => Some(key.as_str()),
            Planned::Right { .. } => None,
        })
    }

    /// Rights that would be added, each with the key of its app.
    pub fn new_rights(&self) -> impl Iterator<Item = (&str, &Grant)> {
        self.planned.iter().filter_map(|planned| match planned {
            Planned::Right { app, grant } => Some((app.as_str(), grant)),
            Planned::App { .. } => None,
        })
    }

    /// Whether there is nothing to add.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }
}
