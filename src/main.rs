//! The door to the program: parses the command line, prints what came of it, chooses the exit code.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "here and nowhere else")]

use std::error::Error as _;
use std::io::{IsTerminal as _, stderr};
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
            eprintln!("{summary}");
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
    for finding in findings {
        println!("{finding}");
    }
    let wrong = findings.iter().filter(|finding| matches!(finding, Finding::Wrong(_))).count();
    if wrong > 0 { MISTAKE } else { DONE }
}

fn explain(error: &Error) {
    let (red, green, off) = if stderr().is_terminal() { ("\x1b[1;31m", "\x1b[1;32m", "\x1b[0m") } else { ("", "", "") };
    eprintln!("{red}error:{off} {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        eprintln!("{green}hint:{off} {hint}");
    }
}
