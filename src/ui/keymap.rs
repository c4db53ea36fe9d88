//! One table: key, action, words. The footer, the help overlay and the command palette are read from it.

use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use Key::{BackTab, Backspace, Char, Ctrl, Delete, Down, End, Enter, Esc, F, Home, Left};
use Key::{PageDown, PageUp, Right, Tab, Up};

/// A key as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Char(char),
    Ctrl(char),
    F(u8),
    Tab,
    BackTab,
    Enter,
    Esc,
    Backspace,
    Delete,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

impl Key {
    /// The key that was pressed, if the table can know it.
    pub fn pressed(event: KeyEvent) -> Option<Self> {
        let control = event.modifiers.contains(KeyModifiers::CONTROL);
        if event.modifiers.contains(KeyModifiers::ALT) {
            return None;
        }
        Some(match event.code {
            KeyCode::Char(c) if control => Ctrl(c.to_ascii_lowercase()),
            KeyCode::Char(c) => Char(c),
            KeyCode::F(n) => F(n),
            KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => BackTab,
            KeyCode::Tab => Tab,
            KeyCode::BackTab => BackTab,
            KeyCode::Enter => Enter,
            KeyCode::Esc => Esc,
            KeyCode::Backspace => Backspace,
            KeyCode::Delete => Delete,
            KeyCode::Up => Up,
            KeyCode::Down => Down,
            KeyCode::Left => Left,
            KeyCode::Right => Right,
            KeyCode::PageUp => PageUp,
            KeyCode::PageDown => PageDown,
            KeyCode::Home => Home,
            KeyCode::End => End,
            _ => return None,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Char(' ') => f.write_str("space"),
            Char(c) => write!(f, "{c}"),
            Ctrl(c) => write!(f, "ctrl-{c}"),
            F(n) => write!(f, "F{n}"),
            Tab => f.write_str("tab"),
            BackTab => f.write_str("shift-tab"),
            Enter => f.write_str("enter"),
            Esc => f.write_str("esc"),
            Backspace => f.write_str("backspace"),
            Delete => f.write_str("delete"),
            Up => f.write_str("↑"),
            Down => f.write_str("↓"),
            Left => f.write_str("←"),
            Right => f.write_str("→"),
            PageUp => f.write_str("page-up"),
            PageDown => f.write_str("page-down"),
            Home => f.write_str("home"),
            End => f.write_str("end"),
        }
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    First,
    Last,
    Accept,
    Back,
    Quit,
    Help,
    Palette,
    ShowStudy,
    ShowLive,
    ShowTable,
    ShowSessions,
    ShowSweep,
    ShowNetwork,
    ShowRobustness,
    ShowGallery,
    NextCondition,
    PreviousCondition,
    AllAttacks,
    Spread,
    OverSeeds,
    AllLayers,
    Sense,
    Keep,
    KnobMethod,
    NextAcross,
    PreviousAcross,
    NextQuantity,
    PreviousQuantity,
    NextPanel,
    PreviousPanel,
    FullScreen,
    NextCandidate,
    PreviousCandidate,
    Severity,
    MapMethod,
    Smoothing,
    LogScale,
    Freeze,
    PauseTraining,
    Stop,
    Note,
    AddBranch,
    Bell,
    PlayPause,
    StepBack,
    StepForward,
    StageBack,
    StageForward,
    NoteBack,
    NoteForward,
    Slower,
    Faster,
    Loop,
    Start,
    NewBranch,
    RemoveBranch,
    MoreKnobs,
    SaveSpec,
    Sort,
    Filter,
    Open,
    Refresh,
    Leave,
    StopAndQuit,
    Warnings,
    Suspend,
    ZoomIn,
    ZoomOut,
}

/// What lies on top and so has the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// The form of a new study.
    Study,
    /// The small form of one more branch.
    Branch,
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
    /// Attacks, domains, gradients, transfer.
    Robustness,
    /// Test images as networks see them.
    Gallery,
    Help,
    Palette,
    /// The line in which a note is typed.
    Note,
    /// The line in which the table's filter is typed.
    Filter,
    /// The question before leaving a running study.
    Quit,
    /// The list of warnings.
    Warnings,
}

impl Layer {
    /// All of them, for tests over the table.
    pub const ALL: [Self; 15] = [
        Self::Study,
        Self::Branch,
        Self::Live,
        Self::Table,
        Self::Sessions,
        Self::Sweep,
        Self::Network,
        Self::Robustness,
        Self::Gallery,
        Self::Help,
        Self::Palette,
        Self::Note,
        Self::Filter,
        Self::Quit,
        Self::Warnings,
    ];
}

/// Where the facts on screen come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A lab works for this screen, or waits for another branch.
    Lab,
    /// A saved session, or one that another process writes.
    Recording,
}

/// One line of the table.
#[derive(Debug)]
pub struct Binding {
    pub action: Action,
    pub keys: &'static [Key],
    /// By what name the palette finds it.
    pub name: &'static str,
    /// What it does, for the help overlay.
    pub help: &'static str,
    /// The word in the footer, with keys before a bar that stand for more than this one; empty if it does not stand there.
    pub footer: &'static str,
    /// Where it works.
    pub layers: &'static [Layer],
    /// For which facts it works; all when empty.
    pub sources: &'static [Source],
}

const SCREENS: &[Layer] = &[
    Layer::Study,
    Layer::Live,
    Layer::Table,
    Layer::Sessions,
    Layer::Sweep,
    Layer::Network,
    Layer::Robustness,
    Layer::Gallery,
];
const SHOWN: &[Layer] = &[
    Layer::Live,
    Layer::Table,
    Layer::Sessions,
    Layer::Sweep,
    Layer::Network,
    Layer::Robustness,
    Layer::Gallery,
];
const FORMS: &[Layer] = &[Layer::Study, Layer::Branch];
const FACTS: &[Layer] = &[
    Layer::Live,
    Layer::Table,
    Layer::Sweep,
    Layer::Network,
    Layer::Robustness,
    Layer::Gallery,
];
const PANELS: &[Layer] = &[Layer::Live, Layer::Robustness];
const PICTURES: &[Layer] = &[Layer::Robustness, Layer::Gallery];
const SWEEP: &[Layer] = &[Layer::Sweep];
const LISTS: &[Layer] = &[
    Layer::Table,
    Layer::Sessions,
    Layer::Network,
    Layer::Help,
    Layer::Warnings,
];
const ALL: &[Layer] = &Layer::ALL;
const MOVING: &[Layer] = &[
    Layer::Study,
    Layer::Branch,
    Layer::Live,
    Layer::Table,
    Layer::Sessions,
    Layer::Sweep,
    Layer::Network,
    Layer::Robustness,
    Layer::Gallery,
    Layer::Help,
    Layer::Warnings,
];
const ANY: &[Source] = &[];
const LAB: &[Source] = &[Source::Lab];
const RECORDING: &[Source] = &[Source::Recording];

macro_rules! bindings {
    ($($action:ident $keys:expr, $name:literal, $footer:literal, $help:literal, $layers:expr, $sources:expr;)*) => {
        &[$(Binding {
            action: Action::$action,
            keys: &$keys,
            name: $name,
            help: $help,
            footer: $footer,
            layers: $layers,
            sources: $sources,
        }),*]
    };
}

/// Every key. The order is the order in the footer and in the help.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = bindings! {
    // The form.
    Start [Enter], "start", "start", "start what the form asks for", FORMS, ANY;
    NewBranch [Char('+')], "new branch", "branch", "add a branch to the form", &[Layer::Study], ANY;
    RemoveBranch [Char('-'), Delete], "remove branch", "remove", "remove the branch under the cursor from the form", &[Layer::Study], ANY;
    MoreKnobs [Char('a')], "more knobs", "all knobs", "show every knob of the form, or only the usual ones", FORMS, ANY;
    SaveSpec [Ctrl('s')], "save spec", "save as spec", "save the form as a file that `shrinklab run` takes", &[Layer::Study], ANY;
    // The panels.
    NextPanel [Tab], "next panel", "panel", "give the keys to the next panel", PANELS, ANY;
    PreviousPanel [BackTab], "previous panel", "", "give the keys to the panel before", PANELS, ANY;
    FullScreen [Char('f'), Enter], "focus panel", "focus", "show the panel on the whole screen, with more in it", &[Layer::Live, Layer::Robustness, Layer::Gallery], ANY;
    NextCandidate [Char('c')], "next candidate", "candidate", "compare the next network with its reference", FACTS, ANY;
    PreviousCandidate [Char('C')], "previous candidate", "", "compare the network before with its reference", FACTS, ANY;
    Severity [Char('v')], "severity", "severity", "strength of the corruptions, 1 to 5", &[Layer::Live, Layer::Sweep], ANY;
    Spread [Char('V')], "severities", "severities", "bars of one severity, of all five, or of their mean", &[Layer::Live], ANY;
    OverSeeds [Char('S')], "over seeds", "seeds", "means over seeds, with intervals over seeds and images", PANELS, ANY;
    MapMethod [Char('m')], "map method", "", "how the map of functions is laid out: mds, pca or t-sne", &[Layer::Live], ANY;
    Smoothing [Char('w')], "smoothing", "", "weight of the smoothed loss curve: off, .6, .9, .99", &[Layer::Live], ANY;
    ZoomIn [Char('z')], "zoom in", "", "half as many steps of the loss: around the cross-hair, or the last", &[Layer::Live], ANY;
    ZoomOut [Char('Z')], "zoom out", "", "twice as many steps of the loss", &[Layer::Live], ANY;
    LogScale [Char('y')], "log scale", "", "draw the loss on a logarithmic scale", &[Layer::Live], ANY;
    // The chart of sweeps.
    NextAcross [Char('x')], "next axis", "axis", "what the chart is drawn against: ratio, bits, a size", SWEEP, ANY;
    PreviousAcross [Char('X')], "previous axis", "", "the axis before", SWEEP, ANY;
    NextQuantity [Char('y')], "next quantity", "quantity", "what the chart draws: accuracy, agreement, latency, a size", SWEEP, ANY;
    PreviousQuantity [Char('Y')], "previous quantity", "", "the quantity before", SWEEP, ANY;
    Keep [Enter], "keep as branch", "keep", "keep the knob's setting as a branch, measured like any other", SWEEP, LAB;
    KnobMethod [Char('m')], "knob method", "method", "turn another method: pruning, quantization", SWEEP, LAB;
    // The layers.
    AllLayers [Char('a')], "all layers", "all layers", "list every layer, or only those that multiply", &[Layer::Network], ANY;
    Sense [Char('s')], "sensitivity", "sensitivity", "what each layer of the reference bears: half of its weights zeroed, alone", &[Layer::Network], LAB;
    // Robustness, and the gallery.
    NextCondition [Char('x')], "next condition", "condition", "the next attack; in the gallery the next corruption or attack", PICTURES, ANY;
    PreviousCondition [Char('X')], "previous condition", "", "the attack or corruption before", PICTURES, ANY;
    AllAttacks [Char('a')], "all attacks", "all attacks", "every attack of the candidate in one picture, or one beside the reference", &[Layer::Robustness], ANY;
    // The table.
    Sort [Enter], "sort", "sort", "sort by the column under the cursor; again turns the order round", &[Layer::Table], ANY;
    Filter [Char('/')], "filter", "filter", "show only the rows that hold every word typed", &[Layer::Table], ANY;
    // The sessions.
    Open [Enter], "open", "open", "open the session under the cursor", &[Layer::Sessions], ANY;
    Refresh [Char('r')], "refresh", "refresh", "look again what sessions there are", &[Layer::Sessions], ANY;
    // A lab at work.
    Freeze [Char(' ')], "freeze", "freeze", "hold the picture, or let it follow again; training goes on", FACTS, LAB;
    PauseTraining [Char('P')], "pause training", "pause", "hold training at the next step, or let it go on", FACTS, LAB;
    Stop [Char('s')], "stop", "stop", "end the study at the next step; what was recorded stays", &[Layer::Live], LAB;
    AddBranch [Char('b')], "add branch", "branch", "compress the same reference in one more way", FACTS, LAB;
    Note [Char('n')], "note", "note", "write a note at this step; it becomes a chapter of the replay", FACTS, LAB;
    Bell [Char('B')], "bell", "", "ring when the study is done, or do not", FACTS, LAB;
    Warnings [Char('!')], "warnings", "warnings", "every warning in full", FACTS, ANY;
    // A recording; most works during a live study too.
    PlayPause [Char(' ')], "play or pause", "play", "play or pause the recording", FACTS, RECORDING;
    StepBack [Char(',')], "step back", ", .|step", "one record back", FACTS, ANY;
    StepForward [Char('.')], "step forward", "", "one record forward", FACTS, ANY;
    StageBack [Char('<')], "previous stage", "< >|stage", "back to the start of a stage", FACTS, ANY;
    StageForward [Char('>')], "next stage", "", "on to the start of the next stage", FACTS, ANY;
    NoteBack [Char('[')], "previous note", "[ ]|note", "back to a note", FACTS, ANY;
    NoteForward [Char(']')], "next note", "", "on to the next note", FACTS, ANY;
    Slower [Char('-')], "slower", "- +|speed", "half the speed", FACTS, ANY;
    Faster [Char('+'), Char('=')], "faster", "", "twice the speed", FACTS, ANY;
    Loop [Char('L')], "loop", "loop", "begin again at the end, or stop there", FACTS, RECORDING;
    // Moving.
    Up [Up, Char('k')], "up", "", "up: a field, a row, a value", MOVING, ANY;
    Down [Down, Char('j')], "down", "", "down: a field, a row, a value", MOVING, ANY;
    Left [Left, Char('h')], "left", "", "less: a value, the live knob; the candidate before", &[Layer::Study, Layer::Branch, Layer::Live, Layer::Table, Layer::Sweep, Layer::Network, Layer::Robustness, Layer::Gallery], ANY;
    Right [Right, Char('l')], "right", "", "more: a value, the live knob; the next candidate", &[Layer::Study, Layer::Branch, Layer::Live, Layer::Table, Layer::Sweep, Layer::Network, Layer::Robustness, Layer::Gallery], ANY;
    Up [BackTab], "previous field", "", "the field before", FORMS, ANY;
    Down [Tab], "next field", "", "the next field", FORMS, ANY;
    Up [Up], "up", "", "up: the line before", &[Layer::Palette, Layer::Quit], ANY;
    Down [Down, Tab], "down", "", "down: the next line", &[Layer::Palette, Layer::Quit], ANY;
    PageUp [PageUp, Ctrl('u')], "page up", "", "a page up", LISTS, ANY;
    PageDown [PageDown, Ctrl('d')], "page down", "", "a page down", LISTS, ANY;
    First [Home, Char('g')], "first", "", "the beginning: of a list, or of the study", &[Layer::Live, Layer::Table, Layer::Sessions, Layer::Network, Layer::Gallery, Layer::Help, Layer::Warnings], ANY;
    Last [End, Char('G')], "last", "", "the end: of a list, or of the study, and follow it", &[Layer::Live, Layer::Table, Layer::Sessions, Layer::Network, Layer::Gallery, Layer::Help, Layer::Warnings], ANY;
    // Leaving a running study.
    Leave [Char('l'), Char('y')], "leave it running", "leave it running", "leave the screen; the study finishes without it", &[Layer::Quit], ANY;
    StopAndQuit [Char('s')], "stop and quit", "stop it", "end the study at the next step and leave", &[Layer::Quit], ANY;
    // Everywhere.
    Accept [Enter], "accept", "accept", "take what is typed or chosen", &[Layer::Palette, Layer::Note, Layer::Filter, Layer::Quit], ANY;
    ShowStudy [Char('1'), F(1)], "new study", "", "the form of a new study", SHOWN, ANY;
    ShowLive [Char('2'), F(2)], "live screen", "", "the four panels", SHOWN, ANY;
    ShowTable [Char('3'), F(3)], "table of measurements", "", "every number that was measured", SHOWN, ANY;
    ShowSessions [Char('o'), Char('4'), F(4)], "open session", "sessions", "the list of saved sessions", SHOWN, ANY;
    ShowSweep [Char('5'), F(5)], "sweep chart", "sweep", "any number over ratio, bits or a size, and the live knob", SHOWN, ANY;
    ShowNetwork [Char('6'), F(6)], "network layers", "layers", "the layers: widths, zeros, bits, which channels went", SHOWN, ANY;
    ShowRobustness [Char('7'), F(7)], "robustness", "robustness", "attacks over their budgets, other domains, gradients, transfer", SHOWN, ANY;
    ShowGallery [Char('8'), F(8)], "gallery", "gallery", "test images clean, corrupted and attacked, and what networks see", SHOWN, ANY;
    // In the form digits are numbers.
    ShowStudy [F(1)], "new study", "", "the form of a new study", &[Layer::Study], ANY;
    ShowLive [F(2)], "live screen", "", "the four panels", &[Layer::Study], ANY;
    ShowTable [F(3)], "table of measurements", "", "every number that was measured", &[Layer::Study], ANY;
    ShowSessions [Char('o'), F(4)], "open session", "sessions", "the list of saved sessions", &[Layer::Study], ANY;
    ShowSweep [F(5)], "sweep chart", "", "any number over ratio, bits or a size, and the live knob", &[Layer::Study], ANY;
    ShowNetwork [F(6)], "network layers", "", "the layers: widths, zeros, bits, which channels went", &[Layer::Study], ANY;
    ShowRobustness [F(7)], "robustness", "", "attacks over their budgets, other domains, gradients, transfer", &[Layer::Study], ANY;
    ShowGallery [F(8)], "gallery", "", "test images clean, corrupted and attacked, and what networks see", &[Layer::Study], ANY;
    Quit [Char('q'), Ctrl('c')], "quit", "quit", "leave; a running study is asked about first", &[Layer::Study, Layer::Live, Layer::Table, Layer::Sessions, Layer::Sweep, Layer::Network, Layer::Robustness, Layer::Gallery, Layer::Help, Layer::Warnings], ANY;
    Quit [Ctrl('c')], "quit", "", "leave; a running study is asked about first", &[Layer::Branch, Layer::Palette, Layer::Note, Layer::Filter], ANY;
    Suspend [Ctrl('z')], "suspend", "", "give the terminal back to the shell and hold everything; `fg` goes on", ALL, ANY;
    Back [Esc], "back", "", "one layer back", SCREENS, ANY;
    Back [Esc], "back", "back", "one layer back", &[Layer::Branch, Layer::Help, Layer::Palette, Layer::Note, Layer::Filter, Layer::Quit, Layer::Warnings], ANY;
    Palette [Char(':'), Ctrl('p')], "palette", "palette", "find anything by its name", SCREENS, ANY;
    Help [Char('?')], "help", "help", "every key and what it does", SCREENS, ANY;
};

impl Binding {
    /// Whether it works there now.
    pub fn works(&self, layer: Layer, source: Source) -> bool {
        self.layers.contains(&layer) && (self.sources.is_empty() || self.sources.contains(&source))
    }

    /// Its keys in one word: `f enter`.
    pub fn written(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        keys.join(" ")
    }
}

/// What a key does there now.
pub fn action(key: Key, layer: Layer, source: Source) -> Option<Action> {
    BINDINGS
        .iter()
        .find(|binding| binding.works(layer, source) && binding.keys.contains(&key))
        .map(|binding| binding.action)
}

/// What works there now, each action once.
pub fn at_hand(layer: Layer, source: Source) -> Vec<&'static Binding> {
    let mut found: Vec<&Binding> = Vec::new();
    for binding in BINDINGS {
        if binding.works(layer, source) && found.iter().all(|other| other.action != binding.action)
        {
            found.push(binding);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn no_key_means_two_things() {
        for layer in Layer::ALL {
            for source in [Source::Lab, Source::Recording] {
                let mut taken: HashMap<Key, &str> = HashMap::new();
                for binding in BINDINGS.iter().filter(|b| b.works(layer, source)) {
                    for key in binding.keys {
                        if let Some(other) = taken.insert(*key, binding.name) {
                            panic!("{key} is {other} and {} in {layer:?}", binding.name);
                        }
                    }
                }
            }
        }
    }

    /// In a line that is typed, letters are letters.
    #[test]
    fn typing_layers_leave_letters_alone() {
        for layer in [Layer::Palette, Layer::Note, Layer::Filter] {
            for binding in BINDINGS.iter().filter(|b| b.layers.contains(&layer)) {
                let letter = binding.keys.iter().any(|key| matches!(key, Char(_)));
                assert!(!letter, "{} takes a letter in {layer:?}", binding.name);
            }
        }
    }

    /// In a form digits are numbers, on every row.
    #[test]
    fn forms_leave_digits_alone() {
        for layer in FORMS {
            for digit in '0'..='9' {
                assert_eq!(action(Char(digit), *layer, Source::Lab), None, "{digit}");
            }
            let screens =
                [1, 2, 3, 4, 5, 6, 7, 8].map(|n| action(F(n), *layer, Source::Lab).is_some());
            assert_eq!(screens, [*layer == Layer::Study; 8]);
        }
    }

    #[test]
    fn every_layer_can_be_left_and_every_name_means_one_action() {
        for layer in Layer::ALL {
            assert_eq!(action(Esc, layer, Source::Lab), Some(Action::Back));
        }
        let mut names: HashMap<&str, Action> = HashMap::new();
        for binding in BINDINGS {
            assert!(!binding.help.is_empty() && !binding.keys.is_empty());
            let known = names.entry(binding.name).or_insert(binding.action);
            assert_eq!(*known, binding.action, "{}", binding.name);
        }
        let actions: HashSet<Action> = BINDINGS.iter().map(|b| b.action).collect();
        assert!(actions.contains(&Action::StopAndQuit));
    }
}
