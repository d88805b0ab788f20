//! The door to the program: parses the command line, prints what came of it, chooses the exit code.

use std::io::{self, ErrorKind, Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use vestibule::check::Finding;
use vestibule::cli::{CommandLine, Format};
use vestibule::serve::Ending;
use vestibule::telling::{self, Failure, Texts, Told};
use vestibule::{Error, Outcome};

/// Done.
const DONE: u8 = 0;
/// Failed.
const FAILED: u8 = 1;
/// The operator can mend it.
const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let format = line.command.format();
    let code = match vestibule::run(&line.command) {
        Ok(Outcome::Collected(summary)) => {
            let told = Told { summary: Some(&summary), findings: &summary.warnings, failure: None };
            if tell(&told, format) { DONE } else { FAILED }
        }
        Ok(Outcome::Served(Ending::Drained | Ending::DeadlinePassed)) => DONE,
        Ok(Outcome::Checked(findings)) => report(&findings),
        Err(error) => {
            explain(&error, format);
            if error.is_operators_mistake() { MISTAKE } else { FAILED }
        }
    };
    ExitCode::from(code)
}

fn explain(error: &Error, format: Format) {
    let failure = Failure::new(error, error.headline(), error.hint());
    // It has failed already; the exit code says so whether this can be read or not.
    tell(&Told { summary: None, findings: error.findings(), failure: Some(failure) }, format);
}

/// Whether it could be told.
fn tell(told: &Told<'_>, format: Format) -> bool {
    let folder = std::env::current_dir().unwrap_or_default();
    let Texts { output, errors } = telling::tell(told, format, &folder);
    complain(&errors);
    printed(|to| to.write_all(output.as_bytes()))
}

fn report(findings: &[Finding]) -> u8 {
    if !printed(|to| findings.iter().try_for_each(|finding| writeln!(to, "{finding}"))) {
        return FAILED;
    }
    if findings.iter().any(|finding| matches!(finding, Finding::Wrong(_))) { MISTAKE } else { DONE }
}

/// Writes to standard output; a failure to do so is told.
fn printed(write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> bool {
    let mut output = stdout().lock();
    let written = write(&mut output).and_then(|()| output.flush()).or_else(nobody_reads);
    if let Err(error) = &written {
        complain(&format!("error: cannot write to standard output\n  because: {error}\n"));
    }
    written.is_ok()
}

/// Who has read enough closes the pipe; the exit code still says the rest.
fn nobody_reads(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// Writes to standard error, in colour on a terminal unless `NO_COLOR` is set. When that fails there is
/// nowhere left to say so.
fn complain(text: &str) {
    let _ = write!(anstream::stderr(), "{text}");
}
