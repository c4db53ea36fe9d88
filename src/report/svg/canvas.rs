//! The elements of a figure, and how each network looks.

use std::fmt::Write as _;

use crate::spec::{NetworkId, Role};
use crate::state::{State, plain};

/// Colors of networks by order of start: blue, purple, orange, green, vermilion, olive, sky blue, grey.
/// Okabe & Ito 2008, "Color Universal Design", with their yellow darkened for white paper; the screen has the same order.
const COLORS: [&str; 8] = [
    "#0072b2", "#cc79a7", "#e69f00", "#009e73", "#d55e00", "#8a8000", "#56b4e9", "#666666",
];

/// The shape of a network on all figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Circle,
    Bar,
    Fork,
    Triangle,
    Square,
    Diamond,
    Cross,
}

impl Shape {
    fn of(role: Role, family: &str) -> Self {
        match role {
            Role::Reference => Self::Circle,
            Role::Twin => Self::Bar,
            Role::SameStartTwin => Self::Fork,
            Role::Branch => match family {
                "pruning" => Self::Triangle,
                "quantization" => Self::Square,
                "distillation" => Self::Diamond,
                _ => Self::Cross,
            },
        }
    }
}

/// How a network looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    shape: Shape,
    /// Which of the networks of its shape it is, from 0; drawn as a number beside the shape from the second on.
    nth: usize,
    pub color: &'static str,
}

impl Look {
    /// The look of a network of the study, for life.
    pub(super) fn of(state: &State, id: NetworkId) -> Self {
        let shape_of = |place: usize| {
            let plan = &state.networks[place].plan;
            Shape::of(plan.role, &plan.family)
        };
        let place = state
            .networks
            .iter()
            .position(|network| network.plan.id == id);
        let shape = place.map_or(Shape::Cross, shape_of);
        let before = (0..place.unwrap_or(0)).filter(|place| shape_of(*place) == shape);
        Self {
            shape,
            nth: before.count(),
            color: COLORS[id.0 as usize % COLORS.len()],
        }
    }
}

/// Elements so far.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    body: String,
    clips: usize,
}

impl Canvas {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        self.body
            .write_fmt(element)
            .expect("writing to a string cannot fail");
        self.body.push('\n');
    }

    /// Words. `anchor` is `start`, `middle` or `end`.
    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, words: &str) {
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(words)
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.add(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// A line through points, in a color.
    pub(super) fn path(&mut self, points: &[(f64, f64)], color: &str, width: f64) {
        let coordinates = joined(points);
        self.add(format_args!(
            "<polyline points=\"{coordinates}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\"/>"
        ));
    }

    /// A light area.
    pub(super) fn area(&mut self, outline: &[(f64, f64)], color: &str) {
        let coordinates = joined(outline);
        self.add(format_args!(
            "<polygon points=\"{coordinates}\" fill=\"{color}\" fill-opacity=\"0.15\"/>"
        ));
    }

    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, color: &str) {
        self.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\" \
             fill-opacity=\"0.55\"/>"
        ));
    }

    /// Everything until [`Self::unclip`] is drawn within this area alone.
    pub(super) fn clip(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let id = self.clips;
        self.clips += 1;
        self.add(format_args!(
            "<clipPath id=\"clip{id}\"><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"/></clipPath>\n<g clip-path=\"url(#clip{id})\">"
        ));
    }

    pub(super) fn unclip(&mut self) {
        self.add(format_args!("</g>"));
    }

    /// A network's shape around a point.
    pub(super) fn mark(&mut self, look: Look, x: f64, y: f64) {
        /// Half the size of a shape.
        const R: f64 = 4.5;
        let outline: &[(f64, f64)] = match look.shape {
            Shape::Circle => {
                self.add(format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{R}\" fill=\"{}\"/>",
                    look.color
                ));
                &[]
            }
            Shape::Bar => &[(-1.5, -R), (1.5, -R), (1.5, R), (-1.5, R)],
            Shape::Fork => &[
                (-R, -R),
                (-1.5, -R),
                (0.0, 0.0),
                (1.5, -R),
                (R, -R),
                (1.0, R),
                (-1.0, R),
            ],
            Shape::Triangle => &[(0.0, -R), (R, R), (-R, R)],
            Shape::Square => &[(-R, -R), (R, -R), (R, R), (-R, R)],
            Shape::Diamond => &[
                (0.0, -R - 1.0),
                (R + 1.0, 0.0),
                (0.0, R + 1.0),
                (-R - 1.0, 0.0),
            ],
            Shape::Cross => &[
                (-1.5, -R),
                (1.5, -R),
                (1.5, -1.5),
                (R, -1.5),
                (R, 1.5),
                (1.5, 1.5),
                (1.5, R),
                (-1.5, R),
                (-1.5, 1.5),
                (-R, 1.5),
                (-R, -1.5),
                (-1.5, -1.5),
            ],
        };
        if !outline.is_empty() {
            let points: Vec<(f64, f64)> = outline.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
            let coordinates = joined(&points);
            self.add(format_args!(
                "<polygon points=\"{coordinates}\" fill=\"{}\"/>",
                look.color
            ));
        }
        if look.nth > 0 {
            let number = (look.nth + 1).to_string();
            self.text(x + R + 1.0, y - 2.0, "index", "start", &number);
        }
    }

    /// The document.
    pub(super) fn finish(self, width: f64, height: f64, about: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<desc>{}</desc>\n<style>\
             text{{font-family:sans-serif;font-size:12px;fill:#222}}\
             .title{{font-size:16px;font-weight:bold}}.panel{{font-size:13px;font-weight:bold}}\
             .small{{font-size:10px;fill:#555}}.index{{font-size:8px}}\
             .grid{{stroke:#ddd}}.level{{stroke:#888;stroke-dasharray:4 4}}.axis{{stroke:#555}}.whisker{{stroke:#222;stroke-width:1.5}}\
             </style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            escaped(about),
            self.body
        )
    }
}

fn joined(points: &[(f64, f64)]) -> String {
    let pairs: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    pairs.join(" ")
}

/// Text that means nothing to XML.
fn escaped(text: &str) -> String {
    plain(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        // Not allowed in XML 1.0 at all.
        .replace(['\u{FFFE}', '\u{FFFF}'], "\u{FFFD}")
}
