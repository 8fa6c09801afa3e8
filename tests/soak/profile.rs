//! Which soak it is: how long, how much is asked, how often what goes wrong, and what is wanted in the end.

use std::time::Duration;

/// Ten minutes of everything at once, as fast as a process that does everything else too can ask.
const HARSH: Profile = Profile {
    length: Duration::from_secs(600),
    rate: 700,
    policies: Duration::from_secs(1),
    certificates: Duration::from_secs(5),
    kills: Duration::from_secs(10),
    quiet: Duration::from_secs(20),
    again: None,
    warm_up: Duration::from_secs(30),
    wanted: Wanted { kib: 8 * 1024, growth: Growth::Later(2.0 * 1024.0), times_quiet: None },
};

/// An hour as it may be in a bad week: the goal for one is a rate of seven tenths of what the machine can do.
const GENTLE: Profile = Profile {
    length: Duration::from_secs(3600),
    rate: 200,
    policies: Duration::from_secs(5),
    certificates: Duration::from_secs(30),
    kills: Duration::from_secs(60),
    quiet: Duration::from_secs(60),
    // What else the machine does is in both, as far as it lasts: times are compared with what is near them.
    again: Some(Duration::from_secs(600)),
    warm_up: Duration::from_secs(540),
    wanted: Wanted { kib: 8 * 1024, growth: Growth::Hour(1024.0), times_quiet: Some(2) },
};

/// One kind of soak.
#[derive(Clone, Copy)]
pub(crate) struct Profile {
    /// From the first request to the last.
    pub(crate) length: Duration,
    /// HTTP requests a second, of all clients.
    pub(crate) rate: u32,
    /// Between two changes of policies, of certificates, and between two deaths.
    pub(crate) policies: Duration,
    pub(crate) certificates: Duration,
    pub(crate) kills: Duration,
    /// Before anything goes wrong, to compare times with.
    pub(crate) quiet: Duration,
    /// From one such time to the next; there is only the first otherwise.
    pub(crate) again: Option<Duration>,
    /// Behind the first, before the first look at memory: pools are filled, every kind of fault has happened.
    pub(crate) warm_up: Duration,
    pub(crate) wanted: Wanted,
}

/// What is wanted in the end, beside that nothing is lost.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// How much more a process may hold in the end than after the warm-up: what the allocator keeps for next time.
    pub(crate) kib: u64,
    pub(crate) growth: Growth,
    /// How many times the 99th percentile of quiet times that of the others may be.
    pub(crate) times_quiet: Option<u32>,
}

/// How much a process may grow by, in KiB, as far as that is more than noise: fitted, so that one look does not decide.
#[derive(Clone, Copy)]
pub(crate) enum Growth {
    /// In the later half.
    Later(f64),
    /// An hour, after the warm-up.
    Hour(f64),
}

impl Profile {
    /// By the words of the command line; cargo adds `--bench`.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut profile = HARSH;
        let (mut length, mut rate) = (None, None);
        while let Some(word) = words.next() {
            let mut number = || {
                let written = words.next().ok_or_else(|| format!("{word} wants a number"))?;
                written.parse::<u32>().map_err(|error| format!("{word} {written}: {error}"))
            };
            match word.as_str() {
                "--bench" => {}
                "--gentle" => profile = GENTLE,
                "--seconds" => length = Some(number()?),
                "--rate" => rate = Some(number()?.max(1)),
                other => return Err(format!("{other}: there are --gentle, --seconds and --rate")),
            }
        }
        profile.rate = rate.unwrap_or(profile.rate);
        profile.length = length.map_or(profile.length, |seconds| Duration::from_secs(seconds.into()));
        // A short one has less of everything.
        profile.quiet = profile.quiet.min(profile.length / 4);
        profile.warm_up = profile.warm_up.min(profile.length / 4);
        Ok(profile)
    }
}
