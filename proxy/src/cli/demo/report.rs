//! How the demo speaks: lines for people, objects for machines.

use std::cell::Cell;
use std::io;

use serde_json::json;

use super::Stopped;
use crate::cli::{colours, print};

/// Prints results and counts them.
pub(super) struct Reporter {
    json: bool,
    colours: bool,
    done: Cell<usize>,
    is_over: Cell<bool>,
}

/// One thing that was tried.
pub(super) struct Tried {
    /// The walk-through's step.
    pub(super) step: &'static str,
    /// What was done.
    pub(super) what: String,
    /// What should have come.
    pub(super) expected: String,
    /// What came.
    pub(super) got: String,
}

impl Reporter {
    pub(super) fn new(json: bool) -> Self {
        Self { json, colours: !json && colours(), done: Cell::new(0), is_over: Cell::new(false) }
    }

    /// A line for people only.
    pub(super) fn note(&self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { print(text) }
    }

    /// The resources that are now in force.
    pub(super) fn heading(&self, step: &str, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { print(format_args!("\n{} {text}", self.bold(step))) }
    }

    /// A result; the first that differs ends the walk.
    pub(super) fn tried(&self, tried: Tried) -> Result<(), Stopped> {
        let Tried { step, what, expected, got } = tried;
        let ok = expected == got;
        self.done.set(self.done.get() + 1);
        if self.json {
            let line = json!({"step": step, "what": what, "expected": expected, "got": got, "ok": ok});
            print(line)?;
        } else if ok {
            print(format_args!("   {} {what:<52} {got}", self.good("ok")))?;
        } else {
            print(format_args!("   {} {what:<52} expected {expected:?}, got {got:?}", self.bad("differs")))?;
        }
        if ok { Ok(()) } else { Err(Stopped::Differs(step)) }
    }

    /// The last line.
    pub(super) fn summary(&self) -> io::Result<()> {
        self.is_over.set(true);
        let done = self.done.get();
        self.note(&format!("\n{done} result{}, all as expected", if done == 1 { "" } else { "s" }))
    }

    /// Whether the last line was written: nothing more is tried.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
