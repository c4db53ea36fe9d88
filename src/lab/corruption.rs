//! Corruptions: what the world does to an image before the network sees it.
//!
//! One image at a time, bytes in and bytes out, as the published sets are stored.
//! The generator is seeded from (study seed, corruption id, severity, image index), so that batching and threads
//! change nothing and every network sees the same bytes.

use crate::catalog::Entry;
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

/// How strong a corruption is, 1 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Severity(u8);

impl Severity {
    /// All five.
    pub const ALL: [Self; 5] = [Self(1), Self(2), Self(3), Self(4), Self(5)];

    /// 1 to 5.
    pub fn get(self) -> u8 {
        self.0
    }

    /// 0 to 4, for tables of five constants.
    pub fn index(self) -> usize {
        usize::from(self.0 - 1)
    }
}

/// A corruption.
pub trait Corruption: Send + Sync {
    /// Changes one image, given as `C`, `H`, `W` bytes.
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng);
}

/// Every corruption, in the order on screen.
pub const ALL: &[Entry<dyn Corruption>] = &[];
