//! Maximum pooling against PyTorch, on values with many ties.

use shrinklab::nn::op::max_pool2d::{self, Windows};

use crate::{assert_close, channels_first, channels_last, draw, fixture, floats, integers};

#[test]
fn values_and_gradients_are_those_of_pytorch_ties_included() {
    for (at, case) in fixture()["poolings"].as_array().unwrap().iter().enumerate() {
        let [batch, channels, height, width, kernel, stride] =
            integers(&case["shape"]).try_into().unwrap();
        let windows = Windows {
            height,
            width,
            kernel,
            stride,
            padding: 0,
        };
        let stream = 10 * at as u64 + 300;
        let x: Vec<f32> = draw(stream, batch * channels * height * width, 0.0, 4.0)
            .into_iter()
            .map(f32::floor)
            .collect();
        let n = batch * channels * windows.count();
        let dy = draw(stream + 1, n, -1.0, 1.0);
        let (mut y, mut place, mut dx) = (vec![0.0; n], vec![0; n], vec![f32::NAN; x.len()]);
        let x = channels_last(&x, batch, channels);
        let dy = channels_last(&dy, batch, channels);
        max_pool2d::forward(&windows, channels, &x, &mut y, &mut place);
        max_pool2d::backward(&windows, channels, &place, &dy, &mut dx);
        let (y, dx) = (
            channels_first(&y, batch, channels),
            channels_first(&dx, batch, channels),
        );
        assert_close(&y, &floats(&case["y"]), 0.0, "y");
        assert_close(&dx, &floats(&case["dx"]), 1e-6, "dx");
    }
}
