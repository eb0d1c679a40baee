//! Walks JSON without keeping what is not needed, within limits, and without losing a key that
//! comes twice.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Most tensors of a file, and of a checkpoint.
pub(super) const MAX_TENSORS: usize = 65_536;

/// Most bytes of a tensor's name.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// The key for free text; not a tensor.
const FREE_TEXT: &str = "__metadata__";

/// All tensors, in the order of the file; a name may still come twice.
pub(super) struct Header(pub(super) Vec<(String, Raw)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == FREE_TEXT {
                        map.next_value::<FreeText>()?;
                        continue;
                    }
                    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
                        let n = name.len();
                        return Err(A::Error::custom(format_args!(
                            "tensor name of {n} bytes (1 to {MAX_NAME_BYTES} allowed, no NUL)"
                        )));
                    }
                    if tensors.len() == MAX_TENSORS {
                        let what = format_args!("tensor count exceeds limit {MAX_TENSORS}");
                        return Err(A::Error::custom(what));
                    }
                    tensors.push((name, map.next_value()?));
                }
                Ok(Header(tensors))
            }
        }
        from.deserialize_map(Entries)
    }
}

/// What the JSON says of one tensor.
#[derive(serde::Deserialize)]
pub(super) struct Raw {
    pub(super) dtype: String,
    pub(super) shape: Dims,
    pub(super) data_offsets: (u64, u64),
}

/// A shape, slowest dimension first. Of a longer one than we can read only the rank is kept.
pub(super) struct Dims {
    pub(super) rank: usize,
    pub(super) dims: Vec<u64>,
}

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
                let mut found = Dims { rank: 0, dims: Vec::new() };
                while let Some(dim) = seq.next_element()? {
                    found.rank = found.rank.saturating_add(1);
                    if found.rank <= 4 {
                        found.dims.push(dim);
                    }
                }
                Ok(found)
            }
        }
        from.deserialize_seq(Numbers)
    }
}

/// Free text: a map of texts, which nothing here needs.
struct FreeText;

impl<'de> Deserialize<'de> for FreeText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = FreeText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FreeText, A::Error> {
                while map.next_entry::<String, String>()?.is_some() {}
                Ok(FreeText)
            }
        }
        from.deserialize_map(Texts)
    }
}

/// A map of at most [`MAX_TENSORS`] texts in which no key comes twice.
pub(super) fn unique_keys<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Texts;
    impl<'de> Visitor<'de> for Texts {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of tensor names to file names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut texts = BTreeMap::new();
            while let Some((key, text)) = map.next_entry::<String, String>()? {
                if texts.len() == MAX_TENSORS {
                    let what = format_args!("tensor count exceeds limit {MAX_TENSORS}");
                    return Err(A::Error::custom(what));
                }
                if texts.contains_key(&key) {
                    return Err(A::Error::custom(format_args!("tensor {key:?} is listed twice")));
                }
                texts.insert(key, text);
            }
            Ok(texts)
        }
    }
    from.deserialize_map(Texts)
}
