//! PostgreSQL: a replication slot with pgoutput.
