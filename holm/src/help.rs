//! How the end of a help text is laid out: examples with what they do, and paragraphs.
//!
//! What would surprise: clap wraps a long line where the terminal ends and begins the next one at the left, so an example
//! would run into what is said of it. So what does not fit beside an example stands below it, and paragraphs are left to
//! clap as one line each.

/// What fits into any terminal.
const WIDTH: usize = 80;
const BELOW: &str = "        ";

/// An example: the lines that it had, what is typed, and what is said of it.
#[derive(Default)]
struct Example<'a> {
    lines: Vec<&'a str>,
    typed: &'a str,
    said: Vec<&'a str>,
}

impl<'a> Example<'a> {
    fn of(line: &'a str) -> Self {
        let typed = line.trim_start();
        let (typed, said) = typed.split_once("   ").unwrap_or((typed, ""));
        Self {
            lines: vec![line],
            typed,
            said: said.split_whitespace().collect(),
        }
    }

    fn write(&self, out: &mut String) {
        if self.said.is_empty() || self.lines.iter().all(|line| line.len() <= WIDTH) {
            for line in &self.lines {
                out.push_str(line);
                out.push('\n');
            }
            return;
        }
        out.push_str("  ");
        out.push_str(self.typed);
        let mut room = 0;
        for word in &self.said {
            if word.len() + 1 > room {
                out.push('\n');
                out.push_str(BELOW);
                room = WIDTH - BELOW.len();
            } else {
                out.push(' ');
                room -= 1;
            }
            out.push_str(word);
            room = room.saturating_sub(word.len());
        }
        out.push('\n');
    }
}

/// Lays out the end of a help text.
pub(crate) fn laid_out(text: &str) -> String {
    let mut out = String::new();
    let mut paragraph: Vec<&str> = Vec::new();
    let mut example: Option<Example<'_>> = None;
    for line in text.lines().chain([""]) {
        let indent = line.len() - line.trim_start().len();
        match &mut example {
            Some(example) if indent > 2 => {
                example.lines.push(line);
                example.said.extend(line.split_whitespace());
                continue;
            }
            _ => {}
        }
        if let Some(example) = example.take() {
            example.write(&mut out);
        }
        if indent == 0 && !line.is_empty() {
            paragraph.push(line);
            continue;
        }
        if !paragraph.is_empty() {
            out.push_str(&paragraph.join(" "));
            out.push('\n');
            paragraph.clear();
        }
        if line.is_empty() {
            out.push('\n');
        } else {
            example = Some(Example::of(line));
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_as_it_is() {
        let text =
            "Examples:\n  holm up        a node\n                 on loopback\n  holm version";
        assert_eq!(laid_out(text), text);
    }

    #[test]
    fn what_does_not_fit_beside_an_example_stands_below_it() {
        let said = "so long that it reaches beyond what a terminal of eighty columns has";
        let text = format!(
            "Examples:\n  holm get a --keyspace orders   {said}\n                 and goes on"
        );
        let wanted = format!(
            "Examples:\n  holm get a --keyspace orders\n        {said} and\n        goes on"
        );
        assert_eq!(laid_out(&text), wanted);
    }

    #[test]
    fn an_example_alone_is_never_broken() {
        let text = format!("Examples:\n  holm put a {}", "x".repeat(100));
        assert_eq!(laid_out(&text), text);
    }

    #[test]
    fn the_lines_of_a_paragraph_are_one() {
        let text = "Examples:\n  holm up\n\nOne line\nand the next.\n\nAnother.";
        assert_eq!(
            laid_out(text),
            "Examples:\n  holm up\n\nOne line and the next.\n\nAnother."
        );
    }
}
