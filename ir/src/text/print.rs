//! Printer of the text form.

use std::fmt::{self, Display, Write};

use crate::graph::{Entry, Module, Region, ValueId};
use crate::op::OpDef;
use crate::types::Type;

impl Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, entry) in self.entries.iter().enumerate() {
            if i > 0 {
                f.write_char('\n')?;
            }
            f.write_str(&print_entry(entry))?;
        }
        Ok(())
    }
}

/// One entry as text.
pub fn print_entry(entry: &Entry) -> String {
    let names = names(&entry.body);
    let inputs = entry.body.arguments.iter().map(|&a| format!("{}: {}", names[a.index()], entry.body.type_of(a)));
    let mut out = format!("entry {}({})", entry.name, join(inputs));
    if !entry.states.is_empty() {
        let states = entry.states.iter().map(|s| match s.instances {
            Some(n) => format!("{:?}: {n} x {}", s.name, s.ty),
            None => format!("{:?}: {}", s.name, s.ty),
        });
        let _ = write!(out, " state({})", join(states));
    }
    let _ = writeln!(out, " -> ({}) {{", entry.outputs.join(", "));
    print_body(&entry.body, &names, "  ", "return", &mut out);
    out.push_str("}\n");
    out
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn names(region: &Region) -> Vec<String> {
    let mut names = vec![String::new(); region.value_count()];
    for (a, name) in region.arguments.iter().zip(&region.argument_names) {
        names[a.index()] = format!("%{name}");
    }
    for (number, result) in region.nodes.iter().flat_map(|n| &n.results).enumerate() {
        names[result.index()] = format!("%{number}");
    }
    names
}

fn print_body(region: &Region, names: &[String], indent: &str, terminator: &str, out: &mut String) {
    let list = |values: &[ValueId]| join(values.iter().map(|v| names[v.index()].clone()));
    for node in &region.nodes {
        let _ = write!(out, "{indent}{} = {}", list(&node.results), node.op.name());
        match node.op.region() {
            None => {
                if !node.operands.is_empty() {
                    let _ = write!(out, " {}", list(&node.operands));
                }
                node.op.print_attributes(out);
            }
            Some(inner) => {
                node.op.print_attributes(out);
                let bindings = inner.argument_names.iter().zip(&node.operands);
                let bindings = join(bindings.map(|(name, o)| format!("%{name} = {}", names[o.index()])));
                let _ = writeln!(out, " ({bindings}) {{");
                print_body(inner, &self::names(inner), &format!("{indent}  "), "yield", out);
                let _ = write!(out, "{indent}}}");
            }
        }
        let types = join(node.results.iter().map(|&r| region.type_of(r)).map(Type::to_string));
        let _ = writeln!(out, " : {types}");
    }
    let _ = writeln!(out, "{indent}{terminator} {}", list(&region.results));
}
