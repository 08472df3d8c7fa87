//! Reads a TOML file into a configuration.
