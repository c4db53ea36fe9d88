//! The kernels' source, put together from the ops' own, and what each kernel takes.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Arg;
use crate::nn::{self, op};

/// The ops that have kernels; what others use comes first.
const SOURCES: &[&str] = &[
    PRELUDE,
    op::relu::cuda::SOURCE,
    nn::loss::cuda::SOURCE,
    nn::optimizer::cuda::SOURCE,
    op::add::cuda::SOURCE,
    op::average_pool2d::cuda::SOURCE,
    op::batch_norm2d::cuda::SOURCE,
    op::conv2d::cuda::SOURCE,
    op::depthwise_conv2d::cuda::SOURCE,
    op::fake_quant::cuda::SOURCE,
    op::flatten::cuda::SOURCE,
    op::gather::cuda::SOURCE,
    op::max_pool2d::cuda::SOURCE,
    op::normalize::cuda::SOURCE,
    op::sign_step::cuda::SOURCE,
    op::soft_tree::cuda::SOURCE,
];

/// What all kernels may use.
///
/// `EACH(i, n)`: a loop over 0..n, shared by all threads of all blocks.
/// `of_block`: the sum over a block's threads, in one order always, given to all of them.
/// `is_last`: whether this block is the last of `blocks` to get here; then it sees what all others wrote, and whatever
/// order they came in, it adds their sums in the order of their numbers. Leaves the counter at zero.
/// `over_rows`: `N` sums over the rows of each of `channels` columns, in one order always: `add(row, channel, sums)` adds
/// a row's part, and `finish(channel, sums)` is called once for each channel with the sums. A block looks at `width`
/// neighboring channels; `partial` holds N * channels numbers for each block of a column of blocks.
const PRELUDE: &str = r#"
#define KERNEL extern "C" __global__ void
#define EACH(i, n) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += gridDim.x * blockDim.x)

template <typename T> __device__ __forceinline__ T of_warp(T value) {
    for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_down_sync(0xffffffffu, value, offset);
    return value;
}

template <typename T> __device__ __forceinline__ T of_block(T value) {
    __shared__ T sums[32];
    __shared__ T total;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    value = of_warp(value);
    __syncthreads();
    if (lane == 0) sums[warp] = value;
    __syncthreads();
    if (warp == 0) {
        T sum = lane < warps ? sums[lane] : (T)0;
        sum = of_warp(sum);
        if (lane == 0) total = sum;
    }
    __syncthreads();
    return total;
}

__device__ __forceinline__ bool is_last(unsigned int *counter, unsigned int blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
    __syncthreads();
    if (last) __threadfence();
    return last;
}

template <int N> __device__ __forceinline__ void over_lanes(double *shared, int width, int lanes) {
    int row = threadIdx.x / width;
    for (int half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half)
            for (int n = 0; n < N; n++) shared[n * blockDim.x + threadIdx.x] += shared[n * blockDim.x + threadIdx.x + half * width];
    }
    __syncthreads();
}

template <int N, typename Add, typename Finish>
__device__ __forceinline__ void over_rows(int rows, int channels, int width, double *partial, unsigned int *counters,
                                          Add add, Finish finish) {
    __shared__ double shared[N * 256];
    int lanes = blockDim.x / width, row = threadIdx.x / width, c = blockIdx.y * width + threadIdx.x % width;
    float sums[N];
    for (int n = 0; n < N; n++) sums[n] = 0.0f;
    if (c < channels) {
#pragma unroll 4
        for (int r = blockIdx.x * lanes + row; r < rows; r += gridDim.x * lanes) add(r, c, sums);
    }
    for (int n = 0; n < N; n++) shared[n * blockDim.x + threadIdx.x] = sums[n];
    over_lanes<N>(shared, width, lanes);
    if (row == 0 && c < channels)
        for (int n = 0; n < N; n++) partial[(n * gridDim.x + blockIdx.x) * channels + c] = shared[n * blockDim.x + threadIdx.x];
    if (!is_last(counters + blockIdx.y, gridDim.x)) return;
    double totals[N];
    for (int n = 0; n < N; n++) totals[n] = 0.0;
    if (c < channels) {
#pragma unroll 4
        for (int b = row; b < gridDim.x; b += lanes)
#pragma unroll
            for (int n = 0; n < N; n++) totals[n] += partial[(n * gridDim.x + b) * channels + c];
    }
    __syncthreads();
    for (int n = 0; n < N; n++) shared[n * blockDim.x + threadIdx.x] = totals[n];
    over_lanes<N>(shared, width, lanes);
    if (row == 0 && c < channels) {
        for (int n = 0; n < N; n++) totals[n] = shared[n * blockDim.x + threadIdx.x];
        finish(c, totals);
    }
}
"#;

/// The whole source.
pub(super) fn source() -> String {
    SOURCES.concat()
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pointer,
    Int,
    Float,
    Double,
}

impl Kind {
    pub(super) fn of(arg: Arg) -> Self {
        match arg {
            Arg::Pointer(_) => Self::Pointer,
            Arg::Int(_) | Arg::Count(_) => Self::Int,
            Arg::Float(_) => Self::Float,
            Arg::Double(_) => Self::Double,
        }
    }

    fn declared(parameter: &str) -> Option<Self> {
        let word = |word: &str| parameter.split_whitespace().any(|w| w == word);
        match parameter {
            p if p.contains('*') => Some(Self::Pointer),
            _ if word("int") => Some(Self::Int),
            _ if word("float") => Some(Self::Float),
            _ if word("double") => Some(Self::Double),
            _ => None,
        }
    }
}

/// For each kernel what it takes, as its source declares it.
pub(super) type Signatures = HashMap<String, Vec<Kind>>;

/// Read once from the source.
pub(super) fn signatures() -> &'static Signatures {
    static SIGNATURES: OnceLock<Signatures> = OnceLock::new();
    SIGNATURES.get_or_init(|| read(&SOURCES[1..].concat()))
}

fn read(source: &str) -> Signatures {
    let kernels = source.split("KERNEL ").skip(1);
    let declared = kernels.filter_map(|text| {
        let (name, rest) = text.split_once('(')?;
        let (parameters, _) = rest.split_once(')')?;
        let kinds = parameters.split(',').map(Kind::declared);
        Some((name.trim().to_owned(), kinds.collect::<Option<Vec<_>>>()?))
    });
    declared.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_says_what_it_takes() {
        let kernels = SOURCES[1..].concat().matches("KERNEL ").count();
        assert_eq!(signatures().len(), kernels);
        assert!(kernels > 20);
        let found = read("KERNEL one(const float *x, float *y,\n int n, float a, double b) {}");
        assert_eq!(
            found["one"],
            [
                Kind::Pointer,
                Kind::Pointer,
                Kind::Int,
                Kind::Float,
                Kind::Double
            ]
        );
    }
}
