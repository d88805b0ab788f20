//! The door to the program: parses the command line, prints what came of it, chooses the exit code.

use std::io::{self, ErrorKind, Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::json;
use vestibule::audit::Audit;
use vestibule::check::Finding;
use vestibule::cli::{CommandLine, Format};
use vestibule::collect::Proof;
use vestibule::collect::django::Saved;
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
            let told = Told { summary: Some(&summary), findings: &summary.warnings, ..Told::default() };
            ended(tell(&told, format), DONE)
        }
        Ok(Outcome::Proved(proof)) => ended(prove(&proof, format), if proof.is_sound() { DONE } else { FAILED }),
        Ok(Outcome::Audited(audit)) => ended(tell_audit(&audit, format), if audit.is_sound() { DONE } else { FAILED }),
        Ok(Outcome::Saved(saved)) => ended(tell_saved(&saved, format), DONE),
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
    tell(&Told { findings: error.findings(), failure: Some(failure), ..Told::default() }, format);
}

/// Whether it could be told.
fn tell(told: &Told<'_>, format: Format) -> bool {
    let folder = std::env::current_dir().unwrap_or_default();
    let Texts { output, errors } = telling::tell(told, format, &folder);
    complain(&errors);
    printed(&output)
}

/// Tells what came of `collect --check`; the answer is whether it could be told.
fn prove(proof: &Proof, format: Format) -> bool {
    if format == Format::Text {
        return printed(&format!("{proof}\n"));
    }
    let Proof { files, references, variants, deltas, .. } = proof;
    let numbers = json!({ "files": files, "references": references, "variants": variants, "deltas": deltas });
    let findings = [&proof.errors[..], &proof.warnings].concat();
    tell(&Told { findings: &findings, numbers: Some(numbers), ..Told::default() }, format)
}

/// Tells what came of `audit-templates`; the answer is whether it could be told.
fn tell_audit(audit: &Audit, format: Format) -> bool {
    if format == Format::Text {
        return printed(&format!("{audit}\n"));
    }
    let Audit { files, found, missing, dynamic, .. } = audit;
    let numbers =
        json!({ "files": files, "found": found, "missing": missing.len(), "known_at_run_time": dynamic.len() });
    let findings = [&missing[..], &audit.unreadable].concat();
    tell(&Told { findings: &findings, numbers: Some(numbers), ..Told::default() }, format)
}

/// Tells what `collect --django --save` wrote; the answer is whether it could be told.
fn tell_saved(saved: &Saved, format: Format) -> bool {
    if format == Format::Text {
        complain(&format!("{saved}\n"));
        return true;
    }
    let numbers = json!({ "sources": saved.sources, "apps": saved.apps });
    tell(&Told { findings: &saved.warnings, numbers: Some(numbers), ..Told::default() }, format)
}

fn report(findings: &[Finding]) -> u8 {
    let text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let is_wrong = findings.iter().any(|finding| matches!(finding, Finding::Wrong(_)));
    ended(printed(&text), if is_wrong { MISTAKE } else { DONE })
}

fn ended(was_told: bool, code: u8) -> u8 {
    if was_told { code } else { FAILED }
}

/// Writes to standard output; a failure to do so is told.
fn printed(text: &str) -> bool {
    let mut output = stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush()).or_else(nobody_reads);
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
