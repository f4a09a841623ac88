//! What a block of a quantised encoding consists of.

use castiron_ir::BlockFormat;
use castiron_ir::blocks::Block;

use super::{BLOCK, Encoding, PANEL, VECTOR};

/// Some bits of each integer, stored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// How many: 1, 2, 4 or 8.
    pub bits: usize,
    /// Place of the lowest in the integer.
    pub at: usize,
}

/// How an encoding stores a block; drawn in `quantised.rs`.
///
/// Element `i` of group `g` is `d·scales[g]·(u[i] - zero) + m·minima[g]`, where `u` are the stored integers:
/// unsigned, or signed bytes if a plane holds all eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Elements of a block.
    pub span: usize,
    /// Elements that share a scale.
    pub group: usize,
    /// Whether each group has a byte that multiplies `d`, and one that multiplies `m`.
    pub is_scaled: bool,
    /// Whether there is an `m`.
    pub has_minimum: bool,
    /// What is taken from the stored integers.
    pub zero: u8,
    /// Where the bits of the integers are, the low ones first.
    pub planes: &'static [Plane],
}

/// Planes of integers of 2, 3, 4, 5, 6 and 8 bits.
const BITS_2: &[Plane] = &[Plane { bits: 2, at: 0 }];
const BITS_3: &[Plane] = &[Plane { bits: 2, at: 0 }, Plane { bits: 1, at: 2 }];
const BITS_4: &[Plane] = &[Plane { bits: 4, at: 0 }];
const BITS_5: &[Plane] = &[Plane { bits: 4, at: 0 }, Plane { bits: 1, at: 4 }];
const BITS_6: &[Plane] = &[Plane { bits: 4, at: 0 }, Plane { bits: 2, at: 4 }];
const BITS_8: &[Plane] = &[Plane { bits: 8, at: 0 }];

impl Layout {
    /// A scale for 32 elements.
    const fn plain(planes: &'static [Plane], zero: u8, has_minimum: bool) -> Option<Layout> {
        Some(Layout { span: BLOCK, group: BLOCK, is_scaled: false, has_minimum, zero, planes })
    }

    /// A scale for 256 elements, and a byte for each group.
    const fn scaled(group: usize, planes: &'static [Plane], zero: u8, has_minimum: bool) -> Option<Layout> {
        Some(Layout { span: 256, group, is_scaled: true, has_minimum, zero, planes })
    }

    /// The layout of a quantised encoding.
    pub const fn of(encoding: Encoding) -> Option<Layout> {
        match encoding {
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => None,
            Encoding::Q8_0 => Layout::plain(BITS_8, 0, false),
            Encoding::Q4_0 => Layout::plain(BITS_4, 8, false),
            Encoding::Q4_1 => Layout::plain(BITS_4, 0, true),
            Encoding::Q5_0 => Layout::plain(BITS_5, 16, false),
            Encoding::Q5_1 => Layout::plain(BITS_5, 0, true),
            Encoding::Q2K => Layout::scaled(16, BITS_2, 0, true),
            Encoding::Q3K => Layout::scaled(16, BITS_3, 4, false),
            Encoding::Q4K => Layout::scaled(32, BITS_4, 0, true),
            Encoding::Q5K => Layout::scaled(32, BITS_5, 0, true),
            Encoding::Q6K => Layout::scaled(16, BITS_6, 32, false),
            Encoding::Q8S => Layout::scaled(32, BITS_8, 0, false),
        }
    }

    /// Whether stored integers are signed bytes.
    pub const fn is_signed(&self) -> bool {
        self.planes[0].bits == 8
    }

    /// Bits of an integer.
    pub const fn bits(&self) -> usize {
        let (mut plane, mut bits) = (0, 0);
        while plane < self.planes.len() {
            bits += self.planes[plane].bits;
            plane += 1;
        }
        bits
    }

    /// Groups of a block.
    pub const fn groups(&self) -> usize {
        self.span / self.group
    }

    /// Bytes of the block's own scale and minimum in a panel.
    const fn own(&self) -> usize {
        2 * PANEL * (1 + self.has_minimum as usize)
    }

    /// Offset of the scale of a group in a panel's block: a byte of each column.
    pub const fn scale(&self, group: usize) -> usize {
        self.own() + PANEL * group
    }

    /// Offset of the minimum of a group.
    pub const fn minimum(&self, group: usize) -> usize {
        self.own() + PANEL * (self.groups() + group)
    }

    /// Offset of the integers of run `run` of 32 elements.
    pub const fn integers(&self, run: usize) -> usize {
        let bytes = if self.is_scaled { PANEL * self.groups() * (1 + self.has_minimum as usize) } else { 0 };
        self.own() + bytes + VECTOR * self.bits() * run
    }

    /// Bytes of a panel's block.
    pub const fn bytes(&self) -> usize {
        self.integers(self.span / BLOCK)
    }
}

impl Plane {
    /// Where the bits of elements `16·half + 4·step ..` of a run are: the vector within the plane, and the
    /// lowest bit within each byte.
    pub const fn place(&self, step: usize, half: usize) -> (usize, usize) {
        match self.bits {
            8 => (step + 4 * half, 0),
            bits => (step * bits / 4, step * bits % 4 + 4 * half),
        }
    }

    /// The bits, at the low end.
    pub const fn mask(&self) -> u8 {
        (0xff_u16 >> (8 - self.bits)) as u8
    }
}

impl Encoding {
    /// The encoding that holds what a block format holds, in about as many bytes where there is one: exactly, but
    /// for scales that an f16 rounds (in IQ formats an eighth of one, in MXFP4 a power of two). Formats of 8-bit
    /// integers or floats under scales for 16 elements have none and become f16.
    pub fn of(format: BlockFormat) -> Encoding {
        match format {
            BlockFormat::Q8_0 | BlockFormat::Iq4Nl | BlockFormat::Mxfp4 => Encoding::Q8_0,
            BlockFormat::Q4_0 => Encoding::Q4_0,
            BlockFormat::Q4_1 => Encoding::Q4_1,
            BlockFormat::Q5_0 => Encoding::Q5_0,
            BlockFormat::Q5_1 => Encoding::Q5_1,
            BlockFormat::Q2K => Encoding::Q2K,
            BlockFormat::Q3K | BlockFormat::Tq1_0 | BlockFormat::Tq2_0 => Encoding::Q3K,
            BlockFormat::Q4K => Encoding::Q4K,
            BlockFormat::Q5K => Encoding::Q5K,
            BlockFormat::Q6K => Encoding::Q6K,
            BlockFormat::Iq4Xs | BlockFormat::Iq3S | BlockFormat::Iq3Xxs | BlockFormat::Iq2Xxs | BlockFormat::Iq1S => {
                Encoding::Q8S
            }
            BlockFormat::Iq2S | BlockFormat::Iq2Xs | BlockFormat::Iq1M | BlockFormat::Nvfp4 => Encoding::F16,
        }
    }
}

/// A block of zeros.
pub(super) fn empty_block() -> Block {
    Block { d: 0.0, m: None, scales: [1; 16], minima: [1; 16], integers: [0; castiron_ir::blocks::MOST] }
}
