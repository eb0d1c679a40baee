//! Runs a pickle: a stack, a memo, and instructions that only move values.

use std::collections::HashMap;

use super::input::Input;
use super::opcode::Opcode;
use super::value::{DictId, Global, Heap, Storage, Tensor, Value};

/// Most instructions: 60 for each of as many tensors as there may be. It bounds time and memory,
/// as an instruction makes one value at most.
const MAX_INSTRUCTIONS: usize = 4_000_000;

/// Most values on the stack, most marks, and most values kept.
const MAX_VALUES: usize = 1_000_000;

/// Newest protocol.
const MAX_PROTOCOL: u8 = 5;

/// Runs `pickle` to its end and returns what it makes.
pub(super) fn run(pickle: &[u8]) -> Result<(Heap<'_>, Value<'_>), String> {
    let mut machine = Machine {
        input: Input::new(pickle),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Heap::default(),
        at: 0,
    };
    for _ in 0..MAX_INSTRUCTIONS {
        let opcode = machine.next_opcode()?;
        if opcode == Opcode::Stop {
            return machine.finish();
        }
        machine.step(opcode)?;
    }
    Err(format!("pickle of more than {MAX_INSTRUCTIONS} instructions"))
}

struct Machine<'p> {
    input: Input<'p>,
    stack: Vec<Value<'p>>,
    /// Heights of the stack. What lies below the last one is out of reach.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'p>>,
    heap: Heap<'p>,
    /// Byte of the current instruction.
    at: usize,
}

impl<'p> Machine<'p> {
    fn next_opcode(&mut self) -> Result<Opcode, String> {
        self.at = self.input.at();
        let byte = self.input.byte()?;
        Opcode::from_byte(byte)
            .ok_or_else(|| format!("pickle opcode {byte:#04x} at byte {} is not allowed", self.at))
    }

    fn step(&mut self, opcode: Opcode) -> Result<(), String> {
        match opcode {
            Opcode::Stop => unreachable!("the caller ends there"),
            Opcode::Protocol => self.protocol(),
            Opcode::Frame => self.input.take(8).map(drop),
            Opcode::None | Opcode::True | Opcode::False => self.push(Value::Scalar),
            Opcode::Float => {
                self.input.take(8)?;
                self.push(Value::Scalar)
            }
            Opcode::Int1 => self.int::<1>(|bytes| u8::from_le_bytes(bytes).into()),
            Opcode::Int2 => self.int::<2>(|bytes| u16::from_le_bytes(bytes).into()),
            Opcode::Int4 => self.int::<4>(|bytes| i32::from_le_bytes(bytes).into()),
            Opcode::Long => {
                let n = self.input.byte()?;
                let value = self.input.integer(n.into())?;
                self.push(Value::Int(value))
            }
            Opcode::ShortText => {
                let n = self.input.byte()?;
                self.text(n.into())
            }
            Opcode::Text => {
                let n = self.input.u32()?;
                self.text(n as usize)
            }
            Opcode::Global => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.push(Value::Global(Global::find(module, name)?))
            }
            Opcode::StackGlobal => self.stack_global(),
            Opcode::Mark => self.mark(),
            Opcode::EmptyTuple => self.tuple(0),
            Opcode::Tuple => {
                let n = self.above_mark()?;
                self.tuple(n)
            }
            Opcode::Tuple1 => self.tuple(1),
            Opcode::Tuple2 => self.tuple(2),
            Opcode::Tuple3 => self.tuple(3),
            Opcode::EmptyDict => {
                let dict = self.heap.dict();
                self.push(dict)
            }
            Opcode::SetItem => self.set_items(2),
            Opcode::SetItems => {
                let n = self.above_mark()?;
                self.set_items(n)
            }
            Opcode::Call => self.call(),
            Opcode::Build => {
                self.pop()?;
                self.top_dict().map(drop)
            }
            Opcode::PersistentId => self.persistent_id(),
            Opcode::Put1 => {
                let key = self.input.byte()?;
                self.put(key.into())
            }
            Opcode::Put4 => {
                let key = self.input.u32()?;
                self.put(key)
            }
            Opcode::Memoize => self.put(self.memo.len() as u32),
            Opcode::Get1 => {
                let key = self.input.byte()?;
                self.get(key.into())
            }
            Opcode::Get4 => {
                let key = self.input.u32()?;
                self.get(key)
            }
        }
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.input.byte()? {
            2..=MAX_PROTOCOL => Ok(()),
            other => Err(format!("pickle protocol {other} is not supported (2 to 5 are)")),
        }
    }

    /// The result, if the pickle ends here and leaves nothing else.
    fn finish(mut self) -> Result<(Heap<'p>, Value<'p>), String> {
        let result = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.refuse("pickle ends with values left on the stack"));
        }
        match self.input.left() {
            0 => Ok((self.heap, result)),
            n => Err(format!("{n} bytes follow the end of the pickle")),
        }
    }

    fn int<const N: usize>(&mut self, from_le: impl Fn([u8; N]) -> i64) -> Result<(), String> {
        let bytes = self.input.array()?;
        self.push(Value::Int(from_le(bytes)))
    }

    fn text(&mut self, n: usize) -> Result<(), String> {
        let text = self.input.text(n)?;
        self.push(Value::Text(text))
    }

    fn stack_global(&mut self) -> Result<(), String> {
        match (self.pop()?, self.pop()?) {
            (Value::Text(name), Value::Text(module)) => {
                self.push(Value::Global(Global::find(module, name)?))
            }
            _ => Err(self.refuse("name of a global is not a text")),
        }
    }

    fn mark(&mut self) -> Result<(), String> {
        self.marks.push(self.stack.len());
        self.within(self.marks.len(), "marks")
    }

    /// Replaces the topmost `n` values by a tuple of them.
    fn tuple(&mut self, n: usize) -> Result<(), String> {
        let start = self.reach(n)?;
        let items = self.stack.split_off(start);
        let tuple = self.heap.tuple(&items)?;
        self.push(tuple)
    }

    /// Moves the topmost `n` values, keys and values in turn, into the dict below.
    fn set_items(&mut self, n: usize) -> Result<(), String> {
        let start = self.reach(n)?;
        let items = self.stack.split_off(start);
        let dict = self.top_dict()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.refuse("key without a value"));
        }
        pairs.iter().for_each(|[key, value]| self.heap.insert(dict, *key, *value));
        Ok(())
    }

    /// What the few functions do that may be called.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(function), Value::Tuple(arguments)) = (function, arguments) else {
            return Err(self.refuse("call of what is no function"));
        };
        let made = match (function, self.heap.items(arguments)) {
            (Global::OrderedDict, []) => self.heap.dict(),
            // A seventh argument would say that the values are to be negated or conjugated.
            (
                Global::RebuildTensor,
                &[Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), _, _],
            ) => self.heap.tensor(Tensor { storage, offset, shape, strides }),
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), _, _]) => tensor,
            _ => return Err(self.refuse(&format!("unexpected arguments to {function}"))),
        };
        self.push(made)
    }

    /// `("storage", type, key, device, number of elements)` is the only one there is.
    fn persistent_id(&mut self) -> Result<(), String> {
        let value = self.pop()?;
        let items = if let Value::Tuple(id) = value { self.heap.items(id) } else { &[] };
        let &[Value::Text("storage"), Value::Global(Global::Storage(ty)), Value::Text(key), Value::Text(_), Value::Int(n_elements)] =
            items
        else {
            return Err(self.refuse("unexpected persistent id"));
        };
        let storage = self.heap.storage(Storage { key, ty, n_elements });
        self.push(storage)
    }

    fn put(&mut self, key: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(key, top);
        self.within(self.memo.len(), "kept values")
    }

    fn get(&mut self, key: u32) -> Result<(), String> {
        match self.memo.get(&key) {
            Some(value) => self.push(*value),
            None => Err(self.refuse(&format!("nothing is kept under {key}"))),
        }
    }

    fn push(&mut self, value: Value<'p>) -> Result<(), String> {
        self.stack.push(value);
        self.within(self.stack.len(), "values on the stack")
    }

    fn pop(&mut self) -> Result<Value<'p>, String> {
        self.reach(1)?;
        self.stack.pop().ok_or_else(|| self.empty())
    }

    fn top(&self) -> Result<Value<'p>, String> {
        self.reach(1)?;
        self.stack.last().copied().ok_or_else(|| self.empty())
    }

    fn top_dict(&self) -> Result<DictId, String> {
        match self.top()? {
            Value::Dict(dict) => Ok(dict),
            _ => Err(self.refuse("not a dict")),
        }
    }

    /// Takes the last mark away and counts the values above it.
    fn above_mark(&mut self) -> Result<usize, String> {
        match self.marks.pop() {
            // Nothing below a mark can be taken away, so the stack is not lower.
            Some(height) => Ok(self.stack.len().saturating_sub(height)),
            None => Err(self.refuse("no mark")),
        }
    }

    /// Height of the stack below its topmost `n` values, none of which may be below the mark.
    fn reach(&self, n: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(n).filter(|start| *start >= floor);
        start.ok_or_else(|| self.empty())
    }

    fn empty(&self) -> String {
        self.refuse("pickle stack is empty")
    }

    fn within(&self, n: usize, what: &str) -> Result<(), String> {
        if n > MAX_VALUES {
            return Err(self.refuse(&format!("more than {MAX_VALUES} {what}")));
        }
        Ok(())
    }

    fn refuse(&self, what: &str) -> String {
        format!("{what} at byte {} of the pickle", self.at)
    }
}
