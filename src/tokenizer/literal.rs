//! The two ways a token's bytes are written as text.
//!
//! A World vocabulary file has Python literals (`'abc'`, `"it's"`, `b'\xff'`); a GGUF file has the
//! inside of Python's bytes literal, quotes left off. In and out: `&str` and bytes. Uses std only.

use super::Parsed;

/// Bytes of the Python literal `literal`. The error says what is wrong with it.
///
/// In a str literal `\xHH` is a code point and ends as UTF-8; in a bytes literal it is a byte.
pub(super) fn parse_python(literal: &str) -> Parsed<Vec<u8>> {
    let (is_bytes, quoted) = match literal.strip_prefix('b') {
        Some(quoted) => (true, quoted),
        None => (false, literal),
    };
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let quote = quote.ok_or("expected a literal such as 'abc', \"abc\" or b'\\xff'")?;
    let body = quoted[1..].strip_suffix(quote).ok_or("the literal has no closing quote")?;
    let kind = if is_bytes { Kind::Bytes } else { Kind::Str };
    parse_body(body, kind, Some(quote))
}

/// Bytes of a token as a GGUF file writes it. The error says what is wrong with the text.
pub(super) fn unescape(text: &str) -> Parsed<Vec<u8>> {
    parse_body(text, Kind::Gguf, None)
}

/// A token as a GGUF file writes it: the inside of Python's `repr` of a bytes object.
pub(super) fn escape(bytes: &[u8]) -> String {
    // Python turns to double quotes to save escapes, so only a token with both has to escape one.
    let escape_quote = bytes.contains(&b'\'') && bytes.contains(&b'"');
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            b'\'' if escape_quote => text.push_str("\\'"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// What a text is read as.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Str,
    Bytes,
    Gguf,
}

fn parse_body(body: &str, kind: Kind, quote: Option<char>) -> Parsed<Vec<u8>> {
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((plain, escape)) = rest.split_once('\\') {
        check_plain(plain, kind, quote)?;
        bytes.extend_from_slice(plain.as_bytes());
        rest = parse_escape(escape, kind, &mut bytes)?;
    }
    check_plain(rest, kind, quote)?;
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Checks text without escapes for what Python would not take.
fn check_plain(text: &str, kind: Kind, quote: Option<char>) -> Parsed<()> {
    let Some(quote) = quote else { return Ok(()) };
    if text.bytes().any(|byte| char::from(byte) == quote) {
        return Err("the literal ends before the end of its text".into());
    }
    if let Some(bare) = text.bytes().find(|byte| matches!(byte, b'\r' | 0)) {
        return Err(format!("a literal cannot hold a bare {:?}", char::from(bare)));
    }
    if kind == Kind::Bytes {
        if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
            return Err(format!("a bytes literal cannot hold {c:?}"));
        }
    }
    Ok(())
}

/// Reads what follows a backslash and returns the text after it.
fn parse_escape<'a>(rest: &'a str, kind: Kind, bytes: &mut Vec<u8>) -> Parsed<&'a str> {
    let c = rest.chars().next().ok_or("the text ends after a backslash")?;
    let after = &rest[c.len_utf8()..];
    match c {
        't' => bytes.push(b'\t'),
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        '\\' | '\'' | '"' => push_char(c, bytes),
        'x' => {
            let (code, after) = hex(after, c, 2)?;
            if kind == Kind::Str {
                push_code_point(code, bytes)?;
            } else {
                bytes.push(code as u8);
            }
            return Ok(after);
        }
        'u' | 'U' if kind == Kind::Str => {
            let (code, after) = hex(after, c, if c == 'u' { 4 } else { 8 })?;
            push_code_point(code, bytes)?;
            return Ok(after);
        }
        _ => return Err(format!("unknown escape {:?}", format!("\\{c}"))),
    }
    Ok(after)
}

/// The number in the first `n_digits` hexadecimal digits, and the text after them.
fn hex(text: &str, escape: char, n_digits: usize) -> Parsed<(u32, &str)> {
    let digits = text.get(..n_digits).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let code = code.ok_or_else(|| format!("\\{escape} needs {n_digits} hexadecimal digits"))?;
    Ok((code, &text[n_digits..]))
}

fn push_code_point(code: u32, bytes: &mut Vec<u8>) -> Parsed<()> {
    let c = char::from_u32(code).ok_or_else(|| format!("U+{code:04X} is not a character"))?;
    push_char(c, bytes);
    Ok(())
}

fn push_char(c: char, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn python_literals() {
        let cases: [(&str, &[u8]); 12] = [
            ("'abc'", b"abc"),
            ("\"it's\"", b"it's"),
            ("'\"'", b"\""),
            ("'\\''", b"'"),
            ("'a b'", b"a b"),
            ("'\\t\\n\\r\\\\'", b"\t\n\r\\"),
            ("'\\x80'", b"\xc2\x80"),
            ("b'\\x80'", b"\x80"),
            ("'\\u200b'", b"\xe2\x80\x8b"),
            ("'\\U0001F600'", b"\xf0\x9f\x98\x80"),
            ("'\u{e9}'", b"\xc3\xa9"),
            ("''", b""),
        ];
        for (literal, bytes) in cases {
            assert_eq!(parse_python(literal).as_deref(), Ok(bytes), "{literal}");
        }
    }

    #[test]
    fn bad_literals_say_why() {
        let cases = [
            ("", "expected a literal such as 'abc', \"abc\" or b'\\xff'"),
            ("b", "expected a literal such as 'abc', \"abc\" or b'\\xff'"),
            ("abc", "expected a literal such as 'abc', \"abc\" or b'\\xff'"),
            ("\u{e9}'a'", "expected a literal such as 'abc', \"abc\" or b'\\xff'"),
            ("'", "the literal has no closing quote"),
            ("'abc", "the literal has no closing quote"),
            ("'abc\"", "the literal has no closing quote"),
            ("'a'b'", "the literal ends before the end of its text"),
            ("'a\\'", "the text ends after a backslash"),
            ("'\\q'", "unknown escape \"\\\\q\""),
            ("'\\x4'", "\\x needs 2 hexadecimal digits"),
            ("'\\x+4'", "\\x needs 2 hexadecimal digits"),
            ("'\\x\u{e9}9'", "\\x needs 2 hexadecimal digits"),
            ("'\\u12'", "\\u needs 4 hexadecimal digits"),
            ("'\\U0001F60'", "\\U needs 8 hexadecimal digits"),
            ("'\\ud800'", "U+D800 is not a character"),
            ("'\\U00110000'", "U+110000 is not a character"),
            ("b'\\u0041'", "unknown escape \"\\\\u\""),
            ("b'\u{e9}'", "a bytes literal cannot hold '\u{e9}'"),
            ("'a\rb'", "a literal cannot hold a bare '\\r'"),
        ];
        for (literal, what) in cases {
            assert_eq!(parse_python(literal), Err(what.into()), "{literal}");
        }
    }

    #[test]
    fn gguf_text_is_the_inside_of_pythons_repr() {
        let cases: [(&[u8], &str); 8] = [
            (b"\t\n\r\\", "\\t\\n\\r\\\\"),
            (b"\x00\x1f\x7f\xff", "\\x00\\x1f\\x7f\\xff"),
            ("\u{e9}".as_bytes(), "\\xc3\\xa9"),
            (b" ~", " ~"),
            (b"it's", "it's"),
            (b"say \"x\"", "say \"x\""),
            (b"'\"'", "\\'\"\\'"),
            (b"", ""),
        ];
        for (bytes, text) in cases {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn bad_gguf_text_says_why() {
        assert_eq!(unescape("a\\"), Err("the text ends after a backslash".into()));
        assert_eq!(unescape("\\x-1"), Err("\\x needs 2 hexadecimal digits".into()));
        assert_eq!(unescape("\\xf"), Err("\\x needs 2 hexadecimal digits".into()));
        assert_eq!(unescape("\\u00e9"), Err("unknown escape \"\\\\u\"".into()));
    }

    proptest! {
        #[test]
        fn gguf_text_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = escape(&bytes);
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(unescape(&text), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "[b'\"\\\\xuU0-9a-f\u{e9}]{0,24}") {
            let _ = parse_python(&text);
            let _ = unescape(&text);
        }
    }
}
