//! GPT-2's byte alphabet: every byte as one printable character, so that a vocabulary of bytes can
//! be a JSON file. Uses std only.

/// The character of each byte: itself where Latin-1 prints it, else the next from U+0100 on.
pub(super) fn alphabet() -> [char; 256] {
    let mut next = 0x100..;
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(byte),
        // There are 68 such bytes, and as many characters from U+0100 on.
        _ => next.next().and_then(char::from_u32).unwrap_or_default(),
    })
}

/// The bytes of `token`; a token with a character outside the alphabet is text as it stands.
pub(super) fn token_bytes(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(char_byte).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The byte that a character of the alphabet stands for.
#[expect(clippy::arithmetic_side_effects, reason = "each arm bounds its code from below")]
pub(super) fn char_byte(c: char) -> Option<u8> {
    // Bytes that are not themselves, in order: 0x00-0x20, 0x7f-0xa0, 0xad.
    let byte = match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        let alphabet = alphabet();
        assert_eq!(
            (alphabet[0], alphabet[0x20], alphabet[0x0a]),
            ('\u{100}', '\u{120}', '\u{10a}')
        );
        assert_eq!((alphabet[0x7f], alphabet[0xad]), ('\u{121}', '\u{143}'));
        for (byte, c) in (0..=u8::MAX).zip(alphabet) {
            assert_eq!(token_bytes(&c.to_string()), [byte]);
        }
    }

    #[test]
    fn other_tokens_are_text() {
        assert_eq!(token_bytes("a b"), b"a b");
        assert_eq!(token_bytes("\u{4f60}"), "\u{4f60}".as_bytes());
    }
}
