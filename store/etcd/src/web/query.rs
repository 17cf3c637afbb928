//! The part of an address behind its question mark, as far as health checks need it.

/// Names and values, in order. Nothing is decoded: every name and value that means something
/// here is of letters, digits, dots and dashes.
#[derive(Debug)]
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(crate) fn of(text: Option<&'a str>) -> Self {
        Self(text.unwrap_or_default())
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pieces = self.0.split('&').filter(|piece| !piece.is_empty());
        pieces.map(|piece| piece.split_once('=').unwrap_or((piece, "")))
    }

    /// Whether the name occurs, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs().any(|(here, _)| here == name)
    }

    /// Whether the name's first value is this one.
    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.pairs()
            .find(|(here, _)| *here == name)
            .is_some_and(|(_, here)| here == value)
    }

    /// Whether one of the name's values is this one.
    pub(crate) fn lists(&self, name: &str, value: &str) -> bool {
        self.pairs().any(|pair| pair == (name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_found_and_noise_is_none() {
        let query = Query::of(Some("verbose&exclude=a&exclude=b&serializable=true&=&"));
        assert!(query.has("verbose") && !query.has("verb"));
        assert!(query.lists("exclude", "b") && !query.lists("exclude", "c"));
        assert!(query.is("serializable", "true"));
        assert!(!Query::of(None).has("verbose"));
    }
}
