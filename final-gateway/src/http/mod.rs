//! HTTP: publish, pull, ack; databus's `POST /databus/pub`; `/openapi.json`.
//!
//! Input: requests. State: none of its own. Output: answers as JSON, one status for each record.
