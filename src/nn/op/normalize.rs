//! Normalization of pixels: y = (x - mean) / std, per channel.
//!
//! (B, C, H, W) -> the same. It is every network's first layer, so that images and all their changes are in [0, 1].

/// y = (x - mean) / std.
pub fn forward(mean: &[f32], std: &[f32], x: &[f32], y: &mut [f32], plane: usize) {
    for (channel, (x, y)) in x
        .chunks_exact(plane)
        .zip(y.chunks_exact_mut(plane))
        .enumerate()
    {
        let (mean, std) = (mean[channel % mean.len()], std[channel % std.len()]);
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) / std;
        }
    }
}

/// dx = dy / std.
pub fn backward(std: &[f32], dy: &[f32], dx: &mut [f32], plane: usize) {
    for (channel, (dy, dx)) in dy
        .chunks_exact(plane)
        .zip(dx.chunks_exact_mut(plane))
        .enumerate()
    {
        let std = std[channel % std.len()];
        for (dx, dy) in dx.iter_mut().zip(dy) {
            *dx = dy / std;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_own_mean_and_deviation() {
        let (mean, std) = ([0.5, 0.0], [0.25, 2.0]);
        let mut y = [0.0; 4];
        forward(&mean, &std, &[1.0, 0.5, 1.0, 0.5], &mut y, 2);
        assert_eq!(y, [2.0, 0.0, 0.5, 0.25]);
        backward(&std, &[1.0; 4], &mut y, 2);
        assert_eq!(y, [4.0, 4.0, 0.5, 0.5]);
    }
}
