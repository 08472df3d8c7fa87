//! Us and the peers.

mod apalis;
mod faststream;
mod hexeract;
pub(crate) mod ours;
mod ruststream;

use crate::contest::{Contest, Job};

/// Who plays at what, in the order of the table. What a peer does not have is not here.
pub(crate) fn contests() -> Vec<Contest> {
    let mut contests = [
        hexeract::contests(),
        ruststream::contests(),
        apalis::contests(),
        faststream::contests(),
    ]
    .concat();
    contests.sort_by_key(|it| Job::ALL.iter().position(|job| *job == it.job));
    contests
}
