//! `meshgate top`: the live page in a terminal: who talks to whom, who was refused, what is healthy, and how long certificates last.
//!
//! It follows the events of a proxy's admin endpoint, and asks for nothing else. On a terminal they are drawn on a screen of its own
//! until somebody quits; anywhere else, and with `--once`, one state is written down.

mod render;
mod state;
mod terminal;
mod text;
mod traffic;

use std::cmp::Ordering;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{self, Instant};

use self::render::View;
use self::state::State;
use self::terminal::Screen;
use self::traffic::{History, Row};
use crate::cli::admin::{BoxError, Events};
use crate::cli::{Output, admin, colours, complain, fail, print};
use crate::{runtime, signal as stop};

/// What is followed.
const EVENTS: &str = "/events";

/// A proxy sends a state a second; one that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts to reach a proxy that has gone.
const AGAIN: Duration = Duration::from_secs(1);

/// Ctrl-C, where the terminal does not make a signal of it.
const INTERRUPT: u8 = 3;

/// Options of `meshgate top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Keys: q or Ctrl-C quits, s sorts by the next thing.")]
pub(super) struct Args {
    /// The proxy's admin endpoint; of one that listens at every address, loopback is asked
    #[arg(long, value_name = "ADDRESS", env = "MESHGATE_ADMIN_ADDRESS", default_value = "127.0.0.1:15000")]
    admin: String,
    /// Between two pictures; a proxy has a new one each second
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// What comes first
    #[arg(long, value_enum, default_value_t = Sort::Rate)]
    sort: Sort,
    /// Write one state down and end; the numbers are those since the proxy's start
    #[arg(long)]
    once: bool,
    /// Text or JSON; JSON is the state as the proxy tells it, once
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// By what edges are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Requests a second
    Rate,
    /// Refusals
    Refused,
    /// The share that went wrong
    Errors,
    /// The 99th percentile
    Latency,
    /// Who calls, whom
    Name,
}

/// Why there is no state of now.
#[derive(Debug)]
struct Trouble(String);

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Refused => "refusals",
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Rate => Self::Refused,
            Self::Refused => Self::Errors,
            Self::Errors => Self::Latency,
            Self::Latency => Self::Name,
            Self::Name => Self::Rate,
        }
    }

    /// The most comes first; what is equal in that stays in one order from picture to picture.
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let most = |of: fn(&Row) -> f64| of(b).total_cmp(&of(a));
        let by = match self {
            // Before there are rates: what there has been most of.
            Self::Rate => most(|row| row.rate.unwrap_or_default()).then_with(|| b.total.cmp(&a.total)),
            Self::Refused => b.refused.cmp(&a.refused),
            Self::Errors => most(|row| 1.0 - row.success.unwrap_or(1.0)),
            Self::Latency => most(|row| row.p99_ms.unwrap_or_default()),
            Self::Name => Ordering::Equal,
        };
        by.then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to)))
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = meshgate_config::duration::parse(text).map_err(|error| error.to_string())?;
    match interval {
        short if short < Duration::from_secs(1) => {
            Err("a proxy has a new state each second, and not more often".to_owned())
        }
        interval => Ok(interval),
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    let Some(address) = admin::address(&args.admin).map(admin::reachable) else {
        return fail(format_args!("--admin: `{}` is no address: expected such as 127.0.0.1:15000", args.admin));
    };
    let runtime = match runtime::local() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let on_terminal = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let once = args.once || args.output == Output::Json;
    if !once && !on_terminal {
        complain("standard output is no terminal: this is the state of now, as with --once");
    }
    let done = runtime.block_on(async {
        if once || !on_terminal { written(args, address).await } else { live(args, address).await }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("cannot follow the proxy at {address}: {error}")),
    }
}

/// Writes one state down.
async fn written(args: &Args, address: SocketAddr) -> Result<(), BoxError> {
    let first = async { Events::follow(address, EVENTS).await?.next().await };
    let event = time::timeout(PATIENCE, first).await.map_err(|_| "it does not answer")??;
    let lines = match args.output {
        Output::Json => vec![serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&event)?)?],
        Output::Text => {
            let state: State = serde_json::from_str(&event)?;
            let rows = History::default().rows(&state, Instant::now());
            let address = address.to_string();
            let view = View { address, state: &state, rows, sort: args.sort, trouble: None, keys: "" };
            // What is read by a program is not cut, unless somebody says how wide it is to be.
            let columns = match std::io::stdout().is_terminal() || std::env::var_os("COLUMNS").is_some() {
                true => terminal::size().0,
                false => 200,
            };
            let lines = render::render(&view, columns, None);
            lines.iter().map(|line| line.shown(columns, colours())).collect()
        }
    };
    // A pipe that is closed, as by `| head`, is nobody's fault.
    let _ = lines.iter().try_for_each(print);
    Ok(())
}

/// What is on the screen.
struct Live {
    address: SocketAddr,
    sort: Sort,
    state: State,
    rows: Vec<Row>,
    history: History,
    trouble: Option<Trouble>,
}

impl Live {
    fn take(&mut self, event: &str) {
        match serde_json::from_str::<State>(event) {
            Ok(state) => {
                self.rows = self.history.rows(&state, Instant::now());
                (self.state, self.trouble) = (state, None);
            }
            Err(error) => self.trouble = Some(Trouble(format!("what it sends is not understood: {error}"))),
        }
    }

    fn lose(&mut self, error: &BoxError) {
        self.trouble = Some(Trouble(format!("{error}; trying again")));
        // Who answers next may be another process, whose numbers begin at nothing.
        self.history.clear();
    }

    fn draw(&self, screen: &Screen) -> std::io::Result<()> {
        let (columns, rows) = terminal::size();
        let view = View {
            address: self.address.to_string(),
            state: &self.state,
            rows: self.rows.clone(),
            sort: self.sort,
            trouble: self.trouble.as_ref(),
            keys: if screen.has_keys() { "q quits, s sorts" } else { "" },
        };
        let lines = render::render(&view, columns, Some(rows));
        screen.draw(&lines.iter().map(|line| line.shown(columns, colours())).collect::<Vec<_>>())
    }
}

/// Draws until somebody quits.
async fn live(args: &Args, address: SocketAddr) -> Result<(), BoxError> {
    let mut stop = stop::Stop::listen()?;
    let (mut resized, mut hung_up) = (signal(SignalKind::window_change())?, signal(SignalKind::hangup())?);
    // Before the screen is taken: who is not there is told of in the usual way.
    let mut events =
        Some(time::timeout(PATIENCE, Events::follow(address, EVENTS)).await.map_err(|_| "it does not answer")??);
    let screen = Screen::enter()?;
    let mut keys = if screen.has_keys() { terminal::keys()? } else { mpsc::channel(1).1 };
    let (sort, history) = (args.sort, History::default());
    let mut live = Live { address, sort, state: State::default(), rows: Vec::new(), history, trouble: None };
    let mut drawn: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = stop.next() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            _ = resized.recv() => live.draw(&screen)?,
            Some(key) = keys.recv() => match key {
                b'q' | b'Q' | INTERRUPT => return Ok(()),
                b's' | b'S' => {
                    live.sort = live.sort.next();
                    live.draw(&screen)?;
                }
                _ => {}
            },
            event = next(&mut events, address) => {
                let lost = event.is_err();
                match event {
                    Ok(event) => live.take(&event),
                    Err(error) => live.lose(&error),
                }
                // An event of a little less than the interval is the one that is meant.
                let is_due = drawn.is_none_or(|drawn| drawn.elapsed() + Duration::from_millis(500) >= args.interval);
                if is_due || lost {
                    live.draw(&screen)?;
                    drawn = Some(Instant::now());
                }
            }
        }
    }
}

/// The next event, of a proxy that may have to be reached anew. Cancel-safe but for that.
async fn next(events: &mut Option<Events>, address: SocketAddr) -> Result<String, BoxError> {
    let event = async {
        if events.is_none() {
            time::sleep(AGAIN).await;
            *events = Some(Events::follow(address, EVENTS).await?);
        }
        match events {
            Some(events) => events.next().await,
            None => Err("it does not answer".into()),
        }
    };
    let event = time::timeout(AGAIN + PATIENCE, event).await.unwrap_or_else(|_| Err("it does not answer".into()));
    if event.is_err() {
        *events = None;
    }
    event
}
