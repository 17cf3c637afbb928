//! The page's own files; it needs no others.

/// The kind and the text of a file of the page.
pub(crate) fn file(path: &str) -> Option<(&'static str, &'static str)> {
    match path {
        "/" => Some(("text/html; charset=utf-8", include_str!("page/page.html"))),
        "/page.css" => Some(("text/css; charset=utf-8", include_str!("page/page.css"))),
        "/page.js" => Some((
            "text/javascript; charset=utf-8",
            include_str!("page/page.js"),
        )),
        _ => None,
    }
}
