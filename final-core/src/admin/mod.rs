//! What an operator may know and do, with a pool alone: no running bus, no broker.
