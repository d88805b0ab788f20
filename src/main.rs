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
        Ok(Outcome::Proved(proof)) => said(&proof.to_string(), if proof.is_sound() { DONE } else { FAILED }),
        Ok(Outcome::Audited(audit)) => said(&audit.to_string(), if audit.is_sound() { DONE } else { FAILED }),
        Ok(Outcome::Saved(saved)) => {
            tell(&saved.to_string());
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
    let text: Vec<_> = findings.iter().map(Finding::to_string).collect();
    let is_wrong = findings.iter().any(|finding| matches!(finding, Finding::Wrong(_)));
    said(&text.join("\n"), if is_wrong { MISTAKE } else { DONE })
}

/// Writes to standard output; the exit code is the given one if that worked.
fn said(text: &str, code: u8) -> u8 {
    let mut output = stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()).or_else(nobody_reads) {
        Ok(()) => code,
        Err(error) => {
            tell(&format!("error: cannot write to standard output\n  because: {error}"));
            FAILED
        }
    }
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
