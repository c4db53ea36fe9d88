//! The command line: what can be typed, and what each word does.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) mod ask;
mod bench;
mod check;
mod data;
mod doctor;
mod list;
mod processor;
pub(crate) mod progress;
mod report;
mod run;

/// How the process ends: the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// 0
    Success,
    /// 1
    Failure,
    /// 2
    Usage,
    /// 130, as after Ctrl-C; the session stays readable.
    Interrupted,
}

impl Ending {
    /// The exit status.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Interrupted => 130,
        }
    }
}

/// What was asked is impossible as it stands: exit status 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// A terminal laboratory that shows what compression really does to a neural network.
///
/// Without a subcommand: the lab on screen.
#[derive(Debug, Parser)]
#[command(name = "shrinklab", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Word>,
    /// Folder with one folder per data set; then SHRINKLAB_DATA, then the platform's data folder
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Do not ring the bell when a study is done
    #[arg(long)]
    no_bell: bool,
    /// Where the form's study computes: cpu, auto (the GPU with the most free memory, or the CPU) or cuda[:N]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Begin the study in this file, which is removed: how the form hands a study over to the CUDA program
    #[arg(long, value_name = "FILE", hide = true)]
    begin: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Run a study without a screen
    Run(Box<RunArguments>),
    /// Play a session again
    Replay(ReplayArguments),
    /// Follow a session that another process is writing
    Attach {
        /// The session file
        file: PathBuf,
    },
    /// Write what sessions measured as a document
    Report(ReportArguments),
    /// List what the lab knows
    List {
        /// One kind only
        #[arg(value_parser = ["datasets", "architectures", "compressions", "corruptions", "attacks", "probes"])]
        kind: Option<String>,
        /// As JSON, with all knobs
        #[arg(long)]
        json: bool,
    },
    /// Get and check data sets
    Data {
        #[command(subcommand)]
        what: DataWord,
    },
    /// Check a study or a session, and say all that is wrong
    Check {
        /// A study (TOML) or a session
        file: PathBuf,
    },
    /// Say what this machine offers
    Doctor,
    /// Say how fast this machine is
    Bench {
        #[command(subcommand)]
        what: bench::BenchWord,
    },
    /// Play the sessions that come with the program
    Demo,
}

/// `shrinklab run`
#[derive(Debug, Default, Args)]
pub(crate) struct RunArguments {
    /// A study in TOML; flags turn what it says
    pub spec: Option<PathBuf>,
    /// Data set
    #[arg(short, long, value_name = "ID")]
    pub dataset: Option<String>,
    /// Architecture
    #[arg(short, long, value_name = "ID")]
    pub architecture: Option<String>,
    /// Weights to start from: safetensors with PyTorch's names, where a classifier for other classes is replaced; or a network that --save wrote, as it is
    #[arg(long, value_name = "FILE")]
    pub from: Option<String>,
    /// Mean of pixels from 0 to 1 that those weights were trained with: one for each channel, or one for all [default: of the training images]
    #[arg(
        long,
        value_name = "M[,M…]",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub mean: Vec<f64>,
    /// Standard deviation, likewise; from 0.001 on
    #[arg(
        long,
        value_name = "S[,S…]",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub std: Vec<f64>,
    /// Enlarge all images to this side in pixels
    #[arg(long, value_name = "N")]
    pub resize: Option<u32>,
    /// Compression; opens a branch, and the flags after it belong to it
    #[arg(long, value_name = "METHOD")]
    pub compress: Vec<String>,
    /// Share removed, of what the method counts; several, with commas, make one branch each
    #[arg(long, value_name = "R[,R…]", allow_hyphen_values = true)]
    pub ratio: Vec<String>,
    /// What the ratio counts; the strength that removes that share is searched for [default: what the method counts]
    #[arg(long, value_name = "SIZE", value_parser = ["channels", "parameters", "nonzero", "macs", "bytes"])]
    pub ratio_of: Vec<String>,
    /// Search each branch's ratio or bits instead: the strongest whose validation accuracy is equivalent to the reference's within so many points, or the mildest that removes a share of parameters, bytes, macs or latency
    #[arg(long = "match", value_name = "accuracy=POINTS|SIZE=SHARE")]
    pub matched: Option<String>,
    /// Knob of the branch's compression or fine-tuning; before any --compress, of the training, data set or architecture. Several values of a compression's knob, with commas, make one branch each; several lists, one of each combination
    #[arg(long = "set", value_name = "KNOB=VALUE", allow_hyphen_values = true)]
    pub set: Vec<String>,
    /// How the branch is trained after its compression, adversarial being on images that PGD attacks; published is the recipe of arXiv:2403.09441, three epochs at its rates [default: none, or standard with --fine-tune-epochs]
    #[arg(long, value_name = "KIND", value_parser = ["none", "standard", "adversarial", "published", "published-adversarial"])]
    pub fine_tune: Vec<String>,
    /// Epochs of fine-tuning [default: 1; 3 where attacked or published]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub fine_tune_epochs: Vec<i64>,
    /// Which checkpoint of the reference the branch starts from [default: last]
    #[arg(long, value_name = "WHICH", value_parser = ["last", "best"])]
    pub checkpoint: Vec<String>,
    /// Epochs of the reference's training
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub epochs: Option<i64>,
    /// Networks of the same recipe and another seed [default: 1 with a branch, 0 without]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub twins: Option<i64>,
    /// Also a network with the same initial weights and another data order
    #[arg(long)]
    pub same_start_twin: bool,
    /// Everything random hangs on it; several, with commas, make every network once for each, and their numbers are averaged over seeds
    #[arg(
        long,
        value_name = "S[,S…]",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub seed: Vec<i128>,
    /// Threads that compute [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<i64>,
    /// Use only so many training images, validation included
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub train_limit: Option<i64>,
    /// Use only so many test images
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub test_limit: Option<i64>,
    /// Corruptions to measure under: ids, with a variant as in random-fog:published, and sets: cifar-10-c, cifar-10-c-extra, document-000, document-000-corrected, all [default: five of them]
    #[arg(long, value_name = "ID[:VARIANT][,…]", value_delimiter = ',')]
    pub corruptions: Vec<String>,
    /// Data sets that are other domains, on whose images every network is measured; all: those that the data set knows
    #[arg(long, value_name = "ID[,ID…]", value_delimiter = ',')]
    pub domains: Vec<String>,
    /// Measure corruptions on all test images
    #[arg(long)]
    pub full: bool,
    /// Attack every network: fgsm, pgd, apgd-ce, apgd-dlr, fab, square, autoattack, deepfool, carlini-wagner, salt-and-pepper, uniform-noise; --set before any --compress turns their knobs, as epsilons=0.05,0.1
    #[arg(long, value_name = "ATTACK[,ATTACK…]", value_delimiter = ',')]
    pub attacks: Vec<String>,
    /// Take no result from the cache and leave none there; checkpoints are kept beside the session until it ends
    #[arg(long)]
    pub no_cache: bool,
    /// Write every finished network into this folder, for --from to begin with
    #[arg(long, value_name = "FOLDER")]
    pub save: Option<PathBuf>,
    /// cpu, auto (the GPU with the most free memory, or the CPU) or cuda[:N]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// On a GPU, multiply with all 32 bits and not with TF32
    #[arg(long)]
    pub fp32: bool,
    /// On a GPU, compute only what gives the same bits every time
    #[arg(long)]
    pub deterministic: bool,
    /// Where to save the session; a file that exists is refused
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub session: Option<PathBuf>,
    /// Go on with an interrupted session in the same file
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["spec", "dataset", "architecture", "compress", "epochs", "twins", "seed", "threads",
                              "train_limit", "test_limit", "corruptions", "full", "device", "fp32", "deterministic", "set", "same_start_twin",
                              "from", "mean", "std", "resize", "attacks", "domains"]
    )]
    pub resume: Option<PathBuf>,
    /// Print one event per line as JSON
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Print only the end
    #[arg(long)]
    pub quiet: bool,
    /// Where each flag stood, by which it finds its branch.
    #[arg(skip)]
    pub places: ask::Places,
}

/// `shrinklab replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The session file
    pub file: PathBuf,
    /// 1/4 to 256 times as fast
    #[arg(
        long,
        value_name = "X",
        default_value = "1",
        allow_hyphen_values = true
    )]
    pub speed: String,
    /// Begin again at the end
    #[arg(long = "loop")]
    pub again: bool,
    /// Print the screen once, as text, and end
    #[arg(long)]
    pub once: bool,
    /// Columns and rows
    #[arg(
        long,
        value_name = "120x40",
        requires = "once",
        allow_hyphen_values = true
    )]
    pub size: Option<String>,
    /// The record after which the screen is drawn, counted from 0; the last by default
    #[arg(
        long,
        value_name = "RECORD",
        requires = "once",
        allow_negative_numbers = true
    )]
    pub at: Option<i64>,
    /// Which screen: live, loss, corruption, function, numbers, table, sweep, layers, robustness, attacks, gradients, domains, transfer, gallery, help, warnings
    #[arg(long, value_name = "NAME", requires = "once")]
    pub screen: Option<String>,
    /// As a picture
    #[arg(long, requires = "once")]
    pub svg: bool,
}

/// `shrinklab report`
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Session files; several are joined
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// What kind of document
    #[arg(long, value_name = "markdown|csv|json|svg", default_value = "markdown")]
    pub format: crate::report::Format,
    /// Where to write it; standard output when left out
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum DataWord {
    /// What is there and what can be fetched
    List,
    /// Download a data set, check it and put it into place
    Fetch {
        /// Data set
        name: String,
        /// Fetch from there instead of the data set's home
        #[arg(long, value_name = "ADDRESS")]
        base: Option<String>,
    },
    /// Check the files of a data set against their SHA-256
    Verify {
        /// Data set
        name: String,
    },
}

/// Does what the arguments of this process say, prints what went wrong, and ends with the exit status.
pub fn process() -> ExitCode {
    match main(std::env::args_os()) {
        Ok(ending) => ExitCode::from(ending.code()),
        Err(error) => {
            let ending = if error.is::<UsageError>() {
                Ending::Usage
            } else {
                Ending::Failure
            };
            // Standard error may be gone; the status still says it.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("shrinklab: {}\n", harmless(&format!("{error:#}"))),
            );
            ExitCode::from(ending.code())
        }
    }
}

/// Does what the arguments say.
///
/// # Errors
/// Whatever went wrong, in one sentence; [`UsageError`] where what was asked is impossible.
pub fn main(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Ending> {
    let matches = match Cli::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are no errors; everything else is a usage error.
            let ending = if error.use_stderr() {
                Ending::Usage
            } else {
                Ending::Success
            };
            error.print()?;
            return Ok(ending);
        }
    };
    let cli = Cli::from_arg_matches(&matches)?;
    if cli.command.is_some() && (cli.device.is_some() || cli.begin.is_some()) {
        let problem = "--device: stands before the word that it belongs to; `shrinklab run --device cuda` is right";
        return Err(anyhow::anyhow!(UsageError(problem.to_owned())));
    }
    refuse_to_die_of_size()?;
    let folders = crate::lab::data::folders(cli.data_dir.as_deref());
    match cli.command {
        None => crate::app::lab(crate::app::Opening {
            folders: &folders,
            bell: !cli.no_bell,
            device: cli.device.as_deref(),
            begin: cli.begin.as_deref(),
        }),
        Some(Word::Run(mut arguments)) => {
            let matches = matches.subcommand_matches("run").expect("the word was run");
            arguments.places = ask::Places::of(matches);
            run::run(&arguments, folders)
        }
        Some(Word::Replay(arguments)) => crate::app::replay(&arguments),
        Some(Word::Attach { file }) => crate::app::attach(&file, &folders),
        Some(Word::Report(arguments)) => report::report(&arguments),
        Some(Word::List { kind, json }) => list::list(kind.as_deref(), json),
        Some(Word::Data { what }) => match what {
            DataWord::List => data::list(&folders),
            DataWord::Fetch { name, base } => {
                data::fetch(&name, base.as_deref(), cli.data_dir.as_deref())
            }
            DataWord::Verify { name } => data::verify(&name, &folders),
        },
        Some(Word::Check { file }) => check::check(&file),
        Some(Word::Doctor) => doctor::doctor(&folders),
        Some(Word::Bench { what }) => bench::bench(&what),
        Some(Word::Demo) => crate::app::demo(&folders),
    }
}

/// A file larger than the system lets this process write is an error like a full disk, not a signal that kills.
fn refuse_to_die_of_size() -> std::io::Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register(
        signal_hook::consts::SIGXFSZ,
        std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)),
    )?;
    Ok(())
}

/// Text of several lines with everything spelled out that could steer a terminal: names of files and of methods come
/// from outside.
pub fn harmless(text: &str) -> String {
    text.split('\n')
        .map(crate::state::plain)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Prints to standard output. A reader that went away ends the printing and is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_document(&harmless(text))
}

/// The same for what is a file's content, to the byte.
pub(crate) fn print_document(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
