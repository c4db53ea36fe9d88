//! Colors and glyphs, named by what they mean.
//!
//! Colors are indices of the 256-color palette, chosen after Okabe & Ito 2008 ("Color Universal Design") so that people
//! with any kind of color vision tell them apart; each meaning has a glyph or a word beside its color.
//! Without color only [`Color::Reset`] is used: crossterm 0.29 would otherwise still write a bare reset between cells,
//! which wipes bold and reverse.

use ratatui::style::{Color, Modifier, Style};

use crate::spec::{NetworkId, NetworkPlan, Role};

/// How meanings look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    mono: bool,
}

/// Colors of networks by order of start: blue, purple, orange, green, vermilion, yellow, sky blue, grey.
const SERIES: [u8; 8] = [75, 176, 214, 72, 209, 185, 117, 250];

impl Theme {
    /// With colors, or without any.
    pub fn new(mono: bool) -> Self {
        Self { mono }
    }

    /// Whether there are no colors.
    pub fn is_mono(self) -> bool {
        self.mono
    }

    fn pick(self, color: u8, without: Modifier) -> Style {
        if self.mono {
            Style::new().add_modifier(without)
        } else {
            Style::new().fg(Color::Indexed(color))
        }
    }

    /// Ordinary words and figures, in the terminal's own color.
    pub fn text(self) -> Style {
        Style::new()
    }

    /// What is needed at second sight: units, hints, grids.
    pub fn dim(self) -> Style {
        self.pick(245, Modifier::DIM)
    }

    /// Borders of panels.
    pub fn border(self) -> Style {
        self.pick(240, Modifier::DIM)
    }

    /// The border of the panel that has the keys.
    pub fn focus(self) -> Style {
        self.pick(43, Modifier::BOLD)
    }

    /// Headings.
    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is alive.
    pub fn accent(self) -> Style {
        self.pick(43, Modifier::BOLD)
    }

    /// A key that may be pressed.
    pub fn key(self) -> Style {
        self.pick(43, Modifier::BOLD)
    }

    /// A change for the better; its sign says so too.
    pub fn good(self) -> Style {
        self.pick(72, Modifier::empty())
    }

    /// A change for the worse; its sign says so too.
    pub fn bad(self) -> Style {
        self.pick(209, Modifier::BOLD)
    }

    /// What should be known before trusting a figure.
    pub fn warning(self) -> Style {
        self.pick(214, Modifier::BOLD)
    }

    /// What is wrong; stands beside `✗`.
    pub fn error(self) -> Style {
        self.pick(203, Modifier::BOLD)
    }

    /// The line that has the cursor.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A network, everywhere and for life.
    pub fn network(self, id: NetworkId) -> Style {
        self.pick(SERIES[id.0 as usize % SERIES.len()], Modifier::empty())
    }

    /// One of several lines that are no networks; a letter stands beside its color.
    pub fn series(self, place: usize) -> Style {
        self.pick(SERIES[place % SERIES.len()], Modifier::empty())
    }

    /// The same network where it should stay in the background: its raw steps behind the smoothed line.
    pub fn network_band(self, id: NetworkId) -> Style {
        /// The darker neighbors of [`SERIES`] in the color cube.
        const BAND: [u8; 8] = [24, 53, 94, 22, 88, 58, 23, 238];
        self.pick(BAND[id.0 as usize % BAND.len()], Modifier::DIM)
    }
}

/// The glyph of a network: its role or the family of its first compression, and which of those it is.
pub fn glyph(id: NetworkId, plans: &[&NetworkPlan]) -> char {
    const REFERENCE: &[char] = &['●', '◉', '◎', '○'];
    const TWIN: &[char] = &['Ⅰ', 'Ⅱ', 'Ⅲ', 'Ⅳ', 'Ⅴ', 'Ⅵ', 'Ⅶ', 'Ⅷ', 'Ⅸ', 'Ⅹ'];
    const SAME_START: &[char] = &['Ψ'];
    const PRUNING: &[char] = &['▲', '△', '▴', '▵'];
    const QUANTIZATION: &[char] = &['■', '□', '▪', '▫'];
    const DISTILLATION: &[char] = &['◆', '◇', '◈', '⬥'];
    const OTHER: &[char] = &['✚', '✛', '✜', '✢'];
    fn alphabet(plan: &NetworkPlan) -> &'static [char] {
        match plan.role {
            Role::Reference => REFERENCE,
            Role::Twin => TWIN,
            Role::SameStartTwin => SAME_START,
            Role::Branch => match plan.family.as_str() {
                "pruning" => PRUNING,
                "quantization" => QUANTIZATION,
                "distillation" => DISTILLATION,
                _ => OTHER,
            },
        }
    }
    let Some(place) = plans.iter().position(|plan| plan.id == id) else {
        return '?';
    };
    let own = alphabet(plans[place]);
    let count = |alphabet_of: &'static [char]| {
        let before = plans[..place].iter();
        before
            .filter(|plan| std::ptr::eq(alphabet(plan), alphabet_of))
            .count()
    };
    // After the shapes come letters, of all kinds in one row, so that of the first 52 no two look alike.
    own.get(count(own)).copied().unwrap_or_else(|| {
        let kinds = [
            REFERENCE,
            TWIN,
            SAME_START,
            PRUNING,
            QUANTIZATION,
            DISTILLATION,
            OTHER,
        ];
        let beyond = kinds.map(|kind| count(kind).saturating_sub(kind.len()));
        let letter = (beyond.iter().sum::<usize>() % 52) as u8;
        char::from(if letter < 26 {
            b'a' + letter
        } else {
            b'A' + letter - 26
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_color_every_style_is_reset() {
        let theme = Theme::new(true);
        for style in [
            theme.text(),
            theme.dim(),
            theme.border(),
            theme.focus(),
            theme.accent(),
            theme.good(),
            theme.bad(),
            theme.warning(),
            theme.error(),
            theme.selected(),
            theme.network(NetworkId(3)),
            theme.network_band(NetworkId(3)),
        ] {
            assert!(style.fg.is_none() && style.bg.is_none(), "{style:?}");
        }
    }

    #[test]
    fn every_network_of_a_study_has_its_own_glyph() {
        let plan = |id: u32, role, family: &str| NetworkPlan {
            id: NetworkId(id),
            name: String::new(),
            role,
            reference: 0,
            against: NetworkId(0),
            family: family.to_owned(),
            init_seed: 0,
            order_seed: 0,
            stages: Vec::new(),
        };
        let plans = [
            plan(0, Role::Reference, ""),
            plan(1, Role::Twin, ""),
            plan(2, Role::SameStartTwin, ""),
            plan(3, Role::Branch, "pruning"),
            plan(4, Role::Branch, "quantization"),
            plan(5, Role::Branch, "pruning"),
            plan(6, Role::Branch, "low-rank"),
        ];
        let plans: Vec<&NetworkPlan> = plans.iter().collect();
        let glyphs: String = plans.iter().map(|plan| glyph(plan.id, &plans)).collect();
        assert_eq!(glyphs, "●ⅠΨ▲■△✚");
    }
}
