//! The Redis protocol, and databus's commands in it.
//!
//! Input: bytes of Redis clients. State: one session for each connection. Output: answers in RESP2 or RESP3.
