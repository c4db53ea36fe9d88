//! What has been trained before: weights, outputs and the events of their training, by hash.
//!
//! A restored network states the events of its training again, word for word, so that a session is complete and two
//! runs are equal. The hash covers everything that determines the result: data, recipe, seeds, threads, the kernels'
//! path and [`NUMERICS`].
//!
//! A study that shall take nothing from others and leave nothing to them keeps its entries beside its session instead,
//! each network's for itself: checkpoints to go on from, until the study ends.
//!
//! One file an entry, safetensors with groups of tensors (`last/…`, `best/…`, `optimizer/…`, `outputs/7`) and the facts
//! as metadata; written to a temporary file and moved into place, so that a reader never sees half of one.
//! Least recently used entries go first when the cache grows past its cap.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::event::Event;
use crate::lab::error::{Error, Result};

/// Raised whenever a kernel, an initialization, a split or the order of a sum changes what a seed gives.
pub const NUMERICS: u32 = 3;

/// Bytes that the cache may hold.
const CAP: u64 = 2 << 30;

/// Where entries are kept; nowhere when caching is off.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
    /// The entries are one study's checkpoints, and no network finds another's.
    is_of_one_study: bool,
}

/// The name of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The hash of what determines a result, given as text parts.
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update(NUMERICS.to_le_bytes());
        hash.update(kernel_path().as_bytes());
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(
            hash.finalize()
                .iter()
                .take(16)
                .fold(String::new(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                }),
        )
    }

    /// The hash as text, to be part of another key.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Which instructions the kernels use here: sums differ between them.
fn kernel_path() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "x86-avx512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            return "x86-avx2";
        }
    }
    std::env::consts::ARCH
}

/// What is kept under a key: groups of bytes, and facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// Opaque parts by name: safetensors of weights, say.
    pub parts: BTreeMap<String, Vec<u8>>,
    /// Rows of numbers by name: softmax outputs.
    pub rows: BTreeMap<String, Vec<f32>>,
    pub facts: Vec<Event>,
    /// Small numbers by name.
    pub figures: BTreeMap<String, f64>,
}

/// The part of an entry that is written as text.
#[derive(serde::Serialize, serde::Deserialize)]
struct Said {
    facts: Vec<Event>,
    figures: BTreeMap<String, crate::measurement::Score>,
}

impl Cache {
    /// A cache in that folder.
    pub fn at(folder: PathBuf) -> Self {
        Self {
            folder: Some(folder),
            is_of_one_study: false,
        }
    }

    /// A cache of one study alone, in that folder; without one it is still to be settled where.
    pub fn of_one_study(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            is_of_one_study: true,
        }
    }

    /// Whether only one study finds what is kept.
    pub fn is_of_one_study(&self) -> bool {
        self.is_of_one_study
    }

    /// A cache that keeps nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// The platform's cache folder.
    pub fn standard() -> Self {
        Self {
            folder: directories::ProjectDirs::from("", "", "shrinklab")
                .map(|dirs| dirs.cache_dir().join("networks")),
            is_of_one_study: false,
        }
    }

    /// Where entries are kept.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Removes every entry, and the folder if nothing else is in it.
    ///
    /// # Errors
    /// When an entry cannot be removed.
    pub fn clear(&self) -> std::io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        for (_, _, path) in entries(folder) {
            fs::remove_file(path)?;
        }
        // A folder that is not there, or that somebody put something into, stays as it is.
        let _ = fs::remove_dir(folder);
        Ok(())
    }

    fn file(&self, key: &Key) -> Option<PathBuf> {
        self.folder
            .as_ref()
            .map(|folder| folder.join(format!("{}.safetensors", key.0)))
    }

    /// Whether something is kept under that key, without reading it.
    pub fn holds(&self, key: &Key) -> bool {
        self.file(key).is_some_and(|file| file.is_file())
    }

    /// What is kept under that key. An entry that cannot be read counts as absent: it is made again.
    pub fn get(&self, key: &Key) -> Option<Kept> {
        let file = self.file(key)?;
        let bytes = fs::read(&file).ok()?;
        let kept = decode(&bytes)?;
        // The time of last use decides what goes first; failing to note it harms nobody.
        if let Ok(file) = fs::File::options().append(true).open(&file) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(kept)
    }

    /// Keeps something under that key.
    ///
    /// # Errors
    /// When the folder cannot be written to; the study can go on without.
    pub fn put(&self, key: &Key, kept: &Kept) -> Result<()> {
        let (Some(folder), Some(file)) = (&self.folder, self.file(key)) else {
            return Ok(());
        };
        let failed = |source| Error::File {
            context: format!("cache {}", file.display()),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let bytes = encode(kept)?;
        let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        temporary.write_all(&bytes).map_err(failed)?;
        temporary
            .persist(&file)
            .map_err(|error| failed(error.error))?;
        self.trim(&file);
        Ok(())
    }

    /// Removes the least recently used entries until the cache is within its cap.
    fn trim(&self, newest: &Path) {
        let Some(folder) = &self.folder else { return };
        let mut files = entries(folder);
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if total <= CAP {
                break;
            }
            if path != newest && fs::remove_file(&path).is_ok() {
                total -= bytes;
            }
        }
    }
}

/// The entries in a folder: when each was used last, its bytes, and its file.
fn entries(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|entry| {
            let facts = entry.metadata().ok()?;
            Some((facts.modified().ok()?, facts.len(), entry.path()))
        })
        .filter(|(_, _, path)| {
            path.extension()
                .is_some_and(|extension| extension == "safetensors")
        })
        .collect()
}

fn encode(kept: &Kept) -> Result<Vec<u8>> {
    let figures = kept
        .figures
        .iter()
        .map(|(name, value)| (name.clone(), (*value).into()))
        .collect();
    let said = Said {
        facts: kept.facts.clone(),
        figures,
    };
    let said =
        serde_json::to_string(&said).map_err(|error| Error::Internal(format!("cache: {error}")))?;
    let rows: Vec<(String, Vec<u8>)> = kept
        .rows
        .iter()
        .map(|(name, row)| {
            (
                format!("rows/{name}"),
                row.iter().flat_map(|value| value.to_le_bytes()).collect(),
            )
        })
        .collect();
    let failed = |error: safetensors::SafeTensorError| Error::Internal(format!("cache: {error}"));
    let mut views = Vec::new();
    for (name, bytes) in &kept.parts {
        let view = TensorView::new(Dtype::U8, vec![bytes.len()], bytes).map_err(failed)?;
        views.push((format!("parts/{name}"), view));
    }
    for (name, bytes) in &rows {
        let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).map_err(failed)?;
        views.push((name.clone(), view));
    }
    let metadata = HashMap::from([("said".to_owned(), said)]);
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}

fn decode(bytes: &[u8]) -> Option<Kept> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let said: Said = serde_json::from_str(header.metadata().as_ref()?.get("said")?).ok()?;
    let mut kept = Kept {
        facts: said.facts,
        figures: said
            .figures
            .into_iter()
            .map(|(name, score)| (name, score.0))
            .collect(),
        ..Kept::default()
    };
    for (name, view) in SafeTensors::deserialize(bytes).ok()?.tensors() {
        if let Some(name) = name.strip_prefix("parts/") {
            kept.parts.insert(name.to_owned(), view.data().to_vec());
        } else if let Some(name) = name.strip_prefix("rows/") {
            let row = view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            kept.rows.insert(name.to_owned(), row);
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::NetworkId;

    fn sample() -> Kept {
        Kept {
            parts: BTreeMap::from([("last".into(), vec![1, 2, 3])]),
            rows: BTreeMap::from([("outputs/1".into(), vec![0.25, -1.5, f32::MIN_POSITIVE])]),
            facts: vec![Event::Warned {
                network: Some(NetworkId(3)),
                warning: crate::event::Warning::LossNotFinite { step: 7 },
            }],
            figures: BTreeMap::from([("best-loss".into(), f64::INFINITY)]),
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let key = Key::of(&["a", "b"]);
        assert!(cache.get(&key).is_none());
        cache.put(&key, &sample()).unwrap();
        assert_eq!(cache.get(&key), Some(sample()));
        assert_ne!(
            key,
            Key::of(&["ab", ""]),
            "parts do not run into each other"
        );
    }

    #[test]
    fn a_broken_entry_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let key = Key::of(&["a"]);
        cache.put(&key, &sample()).unwrap();
        let file = cache.file(&key).unwrap();
        let whole = fs::read(&file).unwrap();
        for length in [0, 7, 8, 40, whole.len() - 1] {
            fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(cache.get(&key), None, "cut to {length}");
        }
    }

    #[test]
    fn a_cleared_cache_leaves_what_is_not_its_own() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("checkpoints");
        let cache = Cache::of_one_study(Some(folder.clone()));
        cache.clear().unwrap();
        let key = Key::of(&["a"]);
        cache.put(&key, &sample()).unwrap();
        fs::write(folder.join("note.txt"), "mine").unwrap();
        cache.clear().unwrap();
        assert!(!cache.holds(&key) && folder.join("note.txt").is_file());
        fs::remove_file(folder.join("note.txt")).unwrap();
        cache.put(&key, &sample()).unwrap();
        cache.clear().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_cache_that_is_off_keeps_nothing() {
        let key = Key::of(&["a"]);
        Cache::off().put(&key, &sample()).unwrap();
        assert!(Cache::off().get(&key).is_none());
    }
}
