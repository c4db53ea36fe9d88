//! Packed files: what is written is read back bit for bit, and takes the bytes that were promised.

use shrinklab::lab::storage;
use shrinklab::nn::ImageShape;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::network::Network;
use shrinklab::nn::op::fake_quant::Levels;
use shrinklab::nn::op::values;
use shrinklab::nn::parameters::RowLevels;
use shrinklab::nn::parameters::packed::Layout;

use crate::draw;

fn network(seed: u64) -> Network {
    let input = ImageShape {
        channels: 1,
        height: 8,
        width: 8,
    };
    let layers = vec![
        (
            "normalize",
            Layer::Normalize {
                mean: vec![0.5],
                std: vec![0.5],
            },
        ),
        ("conv", Layer::conv_without_bias(8, 3, 1, 1)),
        ("norm", Layer::batch_norm()),
        ("relu", Layer::Relu),
        ("flatten", Layer::Flatten),
        ("fc1", Layer::linear(400)),
        ("fc2", Layer::linear(10)),
    ];
    Network::chain("small", input, 10, layers, seed).unwrap()
}

fn levels(values: &[f32], rows: usize, q_min: i32, q_max: i32, zero_point: i32) -> RowLevels {
    let of_row = |row: &[f32]| {
        let largest = row.iter().fold(1e-3_f32, |most, v| most.max(v.abs()));
        Levels {
            scale: largest / (q_max - zero_point).max(zero_point - q_min) as f32,
            zero_point,
            q_min,
            q_max,
        }
    };
    RowLevels::new(values.chunks(values.len() / rows).map(of_row).collect()).unwrap()
}

/// Name, values, mask and levels of a parameter.
type Whole = (String, Vec<u32>, Option<Vec<f32>>, Option<RowLevels>);

/// Those of all parameters, to the bit.
fn everything(network: &Network) -> Vec<Whole> {
    let bits = |found: Vec<f32>| found.into_iter().map(f32::to_bits).collect();
    let parameters = network.parameters().iter();
    parameters
        .map(|p| {
            let mask = p.mask.as_ref().map(|mask| values(mask).unwrap());
            (
                p.name.clone(),
                bits(values(&p.value).unwrap()),
                mask,
                p.levels.clone(),
            )
        })
        .collect()
}

fn comes_back(network: &Network) -> Vec<u8> {
    let bytes = network.parameters().to_packed().unwrap();
    let mut other = self::network(99);
    assert!(everything(&other) != everything(network));
    other.parameters_mut().load_packed(&bytes).unwrap();
    assert!(everything(&other) == everything(network));
    assert!(
        bytes == other.parameters().to_packed().unwrap(),
        "the same is written in the same bytes"
    );
    whole_comes_back(network);
    bytes
}

/// The network's own file needs no network to be read into.
fn whole_comes_back(network: &Network) {
    let file = network.to_file(&serde_json::Value::Null).unwrap();
    assert_eq!(storage::written_bytes(network).unwrap(), file.len() as u64);
    let filed = Network::from_file(&file).unwrap().expect("a whole network");
    let back = filed.network;
    assert!(everything(&back) == everything(network));
    assert_eq!(
        (back.name(), back.input()),
        (network.name(), network.input())
    );
    for (own, other) in back.nodes().iter().zip(network.nodes()) {
        assert_eq!((&own.name, &own.layer), (&other.name, &other.layer));
        assert_eq!((&own.inputs, &own.kept), (&other.inputs, &other.kept));
    }
    assert!(file == back.to_file(&serde_json::Value::Null).unwrap());
    let weights = network.parameters().to_packed().unwrap();
    assert!(
        Network::from_file(&weights).unwrap().is_none(),
        "parameters alone are no network"
    );
}

/// The layout and the bits of `fc1.weight`.
fn form(network: &Network) -> (Layout, u32) {
    let forms = network.parameters().forms().unwrap();
    let (_, form) = forms
        .iter()
        .find(|(name, _)| *name == "fc1.weight")
        .unwrap();
    (form.layout, form.bits)
}

#[test]
fn floats_with_any_share_of_zeros_come_back() {
    for (share, layout) in [
        (0.0, Layout::Dense),
        (0.5, Layout::Bitmask),
        (0.9, Layout::Bitmask),
        (0.999, Layout::Rows),
    ] {
        let mut network = network(1);
        let n = network.parameters().values("fc1.weight").unwrap().len();
        let mask: Vec<f32> = draw(3, n, 0.0, 1.0)
            .into_iter()
            .map(|v| f32::from(u8::from(f64::from(v) >= share)))
            .collect();
        if share > 0.0 {
            network
                .parameters_mut()
                .set_mask("fc1.weight", &mask)
                .unwrap();
        }
        comes_back(&network);
        assert_eq!(form(&network), (layout, 32), "{share}");
    }
}

/// Numbers that a comparison would mistake for others.
#[test]
fn negative_zeros_and_numbers_that_are_none_come_back() {
    let mut network = network(1);
    let mut odd = vec![0.0; 10 * 400];
    (odd[3], odd[17], odd[99]) = (-0.0, f32::NAN, f32::MIN_POSITIVE / 4.0);
    network.parameters_mut().set("fc2.weight", &odd).unwrap();
    comes_back(&network);
    // A mask that hides something else than zeros.
    let mut mask = vec![1.0; 4000];
    mask[5] = 0.0;
    network
        .parameters_mut()
        .set_mask("fc2.weight", &mask)
        .unwrap();
    comes_back(&network);
}

#[test]
fn integers_of_any_width_come_back() {
    for bits in 2..=16_u32 {
        for (rows, sparse) in [(1, false), (400, false), (1, true), (400, true)] {
            let mut network = network(u64::from(bits));
            let n = network.parameters().values("fc1.weight").unwrap().len();
            if sparse {
                let mask: Vec<f32> = (0..n).map(|at| f32::from(u8::from(at % 7 == 0))).collect();
                network
                    .parameters_mut()
                    .set_mask("fc1.weight", &mask)
                    .unwrap();
            }
            let own = network.parameters().values("fc1.weight").unwrap();
            let most = (1 << (bits - 1)) - 1;
            let of = levels(&own, rows, -most, most, 0);
            network
                .parameters_mut()
                .set_levels("fc1.weight", Some(of))
                .unwrap();
            // Asymmetric ones, and those of 32 bits that a bias has.
            let own = network.parameters().values("conv.weight").unwrap();
            let of = levels(&own, 8, 0, 2 * most, most / 2);
            network
                .parameters_mut()
                .set_levels("conv.weight", Some(of))
                .unwrap();
            let bias = Levels {
                scale: 1e-6,
                zero_point: 0,
                q_min: i32::MIN,
                q_max: i32::MAX,
            };
            network
                .parameters_mut()
                .set_levels("fc1.bias", Some(bias.into()))
                .unwrap();
            comes_back(&network);
            // Two bits with six zeros of seven, some more rounded to 0, take the bitmask; dense they would take two each.
            let layout = if sparse {
                Layout::Bitmask
            } else {
                Layout::Dense
            };
            if bits > 2 {
                assert_eq!(form(&network), (layout, bits), "{rows} {sparse}");
            }
        }
    }
}

/// Levels that differ from row to row in more than their scale, and a value that is on none of its levels.
#[test]
fn unusual_levels_come_back() {
    let mut network = network(4);
    let of_row = |row: i32| Levels {
        scale: 0.01 * (row + 1) as f32,
        zero_point: row,
        q_min: -8,
        q_max: 7 + row,
    };
    let of = RowLevels::new((0..8).map(of_row).collect()).unwrap();
    network
        .parameters_mut()
        .set_levels("conv.weight", Some(of))
        .unwrap();
    comes_back(&network);
    let mut own = network.parameters().values("conv.weight").unwrap();
    own[5] += 0.003;
    network.parameters_mut().set("conv.weight", &own).unwrap();
    comes_back(&network);
}

/// On disk: half a byte for each weight, an eighth of a float's four, and a scale for each output channel.
#[test]
fn packed_weights_of_four_bits_take_an_eighth_of_the_floats_and_their_scales() {
    let folder = tempfile::tempdir().unwrap();
    let write = |network: &Network, name: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, network.parameters().to_packed().unwrap()).unwrap();
        std::fs::metadata(&file).unwrap().len()
    };
    let mut network = network(2);
    let dense = write(&network, "floats.safetensors");
    let mut saved = 0;
    for (name, rows, n) in [
        ("conv.weight", 8, 72),
        ("fc1.weight", 400, 204_800),
        ("fc2.weight", 10, 4000),
    ] {
        let own = network.parameters().values(name).unwrap();
        assert_eq!(own.len() as u64, n);
        let of = levels(&own, rows, -7, 7, 0);
        network.parameters_mut().set_levels(name, Some(of)).unwrap();
        let forms = network.parameters().forms().unwrap();
        let (_, form) = forms.iter().find(|(found, _)| *found == name).unwrap();
        assert_eq!((form.layout, form.bits), (Layout::Dense, 4));
        assert_eq!(form.bytes, 4 * n / 8 + 4 * rows as u64);
        saved += 4 * n - form.bytes;
    }
    let packed = write(&network, "packed.safetensors");
    // Names and metadata of three tensors and their scales.
    assert!((packed + saved).abs_diff(dense) < 1000, "{packed} {dense}");
    let mut back = self::network(3);
    let bytes = std::fs::read(folder.path().join("packed.safetensors")).unwrap();
    back.parameters_mut().load_packed(&bytes).unwrap();
    assert!(everything(&back) == everything(&network));
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_replaced() {
    let mut quantized = network(2);
    let own = quantized.parameters().values("fc1.weight").unwrap();
    let of = levels(&own, 1, -7, 7, 0);
    quantized
        .parameters_mut()
        .set_levels("fc1.weight", Some(of))
        .unwrap();
    let bytes = quantized.parameters().to_packed().unwrap();
    let input = quantized.input();
    let normalize = Layer::Normalize {
        mean: vec![0.5],
        std: vec![0.5],
    };
    let layers = vec![
        ("normalize", normalize),
        ("flatten", Layer::Flatten),
        ("fc1", Layer::linear(400)),
        ("fc3", Layer::linear(10)),
    ];
    let mut other = Network::chain("other", input, 10, layers, 1).unwrap();
    let before = everything(&other);
    let error = other
        .parameters_mut()
        .load_packed(&bytes)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the weights do not fit the network: fc1.weight is [400, 512] instead of [400, 64], fc3.weight [10, 400] is missing, \
         fc3.bias [10] is missing, conv.weight is unknown, fc2.bias is unknown, fc2.weight is unknown, norm.bias is unknown, \
         norm.running_mean is unknown, norm.running_var is unknown, norm.weight is unknown"
    );
    assert!(everything(&other) == before);
    let error = other
        .parameters_mut()
        .load_packed(b"abc")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the weights are no readable packed file: "),
        "{error}"
    );
    // The plain form of the same weights lacks nothing but levels; what has levels is another file.
    let plain = network(5).parameters().to_safetensors().unwrap();
    quantized.parameters_mut().load_packed(&plain).unwrap();
    assert!(everything(&quantized) == everything(&network(5)));
}
