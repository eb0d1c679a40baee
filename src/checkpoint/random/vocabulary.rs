//! A vocabulary in the World format: one line a token, `id literal byte-length`.
//!
//! Ids 1 to 256 are the single bytes, so every text has a tokenization; id 261 is the blank line,
//! as in the published vocabulary. The rest is ours: spaces, a few tokens for every kind of
//! literal a reader must understand, fragments, words in four spellings, then letter pairs and
//! triples. Ids that remain have no token, like the last ones of the published vocabulary.

use std::collections::HashSet;
use std::fmt::Write;

/// Id 0 and the single bytes.
pub(super) const MIN_LEN: usize = 257;

/// The file for a model with `n_vocab` embedding rows.
pub(super) fn text(n_vocab: usize) -> String {
    let mut text = String::new();
    for (i, token) in tokens().take(n_vocab.saturating_sub(1)).enumerate() {
        let id = i + 1;
        writeln!(text, "{id} {} {}", literal(&token), token.len()).expect("a String takes all");
    }
    text
}

/// All tokens in id order, none twice.
fn tokens() -> impl Iterator<Item = Vec<u8>> {
    let mut seen = HashSet::new();
    (0..=255u8)
        .map(|byte| vec![byte])
        .chain(SPACES.iter().chain(ODD).map(|token| token.to_vec()))
        .chain(FRAGMENTS.split_whitespace().map(Vec::from))
        .chain(words())
        .chain(letters(2))
        .chain(letters(3))
        .filter(move |token| seen.insert(token.clone()))
}

/// All words as they stand inside a sentence, then at its start, then without the space.
fn words() -> impl Iterator<Item = Vec<u8>> {
    let spellings: [fn(&str) -> String; 4] = [
        |word| format!(" {word}"),
        capitalized,
        |word| format!(" {}", capitalized(word)),
        str::to_owned,
    ];
    spellings
        .into_iter()
        .flat_map(|spell| WORDS.split_whitespace().map(move |word| spell(word).into_bytes()))
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// Every string of `n` lower-case letters, alone and after a space.
fn letters(n: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..26u32.pow(n)).flat_map(move |number| {
        let letter = |place| b'a' + (number / 26u32.pow(place) % 26) as u8;
        let alone: Vec<u8> = (0..n).rev().map(letter).collect();
        let spaced = [b" ".as_slice(), &alone].concat();
        [alone, spaced]
    })
}

/// A Python literal, as the published file has it: a str where the bytes are UTF-8.
fn literal(token: &[u8]) -> String {
    match std::str::from_utf8(token) {
        Ok(text) => {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let body: String = text.chars().map(|c| escaped(c, quote)).collect();
            format!("{quote}{body}{quote}")
        }
        Err(_) => {
            let body: String = token.iter().map(|&byte| escaped_byte(byte)).collect();
            format!("b'{body}'")
        }
    }
}

fn escaped(c: char, quote: char) -> String {
    match c {
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        _ if c == '\\' || c == quote => format!("\\{c}"),
        ' ' => c.into(),
        _ if !c.is_control() && !c.is_whitespace() && c != '\u{feff}' => c.into(),
        _ if u32::from(c) < 0x100 => format!("\\x{:02x}", u32::from(c)),
        _ => format!("\\u{:04x}", u32::from(c)),
    }
}

fn escaped_byte(byte: u8) -> String {
    match byte {
        0x80.. => format!("\\x{byte:02x}"),
        _ => escaped(char::from(byte), '\''),
    }
}

/// Ids 257 to 261.
const SPACES: &[&[u8]] = &[b"  ", b"   ", b"    ", b"\r\n", b"\n\n"];

/// One or two of every kind of literal: escapes, both quotes, code points written `\xHH` and
/// `\uHHHH`, other scripts, and bytes that are no UTF-8 by themselves.
const ODD: &[&[u8]] = &[
    b"\t\t",
    b" \"",
    b" '",
    b"'s",
    b"'\"",
    b" \\",
    "\u{80}".as_bytes(),
    "\u{a0}".as_bytes(),
    "\u{3000}".as_bytes(),
    "\u{feff}".as_bytes(),
    "é".as_bytes(),
    "ü".as_bytes(),
    "ß".as_bytes(),
    " à".as_bytes(),
    "не".as_bytes(),
    "日本".as_bytes(),
    "世界".as_bytes(),
    "。".as_bytes(),
    "—".as_bytes(),
    "…".as_bytes(),
    "€".as_bytes(),
    b"\xe4\xb8",
    b"\xf0\x9f\x98",
    b" \xe2\x80",
];

/// None of these is `<s>`: llama.cpp gives id 0 that name and aborts on two tokens of one name.
const FRAGMENTS: &str = "
    ing ed er es ly tion al en re on in at or an it is ar st nd th ou ea le ve ch sh ll ss tt oo ee
    ent ion ment ness able ous ive ful less est ity ate ize ism ance ence ter ther ght ck un dis pre
    con com pro ex 10 20 19 00 ... -- ), (\" \", .\" ?\" // :: == <s </ ";

const WORDS: &str = "
    the of and to a in is that it for was on are as with his they at be this from have or by one had
    not but what all were when we there can an your which their said if do will each about how up
    out them then she many some so these would other into has more her two like him see time could
    no make than first been its who now people my made over did down only way find use may water
    long little very after words called just where most know get through back much before go good
    new write our used me man too any day same right look think also around another came come work
    three word must because does part even place well such here take why things help put years
    different away again off went old number great tell men say small every found still between
    name should home big give air line set own under read last never us left end along while might
    next sound below saw something thought both few those always looked show large often together
    asked house world going want school important until form food keep children feet land side
    without boy once animals life enough took sometimes four head above kind began almost live page
    got earth need far hand high year mother light parts country father let night following
    picture being study second eyes soon times story boys since white days ever paper hard near
    sentence better best across during today others however sure means knew try told young miles
    sun ways thing whole hear example heard several change answer room sea against top turned
    learn point city play toward five using himself usually money seen car morning body upon
    family later turn move face door cut done group true half red fish plants living wanted black
    eat short run book gave order open ground river cold table remember tree course front space
    inside ago early bird dog cat fox horse garden market window street bridge winter summer spring
    music song letter number company report price percent million billion government minister
    president police court officer member law state south north east west week month monday friday
    company shares quarter profit sales bank deal agency service system health care research
    scientists model layer weight bit memory speed matrix vector value key gate state token byte
    file table test error result measure compare quick brown jumps lazy sat mat rain snow wind fire
    stone metal wood glass blue green yellow quiet slow fast warm late full empty strong clear ";
