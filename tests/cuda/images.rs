//! Batches gathered on the device, and steps of an attack there.

use candle_core::{DType, Tensor};
use shrinklab::nn::ImageShape;
use shrinklab::nn::op::gather::{Pick, Source};
use shrinklab::nn::op::sign_step::{self, Lengths};
use shrinklab::nn::op::{tensor, to_device, values};
use shrinklab::nn::rng::Rng;

use crate::{draw, on_gpu};

#[test]
fn gathered_images_have_the_cpus_bits() {
    on_gpu(|device| {
        for channels in [1, 3] {
            let shape = ImageShape {
                channels,
                height: 7,
                width: 10,
            };
            let mut rng = Rng::stream(1, "gather", &[channels as u64]);
            let images: Vec<u8> = (0..20 * shape.values())
                .map(|_| rng.below(256) as u8)
                .collect();
            let picks: Vec<Pick> = (0..50)
                .map(|at| Pick {
                    index: rng.below(20) as u32,
                    down: if at < 10 { 0 } else { rng.below(19) as i32 - 9 },
                    right: if at < 10 {
                        0
                    } else {
                        rng.below(25) as i32 - 12
                    },
                    mirrored: at % 2 == 1,
                })
                .collect();
            let [here, there] = [&candle_core::Device::Cpu, device].map(|device| {
                let source = Source::new(shape, &images, device).unwrap();
                let batch = source.batch(&picks).unwrap();
                assert_eq!(batch.dims(), [50, channels, 7, 10]);
                values(&batch).unwrap()
            });
            assert_eq!(there, here);
        }
    });
}

#[test]
fn steps_of_an_attack_have_the_cpus_bits() {
    on_gpu(|device| {
        let n = 5000;
        let mut gradient = draw("gradient", 0, n, -1.0, 1.0);
        gradient[..100].fill(0.0);
        gradient[100] = f32::NAN;
        let origin = draw("origin", 0, n, 0.0, 1.0);
        let moved = draw("moved", 0, n, -0.05, 0.05);
        let x = origin
            .iter()
            .zip(&moved)
            .map(|(o, m)| (o + m).clamp(0.0, 1.0))
            .collect();
        let given = [origin, x, gradient].map(|values| tensor(values, &[n]).unwrap());
        let lengths = Lengths {
            step: 0.02,
            radius: 0.05,
        };
        let [here, there] = [&candle_core::Device::Cpu, device].map(|device| {
            let [origin, x, gradient] = given.each_ref().map(|t| to_device(t, device).unwrap());
            let y = Tensor::zeros(n, DType::F32, device).unwrap();
            sign_step::step(lengths, &origin, &x, &gradient, &y).unwrap();
            values(&y).unwrap()
        });
        assert_eq!(there, here);
    });
}
