//! A bar on a terminal, for the minute that brotli may take. Without a terminal it draws nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far compression is, in bytes.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar on standard error, if that is a terminal.
    pub(super) fn on_terminal() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {eta}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        Self(bar)
    }

    /// Shows the bar for this much work.
    pub(super) fn begin(&self, total: u64) {
        self.0.set_length(total);
        self.0.set_message("compressing");
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    /// Goes on with other work, of this much.
    pub(super) fn go_on(&self, what: &'static str, more: u64) {
        self.0.inc_length(more);
        self.0.set_message(what);
    }

    /// So much more is done.
    pub(super) fn advance(&self, amount: u64) {
        self.0.inc(amount);
    }
}

/// The bar goes away however the run ends, so that what is printed next has its line.
impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
