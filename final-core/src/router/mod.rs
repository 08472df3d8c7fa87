//! The router: which handler, within which layers, takes which topic.

use std::{collections::HashMap, sync::Arc};

use tower::util::BoxCloneSyncService;

use crate::{BoxError, Message, handler::Outcome};

/// A handler with all its layers, ready to be called.
pub(crate) type Route = BoxCloneSyncService<Message, Outcome, BoxError>;

/// The finished routes of a service, by topic.
pub(crate) type Routes = HashMap<Arc<str>, Route>;
