//! What the kernel says of this process, under the names that Prometheus' own client libraries use. Read when somebody asks.

use std::{fmt, fs};

use super::exposition::Page;

/// Clock ticks a second in `/proc`: Linux has told user space this number, whatever its own, on every architecture since 2.6.
const TICKS: f64 = 100.0;

/// What of `/proc` the metrics need.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// Seconds after boot.
    started: f64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Writes what can be read; the rest is absent.
///
/// # Errors
/// The page cannot be written.
pub fn write(page: &mut Page<'_>) -> fmt::Result {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).ok();
    if let Some(stat) = read("self/stat").as_deref().and_then(parse_stat) {
        let page_size = rustix::param::page_size() as u64;
        page.counter("process_cpu_seconds_total", "User and system time spent")?.count(stat.cpu_seconds)?;
        let resident = stat.resident_pages * page_size;
        page.gauge("process_resident_memory_bytes", "Resident memory")?.level(resident)?;
        page.gauge("process_virtual_memory_bytes", "Virtual memory")?.level(stat.virtual_bytes)?;
        let booted = read("stat").as_deref().and_then(boot_time);
        if let Some(booted) = booted {
            let help = "When the process started, since 1970";
            // To the clock tick; a sum of floats has more digits than it knows.
            let started = ((booted + stat.started) * TICKS).round() / TICKS;
            page.gauge("process_start_time_seconds", help)?.level(started)?;
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Less the one that this look takes itself.
        page.gauge("process_open_fds", "Open file descriptors")?.level(open.count().saturating_sub(1))?;
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        page.gauge("process_max_fds", "File descriptors that may be open")?.level(most)?;
    }
    Ok(())
}

/// `/proc/<pid>/stat`, see proc_pid_stat(5). The name of the command may hold anything, also brackets.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<_> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    // The first one behind the name is the third of the line.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    #[allow(clippy::cast_precision_loss)]
    let seconds = |ticks: u64| ticks as f64 / TICKS;
    Some(Stat {
        cpu_seconds: seconds(field(14)? + field(15)?),
        started: seconds(field(22)?),
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::exposition;
    use super::*;

    #[derive(Debug)]
    struct Process;

    impl exposition::Source for Process {
        fn write(&self, page: &mut Page<'_>) -> fmt::Result {
            write(page)
        }
    }

    #[test]
    fn reads_past_a_name_that_looks_like_fields() {
        let text =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 1200 1048576 256 18446744073709551615";
        let expected = Stat { cpu_seconds: 2.0, started: 12.0, virtual_bytes: 1_048_576, resident_pages: 256 };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("42 (a) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_has_all_of_them() {
        let text = exposition::page(exposition::Format::Text, Process);
        let names = [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
        ];
        for name in names {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            assert!(line.is_some_and(|value| value.parse::<f64>().unwrap() >= 0.0), "{name}: {text}");
        }
    }
}
