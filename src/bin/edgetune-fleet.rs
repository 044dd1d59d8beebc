//! The `edgetune-fleet` command; all of it lives in `cli`.
fn main() -> std::process::ExitCode {
    edgetune::cli::fleet::main()
}
