//! Whether a JPEG is whole. Decoders fill what a cut file lacks with grey and say nothing.

/// Whether the file goes on to the marker that ends its image (ITU-T T.81, B.1.1): a walk over its segments, since
/// pictures within a picture's metadata have such a marker, too.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    const STUFFED: u8 = 0x00;
    const RESTARTS: std::ops::RangeInclusive<u8> = 0xd0..=0xd7;
    const ALONE: u8 = 0x01;
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    const FILL: u8 = 0xff;
    let mut at = 0;
    loop {
        // The next marker; between markers, and behind the head of a scan, is what is no marker.
        let Some(next) = bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|b| *b == 0xff))
        else {
            return false;
        };
        at += next + 1;
        let Some(marker) = bytes.get(at).copied() else {
            return false;
        };
        match marker {
            END => return true,
            FILL => {}
            STUFFED | ALONE | START => at += 1,
            marker if RESTARTS.contains(&marker) => at += 1,
            _ => {
                // A segment says how long it is, its length included.
                let Some([high, low]) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                at += 1 + usize::from(u16::from_be_bytes([*high, *low]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_picture_is_not_whole_though_a_picture_in_it_is() {
        let mut whole = vec![0xff, 0xd8];
        // Metadata that holds the end of another picture.
        whole.extend([0xff, 0xe1, 0x00, 0x06, 0xff, 0xd9, 0x01, 0x02]);
        // A scan with a stuffed byte and a restart.
        whole.extend([
            0xff, 0xda, 0x00, 0x02, 0x10, 0xff, 0x00, 0x20, 0xff, 0xd3, 0x30,
        ]);
        let cut = whole.len();
        whole.extend([0xff, 0xff, 0xd9, 0x00, 0x00]);
        assert!(is_whole(&whole));
        for end in 0..=cut + 2 {
            assert!(!is_whole(&whole[..end]), "{end}");
        }
    }
}
