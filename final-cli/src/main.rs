//! The program `final`.

use std::process::ExitCode;

fn main() -> ExitCode {
    final_cli::program::main()
}
