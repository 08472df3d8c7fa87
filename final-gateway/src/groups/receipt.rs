//! Receipts: texts by which a client settles what it has pulled.
//!
//! Input: a group, a topic and a tag of this node; texts of clients. State: the key that all nodes share, and the name
//! and the incarnation of this one. Output: signed texts, and what they stand for.
//!
//! ```text
//!   base64url( version 1 │ incarnation 8 │ tag 8 │ length, group │ length, topic │ node │ first 16 bytes of the HMAC )
//! ```
//!
//! The incarnation is new for each start, so a receipt of the node's life before names no message of this one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ReceiptError;
use crate::names::Pair;

/// The bytes of the signature.
const SIGNATURE: usize = 16;
/// The longest receipt that is looked at.
const MOST: usize = 2_048;
const VERSION: u8 = 1;

/// What signs receipts, and reads those of this node.
pub(super) struct Receipts {
    hmac: Hmac<Sha256>,
    node: Box<str>,
    incarnation: u64,
}

/// What a receipt stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) pair: Pair,
    /// The message on the node that gave it out.
    pub(super) tag: u64,
    node: String,
    incarnation: u64,
}

impl Receipts {
    pub(super) fn new(key: &[u8; 32], node: &str, incarnation: u64) -> Self {
        // HMAC fills a shorter key with zeros up to the block of its hash.
        let mut block = [0; 64];
        let (start, _) = block.split_at_mut(key.len());
        start.copy_from_slice(key);
        let hmac = Hmac::<Sha256>::new(&block.into());
        Self {
            hmac,
            node: node.into(),
            incarnation,
        }
    }

    /// The receipt of a message.
    pub(super) fn sign(&self, pair: &Pair, tag: u64) -> String {
        let mut bytes = Vec::with_capacity(128);
        bytes.push(VERSION);
        bytes.extend(self.incarnation.to_be_bytes());
        bytes.extend(tag.to_be_bytes());
        for name in [pair.group(), pair.topic()] {
            // Names are checked to be shorter.
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend(name.as_bytes());
        }
        bytes.extend(self.node.as_bytes());
        let signature = self.hmac.clone().chain_update(&bytes).finalize();
        bytes.extend(signature.into_bytes().iter().take(SIGNATURE));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a receipt of any node.
    pub(super) fn read(&self, text: &str) -> Result<Receipt, ReceiptError> {
        if text.len() > MOST {
            return Err(ReceiptError::Foreign);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text);
        let bytes = bytes.map_err(|_| ReceiptError::Foreign)?;
        let body = bytes.len().checked_sub(SIGNATURE);
        let (body, signature) = body
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or(ReceiptError::Foreign)?;
        self.hmac
            .clone()
            .chain_update(body)
            .verify_truncated_left(signature)
            .map_err(|_| ReceiptError::Foreign)?;
        parse(body).ok_or(ReceiptError::Foreign)
    }

    /// Whether the message may still be in hand on this node.
    pub(super) fn is_of_this_node(&self, receipt: &Receipt) -> Result<(), ReceiptError> {
        if *self.node != *receipt.node {
            Err(ReceiptError::OtherNode(receipt.node.clone()))
        } else if self.incarnation != receipt.incarnation {
            Err(ReceiptError::Gone)
        } else {
            Ok(())
        }
    }
}

impl std::fmt::Debug for Receipts {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipts")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

fn parse(body: &[u8]) -> Option<Receipt> {
    let (version, rest) = body.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (incarnation, rest) = rest.split_first_chunk::<8>()?;
    let (tag, rest) = rest.split_first_chunk::<8>()?;
    let (group, rest) = name(rest)?;
    let (topic, node) = name(rest)?;
    Some(Receipt {
        pair: Pair::new(group, topic).ok()?,
        tag: u64::from_be_bytes(*tag),
        node: std::str::from_utf8(node).ok()?.to_owned(),
        incarnation: u64::from_be_bytes(*incarnation),
    })
}

fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair() -> Pair {
        Pair::new("billing", "order.placed").unwrap()
    }

    #[test]
    fn every_node_reads_a_receipt_and_only_its_own_settles_by_it() {
        let (one, two) = (
            Receipts::new(&[7; 32], "a", 1),
            Receipts::new(&[7; 32], "b", 1),
        );
        let again = Receipts::new(&[7; 32], "a", 2);
        let text = one.sign(&pair(), 42);

        let read = two.read(&text).unwrap();
        assert_eq!((&read.pair, read.tag), (&pair(), 42));
        assert_eq!(one.is_of_this_node(&read), Ok(()));
        let other = ReceiptError::OtherNode("a".to_owned());
        assert_eq!(two.is_of_this_node(&read), Err(other));
        assert_eq!(again.is_of_this_node(&read), Err(ReceiptError::Gone));
    }

    #[test]
    fn a_receipt_has_nothing_but_the_characters_of_a_url_and_is_short() {
        let text = Receipts::new(&[7; 32], "a", 1).sign(&pair(), u64::MAX);

        let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(text.chars().all(is_fine) && text.len() < 100, "{text}");
    }

    #[test]
    fn a_receipt_signed_with_another_key_is_foreign() {
        let text = Receipts::new(&[8; 32], "a", 1).sign(&pair(), 42);

        let read = Receipts::new(&[7; 32], "a", 1).read(&text);
        assert_eq!(read, Err(ReceiptError::Foreign));
    }

    proptest! {
        #[test]
        fn a_receipt_that_was_changed_anywhere_is_foreign(at in 0_usize..80, bit in 0_u8..6) {
            let receipts = Receipts::new(&[7; 32], "a", 1);
            let text = receipts.sign(&pair(), 42);
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let forged = URL_SAFE_NO_PAD.encode(bytes);

            prop_assert_eq!(receipts.read(&forged), Err(ReceiptError::Foreign));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}") {
            let read = Receipts::new(&[7; 32], "a", 1).read(&text);
            prop_assert_eq!(read, Err(ReceiptError::Foreign));
        }
    }
}
