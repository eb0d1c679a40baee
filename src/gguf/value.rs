//! Metadata values, each with the type the file gives it; never JSON.

/// Metadata in the order of the file.
pub type Metadata = Vec<(String, Value)>;

/// Defines the scalar types once: variant, Rust type, the format's number, its name.
macro_rules! value_types {
    ($($(#[$doc:meta])* $variant:ident($ty:ty) = $id:literal $name:literal,)*) => {
        /// One metadata value.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value {
            $($(#[$doc])* $variant($ty),)*
            /// Several values of one type; arrays do not nest.
            Array(Array),
        }

        /// Values of one type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Array {
            $($(#[$doc])* $variant(Vec<$ty>),)*
        }

        impl Value {
            /// The format's number of this value's type.
            pub(super) fn type_id(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $id,)*
                    Self::Array(_) => ARRAY,
                }
            }

            /// Name of this value's type: `u32`, `array of string`.
            pub fn type_name(&self) -> String {
                match self {
                    $(Self::$variant(_) => $name.into(),)*
                    Self::Array(array) => format!("array of {}", array.element_name()),
                }
            }
        }

        impl Array {
            /// The format's number of the elements' type.
            pub(super) fn element_id(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $id,)*
                }
            }

            /// Name of the elements' type: `u32`.
            pub fn element_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// Number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(elements) => elements.len(),)*
                }
            }

            /// True if there are no elements.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Appends the elements as the file holds them.
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(elements) => elements.iter().for_each(|e| e.put(out)),)*
                }
            }
        }

        impl Value {
            /// Appends the value as the file holds it, without its type.
            pub(super) fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(value) => value.put(out),)*
                    Self::Array(array) => {
                        array.element_id().put(out);
                        (array.len() as u64).put(out);
                        array.encode(out);
                    }
                }
            }
        }

        $(impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::$variant(value)
            }
        }

        impl From<Vec<$ty>> for Value {
            fn from(elements: Vec<$ty>) -> Self {
                Self::Array(Array::$variant(elements))
            }
        })*
    };
}

value_types! {
    /// Unsigned, 8 bits.
    U8(u8) = 0 "u8",
    /// Signed, 8 bits.
    I8(i8) = 1 "i8",
    /// Unsigned, 16 bits.
    U16(u16) = 2 "u16",
    /// Signed, 16 bits.
    I16(i16) = 3 "i16",
    /// Unsigned, 32 bits.
    U32(u32) = 4 "u32",
    /// Signed, 32 bits.
    I32(i32) = 5 "i32",
    /// Float, 32 bits.
    F32(f32) = 6 "f32",
    /// Truth value, one byte, 0 or 1.
    Bool(bool) = 7 "bool",
    /// Text in UTF-8.
    String(String) = 8 "string",
    /// Unsigned, 64 bits.
    U64(u64) = 10 "u64",
    /// Signed, 64 bits.
    I64(i64) = 11 "i64",
    /// Float, 64 bits.
    F64(f64) = 12 "f64",
}

/// The format's number of an array.
pub(super) const ARRAY: u32 = 9;

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

/// What can be written into a header.
pub(super) trait Put {
    /// Appends the bytes of the format, little-endian.
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! put_numbers {
    ($($ty:ty)*) => {
        $(impl Put for $ty {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        })*
    };
}

put_numbers! { u8 i8 u16 i16 u32 i32 f32 u64 i64 f64 }

impl Put for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Put for str {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl Put for String {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_str().put(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_of_strings_is_type_length_elements() {
        let mut out = Vec::new();
        Value::from(vec!["a".to_string(), "bc".into()]).encode(&mut out);
        let expected = [
            &8u32.to_le_bytes()[..],
            &2u64.to_le_bytes(),
            &1u64.to_le_bytes(),
            b"a",
            &2u64.to_le_bytes(),
            b"bc",
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn types_are_named() {
        assert_eq!(Value::from(1u32).type_name(), "u32");
        assert_eq!(Value::from(vec![1.5f64]).type_name(), "array of f64");
        assert_eq!(Value::from("x").type_id(), 8);
    }
}
