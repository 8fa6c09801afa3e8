//! A soak: requests of many kinds through a pair of sidecars for minutes, while whatever can go wrong beside them goes wrong.
//!
//! ```text
//! cargo bench --profile profiling -p meshgate-tests --bench soak -- --seconds 600
//! ```
//!
//! Policies are rewritten every second, certificates rotated every five, an application is killed every ten, and some clients
//! cut their connections in the middle. Every answer must be the very one that was asked for; what fails must have been on
//! its way to an application that was killed ([`tally`] says what exactly). In the end memory, descriptors and tasks must be what
//! they were.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a soak that cannot go on has failed"
)]

mod echo;
mod faults;
mod load;
mod setting;
mod tally;
mod vitals;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use faults::Faults;
use load::Load;
use setting::Setting;
use tally::Tally;
use vitals::Vitals;

/// Every connection that nobody uses has been closed by then: the pools keep them for two seconds here, and are looked through
/// every ten; the tasks that end with them are gone from the count of the time after.
const SETTLE: Duration = Duration::from_secs(25);

/// Before anything goes wrong, to compare times with.
const QUIET: Duration = Duration::from_secs(20);

/// Behind that, before the first look at memory: pools are filled, every kind of fault has happened.
const WARM_UP: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let seconds = match seconds(std::env::args().skip(1)) {
        Ok(seconds) => seconds,
        Err(error) => {
            eprintln!("soak: {error}");
            return ExitCode::from(2);
        }
    };
    meshgate_tests::run(soak(Duration::from_secs(seconds)))
}

/// What `--seconds` says; cargo adds `--bench`.
fn seconds(mut arguments: impl Iterator<Item = String>) -> Result<u64, String> {
    let mut seconds = 600;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--seconds" => {
                let written = arguments.next().ok_or("--seconds wants a number")?;
                seconds = written.parse().map_err(|error| format!("--seconds {written}: {error}"))?;
            }
            other => return Err(format!("{other}: there is only --seconds")),
        }
    }
    Ok(seconds)
}

async fn soak(length: Duration) -> ExitCode {
    let setting = Rc::new(Setting::start().await);
    let tally = Rc::new(Tally::default());
    faults::policies(&setting, &tally, 0);
    // Whatever is asked from now on is asked under policies like all that follow.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut vitals = Vitals::before(&setting).await;
    let end = tokio::time::Instant::now() + length;
    let load = Load::start(&setting, &tally);
    tokio::time::sleep(QUIET.min(length / 4)).await;
    let faults = Faults::start(&setting, &tally);
    tokio::time::sleep(WARM_UP.min(length / 4)).await;
    vitals.warm(&setting).await;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(5)).await;
        vitals.look(&setting).await;
        println!("{}  {}", tally.line(), vitals.line());
    }

    load.end().await;
    faults.end().await;
    tokio::time::sleep(SETTLE).await;
    let mut problems = tally.problems();
    problems.extend(vitals.problems(&setting).await);
    println!("\n{tally}\n{vitals}");
    for problem in &problems {
        println!("PROBLEM: {problem}");
    }
    let unexplained = tally.unexplained();
    if !unexplained.is_empty() {
        println!("what the sidecars say of it:");
        setting.said(&unexplained).iter().for_each(|line| println!("{line}"));
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
