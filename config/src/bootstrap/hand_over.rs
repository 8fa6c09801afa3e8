//! What the bootstrap says about handing the listeners to the next process: `handOver`.

use std::os::unix::ffi::OsStrExt;

use serde::Deserialize;

use super::HandOver;
use super::validate::Validator;

/// A unix socket's address holds 108 bytes with the zero at its end, and the name that the file is made under is longer than the one
/// it gets: by a dot and a process's number, which has up to ten digits.
const PATH_MAX: usize = 108 - 1 - 11;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawHandOver {
    socket: Option<String>,
}

pub(super) fn hand_over(v: &mut Validator<'_>, raw: RawHandOver) -> HandOver {
    if raw.socket.is_none() {
        return HandOver::default();
    }
    let socket = v.required_path("handOver.socket", raw.socket);
    let length = socket.as_os_str().as_bytes().len();
    if length > PATH_MAX {
        let path = socket.display();
        v.fail(
            "handOver.socket",
            format!("{path} has {length} bytes, and a unix socket's path at most {PATH_MAX} here"),
        );
    }
    HandOver { socket: Some(socket) }
}
