//! The instructions that multiply small integers, chosen at run time.
//!
//! Two kinds of products are summed in 32 bits: pairs of 16-bit integers (any activation less its zero point, and tiles that
//! a filtering has transformed), and quads of an unsigned by a signed byte, which the vector neural network instructions
//! (VNNI) have. AVX2 multiplies bytes too (`vpmaddubsw`), but clips the sum of two products at 16 bits, which
//! 2 · 255 · 127 exceeds: it would be wrong, so bytes are widened there.

use super::kernel::Run;
use super::words::{Model, Quads, Words};
#[cfg(target_arch = "x86_64")]
use super::words::{Pairs8Avx2, Pairs8Vnni, Pairs16Avx512, Pairs16Vnni, Quads8Vnni, Quads16Vnni};

/// The instructions of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// 64 products an instruction.
    Avx512Vnni,
    /// 32 products an instruction.
    AvxVnni,
    /// 32 products in two instructions.
    Avx512,
    /// 16 products in two instructions.
    Avx2,
    /// What any compiler makes of loops.
    Portable,
}

impl Path {
    /// From the fastest on.
    pub const ALL: [Self; 5] = [
        Self::Avx512Vnni,
        Self::AvxVnni,
        Self::Avx512,
        Self::Avx2,
        Self::Portable,
    ];

    /// The fastest that this processor has.
    pub fn fastest() -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|path| path.runs()).unwrap_or(Self::Portable)
    }

    /// Whether this processor has it.
    pub fn runs(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma");
            let avx512 = || {
                avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")
            };
            match self {
                Self::Avx512Vnni => avx512() && has!("avx512vnni"),
                Self::AvxVnni => avx2 && has!("avxvnni"),
                Self::Avx512 => avx512(),
                Self::Avx2 => avx2,
                Self::Portable => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// `AVX-512 VNNI`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "AVX-512 VNNI",
            Self::AvxVnni => "AVX-VNNI",
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2",
            Self::Portable => "plain loops",
        }
    }

    /// Whether the processor has instructions made for 8-bit products.
    pub fn has_vnni(self) -> bool {
        matches!(self, Self::Avx512Vnni | Self::AvxVnni)
    }

    /// What it is, and what it is not, in a few words: `int8 by AVX2, no VNNI`.
    pub fn remark(self) -> String {
        let lack = if self.has_vnni() { "" } else { ", no VNNI" };
        format!("int8 by {}{lack}", self.name())
    }
}

/// Which products a kernel sums in one word of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Two of 16 bits by 16 bits.
    Pairs,
    /// Four of an unsigned by a signed byte.
    Quads,
}

impl Group {
    /// Products in a word.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::Quads => 4,
        }
    }

    /// Bytes of one value on the left.
    pub(super) fn bytes(self) -> usize {
        4 / self.size()
    }

    /// A word of weights.
    pub(super) fn word(self, value: impl Fn(usize) -> i32) -> i32 {
        match self {
            Self::Pairs => (value(0) & 0xffff) | value(1) << 16,
            Self::Quads => (0..4).fold(0, |word, at| word | (value(at) & 0xff) << (8 * at)),
        }
    }
}

/// A kernel: its shape, and the function that computes a tile.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    pub(super) group: Group,
    /// Columns of a tile.
    pub(super) width: usize,
    /// The most rows of a tile.
    pub(super) rows: usize,
    pub(super) run: Run,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}x{}", self.group, self.rows, self.width)
    }
}

/// The kernels of one path.
#[derive(Clone, Copy, Debug)]
pub struct Products {
    path: Path,
    /// For tiles that are transformed.
    pub(super) pairs: Unit,
    /// For all others.
    pub(super) direct: Unit,
}

/// Rows of a tile: as many as leave registers for the columns, a word of the left side and a product (16 registers, with
/// AVX-512 32).
const NARROW: usize = 6;
const WIDE: usize = 8;

impl Products {
    /// The fastest of this processor.
    pub fn fastest() -> Self {
        Self::of(Path::fastest()).unwrap_or_else(|| Self::model(Path::Portable))
    }

    /// Those of a path, if this processor has it.
    pub fn of(path: Path) -> Option<Self> {
        if !path.runs() {
            return None;
        }
        let mut products = Self::model(path);
        #[cfg(target_arch = "x86_64")]
        {
            let (pairs, direct): (Run, Run) = match path {
                Path::Avx512Vnni => (<Pairs16Vnni>::tile, <Quads16Vnni>::tile),
                Path::AvxVnni => (<Pairs8Vnni>::tile, <Quads8Vnni>::tile),
                Path::Avx512 => (<Pairs16Avx512>::tile, <Pairs16Avx512>::tile),
                Path::Avx2 => (<Pairs8Avx2>::tile, <Pairs8Avx2>::tile),
                Path::Portable => return Some(products),
            };
            products.pairs.run = pairs;
            products.direct.run = direct;
        }
        Some(products)
    }

    /// The same packing and blocking with plain loops, for processors that lack the instructions.
    pub fn model(path: Path) -> Self {
        let pairs = |width, rows, run: Run| Unit {
            group: Group::Pairs,
            width,
            rows,
            run,
        };
        let quads = |width, rows, run: Run| Unit {
            group: Group::Quads,
            width,
            rows,
            run,
        };
        let (four, eight, sixteen): (Run, Run, Run) =
            (<Model<4>>::tile, <Model<8>>::tile, <Model<16>>::tile);
        let (pairs, direct) = match path {
            Path::Avx512Vnni => (pairs(32, WIDE, sixteen), quads(32, WIDE, <Quads<16>>::tile)),
            Path::AvxVnni => (
                pairs(16, NARROW, eight),
                quads(16, NARROW, <Quads<8>>::tile),
            ),
            Path::Avx512 => (pairs(32, WIDE, sixteen), pairs(32, WIDE, sixteen)),
            Path::Avx2 => (pairs(16, NARROW, eight), pairs(16, NARROW, eight)),
            Path::Portable => (pairs(8, 4, four), pairs(8, 4, four)),
        };
        Self {
            path,
            pairs,
            direct,
        }
    }

    pub fn path(&self) -> Path {
        self.path
    }
}
