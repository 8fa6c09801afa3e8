//! Reads what `nft list table` prints and what `nft -f` takes, in one form.
//!
//! The one idea: the tool prints rules in words of its own (an address without its `/32`, a set sorted), so both sides are
//! brought into those words before they are compared. Counters and handles are no part of a rule.

use crate::drift::Rules;

/// The rules of our table by chain. A base chain's own line (`type … hook …`) counts as its first rule: where a chain is
/// hooked is as much of the redirection as what is in it.
pub(crate) fn parse(text: &str) -> Rules {
    let mut rules = Rules::default();
    let mut place: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {")) {
            let name = format!("inet meshgate {name}");
            rules.place(&name);
            place = Some(name);
        } else if line == "}" {
            place = None;
        } else if let Some(place) = &place
            && !line.is_empty()
        {
            rules.push(place, canonical(line));
        }
    }
    rules
}

fn canonical(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut source = line.split_whitespace().peekable();
    while let Some(word) = source.next() {
        match word {
            // `packets 1 bytes 60` follows where the tool could not leave it out.
            "counter" if source.peek() == Some(&"packets") => {
                words.push(word.to_owned());
                source.by_ref().take(4).for_each(drop);
            }
            "{" => {
                let elements = source.by_ref().take_while(|word| *word != "}");
                words.push(set(elements.collect::<Vec<_>>().join(" ").split(',').map(value).collect()));
            }
            word if word.contains(',') && !word.starts_with('"') && !word.ends_with(',') => {
                words.push(set(word.split(',').map(value).collect()));
            }
            word => words.push(value(word)),
        }
    }
    words.join(" ")
}

fn set(mut elements: Vec<String>) -> String {
    elements.sort();
    match elements.as_slice() {
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}

/// Spellings of one value.
fn value(word: &str) -> String {
    let word = word.trim();
    if let Some(digits) = word.strip_prefix("0x")
        && let Ok(number) = u32::from_str_radix(digits, 16)
    {
        return number.to_string();
    }
    let host = if word.contains(':') { "/128" } else { "/32" };
    let word = word.strip_suffix(host).unwrap_or(word);
    match word {
        "dstnat" | "dstnat;" => word.replace("dstnat", "-100"),
        "mangle" | "mangle;" => word.replace("mangle", "-150"),
        "raw" | "raw;" => word.replace("raw", "-300"),
        word => word.to_owned(),
    }
}

#[cfg(test)]
mod tests;
