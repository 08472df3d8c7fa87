//! Changes are captured from real servers.
