//! The letters as strokes in a unit square: x to the right, y down.

/// One stroke of the pen.
pub(super) struct Stroke {
    /// Whether the points are control points of a curve or corners of a line.
    is_curved: bool,
    points: &'static [(f32, f32)],
}

/// Names of the classes.
pub(super) const NAMES: [&str; 10] = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"];

const fn line(points: &'static [(f32, f32)]) -> Stroke {
    Stroke {
        is_curved: false,
        points,
    }
}

const fn curve(points: &'static [(f32, f32)]) -> Stroke {
    Stroke {
        is_curved: true,
        points,
    }
}

/// The strokes of each letter.
pub(super) const STROKES: [&[Stroke]; 10] = [
    // A
    &[
        line(&[(0.14, 1.0), (0.5, 0.0), (0.86, 1.0)]),
        line(&[(0.27, 0.64), (0.73, 0.64)]),
    ],
    // B
    &[
        line(&[(0.2, 0.0), (0.2, 1.0)]),
        curve(&[(0.2, 0.0), (0.78, 0.0), (0.78, 0.47), (0.2, 0.47)]),
        curve(&[(0.2, 0.47), (0.88, 0.47), (0.88, 1.0), (0.2, 1.0)]),
    ],
    // C
    &[curve(&[
        (0.82, 0.2),
        (0.62, -0.06),
        (0.16, -0.02),
        (0.14, 0.5),
        (0.16, 1.02),
        (0.62, 1.06),
        (0.82, 0.8),
    ])],
    // D
    &[
        line(&[(0.2, 0.0), (0.2, 1.0)]),
        curve(&[
            (0.2, 0.0),
            (0.66, -0.02),
            (0.86, 0.2),
            (0.86, 0.8),
            (0.66, 1.02),
            (0.2, 1.0),
        ]),
    ],
    // E
    &[
        line(&[(0.8, 0.0), (0.22, 0.0), (0.22, 1.0), (0.8, 1.0)]),
        line(&[(0.22, 0.48), (0.7, 0.48)]),
    ],
    // F
    &[
        line(&[(0.8, 0.0), (0.22, 0.0), (0.22, 1.0)]),
        line(&[(0.22, 0.48), (0.7, 0.48)]),
    ],
    // G
    &[
        curve(&[
            (0.82, 0.2),
            (0.62, -0.06),
            (0.16, -0.02),
            (0.14, 0.5),
            (0.16, 1.02),
            (0.62, 1.06),
            (0.82, 0.8),
        ]),
        line(&[(0.82, 0.84), (0.82, 0.56), (0.54, 0.56)]),
    ],
    // H
    &[
        line(&[(0.18, 0.0), (0.18, 1.0)]),
        line(&[(0.82, 0.0), (0.82, 1.0)]),
        line(&[(0.18, 0.5), (0.82, 0.5)]),
    ],
    // I
    &[
        line(&[(0.5, 0.0), (0.5, 1.0)]),
        line(&[(0.28, 0.0), (0.72, 0.0)]),
        line(&[(0.28, 1.0), (0.72, 1.0)]),
    ],
    // J
    &[
        curve(&[
            (0.62, 0.0),
            (0.62, 0.4),
            (0.62, 1.04),
            (0.36, 1.06),
            (0.18, 0.98),
            (0.18, 0.72),
        ]),
        line(&[(0.38, 0.0), (0.82, 0.0)]),
    ],
];

/// Straight pieces per piece of a curve: at 28 pixels the corners cannot be seen.
const PIECES: usize = 4;

impl Stroke {
    /// The stroke as a line through corners, after each of its points was moved.
    pub(super) fn flatten(
        &self,
        mut moved: impl FnMut((f32, f32)) -> (f32, f32),
    ) -> Vec<(f32, f32)> {
        let points: Vec<(f32, f32)> = self.points.iter().map(|&point| moved(point)).collect();
        if self.is_curved {
            smooth(&points)
        } else {
            points
        }
    }
}

/// A quadratic B-spline that starts at the first control point and ends at the last.
///
/// Between the midpoints of neighboring legs runs one parabola; the first and the last reach out to the ends.
pub(super) fn smooth(controls: &[(f32, f32)]) -> Vec<(f32, f32)> {
    let middle = |a: (f32, f32), b: (f32, f32)| ((a.0 + b.0) * 0.5, (a.1 + b.1) * 0.5);
    let last = controls.len() - 1;
    let mut corners = vec![controls[0]];
    for i in 1..last {
        let from = if i == 1 {
            controls[0]
        } else {
            middle(controls[i - 1], controls[i])
        };
        let to = if i + 1 == last {
            controls[last]
        } else {
            middle(controls[i], controls[i + 1])
        };
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
            corners.push((
                a * from.0 + b * controls[i].0 + c * to.0,
                a * from.1 + b * controls[i].1 + c * to.1,
            ));
        }
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_starts_and_ends_at_its_end_points() {
        let corners = smooth(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]);
        assert_eq!(corners.len(), 1 + PIECES);
        assert_eq!(corners[0], (0.0, 0.0));
        assert_eq!(corners[PIECES], (1.0, 1.0));
        // The middle of one parabola: ¼ (0,0) + ½ (1,0) + ¼ (1,1).
        assert_eq!(corners[PIECES / 2], (0.75, 0.25));
    }

    #[test]
    fn every_letter_has_strokes_of_at_least_two_points() {
        assert_eq!(STROKES.len(), NAMES.len());
        for stroke in STROKES.iter().flat_map(|strokes| strokes.iter()) {
            assert!(stroke.points.len() > usize::from(stroke.is_curved) + 1);
        }
    }
}
