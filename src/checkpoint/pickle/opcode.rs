//! The instructions of pickle that a state dict is made of. There are others, among them those
//! that import or call freely; they are not in the table and so cannot be run.

/// An instruction; what it does is said in terms of the stack, whose top is on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// Followed by the version of the protocol, one byte.
    Protocol,
    /// Followed by a length of eight bytes, which only helps those who read from a pipe.
    Frame,
    /// The top of the stack is the result.
    Stop,
    /// Push nothing.
    None,
    /// Push true.
    True,
    /// Push false.
    False,
    /// Push an integer of one byte.
    Int1,
    /// Push an integer of two bytes.
    Int2,
    /// Push a signed integer of four bytes.
    Int4,
    /// Push a signed integer of as many bytes as the first byte says.
    Long,
    /// Push a float of eight bytes.
    Float,
    /// Push a text; its length takes one byte.
    ShortText,
    /// Push a text; its length takes four bytes.
    Text,
    /// Push the global named by two lines: module, name.
    Global,
    /// module name -> the global of that name.
    StackGlobal,
    /// Remember the height of the stack.
    Mark,
    /// Push a tuple of nothing.
    EmptyTuple,
    /// All above the mark -> a tuple of it.
    Tuple,
    /// The topmost value -> a tuple of it.
    Tuple1,
    /// The two topmost values -> a tuple of them.
    Tuple2,
    /// The three topmost values -> a tuple of them.
    Tuple3,
    /// Push a dict of nothing.
    EmptyDict,
    /// dict key value -> dict, which has the key now.
    SetItem,
    /// dict, and keys and values above the mark -> dict, which has them now.
    SetItems,
    /// function arguments -> what the function returns.
    Call,
    /// object state -> object; the state is attributes, which no tensor depends on.
    Build,
    /// tuple -> the storage it describes.
    PersistentId,
    /// Keep the top under a number of one byte.
    Put1,
    /// Keep the top under a number of four bytes.
    Put4,
    /// Keep the top under the next number.
    Memoize,
    /// Push what is kept under a number of one byte.
    Get1,
    /// Push what is kept under a number of four bytes.
    Get4,
}

impl Opcode {
    /// The instruction written as `byte`.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x80 => Self::Protocol,
            0x95 => Self::Frame,
            b'.' => Self::Stop,
            b'N' => Self::None,
            0x88 => Self::True,
            0x89 => Self::False,
            b'K' => Self::Int1,
            b'M' => Self::Int2,
            b'J' => Self::Int4,
            0x8a => Self::Long,
            b'G' => Self::Float,
            0x8c => Self::ShortText,
            b'X' => Self::Text,
            b'c' => Self::Global,
            0x93 => Self::StackGlobal,
            b'(' => Self::Mark,
            b')' => Self::EmptyTuple,
            b't' => Self::Tuple,
            0x85 => Self::Tuple1,
            0x86 => Self::Tuple2,
            0x87 => Self::Tuple3,
            b'}' => Self::EmptyDict,
            b's' => Self::SetItem,
            b'u' => Self::SetItems,
            b'R' => Self::Call,
            b'b' => Self::Build,
            b'Q' => Self::PersistentId,
            b'q' => Self::Put1,
            b'r' => Self::Put4,
            0x94 => Self::Memoize,
            b'h' => Self::Get1,
            b'j' => Self::Get4,
            _ => return None,
        })
    }
}
