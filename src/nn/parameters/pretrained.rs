//! Weights that were trained elsewhere: a safetensors file whose tensors have the names that PyTorch gives them.
//!
//! Floats of 64 and 16 bits (both kinds) become those of 32. `num_batches_tracked`, a count that PyTorch keeps beside
//! running statistics, is passed over. A last layer for another number of classes is left as it was drawn; whatever else
//! does not fit is refused, all at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::ParameterRole;
use crate::nn::network::{Filed, Network};
use crate::nn::op::read;
use crate::nn::{Result, invalid};

/// A parameter that kept its random values because the file's are for other classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub name: String,
    /// The file's shape.
    pub stored: Vec<usize>,
    /// The network's.
    pub needed: Vec<usize>,
}

/// SHA-256 of a file in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn digest(file: &Path) -> Result<String> {
    Ok(hexadecimal(&bytes(file)?))
}

/// The whole network that a file holds, as a study saved it; nothing where it holds weights for an architecture.
///
/// # Errors
/// When the file cannot be read, or has another SHA-256 than the one given.
pub fn whole(file: &Path, sha256: Option<&str>) -> Result<Option<Filed>> {
    let bytes = checked(file, sha256)?;
    if SafeTensors::read_metadata(&bytes).is_err() {
        // What it is instead, is said when its weights are looked for.
        return Ok(None);
    }
    Network::from_file(&bytes).map_err(|error| invalid(format!("{}: {error}", file.display())))
}

/// Replaces a network's values by those of a file; yields what was replaced by nothing.
///
/// # Errors
/// When the file cannot be read, has another SHA-256 than the one given, or does not fit: with every name and shape.
pub fn load(network: &mut Network, file: &Path, sha256: Option<&str>) -> Result<Vec<Replaced>> {
    let bytes = checked(file, sha256)?;
    fill(network, &bytes).map_err(|error| invalid(format!("{}: {error}", file.display())))
}

/// The bytes of a file that is still the one with that SHA-256.
fn checked(file: &Path, sha256: Option<&str>) -> Result<Vec<u8>> {
    let bytes = bytes(file)?;
    if let Some(wanted) = sha256 {
        let found = hexadecimal(&bytes);
        if !found.eq_ignore_ascii_case(wanted) {
            return Err(invalid(format!(
                "{}: its SHA-256 is {found}, and the study began with {wanted}",
                file.display()
            )));
        }
    }
    Ok(bytes)
}

/// No network here comes near it.
const MOST_BYTES: u64 = 4 << 30;

fn bytes(file: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| invalid(format!("{}: {error}", file.display()));
    let facts = fs::metadata(file).map_err(failed)?;
    if !facts.is_file() || facts.len() > MOST_BYTES {
        return Err(invalid(format!(
            "{}: no file of at most {MOST_BYTES} bytes",
            file.display()
        )));
    }
    fs::read(file).map_err(failed)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    let digest = Sha256::digest(bytes);
    let digits = digest.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}

/// How many things that do not fit are named; a file of another network has hundreds.
const NAMED: usize = 12;

fn fill(network: &mut Network, bytes: &[u8]) -> Result<Vec<Replaced>> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| invalid(format!("this is no readable safetensors file: {error}")))?;
    let mut stored: BTreeMap<String, TensorView<'_>> = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .collect();
    let last = last_layer(network);
    let other_classes = |name: &str, needed: &[usize], shape: &[usize]| {
        let is_last = last.as_ref().is_some_and(|last| {
            name.strip_prefix(last.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        });
        is_last && shape.len() == needed.len() && shape[0] > 0 && shape[1..] == needed[1..]
    };
    let (mut wrong, mut missing) = (Vec::new(), Vec::new());
    let (mut replaced, mut found) = (Vec::new(), Vec::new());
    for parameter in network.parameters() {
        let (name, needed) = (&parameter.name, parameter.value.dims());
        match stored.remove(name) {
            None => missing.push(format!("{name} {needed:?} is missing")),
            Some(view) if view.shape() == needed => match values(&view, parameter.role) {
                Ok(values) => found.push((name.clone(), values)),
                Err(problem) => wrong.push(format!("{name} {problem}")),
            },
            Some(view) if other_classes(name, needed, view.shape()) => {
                if let Err(problem) = values(&view, parameter.role) {
                    wrong.push(format!("{name} {problem}"));
                }
                replaced.push(Replaced {
                    name: name.clone(),
                    stored: view.shape().to_vec(),
                    needed: needed.to_vec(),
                });
            }
            Some(view) => wrong.push(format!(
                "{name} is {:?} instead of {needed:?}",
                view.shape()
            )),
        }
    }
    let unknown = stored.iter();
    let mut unknown: Vec<String> = unknown
        .map(|(name, view)| format!("{name} {:?} is unknown", view.shape()))
        .collect();
    if !wrong.is_empty() || !missing.is_empty() || !unknown.is_empty() {
        // What differs comes first, then both sides of the names: a mere prefix is seen at once.
        for list in [&mut wrong, &mut missing, &mut unknown] {
            let more = list.len().saturating_sub(NAMED);
            list.truncate(NAMED);
            if more > 0 {
                list.push(format!("and {more} more"));
            }
        }
        wrong.append(&mut missing);
        wrong.append(&mut unknown);
        return Err(invalid(format!(
            "the weights do not fit {}: {}",
            network.name(),
            wrong.join(", ")
        )));
    }
    // A classifier is drawn anew as a whole: another one's bias would not fit its weights.
    if let (Some(last), false) = (&last, replaced.is_empty()) {
        let (of_classifier, kept) =
            found
                .into_iter()
                .partition(|(name, _): &(String, Vec<f32>)| {
                    name.strip_prefix(last.as_str())
                        .is_some_and(|rest| rest.starts_with('.'))
                });
        found = kept;
        let of_classifier: Vec<(String, Vec<f32>)> = of_classifier;
        for (name, values) in of_classifier {
            let shape = network
                .parameters()
                .get(&name)
                .map(|p| p.value.dims().to_vec());
            let shape = shape.unwrap_or_else(|| vec![values.len()]);
            replaced.push(Replaced {
                name,
                stored: shape.clone(),
                needed: shape,
            });
        }
    }
    for (name, values) in found {
        network.parameters_mut().set(&name, &values)?;
    }
    Ok(replaced)
}

/// The layer that gives the logits: the last one with weights.
fn last_layer(network: &Network) -> Option<String> {
    let mut nodes = network.nodes().iter().rev();
    let last = nodes.find(|node| !node.parameters.is_empty())?;
    Some(last.name.clone())
}

/// A tensor's values in 32 bits; or what is wrong with them.
fn values(view: &TensorView<'_>, role: ParameterRole) -> std::result::Result<Vec<f32>, String> {
    let dtype = match view.dtype() {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => return Err(format!("holds {other:?} instead of floats")),
    };
    let values = || -> Result<Vec<f32>> {
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
        Ok(read(&tensor.to_dtype(DType::F32)?)?.to_vec())
    };
    let values = values().map_err(|error| error.to_string())?;
    let is_sound = |value: &f32| {
        value.is_finite() && (role != ParameterRole::RunningVariance || *value >= 0.0)
    };
    if values.iter().all(is_sound) {
        Ok(values)
    } else if role == ParameterRole::RunningVariance {
        Err("holds a variance that is negative or not finite".to_owned())
    } else {
        Err("holds a number that is not finite".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ImageShape;
    use crate::nn::layer::Layer;
    use crate::nn::network::Builder;

    /// A normalized convolution and a last layer for so many classes.
    fn network(classes: usize) -> Network {
        let input = ImageShape {
            channels: 1,
            height: 3,
            width: 3,
        };
        let (mean, std) = (vec![0.0], vec![1.0]);
        let mut network = Builder::new("small", input, classes, 3);
        network
            .chain(vec![
                ("normalize", Layer::Normalize { mean, std }),
                ("conv1", Layer::conv_without_bias(2, 3, 1, 1)),
                ("bn1", Layer::batch_norm()),
                ("avgpool", Layer::GlobalAveragePool),
                ("fc", Layer::linear(classes)),
            ])
            .unwrap();
        network.finish().unwrap()
    }

    /// The tensors of a file for `classes` classes: each value is its place.
    fn tensors(classes: usize) -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)> {
        let of = |name: &str, dims: &[usize]| {
            let n: usize = dims.iter().product();
            let bytes = (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
            (name.to_owned(), Dtype::F32, dims.to_vec(), bytes)
        };
        let mut tensors = vec![
            of("conv1.weight", &[2, 1, 3, 3]),
            of("bn1.weight", &[2]),
            of("bn1.bias", &[2]),
            of("bn1.running_mean", &[2]),
            of("bn1.running_var", &[2]),
            of("fc.weight", &[classes, 2]),
            of("fc.bias", &[classes]),
        ];
        let count = 1_u64.to_le_bytes().to_vec();
        tensors.push(("bn1.num_batches_tracked".into(), Dtype::I64, vec![], count));
        tensors
    }

    fn serialized(tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
        let views = tensors.iter().map(|(name, dtype, dims, bytes)| {
            let view = TensorView::new(*dtype, dims.clone(), bytes).unwrap();
            (name.clone(), view)
        });
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn what_fits_is_taken_over() {
        let mut network = network(3);
        assert_eq!(fill(&mut network, &serialized(&tensors(3))).unwrap(), []);
        let values = |name: &str| network.parameters().values(name).unwrap();
        assert_eq!(values("conv1.weight")[17], 17.0);
        assert_eq!(values("bn1.running_var"), [0.0, 1.0]);
        assert_eq!(values("fc.weight"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    /// 1.5, -2 and 0.25 as IEEE 754 and bfloat16 spell them.
    #[test]
    fn other_floats_are_converted() {
        let double: Vec<u8> = [1.5_f64, -2.0, 0.25]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let short =
            |bits: [u16; 3]| -> Vec<u8> { bits.iter().flat_map(|v| v.to_le_bytes()).collect() };
        for (dtype, bytes) in [
            (Dtype::F64, double),
            (Dtype::F16, short([0x3e00, 0xc000, 0x3400])),
            (Dtype::BF16, short([0x3fc0, 0xc000, 0x3e80])),
        ] {
            let mut tensors = tensors(3);
            let bias = tensors
                .iter_mut()
                .find(|(name, ..)| name == "fc.bias")
                .unwrap();
            (bias.1, bias.3) = (dtype, bytes);
            let mut network = network(3);
            fill(&mut network, &serialized(&tensors)).unwrap();
            let found = network.parameters().values("fc.bias").unwrap();
            assert_eq!(found, [1.5, -2.0, 0.25], "{dtype:?}");
        }
    }

    #[test]
    fn a_last_layer_for_other_classes_stays_as_it_was_drawn() {
        let mut loaded = network(3);
        let drawn = loaded.parameters().values("fc.weight").unwrap();
        let replaced = fill(&mut loaded, &serialized(&tensors(1000))).unwrap();
        let shapes: Vec<_> = replaced
            .iter()
            .map(|r| (&*r.name, &*r.stored, &*r.needed))
            .collect();
        assert_eq!(
            shapes,
            [
                ("fc.weight", &[1000, 2][..], &[3, 2][..]),
                ("fc.bias", &[1000], &[3])
            ]
        );
        assert_eq!(loaded.parameters().values("fc.weight").unwrap(), drawn);
        assert_eq!(loaded.parameters().values("bn1.bias").unwrap(), [0.0, 1.0]);
    }

    #[test]
    fn all_that_does_not_fit_is_listed_and_nothing_is_changed() {
        let mut tensors = tensors(3);
        tensors[0] = (
            "conv1.weight".into(),
            Dtype::F32,
            vec![1, 1, 3, 3],
            vec![0; 36],
        );
        tensors[1].0 = "bn1.scale".into();
        tensors[4].3[..4].copy_from_slice(&(-1.0_f32).to_le_bytes());
        tensors[6].3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        let mut loaded = network(3);
        let error = fill(&mut loaded, &serialized(&tensors)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the weights do not fit small: conv1.weight is [1, 1, 3, 3] instead of [2, 1, 3, 3], \
             bn1.running_var holds a variance that is negative or not finite, fc.bias holds a number that is not \
             finite, bn1.weight [2] is missing, bn1.scale [2] is unknown"
        );
        let (before, after) = (network(3), loaded);
        for (a, b) in before.parameters().iter().zip(after.parameters()) {
            assert_eq!(*read(&a.value).unwrap(), *read(&b.value).unwrap());
        }
        let many: Vec<_> = (0..40)
            .map(|i| (format!("x{i}"), Dtype::F32, vec![1], vec![0; 4]))
            .collect();
        let error = fill(&mut network(3), &serialized(&many))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("and 28 more"), "{error}");
    }

    #[test]
    fn a_classifier_is_drawn_anew_as_a_whole() {
        let mut mixed = tensors(5);
        mixed[6] = tensors(3)[6].clone();
        let mut loaded = network(3);
        let replaced = fill(&mut loaded, &serialized(&mixed)).unwrap();
        let names: Vec<&str> = replaced.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["fc.weight", "fc.bias"]);
        let bias = loaded.parameters().values("fc.bias").unwrap();
        assert_eq!(bias, network(3).parameters().values("fc.bias").unwrap());
    }

    #[test]
    fn a_file_is_known_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights.safetensors");
        fs::write(&file, serialized(&tensors(3))).unwrap();
        let sha256 = digest(&file).unwrap();
        load(&mut network(3), &file, Some(&sha256.to_uppercase())).unwrap();
        fs::write(&file, b"abc").unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            digest(&file).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let error = load(&mut network(3), &file, Some(&sha256))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("weights.safetensors") && error.contains(&sha256),
            "{error}"
        );
        let error = load(&mut network(3), &file, None).unwrap_err().to_string();
        assert!(error.contains("no readable safetensors file"), "{error}");
        let error = load(&mut network(3), folder.path(), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no file"), "{error}");
    }
}
