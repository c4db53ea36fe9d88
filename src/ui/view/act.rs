//! What each action does to the view, and what it asks of the program.

use crate::spec::Study;
use crate::state::Smoothing;
use crate::ui::form::Form;
use crate::ui::keymap::Action;
use crate::ui::popup;
use crate::ui::scene::Scene;
use crate::ui::screen::live::Panel;
use crate::ui::screen::{gallery, knob, network, robustness, sweep, table};
use crate::ui::view::{MAPS, MOST_ZOOM, Popup, Request, Screen, Seek, View};

/// Rows of a page, whatever the height: enough to get on, few enough to keep one's place.
const PAGE: isize = 10;

pub(super) fn act(view: &mut View, action: Action, scene: &Scene<'_>) -> Option<Request> {
    match action {
        Action::Up => go(view, -1, scene),
        Action::Down => go(view, 1, scene),
        Action::PageUp => go(view, -PAGE, scene),
        Action::PageDown => go(view, PAGE, scene),
        Action::Left => return turn(view, -1, scene),
        Action::Right => return turn(view, 1, scene),
        Action::Keep => return knob::keep(view, scene),
        Action::Sense => return knob::sense(view, scene),
        Action::KnobMethod => return knob::next_method(view, scene),
        Action::First => return end(view, false, scene),
        Action::Last => return end(view, true, scene),
        Action::Accept => return accept(view, scene),
        Action::Back => back(view, scene),
        Action::Quit if scene.live && scene.state().is_running() => {
            view.popups.push(Popup::Quit { selected: 0 });
        }
        Action::Quit => return Some(Request::Quit),
        Action::Help => view.popups.push(Popup::Help { scroll: 0 }),
        Action::Palette => view.popups.push(Popup::Palette {
            query: String::new(),
            selected: 0,
        }),
        Action::ShowStudy => show(view, Screen::Study),
        Action::ShowLive => show(view, Screen::Live),
        Action::ShowTable => show(view, Screen::Table),
        Action::ShowSessions => {
            show(view, Screen::Sessions);
            return Some(Request::RefreshSessions);
        }
        Action::ShowSweep => show(view, Screen::Sweep),
        Action::ShowNetwork => show(view, Screen::Network),
        Action::ShowRobustness => show(view, Screen::Robustness),
        Action::ShowGallery => show(view, Screen::Gallery),
        Action::NextCondition => next_condition(view, 1, scene),
        Action::PreviousCondition => next_condition(view, -1, scene),
        Action::AllAttacks => {
            let all = &mut view.robustness.all_attacks;
            (*all, view.scroll) = (!*all, 0);
        }
        Action::OverSeeds if !scene.is_repeated() => {
            let words = "every network has one seed: --seed 1,2,3 makes each from several";
            view.hint = Some(words.to_owned());
        }
        Action::OverSeeds => view.over_seeds = !view.over_seeds,
        Action::Spread => (view.spread, view.scroll) = (view.spread.next(), 0),
        Action::AllLayers => (view.all_layers, view.scroll) = (!view.all_layers, 0),
        Action::NextAcross => sweep::turn_across(view, 1, scene),
        Action::PreviousAcross => sweep::turn_across(view, -1, scene),
        Action::NextQuantity => sweep::turn_quantity(view, 1, scene),
        Action::PreviousQuantity => sweep::turn_quantity(view, -1, scene),
        Action::NextPanel => next_panel(view, 1),
        Action::PreviousPanel => next_panel(view, -1),
        Action::FullScreen => {
            view.is_full = !view.is_full;
            view.scroll = 0;
        }
        Action::NextCandidate => next_candidate(view, 1, scene),
        Action::PreviousCandidate => next_candidate(view, -1, scene),
        Action::Severity => {
            view.severity = view.severity % 5 + 1;
            // The knob's curve follows.
            if view.screen == Screen::Sweep && knob::turns(scene) {
                return knob::wish(view, scene);
            }
        }
        Action::MapMethod => view.map = (view.map + 1) % MAPS.len(),
        Action::Smoothing => {
            let all = Smoothing::ALL;
            let at = all.iter().position(|s| *s == view.smoothing).unwrap_or(0);
            view.smoothing = all[(at + 1) % all.len()];
        }
        Action::ZoomIn => view.zoom = (view.zoom + 1).min(MOST_ZOOM),
        Action::ZoomOut => view.zoom = view.zoom.saturating_sub(1),
        Action::LogScale => view.is_logarithmic = !view.is_logarithmic,
        Action::Freeze => return Some(Request::Freeze),
        Action::PauseTraining => return pause(view, scene),
        Action::Stop if scene.state().is_running() => return Some(Request::Stop),
        Action::Stop => view.hint = Some("nothing is running".to_owned()),
        Action::Note if scene.state().study.is_some() => view.popups.push(Popup::Note {
            text: String::new(),
        }),
        Action::Note => view.hint = Some("there is no study to write a note to".to_owned()),
        Action::AddBranch => add_branch(view, scene),
        Action::Bell => return Some(Request::ToggleBell),
        Action::PlayPause => return Some(Request::PlayPause),
        Action::StepBack => return Some(Request::Seek(Seek::Records(-1))),
        Action::StepForward => return Some(Request::Seek(Seek::Records(1))),
        Action::StageBack => return Some(Request::Seek(Seek::PreviousStage)),
        Action::StageForward => return Some(Request::Seek(Seek::NextStage)),
        Action::NoteBack => return Some(Request::Seek(Seek::PreviousNote)),
        Action::NoteForward => return Some(Request::Seek(Seek::NextNote)),
        Action::Slower => return Some(Request::Slower),
        Action::Faster => return Some(Request::Faster),
        Action::Loop => return Some(Request::ToggleLoop),
        Action::Start => return start(view, scene),
        Action::NewBranch => view.form.add_branch(scene.lab),
        Action::RemoveBranch => view.form.remove_branch(scene.lab),
        Action::MoreKnobs => {
            if let Some(form) = view.form_at_hand() {
                form.show_all(scene.lab);
            }
        }
        Action::SaveSpec => return checked(view, scene).map(Request::SaveSpec),
        Action::Sort => view.table.sort(),
        Action::Filter => {
            let before = view.table.filter.clone();
            view.popups.push(Popup::Filter { before });
        }
        Action::Open if view.session < scene.sessions.len() => {
            let row = view.session;
            show(view, Screen::Live);
            view.candidate = None;
            view.knob = None;
            return Some(Request::OpenSession(row));
        }
        Action::Open => view.hint = Some("there is no session to open".to_owned()),
        Action::Refresh => return Some(Request::RefreshSessions),
        Action::Warnings => view.popups.push(Popup::Warnings { scroll: 0 }),
        Action::Suspend => return Some(Request::Suspend),
        Action::Leave => return Some(Request::LeaveRunning),
        Action::StopAndQuit => return Some(Request::StopAndQuit),
    }
    None
}

fn show(view: &mut View, screen: Screen) {
    view.popups.clear();
    view.form.settle();
    if view.screen != screen {
        view.screen = screen;
        view.is_full = false;
        view.scroll = 0;
    }
}

/// Up and down, by what has the keys.
fn go(view: &mut View, by: isize, scene: &Scene<'_>) {
    let offers = match view.popups.last() {
        Some(Popup::Palette { query, .. }) => view.offers(query, scene).len(),
        _ => 0,
    };
    let moved = |at: usize, count: usize| at.saturating_add_signed(by).min(count.max(1) - 1);
    match view.popups.last_mut() {
        Some(Popup::Help { scroll }) => {
            *scroll = moved(*scroll, popup::help_lines(scene.source()).len());
        }
        Some(Popup::Warnings { scroll }) => {
            *scroll = moved(*scroll, popup::warnings(scene).len());
        }
        Some(Popup::Palette { selected, .. }) => *selected = moved(*selected, offers),
        Some(Popup::Quit { selected }) => *selected = moved(*selected, 3),
        Some(Popup::Branch(form)) => form.travel(by, scene.lab),
        Some(Popup::Note { .. } | Popup::Filter { .. }) => {}
        None => match view.screen {
            Screen::Study => view.form.travel(by, scene.lab),
            // Their panels know where they end.
            Screen::Live | Screen::Robustness => view.scroll = moved(view.scroll, 500),
            Screen::Table => {
                let count = table::rows(scene, view).len();
                view.table.row = moved(view.table.row, count);
            }
            Screen::Sessions => view.session = moved(view.session, scene.sessions.len()),
            Screen::Sweep => sweep::travel(view, by, scene),
            Screen::Network => view.scroll = moved(view.scroll, network::rows(scene, view)),
            Screen::Gallery => {
                let count = gallery::examples(scene, view);
                view.gallery.example = moved(view.gallery.example, count);
            }
        },
    }
}

/// Left and right, by what has the keys.
fn turn(view: &mut View, by: i64, scene: &Scene<'_>) -> Option<Request> {
    if let Some(form) = view.form_at_hand() {
        form.turn(by, scene.lab);
        return None;
    }
    match view.screen {
        Screen::Live if view.is_full && view.panel == Panel::Loss => {
            let at = view.cursor.unwrap_or(if by > 0 { 0.0 } else { 1.0 });
            let step = 0.01 / f64::from(1_u32 << view.zoom);
            view.cursor = Some((at + by as f64 * step).clamp(0.0, 1.0));
        }
        Screen::Sweep if knob::turns(scene) => return knob::turn(view, by, scene),
        Screen::Live | Screen::Sweep | Screen::Network | Screen::Robustness | Screen::Gallery => {
            next_candidate(view, by as isize, scene);
        }
        Screen::Table => view.table.travel(by as isize),
        Screen::Study | Screen::Sessions => {}
    }
    None
}

/// The first or the last of what has the keys.
fn end(view: &mut View, last: bool, scene: &Scene<'_>) -> Option<Request> {
    let pick = |count: usize| if last { count.max(1) - 1 } else { 0 };
    if let Some(Popup::Help { scroll }) = view.popups.last_mut() {
        *scroll = pick(popup::help_lines(scene.source()).len());
        return None;
    }
    if let Some(Popup::Warnings { scroll }) = view.popups.last_mut() {
        *scroll = pick(popup::warnings(scene).len());
        return None;
    }
    match view.screen {
        Screen::Live => return Some(Request::Seek(if last { Seek::Last } else { Seek::First })),
        Screen::Table => view.table.row = pick(table::rows(scene, view).len()),
        Screen::Sessions => view.session = pick(scene.sessions.len()),
        Screen::Network => view.scroll = pick(network::rows(scene, view)),
        Screen::Gallery => view.gallery.example = pick(gallery::examples(scene, view)),
        Screen::Study | Screen::Sweep | Screen::Robustness => {}
    }
    None
}

fn next_condition(view: &mut View, by: isize, scene: &Scene<'_>) {
    if view.screen == Screen::Gallery {
        gallery::turn_condition(view, by, scene);
    } else {
        robustness::attacks::turn(view, by, scene);
    }
}

fn next_panel(view: &mut View, by: isize) {
    if view.screen == Screen::Robustness {
        let all = robustness::Panel::ALL;
        let now = view.robustness.panel;
        let at = all.iter().position(|(_, p)| *p == now).unwrap_or(0) as isize;
        view.robustness.panel = all[(at + by).rem_euclid(all.len() as isize) as usize].1;
        view.scroll = 0;
        return;
    }
    let all = Panel::ALL;
    let at = all.iter().position(|p| *p == view.panel).unwrap_or(0) as isize;
    view.panel = all[(at + by).rem_euclid(all.len() as isize) as usize];
    view.scroll = 0;
}

fn next_candidate(view: &mut View, by: isize, scene: &Scene<'_>) {
    let all = scene.candidates();
    if all.is_empty() {
        view.hint = Some("no other network to compare with yet".to_owned());
        return;
    }
    let at = scene
        .candidate(view)
        .and_then(|network| all.iter().position(|id| *id == network.plan.id));
    let next = match at {
        Some(at) => (at as isize + by).rem_euclid(all.len() as isize) as usize,
        None => 0,
    };
    view.candidate = Some(all[next]);
}

fn pause(view: &mut View, scene: &Scene<'_>) -> Option<Request> {
    if !scene.state().is_running() {
        view.hint = Some("nothing is running".to_owned());
        return None;
    }
    Some(if scene.state().is_paused || scene.pausing {
        Request::Resume
    } else {
        Request::Pause
    })
}

fn add_branch(view: &mut View, scene: &Scene<'_>) {
    let Some(study) = &scene.state().study else {
        view.hint = Some("there is no study to add a branch to".to_owned());
        return;
    };
    let reference = scene
        .candidate(view)
        .map_or(0, |network| network.plan.reference);
    let form = Form::branch_of(study, reference, scene.lab);
    view.popups.push(Popup::Branch(Box::new(form)));
}

/// The study of the form, if nothing is wrong with it; otherwise the footer says what, beside the fields.
fn checked(view: &mut View, scene: &Scene<'_>) -> Option<Study> {
    view.form.settle();
    let errors = view.form.errors(scene.lab);
    if let Some(first) = errors.first() {
        view.hint = Some(match errors.len() {
            1 => first.to_string(),
            n => format!("{n} fields are wrong; the first: {first}"),
        });
        return None;
    }
    Some(view.form.study().clone())
}

fn start(view: &mut View, scene: &Scene<'_>) -> Option<Request> {
    if let Some(Popup::Branch(form)) = view.popups.last_mut() {
        form.settle();
        if let Some(first) = form.errors(scene.lab).first() {
            view.hint = Some(first.to_string());
            return None;
        }
        let asked = form.branch().cloned().map(|branch| Request::AddBranch {
            reference: form.reference(),
            branch,
        });
        view.popups.pop();
        // The new one is looked at as soon as it is at work.
        view.candidate = None;
        return asked;
    }
    if scene.live && scene.state().is_running() {
        view.hint =
            Some("a study is running: on its screen (F2) s stops it, b adds a branch".to_owned());
        return None;
    }
    let study = checked(view, scene)?;
    show(view, Screen::Live);
    view.candidate = None;
    view.cursor = None;
    view.knob = None;
    Some(Request::Start(study))
}

fn accept(view: &mut View, scene: &Scene<'_>) -> Option<Request> {
    match view.popups.pop()? {
        Popup::Palette { query, selected } => {
            let action = view.offers(&query, scene).get(selected)?.action;
            view.act(action, scene)
        }
        Popup::Note { text } => {
            let text = text.trim();
            (!text.is_empty()).then(|| Request::Note(text.to_owned()))
        }
        Popup::Quit { selected } => match selected {
            0 => Some(Request::LeaveRunning),
            1 => Some(Request::StopAndQuit),
            _ => None,
        },
        Popup::Help { .. } | Popup::Filter { .. } | Popup::Branch(_) | Popup::Warnings { .. } => {
            None
        }
    }
}

/// One layer back: a popup, the cross-hair, the full screen, a filter, the screen.
fn back(view: &mut View, scene: &Scene<'_>) {
    if let Some(popup) = view.popups.pop() {
        if let Popup::Filter { before } = popup {
            view.table.filter = before;
        }
        return;
    }
    match view.screen {
        Screen::Live if view.cursor.is_some() && view.is_full => view.cursor = None,
        Screen::Live | Screen::Robustness | Screen::Gallery if view.is_full => {
            view.is_full = false;
            view.scroll = 0;
        }
        Screen::Live => view.candidate = None,
        Screen::Table if !view.table.filter.is_empty() => view.table.filter.clear(),
        Screen::Study
        | Screen::Table
        | Screen::Sessions
        | Screen::Sweep
        | Screen::Network
        | Screen::Robustness
        | Screen::Gallery => {
            let has_facts = scene.state().study.is_some();
            show(
                view,
                if has_facts {
                    Screen::Live
                } else {
                    Screen::Study
                },
            );
        }
    }
}
