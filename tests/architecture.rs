//! Who may name whom. Reads the sources as text: weaker than a compiler, but the message can quote the reason.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::fs;
use std::path::{Path, PathBuf};

/// A rule: files under `place` (apart from `except`) never name any of `words`.
struct Never {
    place: &'static [&'static str],
    except: &'static [&'static str],
    words: &'static [&'static str],
    because: &'static str,
}

const RULES: &[Never] = &[
    Never {
        place: &["spec", "catalog", "event", "measurement"],
        except: &[],
        words: &[
            "candle_",
            "ratatui",
            "crossterm",
            "std::thread",
            "Instant",
            "SystemTime",
            "std::fs",
            "File::",
            "crate::nn",
            "crate::lab",
            "crate::session",
            "crate::state",
            "crate::ui",
            "crate::app",
            "crate::cli",
            "crate::report",
        ],
        because: "floor 0 is what is saved",
    },
    Never {
        place: &["nn"],
        except: &[],
        words: &[
            "crate::lab",
            "crate::session",
            "crate::state",
            "crate::ui",
            "crate::app",
            "crate::cli",
            "crate::report",
        ],
        because: "networks know nothing of the lab",
    },
    Never {
        place: &["nn", "lab"],
        except: &[],
        words: &[
            "crate::ui",
            "crate::state",
            "crate::session",
            "crate::app",
            "crate::cli",
            "crate::report",
            "ratatui",
            "crossterm",
            "println!",
            "eprintln!",
            "print!(",
        ],
        because: "the lab knows no screen",
    },
    Never {
        place: &["state", "ui", "report", "session"],
        except: &[],
        words: &[
            "candle_",
            "crate::nn",
            "crate::lab",
            "crate::app",
            "crate::cli",
        ],
        because: "replaying computes nothing",
    },
    Never {
        place: &["state"],
        except: &[],
        words: &[
            "ratatui",
            "std::thread",
            "Instant",
            "SystemTime",
            "std::fs",
            "File::",
            "Rng",
            "rand::",
            "crate::session",
            "crate::ui",
        ],
        because: "replay and live share one path",
    },
    Never {
        place: &["ui"],
        // A duplicate of standard output past its lock, for a panic in the middle of a frame.
        except: &["ui/terminal.rs"],
        words: &[
            "std::fs",
            "File::",
            "Instant",
            "SystemTime",
            "crate::session",
            "Rng",
            "rand::",
        ],
        because: "the screen draws facts and computes none",
    },
    Never {
        place: &[""],
        except: &["nn/rng.rs"],
        words: &[
            "Tensor::rand",
            "Tensor::randn",
            "candle_nn::Dropout",
            "rand::rng",
            "thread_rng",
            "rand::random",
        ],
        because: "candle's generator cannot be seeded; chance has one source",
    },
    Never {
        place: &[""],
        except: &[
            "app.rs",
            "app/",
            "session/log.rs",
            "lab/probe/latency.rs",
            "lab/bench.rs",
            "lab/bench/",
            "lab/cache.rs",
            "session/store.rs",
        ],
        words: &["Instant::now", "SystemTime::now", ".elapsed()"],
        because: "time is data: only what stamps or measures reads the clock",
    },
    Never {
        place: &[""],
        except: &[
            "session",
            "report",
            "lab/data",
            "lab/cache.rs",
            // Networks in files of their own.
            "lab/saved.rs",
            "nn/parameters/pretrained.rs",
            // Compiled kernels, kept until something changes.
            "nn/op/cuda/compile.rs",
            "cli.rs",
            "cli/",
            "app.rs",
            "app/",
            // A duplicate of standard output, no file.
            "ui/terminal.rs",
        ],
        words: &[
            "std::fs",
            "File::open",
            "File::create",
            "fs::read",
            "fs::write",
        ],
        because: "failure has an address",
    },
    Never {
        place: &["nn", "lab"],
        except: &[],
        words: &[
            ".max_pool2d(",
            ".avg_pool2d(",
            ".conv2d(",
            "softmax_last_dim",
            ".backward()?",
            "VarMap",
            "candle_nn::SGD",
        ],
        because: "candle's own versions are slow or wrong (its max-pool gradient is a quarter of the true one)",
    },
];

/// Methods never name one another within a table; shared pieces go one level up.
const TABLES: &[&str] = &[
    "lab/data",
    "lab/architecture",
    "lab/compression",
    "lab/corruption",
    "lab/attack",
    "lab/probe",
];

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let name = file
                .strip_prefix(&root)
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/");
            (name, fs::read_to_string(&file).unwrap())
        })
        .collect()
}

/// The code of a file: without its tests and without comment lines.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_under(name: &str, place: &str) -> bool {
    place.is_empty()
        || name == place
        || name == format!("{place}.rs")
        || (name.starts_with(place)
            && (place.ends_with('/') || name[place.len()..].starts_with('/')))
}

/// Whether a line has these words, and not as the end of another name: `Strand::` is no `rand::`.
fn names(line: &str, words: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let begins_a_name = words.starts_with(is_letter);
    line.match_indices(words).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !(begins_a_name && before.is_some_and(is_letter))
    })
}

#[test]
fn nobody_names_what_it_must_not_know() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        for rule in RULES {
            let applies = rule.place.iter().any(|place| is_under(&name, place))
                && !rule.except.iter().any(|place| is_under(&name, place));
            if !applies {
                continue;
            }
            for (number, line) in code(&text) {
                for word in rule.words {
                    if names(line, word) {
                        broken.push(format!(
                            "src/{name}:{}: names {word}: {}",
                            number + 1,
                            rule.because
                        ));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn a_rule_that_is_broken_is_found() {
    assert!(is_under("lab/probe/latency.rs", "lab"));
    assert!(is_under("spec.rs", "spec") && is_under("spec/check.rs", "spec"));
    assert!(!is_under("special.rs", "spec") && !is_under("laboratory/x.rs", "lab"));
    let text = "use std::fs;\n// std::fs in a comment\n#[cfg(test)]\nuse std::fs;\n";
    assert_eq!(
        code(text)
            .filter(|(_, line)| line.contains("std::fs"))
            .count(),
        1
    );
}

#[test]
fn every_file_of_a_table_is_in_it_and_none_names_another() {
    let sources = sources();
    for table in TABLES {
        let (_, head) = sources
            .iter()
            .find(|(name, _)| *name == format!("{table}.rs"))
            .unwrap();
        let methods: Vec<&str> = sources
            .iter()
            .filter_map(|(name, text)| {
                let stem = name
                    .strip_prefix(&format!("{table}/"))?
                    .strip_suffix(".rs")?;
                (!stem.contains('/') && text.contains("const ENTRY: Entry<")).then_some(stem)
            })
            .collect();
        assert!(!methods.is_empty(), "{table} has no methods");
        for method in &methods {
            assert!(
                head.contains(&format!("{method}::ENTRY")),
                "src/{table}/{method}.rs is not in the table"
            );
            let (_, text) = sources
                .iter()
                .find(|(name, _)| *name == format!("{table}/{method}.rs"))
                .unwrap();
            for other in &methods {
                let named = code(text).any(|(_, line)| {
                    line.contains(&format!("::{other}::"))
                        || line.contains(&format!("super::{other}"))
                });
                assert!(
                    other == method || !named,
                    "src/{table}/{method}.rs names {other}: shared pieces go one level up"
                );
            }
        }
    }
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "assets",
        "sessions",
        "tests",
        "README.md",
        "LICENSE",
        "build.rs",
        "benches",
        "clippy.toml",
        ".gitignore",
        ".ci",
        ".git",
        "target",
    ];
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            allowed.contains(&name.as_str()),
            "{name} does not belong at the top level"
        );
    }
}

#[test]
fn no_drawers() {
    for (name, _) in sources() {
        for drawer in ["utils", "helpers", "common", "misc", "manager", "handler"] {
            assert!(
                !name.contains(drawer),
                "src/{name}: what it holds has a name of its own"
            );
        }
        assert!(!name.ends_with("/mod.rs"), "src/{name}: foo.rs beside foo/");
    }
}

#[test]
fn fixtures_and_recorded_sessions_stay_small() {
    fn bytes(folder: &Path) -> u64 {
        let Ok(entries) = fs::read_dir(folder) else {
            return 0;
        };
        entries
            .map(|entry| {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    bytes(&path)
                } else {
                    fs::metadata(&path).unwrap().len()
                }
            })
            .sum()
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(
        bytes(&root.join("tests/fixtures")) < 3 << 20,
        "fixtures have 3 MB in all"
    );
    for entry in fs::read_dir(root.join("sessions")).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            fs::metadata(&path).unwrap().len() < 2 << 20,
            "{} has 2 MB at most",
            path.display()
        );
    }
}
