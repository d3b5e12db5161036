//! The `cidfs` program.

fn main() -> std::process::ExitCode {
    cidfs::cli::main(std::env::args_os().collect())
}
