//! What must hold for any bytes of a Redis client.
//!
//! Input: the first byte says how the rest is cut. Output: a panic if the cuts change what is read, if a limit does not
//! hold, or if an error repeats its input.

use bytes::{Bytes, BytesMut};
use final_core::fuzzing::check_error;

use crate::resp::{RequestReader, WireError, WireLimits};

const LIMITS: WireLimits = WireLimits {
    line: 64,
    words: 8,
    word: 64,
    request: 128,
};

type Read = (Vec<Vec<Bytes>>, Option<WireError>);

/// The first byte says how the rest is cut.
pub fn requests(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = read(&mut bytes.chunks(bytes.len().max(1)));
    let pieces = read(&mut bytes.chunks(usize::from(*cut).max(1)));
    assert_eq!(whole, pieces, "the cuts change what is read");
    let (requests, error) = whole;
    for words in &requests {
        assert!((1..=LIMITS.words).contains(&words.len()));
        let length: usize = words.iter().map(Bytes::len).sum();
        assert!(length <= LIMITS.request);
    }
    if let Some(error) = error {
        check_error(&format!("{error} {error:?}"), 128);
    }
}

fn read(pieces: &mut dyn Iterator<Item = &[u8]>) -> Read {
    let mut reader = RequestReader::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut requests = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
        let most = LIMITS.request + LIMITS.line + piece.len();
        assert!(buffer.len() <= most, "{} bytes wait", buffer.len());
    }
    (requests, None)
}
