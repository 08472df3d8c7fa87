//! What MySQL wants otherwise than MariaDB: how its data folder is made, and its arguments.

use std::path::Path;

use crate::{Result, WorkDir, process::Launch};

/// The X protocol would listen on a port that is the same for all servers. The folder for files of statements
/// comes with a package that is not needed otherwise.
pub(super) const ARGS: [&str; 2] = ["--mysqlx=OFF", "--secure-file-priv=NULL"];

/// MySQL makes root for `localhost` alone, which is no name of 127.0.0.1 for a server that resolves none.
const ROOT: &str = "\
CREATE USER root@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
";

/// Makes the data folder, with a root that needs no password.
pub(super) fn first_data(program: &Path, dir: &WorkDir, data: &Path) -> Result<Launch> {
    let accounts = dir.write("accounts.sql", ROOT)?;
    Ok(Launch::new(program)
        .args(["--no-defaults", "--initialize-insecure"])
        .arg(format!("--init-file={}", accounts.display()))
        .arg(format!("--datadir={}", data.display())))
}
