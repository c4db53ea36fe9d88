//! Color spaces of single pixels, as scikit-image (HSV) and OpenCV (HLS) compute them; all values in [0, 1], hue in HLS in
//! degrees.

/// Hue, saturation and value. Smith 1978.
pub(super) fn hsv([r, g, b]: [f64; 3]) -> [f64; 3] {
    let most = r.max(g).max(b);
    let span = most - r.min(g).min(b);
    if span == 0.0 {
        return [0.0, 0.0, most];
    }
    // Of channels that are equal, scikit-image takes the last.
    let sixth = if b == most {
        4.0 + (r - g) / span
    } else if g == most {
        2.0 + (b - r) / span
    } else {
        (g - b) / span
    };
    [(sixth / 6.0).rem_euclid(1.0), span / most, most]
}

/// Back from [`hsv`].
pub(super) fn rgb_of_hsv([hue, saturation, value]: [f64; 3]) -> [f64; 3] {
    let sector = (6.0 * hue).floor();
    let part = 6.0 * hue - sector;
    let low = value * (1.0 - saturation);
    let falling = value * (1.0 - part * saturation);
    let rising = value * (1.0 - (1.0 - part) * saturation);
    match (sector as i64).rem_euclid(6) {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

/// Hue in degrees, luminance and saturation. OpenCV's `COLOR_RGB2HLS` for floats.
pub(super) fn hls([r, g, b]: [f64; 3]) -> [f64; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let span = most - least;
    let luminance = most.midpoint(least);
    // OpenCV's FLT_EPSILON: less is no color.
    if span <= f64::from(f32::EPSILON) {
        return [0.0, luminance, 0.0];
    }
    let saturation = if luminance < 0.5 {
        span / (most + least)
    } else {
        span / (2.0 - most - least)
    };
    let hue = if most == r {
        60.0 * (g - b) / span
    } else if most == g {
        60.0 * (b - r) / span + 120.0
    } else {
        60.0 * (r - g) / span + 240.0
    };
    let hue = if hue < 0.0 { hue + 360.0 } else { hue };
    [hue, luminance, saturation]
}

/// Back from [`hls`]; any hue.
pub(super) fn rgb_of_hls([hue, luminance, saturation]: [f64; 3]) -> [f64; 3] {
    if saturation == 0.0 {
        return [luminance; 3];
    }
    let high = if luminance <= 0.5 {
        luminance * (1.0 + saturation)
    } else {
        luminance + saturation - luminance * saturation
    };
    let low = 2.0 * luminance - high;
    let sixth = (hue / 60.0).rem_euclid(6.0);
    let sector = sixth.floor();
    let part = sixth - sector;
    let falling = low + (high - low) * (1.0 - part);
    let rising = low + (high - low) * part;
    match sector as u8 {
        0 => [high, rising, low],
        1 => [falling, high, low],
        2 => [low, high, rising],
        3 => [low, falling, high],
        4 => [rising, low, high],
        _ => [high, low, falling],
    }
}

/// How bright a color looks: ITU-R BT.601, OpenCV's `COLOR_RGB2GRAY`.
pub(super) fn luma([r, g, b]: [f64; 3]) -> f64 {
    0.299 * r + 0.587 * g + 0.114 * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for r in [0.0, 0.2, 0.5, 1.0] {
            for g in [0.0, 0.2, 0.7, 1.0] {
                for b in [0.0, 0.1, 0.5, 0.9] {
                    for back in [rgb_of_hsv(hsv([r, g, b])), rgb_of_hls(hls([r, g, b]))] {
                        for (found, expected) in back.iter().zip([r, g, b]) {
                            assert!((found - expected).abs() < 1e-12, "{r} {g} {b}: {back:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn spaces_are_those_of_the_libraries() {
        let close = |found: [f64; 3], expected: [f64; 3]| {
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-6, "{found:?}");
            }
        };
        // scikit-image 0.26.0, rgb2hsv; OpenCV 4.11.0, COLOR_RGB2HLS.
        close(hsv([0.8, 0.4, 0.2]), [0.055_555_56, 0.75, 0.8]);
        close(hls([0.8, 0.4, 0.2]), [20.0, 0.5, 0.6]);
        close(hls([0.2, 0.3, 0.9]), [231.428_571, 0.55, 0.777_777_8]);
    }
}
