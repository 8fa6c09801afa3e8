//! How much of a resource: Kubernetes' quantities.

const SUFFIXES: [&str; 16] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// A quantity as `resource.Quantity` has it, as it is written: a decimal number, and a suffix, an exponent or neither.
///
/// # Errors
/// It is none; what one looks like.
pub(super) fn parse(text: &str) -> Result<String, &'static str> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(digits).unwrap_or_default();
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| power.parse::<i8>().is_ok());
    match number.parse::<f64>().is_ok() && (exponent || SUFFIXES.contains(&suffix)) {
        true => Ok(text.to_owned()),
        false => Err("is not a quantity such as 100m, 2 or 128Mi"),
    }
}

/// As [`parse`]; nothing at all is none.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_or_none(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Ok(String::new()) } else { parse(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_takes_for_a_quantity() {
        for good in ["100m", "2", "0.5", "128Mi", "1.5Gi", "1e3", "12E6", "1E", "5."] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        for wrong in ["", "lots", "-1", "1 Gi", "1MB", "1gi", "Mi", ".", "1e", "1.2.3", "1K"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!((parse_or_none(""), parse_or_none("lots").is_err()), (Ok(String::new()), true));
    }
}
