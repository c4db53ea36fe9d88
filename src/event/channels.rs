//! Which channels of a layer are left.

use serde::{Deserialize, Serialize};

/// Channels of a layer that are left, of so many. Written as ranges, both ends included: `{"of":8,"kept":"0-3,6"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenChannels", into = "WrittenChannels")]
pub struct KeptChannels {
    of: u32,
    kept: Vec<u32>,
}

/// More than any layer has.
const MOST_CHANNELS: u32 = 1 << 20;

impl KeptChannels {
    /// Those of `kept` that are less than `of`, in their order.
    pub fn new(of: u32, kept: impl IntoIterator<Item = u32>) -> Self {
        let of = of.min(MOST_CHANNELS);
        let mut kept: Vec<u32> = kept.into_iter().filter(|channel| *channel < of).collect();
        kept.sort_unstable();
        kept.dedup();
        Self { of, kept }
    }

    /// How many there were.
    pub fn of(&self) -> u32 {
        self.of
    }

    /// The numbers of those that are left.
    pub fn kept(&self) -> &[u32] {
        &self.kept
    }
}

#[derive(Serialize, Deserialize)]
struct WrittenChannels {
    of: u32,
    kept: String,
}

impl From<KeptChannels> for WrittenChannels {
    fn from(channels: KeptChannels) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for channel in channels.kept {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == channel => *last = channel,
                _ => ranges.push((channel, channel)),
            }
        }
        let written = ranges.iter().map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        });
        Self {
            of: channels.of,
            kept: written.collect::<Vec<_>>().join(","),
        }
    }
}

impl TryFrom<WrittenChannels> for KeptChannels {
    type Error = String;

    fn try_from(written: WrittenChannels) -> Result<Self, String> {
        let WrittenChannels { of, kept } = written;
        let problem = || format!("kept: \"{kept}\" are no ranges of channels below {of}");
        if of > MOST_CHANNELS {
            return Err(problem());
        }
        let mut channels = Vec::new();
        for range in kept.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: u32 = first.parse().map_err(|_| problem())?;
            let last: u32 = last.parse().map_err(|_| problem())?;
            if first > last || last >= of {
                return Err(problem());
            }
            channels.extend(first..=last);
            if channels.len() > of as usize {
                return Err(problem());
            }
        }
        Ok(Self::new(of, channels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_written_as_ranges_and_read_again() {
        let channels = KeptChannels::new(8, [6, 0, 1, 2, 3, 9]);
        let text = serde_json::to_string(&channels).unwrap();
        assert_eq!(text, r#"{"of":8,"kept":"0-3,6"}"#);
        assert_eq!(
            serde_json::from_str::<KeptChannels>(&text).unwrap(),
            channels
        );
        let none = KeptChannels::new(4, []);
        let text = serde_json::to_string(&none).unwrap();
        assert_eq!(serde_json::from_str::<KeptChannels>(&text).unwrap(), none);
        for wrong in [
            r#"{"of":4,"kept":"0-4"}"#,
            r#"{"of":4,"kept":"3-1"}"#,
            r#"{"of":4,"kept":"a"}"#,
            r#"{"of":4,"kept":"0-3,0-3"}"#,
            r#"{"of":4294967295,"kept":"0-4294967294"}"#,
        ] {
            assert!(
                serde_json::from_str::<KeptChannels>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
