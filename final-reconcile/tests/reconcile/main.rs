//! Tables are compared on real servers.
