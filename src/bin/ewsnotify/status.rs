//! The lines at the bottom of a terminal: how each connection is, and for how long.

use std::io;

use ewsnotify::{Client, ConnectionStatus, WatchStatus};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::{Colour, Paint, clean, span};

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
        let status = client.status();
        // A watch in mode pull has no connection of its own.
        let streams = status.connections.iter().map(|c| self.stream(c));
        let mut texts: Vec<String> = streams.take(MOST).collect();
        if status.connections.is_empty() {
            texts.extend(status.watches.iter().take(MOST).map(|w| self.watch(w)));
        }
        let all = status.connections.len().max(texts.len());
        if all > MOST {
            let open = status.connections.iter().filter(|c| c.state == "open").count();
            texts.push(self.paint.put(Colour::Dim, &format!("  … {all} connections in all, {open} open")));
        }
        while self.lines.len() > texts.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.all.remove(&line);
            }
        }
        while self.lines.len() < texts.len() {
            let style =
                ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            self.lines.push(self.all.add(ProgressBar::new_spinner().with_style(style)));
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(text);
        }
    }
}

impl StatusLines {
    fn stream(&self, stream: &ConnectionStatus) -> String {
        let mut text = self.state(stream.state, stream.state == "open");
        text.push_str(&format!(" for {}", span(stream.age_ms)));
        if let Some(ms) = stream.silent_ms {
            text.push_str(&format!(", last heard {} ago", span(ms)));
        }
        text.push_str(&next_try(stream.retry_ms));
        match stream.attempts {
            0 => {}
            _ if stream.state == "open" => {}
            1 => text.push_str(", 1 try failed"),
            n => text.push_str(&format!(", {n} tries failed")),
        }
        text
    }

    fn watch(&self, watch: &WatchStatus) -> String {
        let mut text = self.state(watch.state, watch.is_connected());
        text.push_str(&format!(", {}", clean(&watch.mailbox)));
        text.push_str(&next_try(watch.retry_ms));
        if let Some(ms) = watch.unheard_ms {
            text.push_str(&format!(
                ", subscribed {} ago and nothing has come: does the server reach the URL?",
                span(ms)
            ));
        }
        text
    }

    fn state(&self, state: &str, good: bool) -> String {
        let colour = if good { Colour::Green } else { Colour::Yellow };
        format!("{} {state}", self.paint.put(colour, "●"))
    }
}

fn next_try(ms: Option<u64>) -> String {
    ms.map(|ms| format!(", next try in {}", span(ms))).unwrap_or_default()
}

impl Drop for StatusLines {
    fn drop(&mut self) {
        for line in &self.lines {
            line.finish_and_clear();
        }
        let _ = self.all.clear();
    }
}
