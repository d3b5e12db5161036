//! Progress on a terminal, and what an operation says while it runs.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::control::{Gone, Listener, Progress};

/// Gets each thing that must not be lost, as it comes.
pub(super) type OnItem = Box<dyn Fn(&ProgressBar, Value) -> Result<(), Gone> + Send + Sync>;

/// Shows figures on standard error if that is a terminal.
pub(super) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// Starts a bar; `quiet` shows nothing.
    pub(super) fn start(what: &str, quiet: bool) -> Self {
        if quiet || !io::stderr().is_terminal() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template(SPINNER) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// Tells whether anyone can see it.
    pub(super) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Counts bytes, of a total if that is known.
    pub(super) fn bytes(&self, done: u64, total: Option<u64>) {
        show(&self.bar, done, total);
    }

    /// Hears an operation: figures go to the bar, items to `on_item`.
    pub(super) fn hear(&self, on_item: Option<OnItem>) -> Progress {
        Progress::new(Arc::new(Hearing {
            bar: self.bar.clone(),
            on_item,
        }))
    }

    /// Takes it off the terminal.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

const SPINNER: &str = "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}";
const KNOWN: &str = "{msg} {percent:>3}% {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

fn show(bar: &ProgressBar, done: u64, total: Option<u64>) {
    if let Some(total) = total.filter(|total| *total > 0)
        && bar.length() != Some(total)
    {
        bar.set_length(total);
        if let Ok(style) = ProgressStyle::with_template(KNOWN) {
            bar.set_style(style);
        }
    }
    bar.set_position(done);
}

struct Hearing {
    bar: ProgressBar,
    on_item: Option<OnItem>,
}

impl Listener for Hearing {
    fn item(&self, event: Value) -> Result<(), Gone> {
        // Over the socket figures come by this way too: they alone have `progress`.
        if event.get("progress").is_some() {
            self.tick(event);
            return Ok(());
        }
        self.on_item
            .as_ref()
            .map_or(Ok(()), |on_item| on_item(&self.bar, event))
    }

    fn tick(&self, event: Value) {
        let figures = event.get("progress");
        let figure = |name: &str| figures?.get(name)?.as_u64();
        show(
            &self.bar,
            figure("bytes").unwrap_or(0),
            figure("bytes_total"),
        );
    }
}
