//! Assembly listing in Intel syntax, with a remark where a part begins and constants by value.

use std::fmt::Write;
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, SymbolResolver, SymbolResult};

use super::emit::Note;

/// Lists the functions at `bounds`, offsets from the code in `image`.
pub(super) fn listing(image: &[u8], code: usize, bounds: Range<usize>, notes: &[Note]) -> String {
    let start = code + bounds.start;
    let constants = Constants { table: image[..code].to_vec(), start: start as u64 };
    let mut formatter = IntelFormatter::with_options(Some(Box::new(constants)), None);
    formatter.options_mut().set_first_operand_char_index(14);
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_rip_relative_addresses(false);
    formatter.options_mut().set_branch_leading_zeros(false);
    let decoder = Decoder::with_ip(64, &image[start..code + bounds.end], 0, DecoderOptions::NONE);
    let mut text = String::new();
    let mut instruction_text = String::new();
    for instruction in decoder {
        let offset = instruction.ip() as usize;
        for (_, note) in notes.iter().filter(|(at, _)| *at == bounds.start + offset) {
            writeln!(text, "; {note}").expect("writing to a string succeeds");
        }
        instruction_text.clear();
        formatter.format(&instruction, &mut instruction_text);
        writeln!(text, "{offset:5x}  {instruction_text}").expect("writing to a string succeeds");
    }
    text
}

/// Names table entries by the value of their first lane.
struct Constants {
    table: Vec<u8>,
    /// Offset in the image of address 0.
    start: u64,
}

impl SymbolResolver for Constants {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _operand: u32,
        _instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        let place = self.start.wrapping_add(address);
        let bytes = self.table.get(place as usize..)?.first_chunk()?;
        if !instruction.is_ip_rel_memory_operand() {
            return None;
        }
        let bits = u32::from_le_bytes(*bytes);
        let value = f32::from_bits(bits);
        let is_number = value == 0.0 || value.is_normal() && value.abs() < 1e9 && value.abs() > 1e-12;
        let name = if is_number { format!("={value:?}") } else { format!("={bits:#010x}") };
        Some(SymbolResult::with_string(address, name))
    }
}
