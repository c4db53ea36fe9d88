//! The gallery: test images as they are, corrupted, attacked, and what that changed, with what both networks see in them.
//!
//! ```text
//! ╭ Gallery ────────────────────────────────────── example 2 of 8 · 112 ╮
//! │ clean        gaussian noise 3   pgd ε .1        pgd - clean, x4      │
//! │ ▀▀▀▀▀▀       ▀▀▀▀▀▀             ▀▀▀▀▀▀          ▀▀▀▀▀▀               │
//! │ ● ✓ bag 98   ● ✓ bag 91         ● ✗ coat 77     grey: unchanged      │
//! │ ▲ ✓ bag 95   ▲ ✗ coat 51        ▲ ✗ coat 80                          │
//! ╰──────────────────────────────────────────────────────────────────────╯
//! ```

use ratatui::style::Style;

use super::live;
use super::robustness::left_out;
use crate::event::{Picture, View as Seen};
use crate::spec::NetworkId;
use crate::state::{Mode, NetworkState};
use crate::ui::figure;
use crate::ui::keymap::Source;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;
use crate::ui::widget::image::Image;
use crate::ui::widget::{footer, frame, transport, tree};

/// How the user looks at the gallery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GalleryView {
    /// Place among the examples of the candidate.
    pub example: usize,
    /// Place among the conditions of an example, without the clean one.
    pub condition: usize,
}

/// An example of a network, and the same example as its reference sees it.
struct Shown<'a> {
    network: &'a NetworkState,
    own: &'a Picture,
    reference: Option<&'a Picture>,
}

fn pictures<'a>(scene: &Scene<'a>, id: NetworkId) -> Vec<&'a Picture> {
    let mut found: Vec<&Picture> = Vec::new();
    for picture in &scene.state().pictures {
        if picture.network != id || picture.views.is_empty() {
            continue;
        }
        // What was made again counts.
        match found
            .iter_mut()
            .find(|known| known.example == picture.example)
        {
            Some(known) => *known = picture,
            None => found.push(picture),
        }
    }
    found
}

/// The network whose examples are shown: the candidate, or the reference where that has none yet.
fn network<'a>(scene: &Scene<'a>, view: &View) -> Option<(&'a NetworkState, Vec<&'a Picture>)> {
    let with = |network: &'a NetworkState| {
        let own = pictures(scene, network.plan.id);
        (!own.is_empty()).then_some((network, own))
    };
    scene
        .candidate(view)
        .and_then(with)
        .or_else(|| scene.reference(view).and_then(with))
}

/// Examples that can be walked through.
pub fn examples(scene: &Scene<'_>, view: &View) -> usize {
    network(scene, view).map_or(0, |(_, own)| own.len())
}

fn shown<'a>(scene: &Scene<'a>, view: &View) -> Option<Shown<'a>> {
    let (network, all) = network(scene, view)?;
    let own = all[view.gallery.example.min(all.len() - 1)];
    let against = network.plan.against;
    let reference = if against == network.plan.id {
        None
    } else {
        let of = pictures(scene, against);
        of.into_iter()
            .find(|picture| picture.example == own.example)
    };
    Some(Shown {
        network,
        own,
        reference,
    })
}

/// The next condition of the example.
pub fn turn_condition(view: &mut View, by: isize, scene: &Scene<'_>) {
    let count = shown(scene, view).map_or(0, |shown| shown.own.views.len() - 1);
    if count == 0 {
        view.hint = Some("there is no other condition".to_owned());
        return;
    }
    let now = view.gallery.condition.min(count - 1) as isize;
    view.gallery.condition = (now + by).rem_euclid(count as isize) as usize;
}

impl<'a> Shown<'a> {
    /// The same condition, as the reference sees it.
    fn beside(&self, seen: &Seen) -> Option<&'a Seen> {
        let all = &self.reference?.views;
        all.iter().find(|other| {
            (&other.condition, other.severity, other.budget)
                == (&seen.condition, seen.severity, seen.budget)
        })
    }

    fn image(&self, seen: &Seen) -> Option<Image> {
        let pixels = match &seen.pixels {
            Some(pixels) => pixels,
            None => self.beside(seen)?.pixels.as_ref()?,
        };
        Image::new(self.own.shape, &pixels.0)
    }
}

/// Corruptions are known by the catalog; what is no corruption is an attack.
fn is_attack(scene: &Scene<'_>, seen: &Seen) -> bool {
    let Some(condition) = &seen.condition else {
        return false;
    };
    let id = condition.split(':').next().unwrap_or(condition);
    let mut corruptions = scene.catalog.corruptions.iter();
    seen.budget.is_some() || seen.severity.is_none() && corruptions.all(|known| known.info.id != id)
}

/// How a condition is called: `gaussian noise 3`, `pgd ε 0.1`.
fn title(scene: &Scene<'_>, seen: &Seen) -> String {
    let Some(condition) = &seen.condition else {
        return "clean".to_owned();
    };
    let title = scene.title_of(condition);
    let short = if is_attack(scene, seen) {
        condition.replace(':', ", ")
    } else {
        title
    };
    let severity = seen.severity.map(|severity| format!(" {severity}"));
    let budget = seen
        .budget
        .map(|budget| format!(" ε {}", figure::digits(budget.0, 2)));
    text::clean(&(short + &severity.or(budget).unwrap_or_default()))
}

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    let found = shown(scene, view);
    let question = live::question(scene, found.as_ref().map(|shown| shown.network));
    let words = format!("gallery   {question}");
    let room = usize::from(width).saturating_sub(2);
    pen.put(1, 0, &text::fit(&words, room), theme.title());
    let mut panel = pen.part(0, 1, width, height - 3);
    match &found {
        Some(shown) => {
            let count = examples(scene, view);
            let place = view.gallery.example.min(count - 1) + 1;
            let kind = if shown.own.is_flipped {
                "Flipped: right before, wrong now"
            } else {
                "Gallery"
            };
            let note = format!("example {place} of {count} · image {}", shown.own.example);
            let mut inside = frame::frame(&mut panel, kind, &note, true, theme);
            if inside.width() >= 12 && inside.height() >= 5 {
                example(&mut inside, scene, view, shown);
            }
        }
        None => {
            let mut inside = frame::frame(&mut panel, "Gallery", "", true, theme);
            empty(&mut inside, scene, &waiting(scene));
        }
    }
    let mut line = pen.part(0, height - 2, width, 1);
    let follows = scene.timeline.mode() == Mode::Following;
    if scene.source() == Source::Lab && follows || scene.state().study.is_none() {
        tree::draw(&mut line, scene, theme);
    } else {
        transport::draw(&mut line, scene, theme);
    }
    footer::draw(&mut pen.part(0, height - 1, width, 1), scene, view, theme);
}

/// Words in the middle of a panel that has nothing else.
pub(super) fn empty(pen: &mut Pen<'_>, scene: &Scene<'_>, words: &str) {
    let lines = text::wrap(words, usize::from(pen.width()).saturating_sub(4));
    let first = (pen.height() / 2).saturating_sub(lines.len() as u16 / 2);
    for (row, line) in lines.iter().enumerate() {
        pen.put_center(first + row as u16, line, scene.theme().dim());
    }
}

fn waiting(scene: &Scene<'_>) -> String {
    let Some(study) = &scene.state().study else {
        return "no study yet: 1 makes one, o opens a saved one".to_owned();
    };
    if scene.state().is_running() {
        if let Some(words) = left_out(study, "gallery") {
            return words;
        }
        return "waits for the first measured network".to_owned();
    }
    "this session has no pictures: the probe gallery makes them, and --attacks pgd adds attacked ones".to_owned()
}

/// A picture with its heading; the difference has no answers.
struct Tile<'a> {
    heading: String,
    image: Option<Image>,
    seen: Option<&'a Seen>,
    is_chosen: bool,
}

fn tiles<'a>(scene: &Scene<'_>, view: &View, shown: &Shown<'a>) -> Vec<Tile<'a>> {
    let views = &shown.own.views;
    let (clean, others) = (&views[0], &views[1..]);
    let chosen = others.get(view.gallery.condition.min(others.len().max(1) - 1));
    let tile = |seen: &'a Seen| Tile {
        heading: title(scene, seen),
        image: shown.image(seen),
        seen: Some(seen),
        is_chosen: chosen.is_some_and(|chosen| std::ptr::eq(chosen, seen)),
    };
    let mut tiles = vec![tile(clean)];
    let Some(chosen) = chosen else {
        return tiles;
    };
    if view.is_full {
        tiles.push(tile(chosen));
    } else {
        // One of each kind: the chosen one, and the nearest of the other kind.
        for kind in [false, true] {
            let of_kind = |seen: &&Seen| is_attack(scene, seen) == kind;
            let pick = Some(chosen).filter(of_kind).or_else(|| {
                let mut of = others.iter().filter(of_kind);
                if kind { of.next() } else { of.next_back() }
            });
            tiles.extend(pick.map(tile));
        }
    }
    let apart = shown
        .image(clean)
        .zip(shown.image(chosen))
        .and_then(|(from, to)| from.difference(&to));
    let (image, factor) = apart.map_or((None, 1), |(image, factor)| (Some(image), factor));
    tiles.push(Tile {
        heading: format!("change ×{factor}: {}", title(scene, chosen)),
        image,
        seen: None,
        is_chosen: true,
    });
    tiles
}

fn example(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, shown: &Shown<'_>) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    let answers: u16 = if shown.network.plan.against == shown.network.plan.id {
        1
    } else {
        2
    };
    let mut tiles = tiles(scene, view, shown);
    // What is neither clean nor chosen goes first where there is no room, then the clean image.
    while tiles.len() > 2 && width / (tiles.len() as u16) < 15 {
        let other = tiles.iter().rposition(|tile| !tile.is_chosen);
        tiles.remove(other.unwrap_or(0));
    }
    let each = width / tiles.len().max(1) as u16;
    // The label, a heading, the answers, and the list of conditions where there is room.
    let room = height.saturating_sub(2 + answers);
    let mut lowest = 0;
    for (place, tile) in tiles.iter().enumerate() {
        let x = place as u16 * each;
        let mut part = pen.part(x, 1, each.saturating_sub(1), height - 1);
        let style = if tile.is_chosen && tile.seen.is_some() {
            theme.accent()
        } else {
            theme.title()
        };
        part.put(
            0,
            0,
            &text::fit(&tile.heading, usize::from(each) - 1),
            style,
        );
        let part_width = part.width();
        let taken = match &tile.image {
            Some(image) => image.draw(&mut part.part(0, 1, part_width, room), theme).1,
            None => {
                part.put(0, 1, "no pixels", theme.dim());
                1
            }
        };
        lowest = lowest.max(taken);
    }
    for (place, tile) in tiles.iter().enumerate() {
        let x = place as u16 * each;
        let mut part = pen.part(x, 2 + lowest, each.saturating_sub(1), answers);
        match tile.seen {
            Some(seen) => said(&mut part, scene, shown, seen),
            None => {
                part.put(0, 0, "grey: unchanged", theme.dim());
            }
        }
    }
    let label = class(scene, shown, shown.own.label);
    let x = pen.run(
        0,
        0,
        &[
            ("It is ", theme.dim()),
            (&label, theme.title()),
            ("   ", theme.dim()),
        ],
    );
    if shown.own.views.iter().any(|seen| is_attack(scene, seen)) && answers == 2 {
        pen.put(x, 0, "each network is attacked by itself", theme.dim());
    }
    let top = 2 + lowest + answers + 1;
    if top < height {
        let mut rest = pen.part(0, top, width, height - top);
        list(&mut rest, scene, view, shown);
    }
}

fn class(scene: &Scene<'_>, shown: &Shown<'_>, class: u32) -> String {
    let mut data = scene.state().data.iter();
    let facts = data.find(|facts| facts.reference == shown.network.plan.reference);
    facts
        .and_then(|facts| facts.classes.get(class as usize))
        .map_or(format!("class {class}"), |name| text::clean(name))
}

/// What a network takes the image for, in pieces: glyph, right or wrong, class, confidence.
fn answer(
    scene: &Scene<'_>,
    shown: &Shown<'_>,
    id: NetworkId,
    seen: Option<&Seen>,
    (cells, is_clean): (usize, bool),
) -> [(String, Style); 3] {
    let theme = scene.theme();
    let glyph = (format!("{} ", scene.glyph(id)), scene.style(id));
    let Some(seen) = seen else {
        let words = if shown.own.is_flipped && is_clean {
            "right as it is"
        } else {
            "not asked"
        };
        return [
            glyph,
            (String::new(), theme.dim()),
            (text::fit(words, cells.saturating_sub(2)), theme.dim()),
        ];
    };
    let is_right = seen.class == shown.own.label;
    let (mark, style) = if is_right {
        ("✓ ", theme.good())
    } else {
        ("✗ ", theme.bad())
    };
    let share = format!(" {}", figure::plain(seen.confidence.0 * 100.0, 0));
    let room = cells.saturating_sub(4 + text::width(&share));
    let name = text::fit(&class(scene, shown, seen.class), room);
    [
        glyph,
        (mark.to_owned(), style),
        (name + &share, theme.text()),
    ]
}

/// Below an image: what the reference and the network take it for.
fn said(pen: &mut Pen<'_>, scene: &Scene<'_>, shown: &Shown<'_>, seen: &Seen) {
    let room = (usize::from(pen.width()), seen.condition.is_none());
    let own = shown.network.plan.id;
    let mut lines = Vec::new();
    if shown.network.plan.against != own {
        let beside = shown.beside(seen);
        lines.push(answer(
            scene,
            shown,
            shown.network.plan.against,
            beside,
            room,
        ));
    }
    lines.push(answer(scene, shown, own, Some(seen), room));
    for (y, line) in lines.iter().enumerate() {
        let pieces: Vec<(&str, Style)> = line
            .iter()
            .map(|(words, style)| (words.as_str(), *style))
            .collect();
        pen.run(0, y as u16, &pieces);
    }
}

/// Every condition with both answers, in as many columns as there is room for.
fn list(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, shown: &Shown<'_>) {
    let theme = scene.theme();
    let others = &shown.own.views[1..];
    if others.is_empty() {
        return;
    }
    let chosen = view.gallery.condition.min(others.len() - 1);
    let columns = (pen.width() / 48).max(1);
    let each = pen.width() / columns;
    let has_more = others.len() > usize::from(pen.height() * columns) && pen.height() > 1;
    let rows = pen.height() - u16::from(has_more);
    let fits = usize::from(rows * columns);
    // The chosen one is always in sight.
    let page = chosen / fits.max(1) * fits;
    let own = shown.network.plan.id;
    for (place, seen) in others.iter().enumerate().skip(page).take(fits) {
        let at = (place - page) as u16;
        let (x, y) = (at / rows * each, at % rows);
        let label = 20.min(each * 2 / 5);
        let style = if place == chosen {
            theme.accent()
        } else {
            theme.text()
        };
        let words = text::fit(&title(scene, seen), usize::from(label) - 1);
        pen.put(x, y, &words, style);
        let mut at = x + label;
        let cells = (each - label) / 2;
        let mut ids = vec![(own, Some(seen))];
        if shown.network.plan.against != own {
            ids.insert(0, (shown.network.plan.against, shown.beside(seen)));
        }
        for (id, seen) in ids {
            let pieces = answer(scene, shown, id, seen, (usize::from(cells) - 1, false));
            let pieces: Vec<(&str, Style)> = pieces
                .iter()
                .map(|(words, style)| (words.as_str(), *style))
                .collect();
            pen.run(at, y, &pieces);
            at += cells;
        }
    }
    if has_more {
        let last = (page + fits).min(others.len());
        let words = format!(
            "{} to {last} of {}: x shows the next",
            page + 1,
            others.len()
        );
        pen.put(0, rows, &words, theme.dim());
    }
}
