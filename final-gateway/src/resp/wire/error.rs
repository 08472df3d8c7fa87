//! What makes bytes no request. The texts are those of Redis where it has one, because clients and their users know them.

/// Why bytes are no request. The connection ends: nobody knows where the next request begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A number of words that is none, is negative, or is too large.
    #[error("Protocol error: invalid multibulk length")]
    Words,
    /// A number of bytes that is none, is negative, or is too large.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// Another kind of value inside a request, an array for example.
    #[error("Protocol error: expected '$', got '{}'", shown(*.0))]
    Kind(u8),
    /// A line of a length that does not end.
    #[error("Protocol error: too big mbulk count string")]
    LongLine,
    /// An inline request that does not end.
    #[error("Protocol error: too big inline request")]
    LongInline,
    /// An inline request with a quote that is not closed, or with something right behind one.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// A line that ends in LF alone, or bytes that go on behind their length.
    #[error("Protocol error: expected CRLF")]
    LineEnd,
    /// All words together are too long.
    #[error("Protocol error: the request is too long")]
    LongRequest,
}

fn shown(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        _ => '?',
    }
}
