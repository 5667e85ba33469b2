//! The lines at the bottom of a terminal: how each connection is, and for how long.

use std::io;
use std::time::Duration;

use ewsnotify::Client;
use ewsnotify::engine::{ConnectionState, WatchState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::{Colour, Paint, clean};

/// Connections that get a line of their own; the rest share one.
const MOST: usize = 5;

pub struct StatusLines {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
    paint: Paint,
}

impl StatusLines {
    pub fn new(paint: Paint) -> StatusLines {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        StatusLines { all, lines: Vec::new(), paint }
    }

    /// Prints something above the lines.
    pub fn above(&self, print: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.all.suspend(print)
    }

    pub fn show(&mut self, client: &Client) {
        let texts = self.texts(client);
        while self.lines.len() > texts.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.all.remove(&line);
            }
        }
        while self.lines.len() < texts.len() {
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            self.lines.push(self.all.add(ProgressBar::new_spinner().with_style(style)));
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(text);
            line.tick();
        }
    }
}

impl Drop for StatusLines {
    fn drop(&mut self) {
        for line in &self.lines {
            line.finish_and_clear();
        }
        let _ = self.all.clear();
    }
}
