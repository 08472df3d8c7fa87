use std::time::{Duration, Instant};

use proptest::{collection::vec, prelude::*};

use super::*;

const LIMITS: WireLimits = WireLimits {
    line: 64 * 1024,
    words: 1024,
    word: 1_000_000,
    request: 1_100_000,
};

type Requests = Vec<Vec<Vec<u8>>>;

/// Reads pieces one after the other, up to the first error.
fn read(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> (Requests, Option<WireError>) {
    let mut reader = RequestReader::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut requests = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece.as_ref());
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(words)) => requests.push(words.iter().map(|word| word.to_vec()).collect()),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fn error(bytes: &[u8]) -> Option<WireError> {
    read([bytes]).1
}

fn encode(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for words in requests {
        bytes.extend(format!("*{}\r\n", words.len()).bytes());
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).bytes());
            bytes.extend(word);
            bytes.extend(b"\r\n");
        }
    }
    bytes
}

/// Cuts bytes into pieces of these lengths, over and over.
fn pieces<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

proptest! {
    #[test]
    fn requests_are_the_same_however_they_are_cut(
        requests in vec(vec(vec(any::<u8>(), 0..40), 1..6), 0..8),
        lengths in vec(1_usize..50, 1..6),
    ) {
        let bytes = encode(&requests);
        prop_assert_eq!(read(pieces(&bytes, &lengths)), (requests, None));
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        bytes in vec(prop_oneof![
            Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), b'0'..=b'3', Just(b' '), Just(b'"'), any::<u8>(),
        ], 0..120),
        lengths in vec(1_usize..9, 1..4),
    ) {
        prop_assert_eq!(read(pieces(&bytes, &lengths)), read([&bytes]));
    }
}

#[test]
fn lines_of_words_and_arrays_may_follow_each_other() {
    let bytes = b"ping\r\n*1\r\n$4\r\nPING\r\n\r\n\n*0\r\nset k \"a b\"\n";
    let (requests, error) = read([bytes]);
    assert_eq!(error, None);
    let expected: Requests = vec![
        vec![b"ping".to_vec()],
        vec![b"PING".to_vec()],
        vec![b"set".to_vec(), b"k".to_vec(), b"a b".to_vec()],
    ];
    assert_eq!(requests, expected);
}

#[test]
fn lengths_that_are_negative_huge_or_no_numbers_are_errors() {
    for length in [
        "-1",
        "1025",
        "99999999999999999999",
        "",
        "+1",
        " 1",
        "0x1",
        "1 ",
    ] {
        let bytes = format!("*{length}\r\n");
        assert_eq!(error(bytes.as_bytes()), Some(WireError::Words), "*{length}");
    }
    for length in [
        "-1",
        "1000001",
        "4294967296",
        "99999999999999999999",
        "",
        "a",
    ] {
        let bytes = format!("*1\r\n${length}\r\n");
        assert_eq!(
            error(bytes.as_bytes()),
            Some(WireError::Length),
            "${length}"
        );
    }
}

#[test]
fn nested_arrays_are_refused_at_the_first_level() {
    let deep = b"*1\r\n".repeat(100_000);
    let started = Instant::now();
    assert_eq!(error(&deep), Some(WireError::Kind(b'*')));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_line_of_a_length_ends_in_crlf() {
    assert_eq!(error(b"*1\n$4\nPING\n"), Some(WireError::LineEnd));
    assert_eq!(error(b"*1\r\n$4\r\nPINGPONG\r\n"), Some(WireError::LineEnd));
    assert_eq!(error(b"*1\r\n$4\r\nPING\n\n"), Some(WireError::LineEnd));
}

#[test]
fn lines_that_do_not_end_are_cut_short() {
    assert_eq!(error(&[b'1'; 64 * 1024 + 1]), Some(WireError::LongInline));
    assert_eq!(
        error(&[b"*", &[b'1'; 40][..]].concat()),
        Some(WireError::LongLine)
    );
    assert_eq!(error(&[b'a'; 64 * 1024]), None);
}

#[test]
fn a_request_is_bounded_as_a_whole() {
    let words = vec![vec![0; 1_000_000], vec![0; 1_000_000]];
    assert_eq!(error(&encode(&[words])), Some(WireError::LongRequest));
}

#[test]
fn nothing_is_taken_for_what_is_only_announced() {
    let mut reader = RequestReader::new(LIMITS);
    let mut buffer = BytesMut::from(&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n"[..]);
    assert_eq!(reader.next(&mut buffer), Ok(None));
    assert!(buffer.capacity() < 1000);
}

/// A reader that began again with each piece would look at 17 MB here, and take over a second.
#[test]
fn a_long_request_in_small_pieces_is_looked_at_once() {
    let words: Vec<Vec<u8>> = (0..1000).map(|_| vec![b'x'; 215]).collect();
    let bytes = encode(&[words]);
    let mut reader = RequestReader::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut begun = Vec::new();
    for piece in bytes.chunks(1400) {
        buffer.extend_from_slice(piece);
        let before = reader.at;
        let request = reader.next(&mut buffer).unwrap();
        begun.push(before);
        if request.is_some() {
            assert_eq!(begun.len(), bytes.chunks(1400).count());
            break;
        }
        // What it has read stays read: less than one word is left.
        assert!(
            buffer.len() - reader.at < 230,
            "{} of {}",
            reader.at,
            buffer.len()
        );
    }
    assert!(begun.is_sorted());
}

#[test]
fn a_long_line_in_small_pieces_is_searched_once() {
    let mut reader = RequestReader::new(LIMITS);
    let mut buffer = BytesMut::new();
    for _ in 0..1000 {
        let before = reader.searched;
        assert_eq!(before, buffer.len());
        buffer.extend_from_slice(b"word ");
        assert_eq!(reader.next(&mut buffer), Ok(None));
    }
    buffer.extend_from_slice(b"\r\n");
    assert_eq!(reader.next(&mut buffer).unwrap().unwrap().len(), 1000);
}
