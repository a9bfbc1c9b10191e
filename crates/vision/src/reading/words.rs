//! Wording for messages about the user's files: suggestions for typos, shortened lists, counts.

use crate::error::is_hidden;
use serde_json::Value;
use std::ffi::OsStr;

/// `; did you mean `x`?` if one of `known` is close to `word`, otherwise empty.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |candidate| format!("; did you mean `{candidate}`?"))
}

/// The one of `known` that is closest to `word`, if it is close enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.chars().count().div_ceil(3).clamp(1, 3);
    let nearest = known
        .into_iter()
        .map(|candidate| (strsim::levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min();
    nearest.map(|(_, candidate)| candidate)
}

/// The first `most` words as `a, b, c`, followed by `…` if there are more.
pub fn list_some<S: AsRef<str>>(words: &[S], most: usize) -> String {
    let shown: Vec<String> = words.iter().take(most).map(|word| cut(word.as_ref())).collect();
    let tail = if words.len() > most { ", …" } else { "" };
    format!("{}{tail}", shown.join(", "))
}

/// A word of the user's files for a list or a table: cut if it is very long.
pub fn cut(word: &str) -> String {
    const LONGEST: usize = 80;
    match word.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

/// A value as one line of JSON, without a character that a terminal acts on: JSON itself escapes only the oldest of them.
pub fn json_line(value: &Value) -> String {
    let escaped = |c: char| if is_hidden(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    value.to_string().chars().map(escaped).collect()
}

/// A word of a command line as a shell reads it: in quotes unless it is plain. If it has characters that a terminal does not show, or
/// bytes that are no text, they are escaped in the quotes `$'…'` of bash and zsh.
pub fn shell_word(word: &OsStr) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) if !text.contains(is_hidden) => format!("'{}'", text.replace('\'', "'\\''")),
        _ => {
            let mut quoted = "$'".to_owned();
            let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
            for chunk in word.as_encoded_bytes().utf8_chunks() {
                for c in chunk.valid().chars() {
                    match c {
                        '\'' | '\\' => quoted.extend(['\\', c]),
                        c if is_hidden(c) => quoted += &escaped(c.encode_utf8(&mut [0; 4]).as_bytes()),
                        c => quoted.push(c),
                    }
                }
                quoted += &escaped(chunk.invalid());
            }
            quoted + "'"
        }
    }
}

/// `1 image`, `2 images`, `1 box`, `2 boxes`, `2 classes`.
pub fn count_of(count: usize, noun: &str) -> String {
    match (count, noun.ends_with(['x', 's'])) {
        (1, _) => format!("1 {noun}"),
        (_, true) => format!("{count} {noun}es"),
        (_, false) => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        for (word, quoted) in [
            ("a/b-1.png", "a/b-1.png"),
            ("", "''"),
            ("my data", "'my data'"),
            ("it's", "'it'\\''s'"),
            ("$HOME;rm *", "'$HOME;rm *'"),
            ("é\n\u{1b}'\\", "$'é\\x0a\\x1b\\'\\\\'"),
        ] {
            assert_eq!(shell_word(word.as_ref()), quoted);
            #[cfg(unix)]
            {
                let said = std::process::Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output();
                assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), word);
            }
        }
        #[cfg(unix)]
        assert_eq!(shell_word(std::os::unix::ffi::OsStrExt::from_bytes(b"x\xff")), "$'x\\xff'");
    }
}
