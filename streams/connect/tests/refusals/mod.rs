//! What a refusal points at.

/// The part of a query's first line under which its refusal has marks.
pub(crate) fn pointed<'a>(refusal: &str, query: &'a str) -> &'a str {
    let marks = refusal.lines().nth(2).expect("three lines");
    let start = marks.find('^').expect("it points") - 2;
    let end = start + marks.matches('^').count();
    query.get(start..end).unwrap_or("")
}
