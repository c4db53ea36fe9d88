//! Edges and how far away they are, as OpenCV finds them: Canny's detector and a chamfer distance.

use super::kernel::mirrored;

/// tan 22.5° in 15 bits behind the point, OpenCV's `TG22`.
const TAN_22: i32 = 13_573;

/// Canny 1986 with OpenCV's defaults: Sobel's 3x3, |dx| + |dy|, thinned along the gradient, and of what exceeds `low` what
/// is connected to something above `high`. True on edges.
pub(super) fn canny(plane: &[u8], height: usize, width: usize, low: i32, high: i32) -> Vec<bool> {
    let held = |y: isize, x: isize| {
        let y = y.clamp(0, height as isize - 1) as usize;
        let x = x.clamp(0, width as isize - 1) as usize;
        i32::from(plane[y * width + x])
    };
    // With a frame of zeros.
    let wide = width + 2;
    let mut magnitudes = vec![0; (height + 2) * wide];
    let mut slopes = vec![(0, 0); height * width];
    for y in 0..height {
        for x in 0..width {
            let at = |dy: isize, dx: isize| held(y as isize + dy, x as isize + dx);
            let dx = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1);
            let dy = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1);
            slopes[y * width + x] = (dx, dy);
            magnitudes[(y + 1) * wide + x + 1] = dx.abs() + dy.abs();
        }
    }
    let mut is_candidate = vec![false; height * width];
    let mut is_edge = vec![false; height * width];
    let mut open = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let place = (y + 1) * wide + x + 1;
            let own = magnitudes[place];
            if own <= low {
                continue;
            }
            let (dx, dy) = slopes[y * width + x];
            let (across, along) = (dx.abs() * TAN_22, dy.abs() << 15);
            let is_most = if along < across {
                own > magnitudes[place - 1] && own >= magnitudes[place + 1]
            } else if along > across + (dx.abs() << 16) {
                own > magnitudes[place - wide] && own >= magnitudes[place + wide]
            } else if (dx ^ dy) < 0 {
                own > magnitudes[place - wide + 1] && own > magnitudes[place + wide - 1]
            } else {
                own > magnitudes[place - wide - 1] && own > magnitudes[place + wide + 1]
            };
            if is_most && own > high {
                is_edge[y * width + x] = true;
                open.push((y, x));
            }
            is_candidate[y * width + x] = is_most;
        }
    }
    while let Some((y, x)) = open.pop() {
        for ny in y.saturating_sub(1)..(y + 2).min(height) {
            for nx in x.saturating_sub(1)..(x + 2).min(width) {
                let place = ny * width + nx;
                if is_candidate[place] && !is_edge[place] {
                    is_edge[place] = true;
                    open.push((ny, nx));
                }
            }
        }
    }
    is_edge
}

/// How far each pixel is from the nearest one that is marked, by steps of 1, 1.4 (diagonal) and 2.1969 (a knight's
/// move): Borgefors 1986, OpenCV's `distanceTransform` with a mask of 5, in 16 bits behind the point.
pub(super) fn distances(is_marked: &[bool], height: usize, width: usize) -> Vec<f32> {
    /// The three steps times 2^16.
    const STEPS: [(isize, isize, u32); 8] = [
        (-2, -1, 143_976),
        (-2, 1, 143_976),
        (-1, -2, 143_976),
        (-1, -1, 91_750),
        (-1, 0, 65_536),
        (-1, 1, 91_750),
        (-1, 2, 143_976),
        (0, -1, 65_536),
    ];
    /// OpenCV's `DIST_MAX`.
    const FAR: u32 = (i32::MAX >> 2) as u32;
    let mut found = vec![FAR; height * width];
    for (distance, marked) in found.iter_mut().zip(is_marked) {
        if *marked {
            *distance = 0;
        }
    }
    let mut pass = |forward: bool| {
        for count in 0..height * width {
            let place = if forward {
                count
            } else {
                height * width - 1 - count
            };
            let (y, x) = ((place / width) as isize, (place % width) as isize);
            for (dy, dx, step) in STEPS {
                let (ny, nx) = if forward {
                    (y + dy, x + dx)
                } else {
                    (y - dy, x - dx)
                };
                let is_inside =
                    (0..height as isize).contains(&ny) && (0..width as isize).contains(&nx);
                if is_inside {
                    let there = found[ny as usize * width + nx as usize] + step;
                    found[place] = found[place].min(there);
                }
            }
        }
    };
    pass(true);
    pass(false);
    found
        .into_iter()
        .map(|distance| distance as f32 / 65_536.0)
        .collect()
}

/// The mean of each 3x3 neighborhood, mirrored at the edges.
pub(super) fn means(plane: &[f64], height: usize, width: usize) -> Vec<f64> {
    let mut result = Vec::with_capacity(plane.len());
    for y in 0..height as isize {
        for x in 0..width as isize {
            let mut sum = 0.0;
            for dy in -1..=1 {
                for dx in -1..=1 {
                    sum += plane[mirrored(y + dy, height) * width + mirrored(x + dx, width)];
                }
            }
            result.push(sum * (1.0 / 9.0));
        }
    }
    result
}

/// Spreads the levels so that each is as frequent as any other; a flat plane stays. OpenCV's `equalizeHist`.
pub(super) fn equalized(plane: &mut [u8]) {
    let mut counts = [0_u32; 256];
    for value in plane.iter() {
        counts[usize::from(*value)] += 1;
    }
    let Some(first) = counts.iter().position(|count| *count > 0) else {
        return;
    };
    let rest = plane.len() as u32 - counts[first];
    if rest == 0 {
        return;
    }
    let scale = 255.0 / rest as f32;
    let mut levels = [0; 256];
    let mut sum = 0;
    for level in first + 1..256 {
        sum += counts[level];
        levels[level] = (sum as f32 * scale).round_ties_even().clamp(0.0, 255.0) as u8;
    }
    for value in plane {
        *value = levels[usize::from(*value)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_one_line_of_edges() {
        let plane: Vec<u8> = (0..49).map(|i| if i % 7 < 3 { 0 } else { 200 }).collect();
        let edges = canny(&plane, 7, 7, 50, 150);
        // Both sides of the step have the same gradient; OpenCV 4.11.0 keeps the left one.
        for (place, is_edge) in edges.iter().enumerate() {
            assert_eq!(*is_edge, place % 7 == 2, "{place}");
        }
        assert!(canny(&[9; 12], 3, 4, 50, 150).iter().all(|edge| !edge));
    }

    #[test]
    fn distances_are_sums_of_three_steps() {
        let mut is_marked = [false; 25];
        is_marked[0] = true;
        let found = distances(&is_marked, 5, 5);
        for (place, expected) in [
            (0, 0.0),
            (1, 1.0),
            (6, 1.4),
            (7, 2.1969),
            (12, 2.8),
            (4, 4.0),
        ] {
            assert!(
                (found[place] - expected).abs() < 1e-4,
                "{place}: {}",
                found[place]
            );
        }
    }

    #[test]
    fn levels_are_spread() {
        let mut plane = [10, 10, 20, 30];
        equalized(&mut plane);
        assert_eq!(plane, [0, 0, 128, 255]);
        let mut flat = [7; 5];
        equalized(&mut flat);
        assert_eq!(flat, [7; 5]);
    }
}
