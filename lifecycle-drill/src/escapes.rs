//! Takes a terminal's escape sequences (colours, titles) out of bytes. Pure.
//!
//! Of ECMA-48 as much as programs print: control sequences, strings, and the short ones.

/// Where in a sequence the bytes so far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// After `ESC [`, until a final byte.
    Control,
    /// After ESC.
    Escape,
    /// After `ESC` and intermediate bytes, until a final byte.
    Short,
    /// After `ESC ]` or another that begins a string, until BEL or `ESC \`.
    String,
    /// After ESC in a string.
    StringEscape,
    #[default]
    Text,
}

impl Escapes {
    /// What is left of the bytes that come next.
    pub(crate) fn strip<'a>(&'a mut self, bytes: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
        bytes.iter().copied().filter(|byte| self.is_text(*byte))
    }

    fn is_text(&mut self, byte: u8) -> bool {
        let before = *self;
        *self = match (before, byte) {
            (Self::StringEscape, b'\\') => Self::Text,
            (Self::String, 0x07) => Self::Text,
            (Self::String, ESC) => Self::StringEscape,
            (Self::String | Self::StringEscape, _) => Self::String,
            (_, ESC) => Self::Escape,
            (Self::Text, _) => Self::Text,
            (Self::Escape, b'[') => Self::Control,
            (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => Self::String,
            (Self::Escape | Self::Short, 0x20..=0x2f) => Self::Short,
            (Self::Control, 0x20..=0x3f) => Self::Control,
            // A final byte, or one that belongs to none: the sequence is over.
            (Self::Control | Self::Escape | Self::Short, _) => Self::Text,
        };
        // A sequence never spans lines: one that was cut off takes no further line with it.
        if byte == b'\n' {
            *self = Self::Text;
            return true;
        }
        before == Self::Text && *self == Self::Text
    }
}

const ESC: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_left_over_any_border_between_reads() {
        let bytes = b"\x1b[1;32mrea\x1b]0;a title\x07d\x1b(By\x1b[0m\n\x1b]8;;http://x\x1b\\link\x1b[Kfor\x1b[";
        for size in [1, 2, 3, 5, bytes.len()] {
            let mut escapes = Escapes::default();
            let mut text = Vec::new();
            bytes.chunks(size).for_each(|chunk| text.extend(escapes.strip(chunk)));
            assert_eq!(String::from_utf8(text).unwrap(), "ready\nlinkfor", "in pieces of {size}");
        }
    }

    #[test]
    fn an_unfinished_sequence_ends_with_its_line() {
        let mut escapes = Escapes::default();
        let text: Vec<_> = escapes.strip("\x1b]0;title\nready é\n".as_bytes()).collect();
        assert_eq!(String::from_utf8(text).unwrap(), "\nready é\n");
    }
}
