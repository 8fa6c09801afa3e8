//! Identifiers as they stand in headers.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A number of at most 32 digits; either case. `None` when it has none, too many, or anything else in it.
pub(super) fn read(text: &[u8]) -> Option<u128> {
    if text.is_empty() || text.len() > 32 {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(u128::from);
    text.iter().try_fold(0, |number, byte| Some(number << 4 | digit(byte)?))
}

/// As [`read`], of exactly 16 digits and not zero.
pub(super) fn span(text: &[u8]) -> Option<u64> {
    let number = (text.len() == 16).then(|| read(text)).flatten()?;
    u64::try_from(number).ok().filter(|span| *span != 0)
}

/// Adds the last `digits` digits.
pub(super) fn write(number: u128, digits: u32, out: &mut Vec<u8>) {
    let at = |place: u32| (number >> (4 * place) & 15) as usize;
    out.extend((0..digits).rev().map(|place| DIGITS.get(at(place)).copied().unwrap_or(b'0')));
}
