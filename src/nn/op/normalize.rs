//! Normalization of pixels: y = (x - mean) / std, per channel.
//!
//! (B, C, H, W) -> (B, H, W, C): images come in planes, and within the network channels lie side by side. It is every
//! network's first layer, so that images and all their changes are in [0, 1].

use rayon::prelude::*;

use super::{parts, shares};

/// y = (x - mean) / std; x in planes, y channels last. One image has `pixels` positions.
pub fn forward(mean: &[f32], std: &[f32], pixels: usize, x: &[f32], y: &mut [f32]) {
    let channels = mean.len();
    let image = channels * pixels;
    let parts = parts(x.len() / image);
    let ys = shares(y, &parts, image);
    parts.into_par_iter().zip(ys).for_each(|(part, y)| {
        let x = x[part.start * image..part.end * image].chunks_exact(image);
        for (x, y) in x.zip(y.chunks_exact_mut(image)) {
            for (channel, x) in x.chunks_exact(pixels).enumerate() {
                let (mean, std) = (mean[channel], std[channel]);
                for (y, x) in y[channel..].iter_mut().step_by(channels).zip(x) {
                    *y = (x - mean) / std;
                }
            }
        }
    });
}

/// dx = dy / std; dy channels last, dx in planes.
pub fn backward(std: &[f32], pixels: usize, dy: &[f32], dx: &mut [f32]) {
    let channels = std.len();
    let image = channels * pixels;
    let parts = parts(dy.len() / image);
    let dxs = shares(dx, &parts, image);
    parts.into_par_iter().zip(dxs).for_each(|(part, dx)| {
        let dy = dy[part.start * image..part.end * image].chunks_exact(image);
        for (dy, dx) in dy.zip(dx.chunks_exact_mut(image)) {
            for (channel, dx) in dx.chunks_exact_mut(pixels).enumerate() {
                let std = std[channel];
                for (dx, dy) in dx.iter_mut().zip(dy[channel..].iter().step_by(channels)) {
                    *dx = dy / std;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_own_mean_and_deviation_and_comes_to_lie_beside_the_others() {
        let (mean, std) = ([0.5, 0.0], [0.25, 2.0]);
        let mut y = [0.0; 4];
        forward(&mean, &std, 2, &[1.0, 0.5, 1.0, 0.5], &mut y);
        assert_eq!(y, [2.0, 0.5, 0.0, 0.25]);
        backward(&std, 2, &[1.0, 1.0, 2.0, 3.0], &mut y);
        assert_eq!(y, [4.0, 8.0, 0.5, 1.5]);
    }
}
