//! Where the user looks: screen, panel, selection, form and what lies on top. Folded from keys; no part of a session.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;

use super::form::Form;
use super::fuzzy::fuzzy;
use super::keymap::{self, Action, Key, Layer};
use super::scene::Scene;
use super::screen::corruption::Spread;
use super::screen::gallery::GalleryView;
use super::screen::live::Panel;
use super::screen::robustness::{self, RobustnessView};
use super::screen::sweep::SweepView;
use super::screen::table::TableView;
use crate::spec::{Branch, Method, NetworkId, Study};
use crate::state::Smoothing;

mod act;
mod mouse;

/// A screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    /// The form of a new study.
    #[default]
    Study,
    /// The four panels.
    Live,
    /// The table of measurements.
    Table,
    /// The list of saved sessions.
    Sessions,
    /// The chart of sweeps.
    Sweep,
    /// The layers of a network.
    Network,
    /// Attacks, other domains, and whether gradients tell the truth.
    Robustness,
    /// Test images as networks see them.
    Gallery,
}

impl Screen {
    /// All of them with the names that `replay --screen` takes.
    pub const ALL: [(&'static str, Self); 8] = [
        ("study", Self::Study),
        ("live", Self::Live),
        ("table", Self::Table),
        ("sessions", Self::Sessions),
        ("sweep", Self::Sweep),
        ("layers", Self::Network),
        ("robustness", Self::Robustness),
        ("gallery", Self::Gallery),
    ];
}

/// What lies over a screen.
#[derive(Clone, Debug, PartialEq)]
pub enum Popup {
    Help {
        scroll: usize,
    },
    Palette {
        query: String,
        selected: usize,
    },
    Note {
        text: String,
    },
    Filter {
        before: String,
    },
    /// The question before leaving a running study: which answer is under the cursor.
    Quit {
        selected: usize,
    },
    Branch(Box<Form>),
    /// Every warning in full.
    Warnings {
        scroll: usize,
    },
}

/// Where in the log to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// By so many records.
    Records(isize),
    /// To the next start of a stage, or back to one.
    NextStage,
    PreviousStage,
    NextNote,
    PreviousNote,
    First,
    /// To the end, and follow it.
    Last,
}

/// What the program is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Run this study; it was checked.
    Start(Study),
    /// One more branch for the study at work; it was checked.
    AddBranch {
        reference: u32,
        branch: Branch,
    },
    /// Try a setting of the live knob.
    Try {
        reference: u32,
        method: Method,
        severity: u8,
    },
    /// Find out how much each layer of a reference bears.
    Sense {
        reference: u32,
    },
    Pause,
    Resume,
    /// End the study at the next step.
    Stop,
    /// Leave the screen; nothing runs.
    Quit,
    /// Leave the screen; the study finishes without it.
    LeaveRunning,
    /// End the study at the next step, then leave.
    StopAndQuit,
    /// Hold the picture, or follow again.
    Freeze,
    PlayPause,
    Seek(Seek),
    Slower,
    Faster,
    ToggleLoop,
    Note(String),
    /// The session of that row.
    OpenSession(usize),
    RefreshSessions,
    SaveSpec(Study),
    ToggleBell,
    /// Give the terminal back and stop the process until somebody lets it go on.
    Suspend,
}

/// How often the loss can be zoomed into: a thousandth of the steps is left then.
pub const MOST_ZOOM: u32 = 10;

/// How the map of functions is laid out, by the names of its measurements.
pub const MAPS: [&str; 3] = ["mds", "pca", "t-sne"];

/// Where the user looks.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub screen: Screen,
    pub panel: Panel,
    /// The panel covers the screen, with more in it.
    pub is_full: bool,
    /// The candidate that was chosen; the one at work otherwise.
    pub candidate: Option<NetworkId>,
    /// 1 to 5.
    pub severity: u8,
    /// Whether the bars are of that severity, of all five, or of their mean.
    pub spread: Spread,
    /// Whether accuracies are means over seeds, where networks were made from several.
    pub over_seeds: bool,
    /// Place in [`MAPS`].
    pub map: usize,
    pub smoothing: Smoothing,
    pub is_logarithmic: bool,
    /// How often the steps on the loss's axis were halved.
    pub zoom: u32,
    /// The cross-hair of the loss, as a share of its axis.
    pub cursor: Option<f64>,
    /// Lines scrolled down in the panel that has the keys.
    pub scroll: usize,
    pub form: Form,
    pub table: TableView,
    pub sweep: SweepView,
    pub robustness: RobustnessView,
    pub gallery: GalleryView,
    /// Where the live knob was turned to.
    pub knob: Option<Method>,
    /// Whether layers without products are listed, too.
    pub all_layers: bool,
    /// The row under the cursor in the list of sessions.
    pub session: usize,
    /// What lies over the screen, the last on top.
    pub popups: Vec<Popup>,
    /// What the last key could not do, and why.
    pub hint: Option<String>,
}

impl View {
    /// A first look at the form or, if something is shown, at the panels.
    pub fn new(form: Form, screen: Screen) -> Self {
        Self {
            screen,
            panel: Panel::default(),
            is_full: false,
            candidate: None,
            severity: 3,
            spread: Spread::default(),
            over_seeds: false,
            map: 0,
            smoothing: Smoothing::default(),
            is_logarithmic: false,
            zoom: 0,
            cursor: None,
            scroll: 0,
            form,
            table: TableView::default(),
            sweep: SweepView::default(),
            robustness: RobustnessView::default(),
            gallery: GalleryView::default(),
            knob: None,
            all_layers: false,
            session: 0,
            popups: Vec::new(),
            hint: None,
        }
    }

    /// Goes to what people call by that name: a screen, a panel in full, or the help.
    ///
    /// # Errors
    /// The names there are.
    pub fn go(&mut self, name: &str) -> Result<(), String> {
        if name == "help" {
            self.popups = vec![Popup::Help { scroll: 0 }];
        } else if name == "warnings" {
            self.popups = vec![Popup::Warnings { scroll: 0 }];
        } else if let Some((_, screen)) = Screen::ALL.iter().find(|(known, _)| *known == name) {
            self.screen = *screen;
        } else if let Some((_, panel)) = Panel::NAMED.iter().find(|(known, _)| *known == name) {
            (self.screen, self.panel, self.is_full) = (Screen::Live, *panel, true);
        } else if let Some((_, panel)) = robustness::Panel::ALL
            .iter()
            .find(|(known, _)| *known == name)
        {
            (self.screen, self.is_full) = (Screen::Robustness, true);
            self.robustness.panel = *panel;
        } else {
            let screens = Screen::ALL.iter().map(|(known, _)| *known);
            let panels = Panel::NAMED.iter().map(|(known, _)| *known);
            let others = robustness::Panel::ALL.iter().map(|(known, _)| *known);
            let panels = panels.chain(others);
            let names: Vec<&str> = screens.chain(panels).chain(["help", "warnings"]).collect();
            return Err(names.join(", "));
        }
        Ok(())
    }

    /// What has the keys.
    pub fn layer(&self) -> Layer {
        match self.popups.last() {
            Some(Popup::Help { .. }) => Layer::Help,
            Some(Popup::Palette { .. }) => Layer::Palette,
            Some(Popup::Note { .. }) => Layer::Note,
            Some(Popup::Filter { .. }) => Layer::Filter,
            Some(Popup::Quit { .. }) => Layer::Quit,
            Some(Popup::Branch(_)) => Layer::Branch,
            Some(Popup::Warnings { .. }) => Layer::Warnings,
            None => self.screen_layer(),
        }
    }

    /// What would have the keys if nothing lay over the screen.
    pub fn screen_layer(&self) -> Layer {
        match self.screen {
            Screen::Study => Layer::Study,
            Screen::Live => Layer::Live,
            Screen::Table => Layer::Table,
            Screen::Sessions => Layer::Sessions,
            Screen::Sweep => Layer::Sweep,
            Screen::Network => Layer::Network,
            Screen::Robustness => Layer::Robustness,
            Screen::Gallery => Layer::Gallery,
        }
    }

    /// The form that has the keys, with the catalog it is made from.
    fn form_at_hand(&mut self) -> Option<&mut Form> {
        match self.popups.last_mut() {
            Some(Popup::Branch(form)) => Some(form),
            None if self.screen == Screen::Study => Some(&mut self.form),
            _ => None,
        }
    }

    /// A key was pressed.
    pub fn update(&mut self, event: KeyEvent, scene: &Scene<'_>) -> Option<Request> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        self.hint = None;
        if self.types(event, scene) {
            return None;
        }
        let action = keymap::action(Key::pressed(event)?, self.layer(), scene.source())?;
        self.act(action, scene)
    }

    /// Text was pasted.
    pub fn paste(&mut self, text: &str, scene: &Scene<'_>) {
        for c in text.chars() {
            let event = KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
            self.types(event, scene);
        }
    }

    /// Takes a key as a letter where something is being typed; `false` if it is none there.
    fn types(&mut self, event: KeyEvent, scene: &Scene<'_>) -> bool {
        /// Longer than a line of the widest terminal that is tested.
        const MOST: usize = 500;
        let is_letter = !event
            .modifiers
            .intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        let filter = &mut self.table.filter;
        let line = match self.popups.last_mut() {
            Some(Popup::Palette { query, selected }) => {
                *selected = if matches!(event.code, KeyCode::Char(_) | KeyCode::Backspace) {
                    0
                } else {
                    *selected
                };
                Some(query)
            }
            Some(Popup::Note { text }) => Some(text),
            Some(Popup::Filter { .. }) => Some(filter),
            _ => None,
        };
        match (line, event.code) {
            (Some(line), KeyCode::Char(c)) if is_letter => {
                if line.len() < MOST && !c.is_control() {
                    line.push(c);
                }
                true
            }
            (Some(line), KeyCode::Backspace) => {
                line.pop();
                true
            }
            (Some(_), _) => false,
            (None, code) => {
                let lab = scene.lab;
                let Some(form) = self.form_at_hand() else {
                    return false;
                };
                match code {
                    KeyCode::Char(c) if is_letter => form.type_char(c, lab),
                    KeyCode::Backspace => form.erase(lab),
                    KeyCode::Esc => form.abandon(lab),
                    _ => false,
                }
            }
        }
    }

    /// The names that the palette offers for what is typed, best first, each with whether it works here.
    pub fn offers(&self, query: &str, scene: &Scene<'_>) -> Vec<&'static keymap::Binding> {
        let mut found: Vec<(usize, usize, &keymap::Binding)> =
            keymap::at_hand(self.screen_layer(), scene.source())
                .into_iter()
                .enumerate()
                .filter_map(|(place, binding)| Some((fuzzy(query, binding.name)?, place, binding)))
                .collect();
        if query.trim().is_empty() {
            found.sort_by_key(|(_, place, _)| *place);
        } else {
            found.sort_by_key(|(cost, place, _)| (*cost, *place));
        }
        found.into_iter().map(|(_, _, binding)| binding).collect()
    }

    /// The mouse was clicked or its wheel turned at a cell; `area` is the whole screen.
    pub fn mouse(
        &mut self,
        event: crossterm::event::MouseEvent,
        area: Rect,
        scene: &Scene<'_>,
    ) -> Option<Request> {
        mouse::mouse(self, event, area, scene)
    }

    /// Does what a key or a name of the palette stands for.
    pub fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Request> {
        act::act(self, action, scene)
    }
}
