//! WGSL for kernel programs: shaders for each kernel, and the launches that tell a runtime how to
//! execute them.
//!
//! ```text
//!  mod.rs         entries, launches, choices          shader.rs      the text of one shader
//!  rows.rs        maps and row reductions             space.rs       iteration spaces, merged
//!  matmul.rs      products with packed weights        operand.rs     addresses, loads and stores
//!  factor.rs      their left operands                 expression.rs  row programs
//!  panel.rs       packed weights, taken apart         fuse.rs        kernels that are one launch
//!  blocks.rs      quantised ones                      library.rs     functions that WGSL lacks
//!  product.rs     products of activations             validate.rs    naga's judgement
//!  scan.rs        recurrences                        top_k.rs       the largest elements of rows
//!  attention/     flash attention                    fft_conv.rs    long convolutions
//! ```
//!
//! What a shader can know when it is compiled stands in it as a number; extents come from a uniform
//! buffer. Every choice that an adapter might take is written and validated ahead.

mod attention;
mod blocks;
mod expression;
mod factor;
mod fft_conv;
mod fuse;
mod library;
mod matmul;
mod operand;
mod panel;
mod product;
mod rows;
mod scan;
mod shader;
mod space;
mod top_k;
mod validate;

use std::collections::BTreeSet;

use castiron_ir::{DType, Dim};
use castiron_runtime::program::gpu::{
    Choice, Condition, Dispatch, Features, GpuEntry, GpuProgram, GpuStage, Launch, Shader,
};
use castiron_runtime::program::{
    AttentionKernel, EntryProgram, FftConv, Kernel, KernelBody, Matmul, Program, Rows, Scan, Step, TopK, WeightForm,
};
use castiron_runtime::weights::PackedMatrix;

use shader::{Finished, MAP_GROUP, Writer};

/// Storage buffers of a shader; browsers bind no more than this.
const MAX_BINDINGS: usize = 10;

/// A program that has no WGSL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WgslError {
    /// A kernel is at fault.
    #[error("entry `{entry}`, kernel {number} `{label}` cannot be written in WGSL: {fault}")]
    Kernel {
        /// The entry.
        entry: String,
        /// Number of the kernel.
        number: u32,
        /// Its label.
        label: String,
        /// What is wrong.
        fault: WgslFault,
    },
    /// An input or output is at fault.
    #[error("entry `{entry}`: `{name}` is {dtype}, and WGSL has memory of f32 and i32 only")]
    Signature {
        /// The entry.
        entry: String,
        /// The input or output.
        name: String,
        /// Its element type.
        dtype: DType,
    },
}

/// What a kernel asks for that WGSL, or the code generator, does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WgslFault {
    /// A number without memory where memory is needed.
    #[error("an operand has no memory")]
    NoMemory,
    /// One memory with two element types.
    #[error("`{0}` is read as two element types")]
    TwoElements(String),
    /// More storage buffers than every adapter binds.
    #[error("it touches {0} buffers, more than {MAX_BINDINGS}")]
    TooManyBindings(usize),
    /// An element type that cannot be read.
    #[error("elements of {0} cannot be read")]
    Loaded(DType),
    /// An element type that cannot be written.
    #[error("elements of {0} cannot be written")]
    Stored(DType),
    /// An extent that must be known.
    #[error("{0} is not known when the model is compiled")]
    Symbolic(&'static str),
    /// Caches of 8 bits.
    #[error("scales of keys and values cannot be read")]
    Scales,
    /// A program that is not in order.
    #[error("a value is used before it is there")]
    Order,
    /// A shader that naga rejects: an error of the code generator.
    #[error("the shader `{name}` is not valid: {reason}")]
    Invalid {
        /// Name of the shader.
        name: String,
        /// What naga says.
        reason: String,
    },
}

/// Writes the shaders of a program.
///
/// # Errors
/// A kernel that cannot be written, with what it asks for.
pub fn generate(program: &Program) -> Result<GpuProgram, WgslError> {
    let mut generator = Generator { program, shaders: Vec::new() };
    let entries = program.entries.iter().map(|entry| generator.entry(entry)).collect::<Result<_, _>>()?;
    Ok(GpuProgram { shaders: generator.shaders, entries })
}

struct Generator<'a> {
    program: &'a Program,
    shaders: Vec<Shader>,
}

impl<'a> Generator<'a> {
    fn entry(&mut self, entry: &EntryProgram) -> Result<GpuEntry, WgslError> {
        check_signature(self.program, entry)?;
        let symbols = entry.symbols(self.program).unwrap_or_default();
        let symbols: Vec<String> = symbols.into_iter().map(str::to_owned).collect();
        let mut stages: Vec<GpuStage> = Vec::new();
        for step in &entry.steps {
            let (count, body) = match step {
                Step::Kernel(_) => (1, std::slice::from_ref(step)),
                Step::Repeat { count, body } => (*count, body.as_slice()),
            };
            let numbers = body.iter().filter_map(|step| if let Step::Kernel(n) = step { Some(*n) } else { None });
            let numbers: Vec<u32> = numbers.collect();
            let mut launches = Vec::new();
            let mut groups = fuse::groups(entry, &numbers).into_iter().peekable();
            while let Some(group) = groups.next() {
                let pair = groups.peek().and_then(|next| fuse::norm_and_product(entry, *group.last()?, next[0]));
                launches.push(match pair {
                    Some((rows, matmul)) => {
                        groups.next();
                        self.norm_and_product(entry, &symbols, group[0], (rows, matmul))
                            .map_err(|fault| at(entry, group[0], fault))?
                    }
                    None => self.launch(entry, &symbols, group)?,
                });
            }
            stages.push(GpuStage { count, launches });
        }
        Ok(GpuEntry { symbols, stages })
    }

    fn launch(&mut self, entry: &EntryProgram, symbols: &[String], group: &[u32]) -> Result<Launch, WgslError> {
        let [first, .., last] = *group else {
            let number = group[0];
            let choices = self.choices(entry, symbols, number).map_err(|fault| at(entry, number, fault))?;
            return Ok(Launch { first: number, last: number, choices });
        };
        let choices = self.maps(entry, symbols, group).map_err(|fault| at(entry, first, fault))?;
        Ok(Launch { first, last, choices })
    }

    /// A norm and the product of its result: one dispatch for one row, two for more.
    fn norm_and_product(
        &mut self,
        entry: &EntryProgram,
        symbols: &[String],
        number: u32,
        (rows, matmul): (&Rows, &Matmul),
    ) -> Result<Launch, WgslFault> {
        let kernel = |number: u32| Named { symbols, number, kernel: &entry.kernels[number as usize] };
        let (norm, product) = (kernel(number), kernel(number + 1));
        let mut choices = self.matmul(&product, matmul, Some((number, rows)))?;
        let norms = self.rows(&norm, rows)?;
        for choice in self.matmul(&product, matmul, None)? {
            for before in &norms {
                let mut both = choice.clone();
                both.condition.features = choice.condition.features.and(before.condition.features);
                both.dispatches = [before.dispatches.as_slice(), &choice.dispatches].concat();
                choices.push(both);
            }
        }
        Ok(Launch { first: number, last: number + 1, choices })
    }

    /// The ways to execute one kernel.
    fn choices(&mut self, entry: &EntryProgram, symbols: &[String], number: u32) -> Result<Vec<Choice>, WgslFault> {
        let kernel = &entry.kernels[number as usize];
        let named = Named { symbols, number, kernel };
        match &kernel.body {
            KernelBody::Rows(rows) if rows.operands.program.is_map() => self.maps(entry, symbols, &[number]),
            KernelBody::Rows(rows) => self.rows(&named, rows),
            KernelBody::Matmul(matmul) => self.matmul(&named, matmul, None),
            KernelBody::Product(product) => {
                let mut w = self.writer(&named, Features::NONE);
                let (grid, size) = product::write_product(&mut w, product)?;
                let dispatch = self.finish(w, &named, "product", size, vec![grid])?;
                Ok(vec![simple(Condition::default(), vec![dispatch])])
            }
            KernelBody::Attention(attention) => self.attention(&named, attention),
            KernelBody::Scan(scan) => self.scan(&named, scan),
            KernelBody::TopK(top) => self.top_k(&named, top),
            KernelBody::FftConv(convolution) => self.fft_conv(&named, convolution),
        }
    }

    fn scan(&mut self, named: &Named<'_>, scan: &Scan) -> Result<Vec<Choice>, WgslFault> {
        let each = |(condition, method): (Condition, scan::Method)| {
            let mut w = self.writer(named, condition.features);
            let (grid, size) = scan::write_scan(&mut w, scan, method)?;
            Ok(simple(condition, vec![self.finish(w, named, method.name(), size, vec![grid])?]))
        };
        scan::methods(scan).into_iter().map(each).collect()
    }

    /// Maps that do not depend on one another, in one dispatch.
    fn maps(&mut self, entry: &EntryProgram, symbols: &[String], group: &[u32]) -> Result<Vec<Choice>, WgslFault> {
        let kernels: Vec<&Kernel> = group.iter().map(|&number| &entry.kernels[number as usize]).collect();
        let named = Named { symbols, number: group[0], kernel: kernels[0] };
        let mut w = self.writer(&named, Features::NONE);
        let mut grids: Vec<Vec<(Dim, u32)>> = Vec::new();
        for (i, kernel) in kernels.iter().enumerate() {
            let KernelBody::Rows(rows) = &kernel.body else { return Err(WgslFault::Order) };
            let is_single = kernels.len() == 1;
            let before = fuse::count_text(&grids);
            if !is_single {
                let count = vec![(Dim::product(&rows.space), MAP_GROUP)];
                let end = fuse::count_text(&[grids.as_slice(), &[count]].concat());
                w.line(format!("// {}", kernel.label));
                w.open(format!("if (group >= {before} && group < {end})"));
            }
            w.kernel = group[i];
            let number = if i == 0 { "group".to_owned() } else { format!("(group - {before})") };
            grids.push(rows::write_map(&mut w, rows, &number)?);
            if !is_single {
                w.close();
            }
        }
        let dispatch = self.finish(w, &named, "map", MAP_GROUP, grids)?;
        Ok(vec![simple(Condition::default(), vec![dispatch])])
    }

    fn rows(&mut self, named: &Named<'_>, rows: &Rows) -> Result<Vec<Choice>, WgslFault> {
        let variants = [Features::SUBGROUPS, Features::NONE];
        let each = |features| {
            let mut w = self.writer(named, features);
            let (grid, size) = rows::write_rows(&mut w, rows)?;
            let dispatch = self.finish(w, named, "row", size, vec![grid])?;
            Ok(simple(Condition { features, ..Condition::default() }, vec![dispatch]))
        };
        variants.into_iter().map(each).collect()
    }

    fn top_k(&mut self, named: &Named<'_>, top: &TopK) -> Result<Vec<Choice>, WgslFault> {
        let variants = [Features::SUBGROUPS, Features::NONE];
        let each = |features| {
            let mut w = self.writer(named, features);
            let (grid, size) = top_k::write_top_k(&mut w, top)?;
            let dispatch = self.finish(w, named, "top_k", size, vec![grid])?;
            Ok(simple(Condition { features, ..Condition::default() }, vec![dispatch]))
        };
        variants.into_iter().map(each).collect()
    }

    fn fft_conv(&mut self, named: &Named<'_>, c: &FftConv) -> Result<Vec<Choice>, WgslFault> {
        let mut choices = Vec::new();
        for (condition, method) in fft_conv::methods(c) {
            let mut part = |what: &str, write: fn(&mut Writer<'_>, &FftConv) -> _| {
                let mut w = self.writer(named, Features::NONE);
                let (grid, size) = write(&mut w, c)?;
                self.finish(w, named, what, size, vec![grid])
            };
            choices.push(match method {
                fft_conv::Method::Direct => simple(condition, vec![part("convolution", fft_conv::write_direct)?]),
                fft_conv::Method::Segments => {
                    let sequence = part("spectra_of_sequence", fft_conv::write_sequence)?;
                    let kernel = part("spectra_of_kernel", fft_conv::write_kernel)?;
                    let results = part("spectra_back", fft_conv::write_results)?;
                    Choice { condition, scratch: fft_conv::scratch(c), dispatches: vec![sequence, kernel, results] }
                }
            });
        }
        Ok(choices)
    }

    /// The ways to compute a product; with a norm, those for one row, which it is applied to.
    fn matmul(
        &mut self,
        named: &Named<'_>,
        matmul: &Matmul,
        norm: Option<(u32, &Rows)>,
    ) -> Result<Vec<Choice>, WgslFault> {
        let weight = &self.program.weights[matmul.weight as usize];
        let Some((_, matrix)) = weight.form.matrices() else { return Err(WgslFault::NoMemory) };
        if weight.encodings.is_empty() {
            return self.matmul_with(named, matmul, &matrix, norm);
        }
        let mut choices = Vec::new();
        for &encoding in weight.encodings.iter().collect::<BTreeSet<_>>() {
            for mut choice in self.matmul_with(named, matmul, &PackedMatrix { encoding, ..matrix }, norm)? {
                choice.condition.stored = Some((matmul.weight, encoding));
                choices.push(choice);
            }
        }
        Ok(choices)
    }

    /// The ways to compute a product with a matrix of one encoding.
    fn matmul_with(
        &mut self,
        named: &Named<'_>,
        matmul: &Matmul,
        matrix: &PackedMatrix,
        norm: Option<(u32, &Rows)>,
    ) -> Result<Vec<Choice>, WgslFault> {
        let rows = Dim::product(&matmul.space[..matmul.space.len() - 1]);
        let mut choices = Vec::new();
        let (methods, chunks) = match self.program.weights[matmul.weight as usize].form {
            WeightForm::Stack { count, .. } => {
                (matmul::methods_of_stack(matrix), panel::chunks_of_stack(matrix, count))
            }
            _ => (matmul::methods(matrix, &rows), panel::chunks(matrix)),
        };
        for (mut condition, method) in methods {
            if norm.is_some() {
                if !method.is_for_one_row() {
                    continue;
                }
                condition.at_most = Some((rows.clone(), 1));
            }
            let mut dispatches = Vec::new();
            for &chunk in &chunks {
                let mut w = self.writer(named, condition.features);
                let (grid, size) = matmul::write_matmul(&mut w, matmul, (matrix, chunk), method, norm)?;
                let what = if norm.is_some() { format!("norm_{}", method.name()) } else { method.name() };
                dispatches.push(self.finish(w, named, &what, size, vec![grid])?);
            }
            choices.push(simple(condition, dispatches));
        }
        Ok(choices)
    }

    fn attention(&mut self, named: &Named<'_>, kernel: &AttentionKernel) -> Result<Vec<Choice>, WgslFault> {
        let mut choices = Vec::new();
        if kernel.scales.is_some() {
            return Err(WgslFault::Scales);
        }
        for (condition, method) in attention::methods(kernel) {
            let mut w = self.writer(named, condition.features);
            let choice = match method {
                attention::Method::Queries { size } => {
                    let grid = attention::queries::write(&mut w, kernel, size)?;
                    simple(condition, vec![self.finish(w, named, "attention_queries", size, vec![grid])?])
                }
                attention::Method::Keys { size, is_cut: false } => {
                    let grid = attention::keys::write(&mut w, kernel, size, false)?;
                    simple(condition, vec![self.finish(w, named, "attention_keys", size, vec![grid])?])
                }
                attention::Method::Keys { size, is_cut: true } => {
                    let grid = attention::keys::write(&mut w, kernel, size, true)?;
                    let chunks = self.finish(w, named, "attention_chunks", size, vec![grid])?;
                    let mut w = self.writer(named, Features::NONE);
                    let grid = attention::keys::write_merge(&mut w, kernel, size)?;
                    let merge = self.finish(w, named, "attention_merge", size, vec![grid])?;
                    let scratch = vec![attention::keys::scratch(kernel)?];
                    Choice { condition, scratch, dispatches: vec![chunks, merge] }
                }
            };
            choices.push(choice);
        }
        Ok(choices)
    }

    fn writer<'w>(&self, named: &Named<'w>, features: Features) -> Writer<'w>
    where
        'a: 'w,
    {
        Writer::new(self.program, named.symbols, named.number, features)
    }

    /// Validates a shader, and gives it a number; equal shaders are one.
    fn finish(
        &mut self,
        w: Writer<'_>,
        named: &Named<'_>,
        what: &str,
        size: u32,
        grids: Vec<Vec<(Dim, u32)>>,
    ) -> Result<Dispatch, WgslFault> {
        let Finished { shader, bindings } = w.finish(&named.shader_name(what), &named.comment(), size)?;
        validate::check(&shader)?;
        let known = self.shaders.iter().position(|s| *s == shader);
        let number = known.unwrap_or_else(|| {
            self.shaders.push(shader);
            self.shaders.len() - 1
        });
        Ok(Dispatch { shader: number as u32, bindings, grids })
    }
}

/// A kernel with what its shaders are called after.
struct Named<'a> {
    symbols: &'a [String],
    number: u32,
    kernel: &'a Kernel,
}

impl Named<'_> {
    /// `matmul_wide_8_dot_add`: what it is, and the fused ops.
    fn shader_name(&self, what: &str) -> String {
        let label: String = self.kernel.label.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        format!("{what}_{label}")
    }

    fn comment(&self) -> Vec<String> {
        vec![format!("{}: {}", self.kernel.body.archetype(), self.kernel.label)]
    }
}

fn simple(condition: Condition, dispatches: Vec<Dispatch>) -> Choice {
    Choice { condition, scratch: Vec::new(), dispatches }
}

fn at(entry: &EntryProgram, number: u32, fault: WgslFault) -> WgslError {
    let label = entry.kernels[number as usize].label.clone();
    WgslError::Kernel { entry: entry.name.clone(), number, label, fault }
}

fn check_signature(program: &Program, entry: &EntryProgram) -> Result<(), WgslError> {
    let states = program.states.iter().map(|state| (&state.name, state.ty.dtype));
    let named = entry.inputs.iter().chain(&entry.outputs).map(|(name, ty)| (name, ty.dtype)).chain(states);
    match { named }.find(|(_, dtype)| !shader::is_word(*dtype)) {
        Some((name, dtype)) => Err(WgslError::Signature { entry: entry.name.clone(), name: name.clone(), dtype }),
        None => Ok(()),
    }
}
