//! Test images as networks see them.

use serde::{Deserialize, Serialize};

use crate::measurement::Score;
use crate::spec::NetworkId;

/// One test image as it is, corrupted and attacked, and what a network says to each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    pub network: NetworkId,
    /// The image's place among the test images.
    pub example: u32,
    pub label: u32,
    /// Channels, height, width.
    pub shape: [u32; 3],
    /// Why it is shown: one of the fixed examples, or one that the reference has right and this network wrong.
    pub is_flipped: bool,
    pub views: Vec<View>,
}

/// One condition under which an image is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// A corruption or an attack; nothing for the image as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Score>,
    /// The image's bytes, channel by channel; left out where the reference's picture of the same example has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<Pixels>,
    /// The largest output, and how large it is.
    pub class: u32,
    pub confidence: Score,
}

/// Bytes that are written as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pixels(pub Vec<u8>);

impl From<Pixels> for String {
    fn from(pixels: Pixels) -> Self {
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
        let bytes = pixels.0.iter();
        bytes
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    }
}

impl TryFrom<String> for Pixels {
    type Error = String;

    fn try_from(digits: String) -> Result<Self, String> {
        let wrong = || "pixels are pairs of hexadecimal digits".to_owned();
        let digits = digits.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err(wrong());
        }
        let half = |digit: u8| char::from(digit).to_digit(16).ok_or_else(wrong);
        let pairs = digits.chunks_exact(2);
        let bytes = pairs.map(|pair| Ok((half(pair[0])? << 4 | half(pair[1])?) as u8));
        bytes.collect::<Result<_, String>>().map(Self)
    }
}
