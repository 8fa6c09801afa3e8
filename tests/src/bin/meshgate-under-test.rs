//! The product under the tests' name: the same one-line main as `meshgate`.

fn main() -> std::process::ExitCode {
    meshgate::cli::main(std::env::args_os())
}
