//! An interpreter of pickles that calls nothing (Python's `pickletools`, protocols 0 to 5).
//!
//! Objects lie in one list and refer to one another by number, so that nesting costs no stack, and nothing
//! is larger than the pickle has paid for in bytes. What calls make is described by [`Object::Tensor`] and
//! the like; see [`super::globals`] for the few that are known.

use std::collections::HashMap;
use std::rc::Rc;

use super::TorchError;
use super::globals::{self, Global};
use super::reader::Reader;

/// A value on the stack or in an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(Rc<str>),
    Global(Global),
    /// The number of an object.
    Object(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    /// In order of insertion; of equal keys the last counts.
    Dict(Vec<(Value, Value)>),
    Storage(StorageRef),
    Tensor(TensorRef),
}

/// A storage by its key in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StorageRef {
    pub(super) key: Rc<str>,
    /// Its class; elements of an untyped storage are bytes.
    pub(super) class: Global,
    /// Elements before its first, when it is a view of the storage of that key.
    pub(super) offset: usize,
    /// Elements.
    pub(super) count: usize,
}

/// A tensor in a storage; numbers count elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorRef {
    pub(super) storage: StorageRef,
    /// Its type, where the storage does not say.
    pub(super) dtype: Option<Global>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) root: Value,
    pub(super) objects: Vec<Object>,
    /// Where it ends.
    pub(super) end: usize,
}

impl Pickle {
    /// Reads the pickle at an offset.
    pub(super) fn read(bytes: &[u8], at: usize) -> Result<Pickle, TorchError> {
        let mut machine = Machine {
            reader: Reader::new(bytes, at),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            objects: Vec::new(),
        };
        let root = machine.run()?;
        Ok(Pickle { root, objects: machine.objects, end: machine.reader.at })
    }

    pub(super) fn object(&self, value: &Value) -> Option<&Object> {
        if let Value::Object(number) = value { self.objects.get(*number) } else { None }
    }

    /// Entries of a dictionary.
    pub(super) fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        if let Some(Object::Dict(entries)) = self.object(value) { Some(entries) } else { None }
    }
}

struct Machine<'a> {
    reader: Reader<'a>,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    objects: Vec<Object>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value, TorchError> {
        loop {
            let code = self.reader.number::<1>()? as u8;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn problem<T>(&self, problem: impl Into<String>) -> Result<T, TorchError> {
        Err(TorchError::Pickle { offset: self.reader.at, problem: problem.into() })
    }

    fn pop(&mut self) -> Result<Value, TorchError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => self.problem("the stack is empty"),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, TorchError> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => self.problem("no mark"),
        }
    }

    fn make(&mut self, object: Object) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.stack.push(Value::Text(String::from_utf8_lossy(bytes).into()));
    }

    fn step(&mut self, code: u8) -> Result<(), TorchError> {
        match code {
            0x80 => drop(self.reader.take(1)?), // protocol
            0x95 => drop(self.reader.take(8)?), // frame
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top.clone(), top]);
            }
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool(code == 0x88)),
            b'I' | b'J' | b'K' | b'L' | b'M' | 0x8a | 0x8b => self.integer(code)?,
            b'F' => {
                self.reader.line()?;
                self.stack.push(Value::Float);
            }
            b'G' => {
                self.reader.take(8)?;
                self.stack.push(Value::Float);
            }
            b'S' | b'V' | b'X' | b'T' | b'U' | b'B' | b'C' | 0x8c | 0x8d | 0x8e => self.string(code)?,
            b']' | 0x8f => self.make(Object::List(Vec::new())),
            b')' => self.make(Object::Tuple(Vec::new())),
            b'}' => self.make(Object::Dict(Vec::new())),
            b't' | b'l' | b'd' | 0x85..=0x87 => self.container(code)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            b'Q' => self.persistent()?,
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memo(code)?,
            _ => return self.problem(format!("instruction {code:#04x} is not known")),
        }
        Ok(())
    }

    fn integer(&mut self, code: u8) -> Result<(), TorchError> {
        let signed = |bytes: &[u8]| {
            let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
            bytes.iter().rev().fold(fill, |number: i64, &byte| number << 8 | i64::from(byte))
        };
        let number = match code {
            b'J' => i64::from(self.reader.number::<4>()? as u32 as i32),
            b'K' => self.reader.number::<1>()? as i64,
            b'M' => self.reader.number::<2>()? as i64,
            b'I' | b'L' => {
                let line = self.reader.line()?;
                let text = std::str::from_utf8(line).unwrap_or_default();
                if code == b'I' && matches!(text, "00" | "01") {
                    self.stack.push(Value::Bool(text == "01"));
                    return Ok(());
                }
                match text.trim_end_matches('L').parse() {
                    Ok(number) => number,
                    Err(_) => return self.problem("an integer that does not fit"),
                }
            }
            _ => {
                let bytes = if code == 0x8a { self.reader.counted::<1>()? } else { self.reader.counted::<4>()? };
                if bytes.len() > 8 {
                    return self.problem("an integer of more than 64 bits");
                }
                signed(bytes)
            }
        };
        self.stack.push(Value::Int(number));
        Ok(())
    }

    fn string(&mut self, code: u8) -> Result<(), TorchError> {
        let bytes = match code {
            b'S' => self.reader.line()?.trim_ascii_end(),
            b'V' => self.reader.line()?,
            b'U' | b'C' | 0x8c => self.reader.counted::<1>()?,
            b'X' | b'T' | b'B' => self.reader.counted::<4>()?,
            _ => self.reader.counted::<8>()?,
        };
        let quoted =
            |bytes: &'_ [u8]| bytes.len() >= 2 && matches!(bytes[0], b'\'' | b'"') && bytes.last() == bytes.first();
        match bytes {
            [_, inner @ .., _] if code == b'S' && quoted(bytes) => self.text(inner),
            _ if code == b'S' => return self.problem("a string without quotes"),
            _ => self.text(bytes),
        }
        Ok(())
    }

    fn container(&mut self, code: u8) -> Result<(), TorchError> {
        let items = match code {
            0x85..=0x87 => {
                let mut items = (0..code - 0x84).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                items
            }
            _ => self.pop_mark()?,
        };
        match code {
            b'l' => self.make(Object::List(items)),
            b'd' => {
                let entries = self.pairs(items)?;
                self.make(Object::Dict(entries));
            }
            _ => self.make(Object::Tuple(items)),
        }
        Ok(())
    }

    fn pairs(&self, items: Vec<Value>) -> Result<Vec<(Value, Value)>, TorchError> {
        if !items.len().is_multiple_of(2) {
            return self.problem("a key without a value");
        }
        let (pairs, _) = items.as_chunks::<2>();
        Ok(pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect())
    }

    /// Appends to the list or the dictionary under the items.
    fn extend(&mut self, code: u8) -> Result<(), TorchError> {
        let items = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let target = self.pop()?;
        self.stack.push(target.clone());
        let entries = if matches!(code, b's' | b'u') { self.pairs(items.clone())? } else { Vec::new() };
        let object = if let Value::Object(number) = target { self.objects.get_mut(number) } else { None };
        match (object, code) {
            (Some(Object::List(list)), b'a' | b'e' | 0x90) => list.extend(items),
            (Some(Object::Dict(dict)), b's' | b'u') => dict.extend(entries),
            _ => return self.problem("items for what is no container"),
        }
        Ok(())
    }

    fn global(&mut self, code: u8) -> Result<(), TorchError> {
        let (module, name) = if code == b'c' {
            let [module, name] = [self.reader.line()?, self.reader.line()?];
            [module, name].map(|text| String::from_utf8_lossy(text).into_owned()).into()
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let (Value::Text(module), Value::Text(name)) = (module, name) else {
                return self.problem("a global without a name");
            };
            (module.to_string(), name.to_string())
        };
        let global = Global::find(&module, &name).ok_or_else(|| TorchError::Global(format!("{module}.{name}")))?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    /// What a known function would make of its arguments.
    fn call(&mut self) -> Result<(), TorchError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = match arguments {
            Value::Object(number) => self.objects.get(number).cloned(),
            _ => None,
        };
        let (Value::Global(function), Some(Object::Tuple(arguments))) = (function, arguments) else {
            return self.problem("a call of what is no function");
        };
        match globals::call(function, &arguments, &self.objects) {
            Ok(globals::Made::Value(value)) => self.stack.push(value),
            Ok(globals::Made::Object(object)) => self.make(object),
            Err(problem) => return self.problem(problem),
        }
        Ok(())
    }

    /// Attributes: of the known objects, none changes the numbers.
    fn build(&mut self) -> Result<(), TorchError> {
        self.pop()?;
        let target = self.pop()?;
        if !matches!(target, Value::Object(_)) {
            return self.problem("attributes for what is no object");
        }
        self.stack.push(target);
        Ok(())
    }

    /// `("storage", class, key, device, elements)`, in the older format followed by
    /// `(key of the view, offset, elements)` for views.
    fn persistent(&mut self) -> Result<(), TorchError> {
        let id = self.pop()?;
        match globals::storage(&id, &self.objects) {
            Some(storage) => self.make(Object::Storage(storage)),
            None => return self.problem("a persistent id that is no storage"),
        }
        Ok(())
    }

    fn memo(&mut self, code: u8) -> Result<(), TorchError> {
        let number = match code {
            b'p' | b'g' => {
                let line = self.reader.line()?;
                match std::str::from_utf8(line).ok().and_then(|line| line.parse().ok()) {
                    Some(number) => number,
                    None => return self.problem("a memo without a number"),
                }
            }
            b'q' | b'h' => self.reader.number::<1>()?,
            b'r' | b'j' => self.reader.number::<4>()?,
            _ => self.memo.len() as u64,
        };
        if matches!(code, b'g' | b'h' | b'j') {
            match self.memo.get(&number) {
                Some(value) => self.stack.push(value.clone()),
                None => return self.problem(format!("memo {number} is empty")),
            }
        } else {
            let top = self.pop()?;
            self.stack.push(top.clone());
            self.memo.insert(number, top);
        }
        Ok(())
    }
}
