//! The globals that a pickle of tensors refers to, and what calling them would make.

use super::pickle::{Object, StorageRef, TensorRef, Value};
use crate::checkpoint::number::Number;

/// A function or class that rebuilds tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`
    Dict,
    /// `torch.Size`
    Size,
    /// `torch.device`
    Device,
    /// `torch._utils._rebuild_tensor`, `_v2` and `_v3`
    Tensor,
    /// `torch._utils._rebuild_parameter` and `_rebuild_parameter_with_state`
    Parameter,
    /// `torch.nn.parameter.Parameter` and `torch.Tensor`, as arguments of the next
    Class,
    /// `torch._tensor._rebuild_from_type_v2`
    FromType,
    /// A typed storage
    Storage(Number),
    /// `torch.storage.UntypedStorage`
    Untyped,
    /// An element type
    Type(Number),
}

/// Names of storages and of element types.
const TYPES: &[(&str, &str, Number)] = &[
    ("DoubleStorage", "float64", Number::F64),
    ("FloatStorage", "float32", Number::F32),
    ("HalfStorage", "float16", Number::F16),
    ("BFloat16Storage", "bfloat16", Number::BF16),
    ("Float8_e4m3fnStorage", "float8_e4m3fn", Number::F8E4M3),
    ("Float8_e5m2Storage", "float8_e5m2", Number::F8E5M2),
    ("Float8_e8m0fnuStorage", "float8_e8m0fnu", Number::F8E8M0),
    ("LongStorage", "int64", Number::I64),
    ("IntStorage", "int32", Number::I32),
    ("ShortStorage", "int16", Number::I16),
    ("CharStorage", "int8", Number::I8),
    ("UInt64Storage", "uint64", Number::U64),
    ("UInt32Storage", "uint32", Number::U32),
    ("UInt16Storage", "uint16", Number::U16),
    ("ByteStorage", "uint8", Number::U8),
    ("BoolStorage", "bool", Number::Bool),
];

impl Global {
    /// A global that is known.
    pub(super) fn find(module: &str, name: &str) -> Option<Global> {
        let of_torch = || {
            let typed = TYPES.iter().find_map(|&(storage, dtype, number)| match name {
                _ if name == storage => Some(Global::Storage(number)),
                _ if name == dtype => Some(Global::Type(number)),
                _ => None,
            });
            typed.or(match name {
                "Size" => Some(Global::Size),
                "device" => Some(Global::Device),
                "Tensor" => Some(Global::Class),
                "UntypedStorage" => Some(Global::Untyped),
                _ => None,
            })
        };
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::Dict),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => Some(Global::Tensor),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Global::Parameter),
            ("torch.nn.parameter", "Parameter") => Some(Global::Class),
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Global::FromType),
            ("torch" | "torch.storage" | "torch.cuda", _) => of_torch(),
            _ => None,
        }
    }
}

/// What a call makes.
pub(super) enum Made {
    /// A value that there is already, or that is no object.
    Value(Value),
    Object(Object),
}

/// What calling a global with `arguments` would make.
pub(super) fn call(global: Global, arguments: &[Value], objects: &[Object]) -> Result<Made, String> {
    match (global, arguments) {
        (Global::Dict, []) => Ok(Made::Object(Object::Dict(Vec::new()))),
        (Global::Dict, [items]) => {
            dict(items, objects).map(Made::Object).ok_or_else(|| "a dictionary of no pairs".into())
        }
        (Global::Size, [sizes]) => match items(sizes, objects) {
            Some(sizes) => Ok(Made::Object(Object::Tuple(sizes.to_vec()))),
            None => Err("a size of no numbers".into()),
        },
        (Global::Device, _) => Ok(Made::Value(Value::None)),
        (Global::Parameter, [data, ..]) => Ok(Made::Value(data.clone())),
        (Global::FromType, [Value::Global(function), _, arguments, _]) if *function != Global::FromType => {
            call(*function, items(arguments, objects).ok_or("a call without arguments")?, objects)
        }
        (Global::Tensor, [storage, offset, shape, strides, rest @ ..]) => {
            let tensor = tensor(storage, [offset, shape, strides], rest, objects);
            tensor
                .map(|tensor| Made::Object(Object::Tensor(tensor)))
                .ok_or_else(|| "a tensor of impossible parts".into())
        }
        _ => Err(format!("a call of {global:?} with {} arguments", arguments.len())),
    }
}

fn object<'a>(value: &Value, objects: &'a [Object]) -> Option<&'a Object> {
    if let Value::Object(number) = value { objects.get(*number) } else { None }
}

/// Items of a tuple or list.
fn items<'a>(value: &Value, objects: &'a [Object]) -> Option<&'a [Value]> {
    match object(value, objects)? {
        Object::Tuple(items) | Object::List(items) => Some(items),
        _ => None,
    }
}

fn dict(value: &Value, objects: &[Object]) -> Option<Object> {
    if let Some(Object::Dict(entries)) = object(value, objects) {
        return Some(Object::Dict(entries.clone()));
    }
    let pair = |pair: &Value| match items(pair, objects)? {
        [key, value] => Some((key.clone(), value.clone())),
        _ => None,
    };
    items(value, objects)?.iter().map(pair).collect::<Option<_>>().map(Object::Dict)
}

fn size(value: &Value) -> Option<usize> {
    if let Value::Int(number) = value { usize::try_from(*number).ok() } else { None }
}

fn sizes(value: &Value, objects: &[Object]) -> Option<Vec<usize>> {
    items(value, objects)?.iter().map(size).collect()
}

/// Arguments after the first four: whether gradients are wanted, hooks, and in `_rebuild_tensor_v3` a type.
fn tensor(
    storage: &Value,
    [offset, shape, strides]: [&Value; 3],
    rest: &[Value],
    objects: &[Object],
) -> Option<TensorRef> {
    let Object::Storage(storage) = object(storage, objects)? else { return None };
    let (shape, strides) = (sizes(shape, objects)?, sizes(strides, objects)?);
    let dtype = rest.iter().find_map(|value| match value {
        Value::Global(global @ Global::Type(_)) => Some(*global),
        _ => None,
    });
    (shape.len() == strides.len()).then_some(())?;
    Some(TensorRef { storage: storage.clone(), dtype, offset: size(offset)?, shape, strides })
}

/// A storage by its persistent id.
pub(super) fn storage(id: &Value, objects: &[Object]) -> Option<StorageRef> {
    let [Value::Text(kind), Value::Global(class), Value::Text(key), _, count, rest @ ..] = items(id, objects)? else {
        return None;
    };
    let is_storage = &**kind == "storage" && matches!(class, Global::Storage(_) | Global::Untyped);
    let (offset, count) = match rest {
        [] | [Value::None] => (0, size(count)?),
        [view] => match items(view, objects)? {
            [_, offset, count] => (size(offset)?, size(count)?),
            _ => return None,
        },
        _ => return None,
    };
    is_storage.then(|| StorageRef { key: key.clone(), class: *class, offset, count })
}
