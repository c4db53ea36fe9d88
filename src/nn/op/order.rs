//! The order in which a tensor's values lie in memory: row by row, or with channels last as a GPU's kernels want weights.

use candle_core::{Device, Tensor};

use super::cuda::engine;
use crate::nn::{Result, invalid};

/// In which order weights lie on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As the dimensions say.
    Rows,
    /// (O, C, k, k) as (O, k, k, C).
    ChannelsLast,
    /// (C, 1, k, k) as (k, k, C).
    Depthwise,
}

/// A tensor on a device, in an order of its own; its dimensions stay.
pub(crate) fn placed(tensor: &Tensor, order: Order, device: &Device) -> Result<Tensor> {
    let Device::Cuda(cuda) = device else {
        return tensor.to_device(device);
    };
    let from = super::values(tensor)?;
    let engine = engine(cuda)?;
    let there = engine.upload(&from, &[from.len()])?;
    let placed = match (order, tensor.dims()) {
        (Order::Rows, dims) => return there.reshape(dims),
        (Order::ChannelsLast, [o, c, h, w]) => {
            there.reshape((*o, *h, *w, *c))?.permute((0, 3, 1, 2))?
        }
        (Order::Depthwise, [c, 1, h, w]) => {
            there.reshape((*h, *w, *c, 1))?.permute((2, 3, 0, 1))?
        }
        (order, dims) => {
            return Err(invalid(format!(
                "weights of {dims:?} have no order {order:?}"
            )));
        }
    };
    super::set_values(&placed, &from)?;
    Ok(placed)
}

/// Stored values row by row.
pub(crate) fn by_rows(tensor: &Tensor, stored: &[f32]) -> Vec<f32> {
    if tensor.is_contiguous() {
        return stored.to_vec();
    }
    places(tensor).map(|place| stored[place]).collect()
}

/// Values given row by row as they are stored.
pub(crate) fn as_stored(tensor: &Tensor, values: &[f32]) -> Vec<f32> {
    if tensor.is_contiguous() {
        return values.to_vec();
    }
    let mut stored = vec![0.0; values.len()];
    for (place, value) in places(tensor).zip(values) {
        stored[place] = *value;
    }
    stored
}

/// Where each value lies, row by row.
fn places(tensor: &Tensor) -> impl Iterator<Item = usize> {
    let (dims, strides) = (tensor.dims().to_vec(), tensor.stride().to_vec());
    (0..tensor.elem_count()).map(move |mut at| {
        let mut place = 0;
        for (dim, stride) in dims.iter().zip(&strides).rev() {
            place += at % dim * stride;
            at /= dim;
        }
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_the_order_in_which_they_were_given() {
        let values: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let rows = Tensor::from_vec(values.clone(), (2, 2, 2, 3), &Device::Cpu).unwrap();
        let tensor = rows.permute((0, 3, 1, 2)).unwrap();
        let stored = as_stored(&tensor, &values);
        assert_eq!(stored[..6], [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        assert_eq!(by_rows(&tensor, &stored), values);
        assert_eq!(as_stored(&rows, &values), values);
    }
}
