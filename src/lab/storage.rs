//! Bytes that weights take on disk, in three layouts.
//!
//! Of n values of b bits with m of them not 0: dense n b; a bitmask n + m b; compressed rows (CSR) m (b + 32) bits and a
//! 32-bit offset per row and one more. Zeros cost nothing only where the layout leaves them out, and even then
//! positions must be stored: at 32 bits a bitmask pays from 3.1 % zeros on, compressed rows from 50 %.

use crate::lab::error::Result;
use crate::nn::network::Network;
use crate::nn::op::fake_quant::Levels;
use crate::nn::parameters::{Parameter, ParameterRole};

/// How values are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Every value, zeros too: what programs write.
    Dense,
    /// One bit per value, and the values that are not 0.
    Bitmask,
    /// Column and value of each that is not 0, row by row.
    CompressedRows,
    /// The smallest of these.
    Smallest,
    /// Every value as a 32-bit float, whatever levels it lies on.
    Floats,
}

/// Bits of an index or an offset in compressed rows.
const INDEX_BITS: u64 = 32;

/// Bits of a float.
pub const FLOAT_BITS: u64 = 32;

impl Layout {
    /// Bytes of a matrix with so many values, rows and values that are not 0.
    pub fn bytes(self, values: u64, rows: u64, nonzero: u64, bits: u64) -> u64 {
        let bits = match self {
            Self::Dense => values * bits,
            Self::Floats => values * FLOAT_BITS,
            Self::Bitmask => values + nonzero * bits,
            Self::CompressedRows => nonzero * (bits + INDEX_BITS) + (rows + 1) * INDEX_BITS,
            Self::Smallest => {
                let layouts = [Self::Dense, Self::Bitmask, Self::CompressedRows];
                let bytes = layouts.map(|layout| layout.bytes(values, rows, nonzero, bits));
                return bytes.into_iter().fold(u64::MAX, u64::min);
            }
        };
        bits.div_ceil(8)
    }
}

/// Bits in which one value of a parameter is stored: fewer than a float's where it lies on an integer grid.
pub fn value_bits(parameter: &Parameter) -> u64 {
    match (parameter.role, &parameter.levels) {
        (ParameterRole::Weight, Some(levels)) => u64::from(levels.bits()),
        // Biases of integer layers are 32-bit integers.
        _ => FLOAT_BITS,
    }
}

/// Bytes of a network's weights and biases in this layout, with the scales of what is quantized; biases are always
/// dense.
///
/// The payload alone: headers with names and shapes are some hundred bytes and depend on the file format.
pub fn network_bytes(network: &Network, layout: Layout) -> u64 {
    const WORD: u64 = FLOAT_BITS / 8;
    // A scale for each output channel or for all, and a zero point where it is not 0.
    let words = |levels: &Levels| 1 + u64::from(levels.zero_point != 0);
    let parameters = network.parameters().iter().map(|parameter| {
        let (values, bits) = (parameter.value.elem_count() as u64, value_bits(parameter));
        let is_weight = parameter.role == ParameterRole::Weight;
        // A bias is at the scale of the sums that it is added to, which follows from two others.
        let scales = match &parameter.levels {
            Some(levels) if is_weight && layout != Layout::Floats => {
                levels.all().iter().map(words).sum::<u64>() * WORD
            }
            _ => 0,
        };
        let layout = if is_weight { layout } else { Layout::Dense };
        let rows = parameter.value.dims().first().copied().unwrap_or(1) as u64;
        layout.bytes(values, rows, parameter.nonzero(), bits) + scales
    });
    let quantized = network
        .nodes()
        .iter()
        .filter(|node| node.layer.levels().is_some());
    // A scale and a zero point for each activation.
    parameters.sum::<u64>() + quantized.count() as u64 * 2 * WORD
}

/// Bytes of the file in which every tensor of a network has its cheapest form, as it is really written: with names,
/// shapes, scales, masks, the statistics of batch normalizations, and the network's graph.
///
/// # Errors
/// candle's.
pub fn written_bytes(network: &Network) -> Result<u64> {
    Ok(network.to_file(&serde_json::Value::Null)?.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, 512 x 4608 floats at 90 % zeros: 9.000 MiB dense, 1.802 in compressed rows, 1.181 as a bitmask.
    #[test]
    fn zeros_are_free_only_where_they_are_left_out() {
        let values = 512 * 4608;
        let nonzero = values / 10;
        let mebibytes =
            |layout: Layout| layout.bytes(values, 512, nonzero, 32) as f64 / f64::from(1 << 20);
        assert_eq!(mebibytes(Layout::Dense), 9.0);
        assert!((mebibytes(Layout::CompressedRows) - 1.802).abs() < 5e-4);
        assert!((mebibytes(Layout::Bitmask) - 1.181).abs() < 5e-4);
        assert_eq!(Layout::Dense.bytes(values, 512, nonzero, 8), values);
        assert_eq!(Layout::Dense.bytes(3, 1, 3, 4), 2, "a half byte is a byte");
    }
}
