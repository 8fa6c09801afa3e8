use super::super::frame::{END_STREAM, PADDED};
use super::*;
use crate::http::guard::http2::Frames;

const PRIORITY: u8 = 2;
const WINDOW_UPDATE: u8 = 8;
const UNKNOWN: u8 = 0x77;
const CANCEL: u32 = 8;

const LIMITS: Limits = Limits { control_frames: 1000, resets: 150, header_block_bytes: 64 * 1024 };

/// A connection on a clock of its own.
struct Connection {
    budget: Budget,
    now: Instant,
}

fn frame(kind: u8, flags: u8, stream: u32, length: u32, payload: &[u8]) -> Frame {
    let [_, a, b, c] = length.to_be_bytes();
    let bytes = [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat();
    Frames::of_server().next(&mut bytes.as_slice()).unwrap()
}

impl Connection {
    /// One that has begun.
    fn of(role: Role) -> Self {
        let now = Instant::now();
        let mut new = Self { budget: Budget::new(role, &LIMITS, now), now };
        new.received(frame(SETTINGS, 0, 0, 0, &[])).unwrap();
        new
    }

    fn received(&mut self, frame: Frame) -> Result<(), Excess> {
        self.budget.received(&frame, || self.now)
    }

    fn sent(&mut self, frame: Frame) -> Result<(), Excess> {
        self.budget.sent(&frame, || self.now)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn head(&mut self, stream: u32) -> Result<(), Excess> {
        self.received(frame(HEADERS, END_HEADERS | END_STREAM, stream, 50, &[]))?;
        self.budget.block_ended();
        Ok(())
    }

    fn cancels(&mut self, stream: u32) -> Result<(), Excess> {
        self.received(frame(RST_STREAM, 0, stream, 4, &CANCEL.to_be_bytes()))
    }

    /// How many of these frames go through, of so many.
    fn flood(&mut self, of: u32, flood: Frame) -> u32 {
        (0..of).find(|_| self.received(flood).is_err()).unwrap_or(of)
    }
}

#[test]
fn floods_of_frames_that_move_nothing_end_within_their_allowance() {
    for (kind, flags, length, most) in [
        (PING, 0, 8, 1000),
        (PING, ACK, 8, 1000),
        (SETTINGS, 0, 6, 100),
        (SETTINGS, ACK, 0, 1000),
        (PRIORITY, 0, 5, 1000),
        (WINDOW_UPDATE, 0, 4, 1000),
        (UNKNOWN, 0, 0, 1000),
        (DATA, 0, 0, 1000),
        (DATA, PADDED, 4, 1000),
        (GOAWAY, 0, 8, 100),
        (CONTINUATION, 0, 0, 1000),
    ] {
        for role in [Role::Server, Role::Client] {
            let through = Connection::of(role).flood(40_000, frame(kind, flags, 1, length, &[3, 0, 0, 0]));
            assert!((most / 2..=most).contains(&through), "{kind} {flags} {role:?}: {through}");
        }
    }
}

#[test]
fn what_goes_with_work_never_uses_the_allowance_up() {
    // A download of 4 GiB in frames of 16 KiB, each acknowledged twice and measured; then with acknowledgements that come late.
    let mut connection = Connection::of(Role::Server);
    for late in [1, 1000] {
        for _ in 0..256 * 1024 / late {
            (0..late).for_each(|_| connection.sent(frame(DATA, 0, 1, 16384, &[])).unwrap());
            for kind in [WINDOW_UPDATE, WINDOW_UPDATE, PING] {
                (0..late).for_each(|_| connection.received(frame(kind, 0, 1, 4, &[])).unwrap());
            }
        }
    }
    // Messages of a byte, back and forth over one stream, each acknowledged.
    for _ in 0..100_000 {
        connection.received(frame(DATA, 0, 1, 6, &[])).unwrap();
        connection.sent(frame(DATA, 0, 1, 6, &[])).unwrap();
        connection.received(frame(WINDOW_UPDATE, 0, 1, 4, &[])).unwrap();
        connection.received(frame(WINDOW_UPDATE, 0, 0, 4, &[])).unwrap();
    }
    // Streams that are each given a priority and a window, and end with an empty frame.
    for number in 0..100_000 {
        let stream = 2 * number + 3;
        connection.head(stream).unwrap();
        for kind in [PRIORITY, WINDOW_UPDATE, PRIORITY] {
            connection.received(frame(kind, 0, stream, 4, &[])).unwrap();
        }
        connection.received(frame(DATA, END_STREAM, stream, 0, &[])).unwrap();
    }
    // Pings for a day, ten a second.
    let mut connection = Connection::of(Role::Server);
    for _ in 0..864_000 {
        connection.wait(Duration::from_millis(100));
        connection.received(frame(PING, 0, 0, 8, &[])).unwrap();
    }
}

#[test]
fn much_work_does_not_save_up_for_a_flood_without_end() {
    let mut connection = Connection::of(Role::Server);
    for _ in 0..100_000 {
        connection.sent(frame(DATA, 0, 1, 16384, &[])).unwrap();
    }
    assert!(connection.flood(40_000, frame(PING, 0, 0, 8, &[])) <= 16_000);
    connection.wait(Duration::from_secs(3600));
    assert!(connection.flood(40_000, frame(PING, 0, 0, 8, &[])) <= 1000);
}

#[test]
fn streams_taken_back_before_an_answer_are_counted_and_others_are_not() {
    let rapid = |answered: bool, patience: Duration| {
        let mut connection = Connection::of(Role::Server);
        (0..6000).find(|number| {
            let stream = 2 * number + 1;
            connection.head(stream).unwrap();
            if answered {
                connection.sent(frame(HEADERS, END_HEADERS, stream, 10, &[])).unwrap();
            }
            connection.wait(patience);
            connection.cancels(stream).is_err()
        })
    };
    assert_eq!(rapid(false, Duration::ZERO), Some(150));
    assert!(rapid(false, Duration::from_millis(10)).is_some_and(|through| through < 200));
    assert_eq!(rapid(true, Duration::ZERO), None);
    // Calls that wait long, and are given up one after the other.
    assert_eq!(rapid(false, Duration::from_millis(200)), None);
}

#[test]
fn a_hundred_old_streams_may_be_taken_back_at_once_again_and_again() {
    let mut connection = Connection::of(Role::Server);
    for round in 0..50 {
        let streams = (0..100).map(|number| 2 * (100 * round + number) + 1);
        streams.clone().for_each(|stream| connection.head(stream).unwrap());
        connection.wait(Duration::from_millis(1000));
        for stream in streams {
            assert_eq!(connection.cancels(stream), Ok(()), "round {round}");
        }
    }
}

#[test]
fn cheap_answers_do_not_pay_for_a_burst_of_streams_taken_back() {
    let mut connection = Connection::of(Role::Server);
    let mut stream = 1;
    for _ in 0..10_000 {
        connection.head(stream).unwrap();
        connection.sent(frame(HEADERS, END_HEADERS | END_STREAM, stream, 20, &[])).unwrap();
        stream += 2;
    }
    let taken_back = (0..10_000).find(|_| {
        connection.head(stream).unwrap();
        stream += 2;
        connection.cancels(stream - 2).is_err()
    });
    assert_eq!(taken_back, Some(LIMITS.resets * 2));
}

#[test]
fn resets_that_a_peers_errors_make_us_send_count_like_its_own() {
    let mut connection = Connection::of(Role::Server);
    let through = (0..3000).find(|number| {
        let stream = 2 * number + 1;
        connection.head(stream).unwrap();
        connection.sent(frame(RST_STREAM, 0, stream, 4, &1_u32.to_be_bytes())).is_err()
    });
    assert_eq!(through, Some(150));
    // An answer that did not need the rest of its request ends so.
    let mut connection = Connection::of(Role::Server);
    for number in 0..3000 {
        connection.head(2 * number + 1).unwrap();
        connection.sent(frame(RST_STREAM, 0, 2 * number + 1, 4, &[0; 4])).unwrap();
    }
    // Those that were never begun cost little, but not nothing.
    let mut connection = Connection::of(Role::Server);
    let through = (0..3000).find(|number| {
        connection.head(2 * number + 1).unwrap();
        connection.sent(frame(RST_STREAM, 0, 2 * number + 1, 4, &7_u32.to_be_bytes())).is_err()
    });
    assert!(through.is_some_and(|through| (200..500).contains(&through)), "{through:?}");
}

#[test]
fn a_header_block_has_a_bound_however_it_is_cut() {
    for piece in [100, 16384] {
        let mut connection = Connection::of(Role::Server);
        let mut bytes = 0;
        let mut next = frame(HEADERS, 0, 1, piece, &[]);
        while connection.received(next).is_ok() {
            assert!(connection.budget.is_within_head());
            (bytes, next) = (bytes + piece, frame(CONTINUATION, 0, 1, piece, &[]));
        }
        assert!(bytes <= 64 * 1024, "{bytes}");
        assert!(bytes > 48 * 1024, "{bytes}");
    }
}

#[test]
fn an_upstream_may_send_few_heads_that_nobody_asked_for() {
    let mut connection = Connection::of(Role::Client);
    for number in 0..10_000 {
        connection.sent(frame(HEADERS, END_HEADERS, 2 * number + 1, 50, &[])).unwrap();
        // 100, 103, the answer, trailers.
        (0..4).for_each(|_| connection.head(2 * number + 1).unwrap());
    }
    assert!((0..5000).any(|_| connection.head(1) == Err(Excess::Heads)));
}

#[test]
fn what_does_not_begin_with_settings_is_not_http_2() {
    for (kind, flags) in [(PING, 0), (HEADERS, 5), (SETTINGS, ACK), (b'/', b'1')] {
        let now = Instant::now();
        let mut budget = Budget::new(Role::Client, &LIMITS, now);
        assert!(budget.is_within_head());
        assert_eq!(budget.received(&frame(kind, flags, 0, 8, &[]), || now), Err(Excess::Preface));
    }
}
