//! The text of one shader while it is written: bindings, library functions, statements.

use std::collections::BTreeSet;
use std::fmt::Display;

use castiron_ir::{DType, Dim};
use castiron_runtime::program::gpu::{Binding, Features, MAX_BINDING_BYTES, Resource, Shader};
use castiron_runtime::program::view::Place;
use castiron_runtime::program::{Program, WeightForm};

use super::WgslFault;
use super::library::Function;

/// Invocations of a workgroup of maps; every adapter takes so many.
pub(super) const MAP_GROUP: u32 = 256;

/// Lanes of a subgroup that load elements for all; every subgroup that is used has so many.
pub(super) const LANES: usize = 8;

/// A shader being written.
pub(super) struct Writer<'a> {
    pub program: &'a Program,
    /// Number of the kernel, and of the operand among its views, for reports of indices out of range.
    pub kernel: u32,
    pub operand: u32,
    /// Symbols of the entry, in the order of the uniform buffer.
    symbols: &'a [String],
    features: Features,
    bound: Vec<Bound>,
    functions: BTreeSet<Function>,
    /// Functions that only this shader has.
    own: Vec<String>,
    shared: Vec<String>,
    /// How many indices are checked.
    checked: u32,
    body: String,
    depth: usize,
}

struct Bound {
    resource: Resource,
    name: String,
    element: &'static str,
    read_write: bool,
}

/// What was written before a function began.
pub(super) struct Suspended {
    body: String,
    depth: usize,
}

/// A finished shader with the memory that it is bound to.
pub(super) struct Finished {
    pub shader: Shader,
    pub bindings: Vec<Binding>,
}

impl<'a> Writer<'a> {
    pub fn new(program: &'a Program, symbols: &'a [String], kernel: u32, features: Features) -> Writer<'a> {
        Writer {
            program,
            kernel,
            operand: 0,
            symbols,
            features,
            bound: Vec::new(),
            functions: BTreeSet::new(),
            own: Vec::new(),
            shared: Vec::new(),
            checked: 0,
            body: String::new(),
            depth: 1,
        }
    }

    /// What the shader may use.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Writes a statement or comment on a line of its own.
    pub fn line(&mut self, text: impl Display) {
        let indent = "  ".repeat(self.depth);
        self.body.push_str(&format!("{indent}{text}\n"));
    }

    /// Writes a line that opens a block.
    pub fn open(&mut self, text: impl Display) {
        self.line(format!("{text} {{"));
        self.depth += 1;
    }

    /// Closes a block.
    pub fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    /// Begins a function of this shader: what is written until it ends is its body.
    pub fn begin_function(&mut self) -> Suspended {
        let depth = std::mem::replace(&mut self.depth, 1);
        Suspended { body: std::mem::take(&mut self.body), depth }
    }

    /// Ends the function, and goes on with what was written before.
    pub fn end_function(&mut self, signature: &str, suspended: Suspended) {
        let body = std::mem::replace(&mut self.body, suspended.body);
        self.depth = suspended.depth;
        self.own_function(format!("fn {signature} {{\n{body}}}\n"));
    }

    /// Makes sure that a library function is there; gives its name.
    pub fn function(&mut self, function: Function) -> &'static str {
        for &other in function.uses() {
            self.function(other);
        }
        self.functions.insert(function);
        function.name()
    }

    /// Adds a function of this shader, once.
    pub fn own_function(&mut self, text: String) {
        if !self.own.contains(&text) {
            self.own.push(text);
        }
    }

    /// Declares memory that a workgroup shares.
    pub fn shared(&mut self, name: &str, ty: &str) {
        self.shared.push(format!("var<workgroup> {name}: {ty};"));
    }

    /// The memory in which a workgroup reduces values.
    pub fn shared_reduction(&mut self, size: u32) -> &'static str {
        let declaration = format!("var<workgroup> partial: array<f32, {size}>;");
        if !self.shared.contains(&declaration) {
            self.shared.push(declaration);
        }
        "partial"
    }

    /// The name of a place as an array of elements.
    pub fn place(&mut self, place: &Place, element: &'static str) -> Result<String, WgslFault> {
        let (name, read_write) = match *place {
            Place::Buffer(n) => (format!("b{n}"), true),
            Place::Input(n) => (format!("in{n}"), false),
            Place::Output(n) => (format!("out{n}"), true),
            Place::State(n) => (format!("state{n}"), true),
            Place::Weight(n) => (format!("w{n}"), false),
            Place::Index(_) | Place::Extent(_) => return Err(WgslFault::NoMemory),
        };
        self.bind(Resource::Place(place.clone()), &name, element, read_write)
    }

    /// Temporary buffer of the choice.
    pub fn scratch(&mut self, number: u32) -> Result<String, WgslFault> {
        self.bind(Resource::Scratch(number), &format!("scratch{number}"), "f32", true)
    }

    /// Some bytes of a weight, or the whole of its `total` bytes.
    pub fn part(
        &mut self,
        (weight, total): (u32, u64),
        (offset, bytes): (u64, u64),
        element: &'static str,
    ) -> Result<String, WgslFault> {
        if offset == 0 && bytes >= total {
            return self.place(&Place::Weight(weight), element);
        }
        let name = if offset == 0 { format!("w{weight}") } else { format!("w{weight}_from_{offset}") };
        self.bind(Resource::Part { weight, offset, bytes }, &name, element, false)
    }

    fn bind(
        &mut self,
        resource: Resource,
        name: &str,
        element: &'static str,
        read_write: bool,
    ) -> Result<String, WgslFault> {
        if let Some(known) = self.bound.iter().find(|b| b.resource == resource) {
            if known.element != element {
                return Err(WgslFault::TwoElements(name.to_owned()));
            }
            return Ok(known.name.clone());
        }
        self.bound.push(Bound { resource, name: name.to_owned(), element, read_write });
        Ok(name.to_owned())
    }

    /// A statement that reads an index and makes sure that it is below a bound; gives its name.
    pub fn checked_index(&mut self, value: &str, bound: &str) -> Result<String, WgslFault> {
        self.bind(Resource::Status, "status", "atomic<u32>", true)?;
        let check = self.function(Function::CheckedIndex);
        let (number, kernel, operand) = (self.checked, self.kernel, self.operand);
        self.checked += 1;
        let name = format!("row{number}");
        self.line(format!("let {name} = {check}({value}, {bound}, {kernel}u, {operand}u);"));
        Ok(name)
    }

    /// The whole text: `size` invocations form a workgroup.
    pub fn finish(self, name: &str, comment: &[String], size: u32) -> Result<Finished, WgslFault> {
        let mut text = String::new();
        comment.iter().for_each(|line| text.push_str(&format!("// {line}\n")));
        if self.features.f16 {
            text.push_str("enable f16;\n");
        }
        if !self.symbols.is_empty() {
            let members: Vec<String> = self.symbols.iter().map(|s| format!("{s}: u32")).collect();
            text.push_str(&format!("struct Sizes {{ {} }}\n", members.join(", ")));
            text.push_str("@group(0) @binding(0) var<uniform> sizes: Sizes;\n");
        }
        for (i, bound) in self.bound.iter().enumerate() {
            let access = if bound.read_write { "read_write" } else { "read" };
            let (number, name, element) = (i + 1, &bound.name, bound.element);
            text.push_str(&format!("@group(0) @binding({number}) var<storage, {access}> {name}: array<{element}>;\n"));
        }
        self.shared.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        self.functions.iter().for_each(|function| text.push_str(&format!("\n{}", function.text())));
        self.own.iter().for_each(|function| text.push_str(&format!("\n{function}")));
        let subgroups = if self.features.subgroups {
            ", @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) lanes: u32"
        } else {
            ""
        };
        text.push_str(&format!(
            "\n@compute @workgroup_size({size})\nfn main(@builtin(workgroup_id) group_id: vec3<u32>, \
             @builtin(local_invocation_index) local: u32{subgroups}) {{\n  \
             let group = group_id.x + 65535u*group_id.y;\n{}}}\n",
            self.body
        ));
        let bindings: Vec<Binding> =
            self.bound.into_iter().map(|b| Binding { resource: b.resource, read_write: b.read_write }).collect();
        if bindings.len() > super::MAX_BINDINGS {
            return Err(WgslFault::TooManyBindings(bindings.len()));
        }
        let shader = Shader { name: name.to_owned(), features: self.features, source: text };
        Ok(Finished { shader, bindings })
    }

    /// Whether a weight exceeds what every adapter binds.
    pub fn is_large(&self, weight: u32) -> bool {
        self.weight_bytes(weight) > MAX_BINDING_BYTES
    }

    /// Bytes of an instance of a weight.
    pub fn weight_bytes(&self, weight: u32) -> u64 {
        self.weight_form(weight).bytes().unwrap_or(usize::MAX) as u64
    }

    /// How a weight is laid out.
    pub fn weight_form(&self, weight: u32) -> &'a WeightForm {
        &self.program.weights[weight as usize].form
    }
}

/// A dim as an expression of u32.
pub(super) fn dim_text(dim: &Dim) -> String {
    if let Some(constant) = dim.as_constant() {
        return format!("{constant}u");
    }
    // There is no negation of u32, but differences wrap as they should.
    let text = dim.text(&|symbol| format!("sizes.{symbol}")).replace("(-", "(0u-");
    if text.starts_with('-') {
        format!("(0u{text})")
    } else if text.contains(['+', '-']) {
        format!("({text})")
    } else {
        text
    }
}

/// Whether elements of a type are words of their own in device memory.
pub(super) fn is_word(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32)
}
