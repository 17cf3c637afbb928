//! One row of CSV: values between commas, in quotes where they have to be.

use std::borrow::Cow;

use crate::value::Raw;

/// The values of a line. An empty one is NULL unless it stands in quotes; `None` if a quote has
/// no end or something follows it.
pub(crate) fn values(line: &str) -> Option<Vec<Raw<'_>>> {
    let mut values = Vec::new();
    let mut rest = line.strip_suffix('\r').unwrap_or(line);
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = unquote(quoted)?;
            values.push(Raw::Text(text));
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Some(values),
                None => return None,
            }
            continue;
        }
        let (value, next) = match rest.split_once(',') {
            Some((value, next)) => (value, Some(next)),
            None => (rest, None),
        };
        values.push(if value.is_empty() {
            Raw::Null
        } else {
            Raw::Bare(value)
        });
        match next {
            Some(next) => rest = next,
            None => return Some(values),
        }
    }
}

/// The text up to a quote that ends it, and what follows.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find('"')?;
    if !text[end + 1..].starts_with('"') {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut found = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        found.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                found.push('"');
                rest = after;
            }
            None => return Some((Cow::Owned(found), rest)),
        }
    }
}

/// Writes a text as a value: in quotes where it must be.
pub(crate) fn write(text: &str, out: &mut String) {
    if text.is_empty() || text.contains([',', '"', '\r', '\n']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_between_commas() {
        let shown = |line: &str| format!("{:?}", values(line));
        assert_eq!(shown("a,,\"\""), r#"Some([Bare("a"), Null, Text("")])"#);
        assert_eq!(
            shown("\"a,b\",\"say \"\"hi\"\"\"\r"),
            r#"Some([Text("a,b"), Text("say \"hi\"")])"#
        );
        assert_eq!(shown(""), "Some([Null])");
        for line in ["\"a", "\"a\"b,c", "\"a\"\""] {
            assert_eq!(values(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["", "a", "a,b", "\"", "say \"hi\"", " x "] {
            let mut line = String::new();
            write(text, &mut line);
            let read = values(&line).unwrap();
            let back = match &read[0] {
                Raw::Text(text) => text.as_ref(),
                Raw::Bare(text) => text,
                Raw::Null | Raw::Nested(_) => panic!("a text is a text"),
            };
            assert_eq!(back, text);
        }
    }
}
