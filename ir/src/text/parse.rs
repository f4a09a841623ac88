//! Parser of the text form.

use std::collections::HashMap;

use super::cursor::{Cursor, ParseError};
use crate::graph::{Entry, Module, Region, State, ValueId};
use crate::op::{Op, OpDef};
use crate::types::Type;

/// Names of the values of one region.
type Scope<'a> = HashMap<&'a str, ValueId>;

/// Reads a module. Types are checked as ops are read, so the result satisfies the type rules.
///
/// # Errors
/// The first text that is not valid, with its line and column.
pub fn parse_module(text: &str) -> Result<Module, ParseError> {
    let mut cursor = Cursor::new(text);
    let mut module = Module::default();
    while !cursor.at_end() {
        cursor.expect("entry")?;
        module.entries.push(entry(&mut cursor)?);
    }
    Ok(module)
}

fn entry(c: &mut Cursor<'_>) -> Result<Entry, ParseError> {
    let name = c.identifier()?.to_owned();
    let mut region = Region::default();
    let mut scope = Scope::new();
    let inputs = c.list("(", ")", |c| {
        let name = value_name(c)?;
        c.expect(":")?;
        Ok((name, c.ty()?))
    })?;
    for (name, ty) in inputs {
        define(c, &mut scope, name, region.push_argument(name, ty))?;
    }
    let states = if c.eat("state") { c.list("(", ")", state)? } else { Vec::new() };
    c.expect("->")?;
    let outputs = c.list("(", ")", |c| c.identifier().map(str::to_owned))?;
    body(c, &mut region, &mut scope, "return")?;
    if outputs.len() != region.results.len() {
        return Err(c.error(format!(
            "entry `{name}` names {} outputs, returns {}",
            outputs.len(),
            region.results.len()
        )));
    }
    Ok(Entry { name, states, outputs, body: region })
}

fn state(c: &mut Cursor<'_>) -> Result<State, ParseError> {
    let name = c.string()?;
    c.expect(":")?;
    let instances = if name.contains('{') {
        let n = c.integer()?;
        c.expect("x")?;
        Some(n)
    } else {
        None
    };
    Ok(State { name, instances, ty: c.ty()? })
}

fn value_name<'a>(c: &mut Cursor<'a>) -> Result<&'a str, ParseError> {
    c.expect("%")?;
    c.identifier()
}

fn define<'a>(c: &Cursor<'_>, scope: &mut Scope<'a>, name: &'a str, value: ValueId) -> Result<(), ParseError> {
    match scope.insert(name, value) {
        Some(_) => Err(c.error(format!("`%{name}` is defined twice"))),
        None => Ok(()),
    }
}

fn value(c: &mut Cursor<'_>, scope: &Scope<'_>) -> Result<ValueId, ParseError> {
    let name = value_name(c)?;
    scope.get(name).copied().ok_or_else(|| c.error(format!("`%{name}` is not defined in this region")))
}

fn values(c: &mut Cursor<'_>, scope: &Scope<'_>) -> Result<Vec<ValueId>, ParseError> {
    let mut out = Vec::new();
    while c.peek("%") {
        out.push(value(c, scope)?);
        if !c.eat(",") {
            break;
        }
    }
    Ok(out)
}

fn body<'a>(
    c: &mut Cursor<'a>,
    region: &mut Region,
    scope: &mut Scope<'a>,
    terminator: &str,
) -> Result<(), ParseError> {
    c.expect("{")?;
    while !c.eat(terminator) {
        c.nested(|c| node(c, region, scope))?;
    }
    region.results = values(c, scope)?;
    c.expect("}")
}

fn node<'a>(c: &mut Cursor<'a>, region: &mut Region, scope: &mut Scope<'a>) -> Result<(), ParseError> {
    let mut names = vec![value_name(c)?];
    while c.eat(",") {
        names.push(value_name(c)?);
    }
    c.expect("=")?;
    let op_name = c.identifier()?;
    let mut operands = values(c, scope)?;
    let mut op = Op::parse(op_name, c)?;
    if op.region().is_some() {
        operands = nested_region(c, &mut op, region, scope)?;
    }
    c.expect(":")?;
    let mut declared = vec![c.ty()?];
    while c.eat(",") {
        declared.push(c.ty()?);
    }
    op.set_declared_type(&declared[0]);
    let types = op.result_types(&region.types_of(&operands)).map_err(|e| c.error(format!("{op_name}: {e}")))?;
    if types != declared {
        let list = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
        return Err(c.error(format!("{op_name}: has type {}, declared {}", list(&types), list(&declared))));
    }
    if names.len() != types.len() {
        return Err(c.error(format!("{op_name}: has {} results, {} are named", types.len(), names.len())));
    }
    let results = region.push_node(op, operands, types).to_vec();
    names.into_iter().zip(results).try_for_each(|(name, value)| define(c, scope, name, value))
}

/// Reads `(%x = %1, …) { … yield … }` into the region that `op` holds; gives the operands.
fn nested_region<'a>(
    c: &mut Cursor<'a>,
    op: &mut Op,
    outer: &Region,
    scope: &Scope<'a>,
) -> Result<Vec<ValueId>, ParseError> {
    let bindings = c.list("(", ")", |c| {
        let name = value_name(c)?;
        c.expect("=")?;
        Ok((name, value(c, scope)?))
    })?;
    let operands: Vec<ValueId> = bindings.iter().map(|b| b.1).collect();
    let types =
        op.region_argument_types(&outer.types_of(&operands)).map_err(|e| c.error(format!("{}: {e}", op.name())))?;
    let mut inner = Region::default();
    let mut inner_scope = Scope::new();
    for ((name, _), ty) in bindings.iter().zip(types) {
        define(c, &mut inner_scope, name, inner.push_argument(name, ty))?;
    }
    body(c, &mut inner, &mut inner_scope, "yield")?;
    if let Some(region) = op.region_mut() {
        *region = inner;
    }
    Ok(operands)
}
