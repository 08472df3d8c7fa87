//! Undoes one compression.
//!
//! Input: bytes from outside, and a limit. Output: at most so many bytes, or the reason why not. How a stream begins
//! says more than its name: .NET sends raw deflate and zlib under one name, and Kombu calls zlib gzip.

use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status, bufread::MultiGzDecoder};
use ruzstd::decoding::{
    FrameDecoder, StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::Coding;

/// Undoes a compression.
pub(super) fn undo(bytes: &[u8], coding: Coding, limit: usize) -> Result<Vec<u8>, String> {
    match coding {
        Coding::Gzip | Coding::Deflate if bytes.starts_with(&[0x1f, 0x8b]) => gzip(bytes, limit),
        Coding::Gzip if is_zlib(bytes) => inflate(bytes, true, limit),
        Coding::Gzip => Err(broken(coding, "it does not begin as gzip does")),
        // Raw deflate can begin by chance as zlib does.
        Coding::Deflate if is_zlib(bytes) => inflate(bytes, true, limit)
            .or_else(|reason| inflate(bytes, false, limit).map_err(|_| reason)),
        Coding::Deflate => inflate(bytes, false, limit),
        Coding::Zstd => zstd(bytes, limit),
    }
}

fn broken(coding: Coding, why: &str) -> String {
    let why: String = why.chars().take(96).collect();
    format!("its content encoding {coding:?} cannot be undone: {why}")
}

const TOO_SHORT: &str = "it ends too early";
const TOO_LONG: &str = "there are bytes after its end";

fn too_large(coding: Coding, limit: usize) -> String {
    broken(
        coding,
        &format!("its content is larger than {} MiB", limit >> 20),
    )
}

/// RFC 1950: method 8, and both bytes together are a multiple of 31.
fn is_zlib(bytes: &[u8]) -> bool {
    match *bytes {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
        }
        _ => false,
    }
}

fn gzip(bytes: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let broken = |why: &str| broken(Coding::Gzip, why);
    let mut content = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(limit as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| broken(&error.to_string()))?;
    match content.len() <= limit {
        true => Ok(content),
        false => Err(too_large(Coding::Gzip, limit)),
    }
}

/// Raw deflate, or zlib. flate2's own reader takes a stream that is cut for a whole one.
fn inflate(bytes: &[u8], is_zlib: bool, limit: usize) -> Result<Vec<u8>, String> {
    const MOST_AT_ONCE: usize = 1024 * 1024;
    let broken = |why: &str| broken(Coding::Deflate, why);
    let mut state = Decompress::new(is_zlib);
    let mut content = Vec::new();
    let mut rest = bytes;
    loop {
        content.reserve(content.len().clamp(4 * 1024, MOST_AT_ONCE));
        let (taken, made) = (state.total_in(), content.len());
        let status = state
            .decompress_vec(rest, &mut content, FlushDecompress::None)
            .map_err(|error| broken(&error.to_string()))?;
        let taken = usize::try_from(state.total_in() - taken).unwrap_or(usize::MAX);
        rest = rest.get(taken..).unwrap_or_default();
        if content.len() > limit {
            return Err(too_large(Coding::Deflate, limit));
        }
        if status == Status::StreamEnd {
            break;
        }
        if taken == 0 && content.len() == made {
            return Err(broken(TOO_SHORT));
        }
    }
    match rest {
        [] => Ok(content),
        _ => Err(broken(TOO_LONG)),
    }
}

fn zstd(mut bytes: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let broken = |why: &str| broken(Coding::Zstd, why);
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(limit as u64);
    let mut content = Vec::new();
    if bytes.is_empty() {
        return Err(broken(TOO_SHORT));
    }
    // A stream is one frame or several.
    while !bytes.is_empty() {
        match StreamingDecoder::new_with_decoder(&mut bytes, &mut decoder) {
            Ok(frame) => {
                let room = limit - content.len() + 1;
                frame
                    .take(room as u64)
                    .read_to_end(&mut content)
                    .map_err(|error| broken(&error.to_string()))?;
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                bytes = bytes.get(length..).ok_or_else(|| broken(TOO_SHORT))?;
                continue;
            }
            Err(error) => return Err(broken(&error.to_string())),
        }
        if content.len() > limit {
            return Err(too_large(Coding::Zstd, limit));
        }
        let sent = decoder.get_checksum_from_data();
        if sent.is_some() && sent != decoder.get_calculated_checksum() {
            return Err(broken("its checksum is another one"));
        }
    }
    Ok(content)
}
