//! The door to the program: parses the command line, prints what came of it, chooses the exit code.

use std::error::Error as _;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _, stderr, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use vestibule::check::Finding;
use vestibule::cli::CommandLine;
use vestibule::serve::Ending;
use vestibule::{Error, Outcome};

/// Done.
const DONE: u8 = 0;
/// Failed.
const FAILED: u8 = 1;
/// The operator can mend it.
const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let code = match vestibule::run(&line.command) {
        Ok(Outcome::Collected(summary)) => {
            tell(&summary.to_string());
            DONE
        }
        Ok(Outcome::Served(Ending::Drained | Ending::DeadlinePassed)) => DONE,
        Ok(Outcome::Checked(findings)) => report(&findings),
        Err(error) => {
            explain(&error);
            if error.is_operators_mistake() { MISTAKE } else { FAILED }
        }
    };
    ExitCode::from(code)
}

fn report(findings: &[Finding]) -> u8 {
    if let Err(error) = print(findings).or_else(nobody_reads) {
        tell(&format!("error: cannot write to standard output\n  because: {error}"));
        return FAILED;
    }
    if findings.iter().any(|finding| matches!(finding, Finding::Wrong(_))) { MISTAKE } else { DONE }
}

fn print(findings: &[Finding]) -> io::Result<()> {
    let mut output = stdout().lock();
    findings.iter().try_for_each(|finding| writeln!(output, "{finding}"))?;
    output.flush()
}

/// Who has read enough closes the pipe; the exit code still says the rest.
fn nobody_reads(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// Writes to standard error. When that fails there is nowhere left to say so.
fn tell(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

fn explain(error: &Error) {
    let (red, green, off) = if stderr().is_terminal() { ("\x1b[1;31m", "\x1b[1;32m", "\x1b[0m") } else { ("", "", "") };
    tell(&format!("{red}error:{off} {error}"));
    let mut cause = error.source();
    while let Some(error) = cause {
        tell(&format!("  because: {error}"));
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        tell(&format!("{green}hint:{off} {hint}"));
    }
}
