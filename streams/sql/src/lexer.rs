//! Text into tokens, each with its place.

use crate::refusal::{Refusal, Span};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A word, not quoted: a keyword or a name.
    Word(String),
    /// A name in backticks or double quotes.
    Quoted(String),
    /// A number as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// A sign.
    Sign(&'static str),
    /// Nothing more.
    End,
}

const SIGNS: &[&str] = &[
    "<>", "!=", "<=", ">=", "||", "=>", "(", ")", ",", ";", ".", "=", "<", ">", "+", "-", "*", "/",
    "%", "[", "]", ":",
];

/// The longest text that is read.
const TEXT_MAX: usize = 64 * 1024;

pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, Refusal> {
    if text.len() > TEXT_MAX {
        let span = Span { start: 0, end: 0 };
        return Err(Refusal::new(span, "a statement has 64 KiB at most"));
    }
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let rest = &text[at..];
        let first = rest
            .chars()
            .next()
            .expect("the place is inside of the text");
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if rest.starts_with("/*") {
            let end = rest.find("*/");
            at += end.ok_or_else(|| refused(start, start + 2, "this comment has no end: */"))? + 2;
            continue;
        }
        let token = match first {
            '\'' => {
                let (found, end) = quoted(text, at, '\'', "this string has no end: '")?;
                at = end;
                Token::Text(found)
            }
            '`' | '"' => {
                let (found, end) = quoted(text, at, first, "this name has no end")?;
                at = end;
                Token::Quoted(found)
            }
            '0'..='9' => {
                at = number_end(bytes, at);
                Token::Number(text[start..at].to_owned())
            }
            letter if letter.is_alphabetic() || letter == '_' => {
                let end = rest.find(|letter: char| {
                    !letter.is_alphanumeric() && letter != '_' && letter != '$'
                });
                at += end.unwrap_or(rest.len());
                Token::Word(text[start..at].to_owned())
            }
            other => {
                let sign = sign_at(rest).ok_or_else(|| {
                    let end = start + other.len_utf8();
                    refused(start, end, &format!("`{other}` means nothing here"))
                })?;
                at += sign.len();
                Token::Sign(sign)
            }
        };
        tokens.push((token, Span { start, end: at }));
    }
    let end = Span {
        start: text.trim_end().len(),
        end: text.trim_end().len(),
    };
    tokens.push((Token::End, end));
    Ok(tokens)
}

fn sign_at(rest: &str) -> Option<&'static str> {
    SIGNS.iter().find(|sign| rest.starts_with(**sign)).copied()
}

fn refused(start: usize, end: usize, message: &str) -> Refusal {
    Refusal::new(Span { start, end }, message)
}

/// What stands between quotes, a doubled quote for one, and where it ends.
fn quoted(
    text: &str,
    start: usize,
    quote: char,
    message: &str,
) -> Result<(String, usize), Refusal> {
    let mut found = String::new();
    let mut letters = text[start + 1..].char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != quote {
            found.push(letter);
        } else if letters.next_if(|(_, next)| *next == quote).is_some() {
            found.push(quote);
        } else {
            return Ok((found, start + 1 + at + 1));
        }
    }
    Err(refused(start, start + 1, message))
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut at = digits(start);
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign);
        if end > at + 1 + sign {
            at = end;
        }
    }
    at
}
