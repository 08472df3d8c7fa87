//! The gateway from outside: real clients, real databases.
