//! Products of rows with a packed weight, with the epilogue on the accumulators.
//!
//! An invocation holds `rows × 4` sums for each group: four neighbouring columns, since one load
//! brings them, of several rows, since each weight then serves several products. How the elements of
//! `x` reach it is what differs:
//!
//! ```text
//!  lanes    each lane loads one of 8 elements and the subgroup passes them around: for CPUs, where
//!           a load for every lane costs as much as eight multiplications
//!  direct   every invocation loads what it needs
//!  shared   the workgroup copies a tile of x, then all read it: for GPUs, many rows
//!  split    a panel's columns, with k split over the workgroup: for GPUs, few rows
//! ```

use castiron_ir::Dim;
use castiron_runtime::program::gpu::{AdapterClass, Condition, Features};
use castiron_runtime::program::view::View;
use castiron_runtime::program::{Matmul, Rows};
use castiron_runtime::weights::{Encoding, PANEL, PackedMatrix};

use super::WgslFault;
use super::factor::{FromNorm, FromRows, FromTile};
use super::operand::{Operand, Operands, address};
use super::panel::{Chunk, Panels, QUAD, Walk, Work};
use super::rows::{Given, write_element};
use super::shader::{Writer, dim_text};
use super::space::Space;

/// Invocations of a workgroup on GPUs.
const GPU_GROUP: u32 = 64;
/// Elements of `k` of a tile in workgroup memory.
pub(super) const SHARED_DEPTH: usize = 32;

/// A way to compute a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// An invocation has a quad of columns and so many rows.
    Wide { rows: usize, size: u32 },
    /// 16 quads by 4 runs of rows, over tiles of `x` in workgroup memory.
    Shared,
    /// A panel for each workgroup and row, its `k` split over 16 invocations for each quad.
    Split,
}

impl Method {
    /// Whether a workgroup works on one row.
    pub fn is_for_one_row(self) -> bool {
        matches!(self, Method::Wide { rows: 1, .. } | Method::Split)
    }

    /// Name of the archetype.
    pub fn name(self) -> String {
        match self {
            Method::Wide { rows: 1, .. } => "matvec_wide".to_owned(),
            Method::Wide { .. } => "matmul_wide".to_owned(),
            Method::Shared => "matmul_shared".to_owned(),
            Method::Split => "matvec_split".to_owned(),
        }
    }
}

/// The ways to compute a product, the best first.
pub(super) fn methods(matrix: &PackedMatrix, rows: &Dim) -> Vec<(Condition, Method)> {
    let most = |n: u32| Some((rows.clone(), n));
    let subgroups = Features::SUBGROUPS;
    let cpu = |features, at_most| Condition { features, class: Some(AdapterClass::Cpu), at_most, stored: None };
    let gpu = |features, at_most| Condition { features, class: Some(AdapterClass::Gpu), at_most, stored: None };
    // Registers bound how many sums an invocation can hold.
    let many = (8 / matrix.groups).max(1);
    let mut methods = vec![
        (cpu(subgroups, most(1)), Method::Wide { rows: 1, size: 8 }),
        (cpu(subgroups, None), Method::Wide { rows: many, size: 32 }),
        (cpu(Features::NONE, most(1)), Method::Wide { rows: 1, size: 8 }),
        (cpu(Features::NONE, None), Method::Wide { rows: many, size: 32 }),
    ];
    if matrix.encoding == Encoding::F16 {
        let f16 = Features { f16: true, subgroups: false };
        methods.extend([(gpu(f16, most(4)), Method::Split), (gpu(f16, None), Method::Shared)]);
    }
    methods.extend([(gpu(Features::NONE, most(4)), Method::Split), (gpu(Features::NONE, None), Method::Shared)]);
    // The ways for many rows are never taken for one.
    let is_one_row = rows.as_constant() == Some(1);
    methods.retain(|(condition, _)| condition.at_most.is_some() || !is_one_row);
    methods
}

/// The ways to compute a product whose rows choose their weights: row by row.
pub(super) fn methods_of_stack(matrix: &PackedMatrix) -> Vec<(Condition, Method)> {
    let mut methods = methods(matrix, &Dim::from(1));
    methods.iter_mut().for_each(|(condition, _)| condition.at_most = None);
    methods
}

/// A product being written.
struct Product<'a> {
    space: Space,
    panels: Panels,
    chunk: Chunk,
    matrix: &'a PackedMatrix,
    rows: usize,
}

/// Writes the product over a chunk of the weight's panels; gives the grid and the workgroup's size. With
/// the number of a norm and what it computes, for products of one row, it is applied to the row first.
pub(super) fn write_matmul(
    w: &mut Writer<'_>,
    matmul: &Matmul,
    (matrix, chunk): (&PackedMatrix, Chunk),
    method: Method,
    norm: Option<(u32, &Rows)>,
) -> Result<(Vec<(Dim, u32)>, u32), WgslFault> {
    let panels = Panels::bind(w, matmul.weight, matrix, chunk)?;
    let others = std::iter::once(&matmul.x).chain(&matmul.chosen).cloned().collect();
    let space = Space::new(&matmul.space, &matmul.epilogue, others);
    let rows = match method {
        Method::Wide { rows, .. } => rows,
        Method::Shared => (8 / matrix.groups).max(1),
        Method::Split => 1,
    };
    let product = Product { space, panels, chunk, matrix, rows };
    product.write_epilogue(w)?;
    let norm = norm.map(|(number, rows)| {
        w.kernel = number;
        Space::new(&rows.space, &rows.operands, Vec::new())
    });
    match method {
        Method::Wide { size, .. } => product.write_wide(w, size, norm.as_ref()),
        Method::Split => product.write_split(w, norm.as_ref()),
        Method::Shared if norm.is_some() => Err(WgslFault::Order),
        Method::Shared => product.write_shared(w),
    }
}

impl Product<'_> {
    fn x(&self) -> &View {
        &self.space.others[0]
    }

    fn row_count(&self) -> Dim {
        Dim::product(self.space.outer())
    }

    /// Writes the epilogue as a function of one element: `finish(row, column, sum0, …)`.
    fn write_epilogue(&self, w: &mut Writer<'_>) -> Result<(), WgslFault> {
        let suspended = w.begin_function();
        let (rows, columns) = (dim_text(&self.row_count()), self.matrix.n);
        w.line(format!("if (row >= {rows} || column >= {columns}u) {{ return; }}"));
        let outer = self.space.outer_indices(w, "row", "i");
        let sums: Vec<String> = (0..self.matrix.groups).map(|g| format!("sum{g}")).collect();
        let views = self.space.others.len();
        write_element(w, &self.space, &outer, "column", Given { values: &sums, views })?;
        w.operand = 0;
        let parameters: Vec<String> = sums.iter().map(|sum| format!("{sum}: f32")).collect();
        w.end_function(&format!("finish(row: u32, column: u32, {})", parameters.join(", ")), suspended);
        Ok(())
    }

    /// Writes the calls that finish the sums of a run of rows.
    fn write_calls(&self, w: &mut Writer<'_>, row: &str) {
        for r in 0..self.rows {
            w.open("for (var j = 0u; j < 4u; j++)");
            let sums: Vec<String> = (0..self.matrix.groups).map(|g| format!("sum{g}_{r}[j]")).collect();
            w.line(format!("finish({row} + {r}u, column + j, {});", sums.join(", ")));
            w.close();
        }
    }

    fn write_sums(&self, w: &mut Writer<'_>) {
        for (g, r) in (0..self.matrix.groups).flat_map(|g| (0..self.rows).map(move |r| (g, r))) {
            w.line(format!("var sum{g}_{r} = vec4<f32>(0.0);"));
        }
    }

    /// Writes the rows of `x` that an invocation reads, the last ones again beyond the end.
    fn write_rows(&self, w: &mut Writer<'_>, row: &str) -> Result<Vec<Operand<'_>>, WgslFault> {
        let last = format!("{} - 1u", dim_text(&self.row_count()));
        let mut all = Vec::new();
        for r in 0..self.rows {
            let name = format!("row{r}_");
            w.line(format!("let {name} = min({row} + {r}u, {last});"));
            let outer = self.space.outer_indices(w, &name, &format!("i{r}_"));
            all.push(Operand::new(w, self.x(), &outer, &format!("x{r}_at"))?);
        }
        Ok(all)
    }

    /// Writes the sums over all of `k`, or over every `stride`-th stretch from `first`; the rows come from
    /// memory, or one row from a norm that `size` invocations compute together.
    fn write_walk(
        &self,
        w: &mut Writer<'_>,
        (first, stride): (&str, u32),
        norm: Option<(&Space, u32)>,
    ) -> Result<(), WgslFault> {
        let Some((space, size)) = norm else {
            let mut x = FromRows { rows: self.write_rows(w, "first_row")?, k: self.matrix.k };
            return self.write_stretches(w, (first, stride), &mut x);
        };
        let outer = vec!["0u".to_owned(); space.outer().len()];
        let operands = Operands::new(w, &space.operands, &outer, 0)?;
        let mut x = FromNorm::new(w, space, &operands, (self.matrix.k, size))?;
        self.write_stretches(w, (first, stride), &mut x)
    }

    fn write_stretches(
        &self,
        w: &mut Writer<'_>,
        (first, stride): (&str, u32),
        work: &mut dyn Work,
    ) -> Result<(), WgslFault> {
        self.write_sums(w);
        let stretches = format!("{}u", self.panels.stretches());
        self.panels.write_walk(w, &Walk { first, end: &stretches, stride }, work)?;
        if self.panels.tail() > 0 {
            w.open(format!("if ({first} == 0u)"));
            self.panels.write_tail(w, work)?;
            w.close();
        }
        Ok(())
    }

    /// Panels that a row is multiplied with.
    fn panel_count(&self) -> usize {
        if self.is_stack() { self.chunk.panels } else { self.chunk.end - self.chunk.first }
    }

    /// The first of them.
    fn first_panel(&self) -> usize {
        if self.is_stack() { 0 } else { self.chunk.first }
    }

    fn is_stack(&self) -> bool {
        self.space.others.len() > 1
    }

    /// Writes where the panels begin that the row `first_row` chooses, if it chooses; gives the number of a panel
    /// counted from the first that is bound. A workgroup whose row chooses what is not bound ends.
    fn write_choice(&self, w: &mut Writer<'_>, panel: &str) -> Result<String, WgslFault> {
        let [_, chosen] = self.space.others.as_slice() else { return Ok(panel.to_owned()) };
        let outer = self.space.outer_indices(w, "first_row", "c");
        w.operand = 1;
        let address = address(w, chosen, &outer)?;
        let place = w.place(&chosen.place, "i32")?;
        let mut number = w.checked_index(&format!("{place}[{address}]"), &format!("{}u", self.chunk.count))?;
        w.operand = 0;
        if !self.chunk.is_whole() {
            w.shared("choice", "u32");
            w.line(format!("if (local == 0u) {{ choice = {number}; }}"));
            number = "workgroupUniformLoad(&choice)".to_owned();
        }
        w.line(format!("let matrix = {number};"));
        if !self.chunk.is_whole() {
            w.line(format!("if (matrix < {}u || matrix >= {}u) {{ return; }}", self.chunk.first, self.chunk.end));
        }
        Ok(format!("({}u*(matrix - {}u) + {panel})", self.chunk.panels, self.chunk.first))
    }

    fn write_wide(
        &self,
        w: &mut Writer<'_>,
        size: u32,
        norm: Option<&Space>,
    ) -> Result<(Vec<(Dim, u32)>, u32), WgslFault> {
        let quads = self.panel_count() * PANEL / QUAD;
        let across = quads.div_ceil(size as usize);
        let row_groups = self.row_count().div_ceil(self.rows as i64);
        w.line(format!("if (group >= {across}u*{}) {{ return; }}", dim_text(&row_groups)));
        // Lanes beyond the last quad work on it again, so that all take part in what subgroups do.
        w.line(format!("let place = min({size}u*(group % {across}u) + local, {}u);", quads - 1));
        w.line(format!("let is_mine = {size}u*(group % {across}u) + local < {quads}u;"));
        w.line(format!("let first_row = {}u*(group / {across}u);", self.rows));
        w.line("let quad = place % 4u;");
        let panel = self.write_choice(w, "(place / 4u)")?;
        self.panels.write_bases(w, &panel);
        self.write_walk(w, ("0u", 1), norm.map(|space| (space, size)))?;
        w.line(format!("let column = {}u + 4u*place;", self.first_panel() * PANEL));
        w.open("if (is_mine)");
        self.write_calls(w, "first_row");
        w.close();
        Ok((vec![(Dim::from(across), 1), (row_groups, 1)], size))
    }

    fn write_split(&self, w: &mut Writer<'_>, norm: Option<&Space>) -> Result<(Vec<(Dim, u32)>, u32), WgslFault> {
        let panels = self.panel_count();
        let rows = self.row_count();
        w.line(format!("if (group >= {panels}u*{}) {{ return; }}", dim_text(&rows)));
        w.line("let quad = local % 4u;");
        w.line("let slice = local / 4u;");
        w.line(format!("let panel = group % {panels}u;"));
        w.line(format!("let first_row = group / {panels}u;"));
        let chosen = self.write_choice(w, "panel")?;
        self.panels.write_bases(w, &chosen);
        self.write_walk(w, ("slice", GPU_GROUP / 4), norm.map(|space| (space, GPU_GROUP)))?;
        w.shared("slices", &format!("array<vec4<f32>, {GPU_GROUP}>"));
        for g in 0..self.matrix.groups {
            w.line("workgroupBarrier();");
            w.line(format!("slices[local] = sum{g}_0;"));
            w.line("workgroupBarrier();");
            for half in [32, 16, 8, 4] {
                w.line(format!("if (local < {half}u) {{ slices[local] += slices[local + {half}u]; }}"));
                w.line("workgroupBarrier();");
            }
            w.line(format!("sum{g}_0 = slices[local % 4u];"));
        }
        w.line(format!("let column = {PANEL}u*(panel + {}u) + 4u*quad;", self.first_panel()));
        w.open("if (slice == 0u)");
        self.write_calls(w, "first_row");
        w.close();
        Ok((vec![(Dim::from(panels), 1), (rows, 1)], GPU_GROUP))
    }

    fn write_shared(&self, w: &mut Writer<'_>) -> Result<(Vec<(Dim, u32)>, u32), WgslFault> {
        let tile_rows = 4 * self.rows;
        let quads = self.panel_count() * PANEL / QUAD;
        let across = quads.div_ceil(16);
        let row_groups = self.row_count().div_ceil(tile_rows as i64);
        w.shared("tile", &format!("array<f32, {}>", tile_rows * SHARED_DEPTH));
        w.line(format!("if (group >= {across}u*{}) {{ return; }}", dim_text(&row_groups)));
        w.line(format!("let place = min(16u*(group % {across}u) + local % 16u, {}u);", quads - 1));
        w.line(format!("let is_mine = 16u*(group % {across}u) + local % 16u < {quads}u;"));
        w.line(format!("let tile_row = {tile_rows}u*(group / {across}u);"));
        w.line(format!("let mine = {}u*(local / 16u);", self.rows));
        w.line("let quad = place % 4u;");
        self.panels.write_bases(w, "(place / 4u)");
        self.write_sums(w);
        let (stretch, stretches, k) = (self.panels.stretch(), self.panels.stretches(), self.matrix.k);
        w.open(format!("for (var start = 0u; start < {k}u; start += {SHARED_DEPTH}u)"));
        self.write_tile(w, tile_rows)?;
        let mut x = FromTile { rows: self.rows };
        let first = format!("start / {stretch}u");
        let end = format!("min({first} + {}u, {stretches}u)", SHARED_DEPTH / stretch);
        self.panels.write_walk(w, &Walk { first: &first, end: &end, stride: 1 }, &mut x)?;
        if self.panels.tail() > 0 {
            w.open(format!("if (start + {SHARED_DEPTH}u >= {k}u)"));
            self.panels.write_tail(w, &mut x)?;
            w.close();
        }
        w.close();
        w.line(format!("let column = {}u + 4u*place;", self.chunk.first * PANEL));
        w.open("if (is_mine)");
        self.write_calls(w, "tile_row + mine");
        w.close();
        Ok((vec![(Dim::from(across), 1), (row_groups, 1)], GPU_GROUP))
    }

    /// Writes how the workgroup copies its tile of `x`, zeros beyond the last element of a row.
    fn write_tile(&self, w: &mut Writer<'_>, tile_rows: usize) -> Result<(), WgslFault> {
        let (depth, k) = (SHARED_DEPTH, self.matrix.k);
        w.line("workgroupBarrier();");
        w.open(format!("for (var at = local; at < {}u; at += {GPU_GROUP}u)", tile_rows * depth));
        w.line(format!("let row = min(tile_row + at / {depth}u, {} - 1u);", dim_text(&self.row_count())));
        w.line(format!("let k = start + at % {depth}u;"));
        let outer = self.space.outer_indices(w, "row", "i");
        let x = Operand::new(w, self.x(), &outer, "x_at")?;
        let value = x.load(w, &format!("min(k, {}u)", k - 1))?;
        w.line(format!("tile[at] = select(0.0, {value}, k < {k}u);"));
        w.close();
        w.line("workgroupBarrier();");
        Ok(())
    }
}
