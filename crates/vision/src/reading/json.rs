//! JSON as other programs write it: Python writes `NaN` and `Infinity` for numbers that are none. They become text, so that
//! one bad number does not make the whole file unreadable.

/// Words for numbers that JSON does not have, longest first.
const NO_NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The text with each number that is none as a string of its word, such as `"NaN"`.
pub fn plain(text: String) -> String {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return text;
    }
    let mut plain = String::with_capacity(text.len() + text.len() / 8);
    let (mut is_text, mut is_escaped, mut copied) = (false, false, 0);
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if is_text {
            is_text = is_escaped || byte != b'"';
            is_escaped = byte == b'\\' && !is_escaped;
        } else if byte == b'"' {
            is_text = true;
        } else if let Some(word) = NO_NUMBERS.iter().find(|word| bytes[at..].starts_with(word.as_bytes())) {
            plain.push_str(&text[copied..at]);
            plain.extend(["\"", word, "\""]);
            at += word.len();
            copied = at;
            continue;
        }
        at += 1;
    }
    plain.push_str(&text[copied..]);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_become_text() {
        let written = r#"{"NaN": "Infinity \" NaN \\", "a": [NaN, -Infinity,Infinity], "é": 1}"#;
        let expected = r#"{"NaN": "Infinity \" NaN \\", "a": ["NaN", "-Infinity","Infinity"], "é": 1}"#;
        assert_eq!(plain(written.into()), expected);
        assert_eq!(plain("[1]".into()), "[1]");
    }
}
