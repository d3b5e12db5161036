//! The `cidfs` program.

fn main() -> std::process::ExitCode {
    cidfs::memory::share();
    cidfs::cli::main(std::env::args_os().collect())
}
