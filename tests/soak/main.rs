//! A soak: requests of many kinds through a pair of sidecars for minutes, while whatever can go wrong beside them goes wrong.
//!
//! ```text
//! cargo bench --profile profiling -p meshgate-tests --bench soak -- --seconds 600
//! cargo bench --profile profiling -p meshgate-tests --bench soak -- --gentle --rate 200
//! ```
//!
//! Policies are rewritten every second, certificates rotated every five, an application is killed every ten, and some clients
//! cut their connections in the middle; in the gentle form, of an hour, a fifth or a sixth as often. Every answer must be the very one that was asked for; what fails must have been on
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
mod profile;
mod setting;
mod tally;
mod vitals;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use faults::Faults;
use load::Load;
use profile::Profile;
use setting::Setting;
use tally::Tally;
use vitals::Vitals;

/// Every connection that nobody uses has been closed by then: the pools keep them for two seconds here, and are looked through
/// every ten; the tasks that end with them are gone from the count of the time after.
const SETTLE: Duration = Duration::from_secs(25);

fn main() -> ExitCode {
    match Profile::read(std::env::args().skip(1)) {
        Ok(profile) => meshgate_tests::run(soak(profile)),
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
    }
}

async fn soak(profile: Profile) -> ExitCode {
    let setting = Rc::new(Setting::start().await);
    let tally = Rc::new(Tally::default());
    faults::policies(&setting, &tally, 0);
    // Whatever is asked from now on is asked under policies like all that follow.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut vitals = Vitals::before(&setting).await;
    let end = tokio::time::Instant::now() + profile.length;
    let load = Load::start(&setting, &tally, profile.rate);
    let faults = Faults::start(&setting, &tally, &profile);
    tokio::time::sleep(profile.quiet + profile.warm_up).await;
    vitals.warm(&setting).await;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(5)).await;
        vitals.look(&setting).await;
        println!("{}  {}", tally.line(), vitals.line());
    }

    load.end().await;
    faults.end().await;
    tokio::time::sleep(SETTLE).await;
    let mut problems = tally.problems(&profile.wanted);
    problems.extend(vitals.problems(&setting, &profile.wanted).await);
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
