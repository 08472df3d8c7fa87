//! MariaDB: the binary log.
