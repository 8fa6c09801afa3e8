//! What to do about errors that are the operating system's, whoever met them.
//!
//! The one idea: messages of ours end in the system's own words with its number, `(os error 2)`, so that one table serves every
//! command. What to do about our own errors stands with them.

/// What to do about it, if its number says enough.
pub(super) fn of_system(error: &str) -> Option<String> {
    let number: u32 = error.rsplit_once("(os error ")?.1.split_once(')')?.0.parse().ok()?;
    let is_absolute = |word: &str| word.trim_start_matches(['`', '"', '\'']).starts_with('/');
    Some(match number {
        // ENOENT
        2 if error.split_whitespace().any(is_absolute) => return None,
        2 => match std::env::current_dir() {
            Ok(dir) => format!("relative paths are looked for in {}", dir.display()),
            Err(error) => format!("the current folder is not there: {error}"),
        },
        // EPERM, EACCES
        1 | 13 => "the user who runs this may not: `id` says who that is, `ls -ld` who may".to_owned(),
        // EEXIST, ENOTDIR
        17 | 20 => "a folder is wanted there, and it, or something above it, is a file".to_owned(),
        // EISDIR
        21 => "it is a folder, and a file is wanted".to_owned(),
        // ENOSPC
        28 => "make room on the disk: `df -h` says which is full".to_owned(),
        // EROFS
        30 => "the file system is read-only: mount a writable one there, or name another folder".to_owned(),
        // EADDRINUSE
        98 => "another process listens there already: `ss -ltnp` says which; end it, or take another port".to_owned(),
        // EADDRNOTAVAIL
        99 => "this machine does not have that address: `ip address` lists those it has".to_owned(),
        // ECONNREFUSED
        111 => "nothing listens there: is it running, and is this its address and port?".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::of_system;

    #[test]
    fn known_numbers_say_what_to_do() {
        let says = |number: u32| of_system(&format!("a.yaml: cannot be read: words (os error {number})"));
        assert!(says(2).unwrap().contains("relative paths"));
        assert_eq!(of_system("`/a.yaml`: cannot be read: words (os error 2)"), None);
        assert!(says(13).unwrap().contains("ls -ld"));
        assert!(says(98).unwrap().contains("ss -ltnp"));
        assert_eq!(says(5), None);
        assert_eq!(of_system("a.yaml:2: unknown field"), None);
        assert_eq!(of_system("(os error x)"), None);
    }
}
