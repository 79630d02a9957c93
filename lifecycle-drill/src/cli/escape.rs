//! Text inside XML and HTML.

use std::fmt;

/// Text as it must stand between tags or in an attribute's quotes.
///
/// What XML 1.0 cannot hold at all (most control characters) becomes U+FFFD.
#[derive(Debug)]
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: AsRef<str>> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for letter in self.0.as_ref().chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\t' | '\n' | ' '..='\u{7e}' => f.write_char(letter)?,
                // A return would be made a line's end by the parser.
                '\0'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                _ => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_named_and_what_xml_cannot_hold_is_replaced() {
        let text = "a<b> & \"c\" 'd'\n\u{1b}[31m\u{0}ü";
        let escaped = "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\n\u{fffd}[31m\u{fffd}ü";
        assert_eq!(Escaped(text).to_string(), escaped);
    }
}
