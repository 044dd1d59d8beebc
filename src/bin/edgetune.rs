//! The `edgetune` command; all of it lives in `cli`.
fn main() -> std::process::ExitCode {
    edgetune::cli::main()
}
