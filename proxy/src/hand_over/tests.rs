#![allow(clippy::disallowed_methods, reason = "no worker waits here")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};

use super::*;

fn listener(kind: Kind) -> Listener {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    Listener { kind, address: "127.0.0.1:0".parse().unwrap(), socket }
}

fn offer(path: &Path, listeners: Vec<Listener>) -> Offer {
    let mut door = Door::make(path).unwrap();
    door.put_in_place().unwrap();
    Offer::new(door, listeners)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    crate::runtime::local().unwrap().block_on(test)
}

/// Runs an offer on a thread of its own until it is taken.
fn serve(offer: Offer) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || run(offer.taken()).unwrap())
}

#[test]
fn what_waits_in_a_queue_is_accepted_by_whoever_takes_it() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let (inbound, outbound) = (listener(Kind::Inbound), listener(Kind::Outbound));
        let address = inbound.socket.local_addr().unwrap();
        let mut waiting = TcpStream::connect(address).unwrap();
        waiting.write_all(b"early").unwrap();
        let old = serve(offer(&path, vec![inbound, outbound]));
        let mut taking = Taking::begin(&path).await.unwrap().unwrap();
        assert!(taking.take(Kind::Gateway, "127.0.0.1:0".parse().unwrap()).is_empty(), "of another kind");
        assert!(taking.take(Kind::Inbound, "127.0.0.2:0".parse().unwrap()).is_empty(), "of another address");
        let taken = taking.take(Kind::Inbound, "127.0.0.1:0".parse().unwrap());
        assert_eq!(taken[0].local_addr().unwrap(), address);
        taking.done().await.unwrap();
        // It has let go of its own.
        old.join().unwrap();
        let (mut stream, _) = taken[0].accept().unwrap();
        let mut read = [0; 5];
        stream.set_nonblocking(false).unwrap();
        stream.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"early");
    });
}

#[test]
fn whoever_goes_before_it_serves_or_talks_nonsense_changes_nothing() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let old = serve(offer(&path, vec![listener(Kind::Inbound)]));
        drop(Taking::begin(&path).await.unwrap().unwrap());
        let mut nonsense =
            vec![b"x".to_vec(), vec![b'x'; 128], vec![0; 128], vec![0xff; 4096], b"GET / HTTP/1.1\r\n\r\n".into()];
        nonsense.push(format!("{:<128}", "meshgate hand-over 2").into());
        nonsense.push(format!("{HELLO:<128}{:<128}", "x").into());
        for bytes in nonsense {
            let mut peer = StdUnixStream::connect(&path).unwrap();
            peer.write_all(&bytes).unwrap();
            let mut said = Vec::new();
            // Closed with some of it unread, which is a reset.
            let _ = peer.read_to_end(&mut said);
            let is_hello = bytes.starts_with(format!("{HELLO:<128}").as_bytes());
            assert_eq!(!said.is_empty(), is_hello, "{said:?} to {bytes:?}");
        }
        let silent = StdUnixStream::connect(&path).unwrap();
        assert!(!old.is_finished());
        let taking = Taking::begin(&path).await.unwrap().unwrap();
        assert_eq!(taking.listeners.len(), 1);
        taking.done().await.unwrap();
        old.join().unwrap();
        drop(silent);
    });
}

#[test]
fn the_file_is_for_one_user_and_changes_hands_and_one_that_nobody_is_behind_is_replaced() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        assert!(Taking::begin(&path).await.unwrap().is_none(), "there is none");
        let first = offer(&path, Vec::new());
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        drop(first);
        assert!(path.exists());
        assert!(Taking::begin(&path).await.unwrap().is_none(), "nobody is behind it");
        let _second = offer(&path, Vec::new());
        assert_ne!(std::fs::metadata(&path).unwrap().ino(), file.ino());
        drop(Door::make(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "what never came into its place is removed");
    });
}

#[test]
fn what_is_no_socket_is_left_alone() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        std::fs::write(&path, "a file").unwrap();
        let error = Taking::begin(&path).await.unwrap_err();
        assert!(matches!(error, HandOverError::NotASocket), "{error}");
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        for mode in [0o777, 0o1777, 0o775] {
            std::fs::set_permissions(&open, PermissionsExt::from_mode(mode)).unwrap();
            let error = Door::make(&open.join("sock")).unwrap_err();
            assert!(error.to_string().starts_with("others may write in "), "{error}");
        }
        let error = Door::make(&folder.path().join("nowhere/sock")).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    });
}

#[test]
fn only_processes_of_the_same_user_talk() {
    run(async {
        assert!(same_user(1000, 1000).is_ok());
        for (own, peer) in [(1000, 1001), (1000, 0), (0, 1000)] {
            assert!(matches!(same_user(own, peer), Err(HandOverError::Stranger(uid)) if uid == peer));
        }
        let (ours, _other) = UnixStream::pair().unwrap();
        check_user(&ours).unwrap();
    });
}

#[test]
fn a_running_process_that_does_not_let_go_is_not_followed() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let running = StdUnixListener::bind(&path).unwrap();
        let old = std::thread::spawn(move || {
            let (peer, _) = running.accept().unwrap();
            assert_eq!(line::receive(&peer).unwrap().text, HELLO);
            line::send(&peer, "listeners 0", None).unwrap();
            running
        });
        let taking = Taking::begin(&path).await.unwrap().unwrap();
        let running = old.join().unwrap();
        assert!(matches!(taking.done().await, Err(HandOverError::StillThere)));
        drop(running);
    });
}

#[test]
fn too_many_listeners_and_such_that_are_none_are_not_taken() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let running = StdUnixListener::bind(&path).unwrap();
        let old = std::thread::spawn(move || {
            let (peer, _) = running.accept().unwrap();
            line::receive(&peer).unwrap();
            line::send(&peer, "listeners 1025", None).unwrap();
            let (peer, _) = running.accept().unwrap();
            line::receive(&peer).unwrap();
            let plain = listener(Kind::Inbound).socket;
            let connected = TcpStream::connect(plain.local_addr().unwrap()).unwrap();
            let lines = ["inbound 127.0.0.2:0", "later 127.0.0.1:0", "inbound", "inbound 127.0.0.1:0"];
            line::send(&peer, "listeners 5", None).unwrap();
            lines.iter().for_each(|text| line::send(&peer, text, Some(plain.as_fd())).unwrap());
            line::send(&peer, "inbound 127.0.0.1:0", Some(connected.as_fd())).unwrap();
        });
        let error = Taking::begin(&path).await.unwrap_err();
        assert!(matches!(error, HandOverError::Unexpected { .. }), "{error}");
        assert_eq!(Taking::begin(&path).await.unwrap().unwrap().listeners.len(), 1);
        old.join().unwrap();
    });
}
