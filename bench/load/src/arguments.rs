//! What is asked for: flags with a value each.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What to send, where to, and how often.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    /// Requests a second, over all connections.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    pub(crate) connections: usize,
    /// Where each answered request is to be written to: when it was due, and its latency.
    pub(crate) each: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn from_words(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut address = None;
        let mut read = Self {
            address: ([127, 0, 0, 1], 0).into(),
            host: String::new(),
            path: "/".into(),
            rate: 1000.0,
            seconds: 5.0,
            connections: 20,
            each: None,
        };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag} wants a value"))?;
            match flag.as_str() {
                "--address" => address = Some(number(&flag, &value)?),
                "--host" => read.host = value,
                "--path" => read.path = value,
                "--rate" => read.rate = positive(&flag, &value)?,
                "--seconds" => read.seconds = positive(&flag, &value)?,
                "--each" => read.each = Some(value.into()),
                "--connections" => read.connections = number(&flag, &value)?,
                _ => {
                    return Err(format!(
                        "{flag}: there are --address, --host, --path, --rate, --seconds, --connections and --each"
                    ));
                }
            }
        }
        read.address = address.ok_or("--address is needed")?;
        if read.connections == 0 {
            return Err("--connections: none".into());
        }
        Ok(read)
    }
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(|error| format!("{flag} {value}: {error}"))
}

fn positive(flag: &str, value: &str) -> Result<f64, String> {
    let number: f64 = number(flag, value)?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err(format!("{flag} {value}: must be greater than zero"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::from_words(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_read_and_the_rest_has_defaults() {
        let read = read("--address 127.0.0.2:80 --rate 0.5 --host a").unwrap();
        assert_eq!((read.address.port(), read.rate, read.host.as_str(), read.path.as_str()), (80, 0.5, "a", "/"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_flag() {
        for line in [
            "",
            "--rate 3",
            "--address 127.0.0.1:1 --rate 0",
            "--address 127.0.0.1:1 --connections 0",
            "--speed 3",
            "--rate",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        assert!(read("--address 127.0.0.1:1 --seconds x").unwrap_err().starts_with("--seconds x: "));
    }
}
