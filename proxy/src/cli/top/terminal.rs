//! The terminal: a screen of its own while it is held, and as it was before when it is not any more, however that came about.

use std::io::{self, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Alternate screen (xterm's 1049), no cursor, and lines that are too long are not continued on the next one.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";

/// All of it taken back.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// What is assumed of what is no terminal, and of one that does not know how large it is.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// A screen of its own.
#[derive(Debug)]
pub(super) struct Screen {
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal: what is typed is not shown, and comes key by key.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
        let screen = Self { before };
        if let Some(before) = &screen.before {
            let mut raw = before.clone();
            // Ctrl-C comes as a key as well, so that nothing ends without the screen being left.
            raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            tcsetattr(&stdin, OptionalActions::Flush, &raw)?;
        }
        write(ENTER)?;
        Ok(screen)
    }

    /// Whether keys can be pressed.
    pub(super) fn has_keys(&self) -> bool {
        self.before.is_some()
    }

    /// Puts lines in place of those that are there.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut frame = String::from("\x1b[H");
        for (index, line) in lines.iter().enumerate() {
            frame += if index == 0 { "\x1b[2K" } else { "\r\n\x1b[2K" };
            frame += line;
        }
        frame += "\x1b[0J";
        write(&frame)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing given back.
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Columns and rows: what the terminal says, else what the environment says, else what is usual.
pub(super) fn size() -> (usize, usize) {
    let known = tcgetwinsize(io::stdout()).ok();
    let known = known.map_or((0, 0), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    let said = |name: &str| std::env::var(name).ok()?.parse().ok().filter(|number: &usize| *number > 0);
    let or = |known: usize, name, usual| if known > 0 { known } else { said(name).unwrap_or(usual) };
    (or(known.0, "COLUMNS", COLUMNS), or(known.1, "LINES", ROWS))
}

/// The keys that are pressed, one by one. They are read on a thread of their own, which ends with the process: nobody can be told to
/// stop reading a terminal.
///
/// # Errors
/// The operating system's, when it gives no thread.
pub(super) fn keys() -> io::Result<mpsc::Receiver<u8>> {
    let (pressed, keys) = mpsc::channel(16);
    let read = move || {
        let mut key = [0];
        while let Ok(1) = io::Read::read(&mut io::stdin(), &mut key) {
            if pressed.blocking_send(key[0]).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(keys)
}
