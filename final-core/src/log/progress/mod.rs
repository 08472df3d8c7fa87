//! How far a group has come, without a database: lanes, gaps, what is in flight.

pub(crate) mod gaps;
pub(crate) mod in_flight;
pub(crate) mod key_order;
pub(crate) mod lane;
pub(crate) mod letter;
pub(crate) mod rebalance;
pub(crate) mod rows;
pub(crate) mod set_aside;
pub(crate) mod side_effect;
pub(crate) mod spans;
pub(crate) mod stream;
pub(crate) mod watermark;
