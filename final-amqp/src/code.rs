//! The reply codes of AMQP that decide something in this crate.

pub(crate) const ACCESS_REFUSED: u16 = 403;
pub(crate) const NOT_FOUND: u16 = 404;
pub(crate) const RESOURCE_LOCKED: u16 = 405;
pub(crate) const PRECONDITION_FAILED: u16 = 406;
pub(crate) const COMMAND_INVALID: u16 = 503;
pub(crate) const NOT_ALLOWED: u16 = 530;
const CONNECTION_FORCED: u16 = 320;
const CHANNEL_ERROR: u16 = 504;

/// Whether the connection ended for a reason that is not a message: by an operator, or at a limit of
/// connections or channels.
pub(crate) fn is_about_no_message(code: u16) -> bool {
    matches!(code, CONNECTION_FORCED | CHANNEL_ERROR | NOT_ALLOWED)
}
