//! The kernels' source, put together from the ops' own, and what each kernel takes.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Arg;
use crate::nn::{self, op};

/// The ops that have kernels; what others use comes first.
const SOURCES: &[&str] = &[
    PRELUDE,
    op::relu::cuda::SOURCE,
    op::fake_quant::cuda::SOURCE,
    nn::loss::cuda::SOURCE,
    nn::loss::features::cuda::SOURCE,
    nn::optimizer::cuda::SOURCE,
    nn::optimizer::cuda::levels::SOURCE,
    op::add::cuda::SOURCE,
    op::average_pool2d::cuda::SOURCE,
    op::batch_norm2d::cuda::SOURCE,
    op::conv2d::cuda::SOURCE,
    op::conv2d::cuda::few::SOURCE,
    op::depthwise_conv2d::cuda::SOURCE,
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
/// `Floats`, `Bytes`: neighbors that are loaded and stored at once.
/// `each_value`: y[i] = of(x[i]...) for i in 0..n; four at a time where `wide`, when all addresses are multiples of 16 bytes.
/// `of_block`: the sum over a block's threads, in one order always, given to all of them.
/// `is_last`: whether this block is the last of `blocks` to get here; then it sees what all others wrote, and whatever
/// order they came in, it adds their sums in the order of their numbers. Leaves the counter at zero.
/// `over_rows`: `N` sums over the rows of each of `channels` columns, in one order always: `load(row, channel)` gives what
/// is read of a row, `add(row, channel, read, sums)` adds its part, and `finish(channel, sums)` is called once for each
/// channel with the sums. A block looks at `width` neighboring channels; `partial` holds N * channels numbers for each
/// block of a column of blocks. A thread reads `U` rows before it adds the first: a sum waits for memory, and for nothing
/// else, so what counts is how many reads are on their way at once. `load` therefore neither branches nor writes.
const PRELUDE: &str = r#"
#define KERNEL extern "C" __global__ void
// Release before a counter, acquire behind it: that is all a message needs. __threadfence() also puts all fences of the
// device into one order, which costs more and is for algorithms without such a counter.
#if __CUDA_ARCH__ >= 700 && !defined(EMULATED_DEVICE)
#define FENCE() asm volatile("fence.acq_rel.gpu;" ::: "memory")
#else
#define FENCE() __threadfence()
#endif
#define EACH(i, n) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += gridDim.x * blockDim.x)

template <int V> struct alignas(V * sizeof(float)) Floats { float v[V]; };

template <int V> __device__ __forceinline__ Floats<V> loaded(const float *from) {
    return *reinterpret_cast<const Floats<V> *>(from);
}

template <int V> __device__ __forceinline__ void stored(float *to, const Floats<V> &values) {
    *reinterpret_cast<Floats<V> *>(to) = values;
}

template <int V> struct alignas(V) Bytes { unsigned char v[V]; };

template <int V> __device__ __forceinline__ Bytes<V> loaded(const unsigned char *from) {
    return *reinterpret_cast<const Bytes<V> *>(from);
}

template <int V> __device__ __forceinline__ void stored(unsigned char *to, const Bytes<V> &values) {
    *reinterpret_cast<Bytes<V> *>(to) = values;
}

template <int V, typename Of, typename... Read>
__device__ __forceinline__ void store_values(float *y, Of of, const Read &...read) {
    Floats<V> values;
#pragma unroll
    for (int v = 0; v < V; v++) values.v[v] = of(read.v[v]...);
    stored<V>(y, values);
}

template <typename Of, typename... From>
__device__ __forceinline__ void each_value(int wide, int n, float *y, Of of, const From *...x) {
    int fours = wide ? n / 4 : 0;
    EACH(i, fours) store_values<4>(y + 4 * i, of, loaded<4>(x + 4 * i)...);
    EACH(i, n - 4 * fours) store_values<1>(y + 4 * fours + i, of, loaded<1>(x + 4 * fours + i)...);
}

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
    // One fence speaks for the block: the barrier puts all its writes before it, and those behind it see what it saw.
    __syncthreads();
    if (threadIdx.x == 0) {
        FENCE();
        last = atomicInc(counter, blocks - 1) == blocks - 1;
        FENCE();
    }
    __syncthreads();
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

template <int N, int U, typename Load, typename Add, typename Finish>
__device__ __forceinline__ void over_rows(int rows, int channels, int width, double *partial, unsigned int *counters,
                                          Load load, Add add, Finish finish) {
    __shared__ double shared[N * 256];
    int lanes = blockDim.x / width, row = threadIdx.x / width, c = blockIdx.y * width + threadIdx.x % width;
    float sums[N];
    for (int n = 0; n < N; n++) sums[n] = 0.0f;
    if (c < channels) {
        int r = blockIdx.x * lanes + row, step = gridDim.x * lanes;
        decltype(load(0, 0)) read[U];
#pragma unroll 1
        for (; r + (U - 1) * step < rows; r += U * step) {
#pragma unroll
            for (int u = 0; u < U; u++) read[u] = load(r + u * step, c);
#pragma unroll
            for (int u = 0; u < U; u++) add(r + u * step, c, read[u], sums);
        }
        // What is left, the same way: the first row stands in for those beyond the end.
        if (U > 1 && r < rows) {
#pragma unroll
            for (int u = 0; u < U; u++) read[u] = load(r + u * step < rows ? r + u * step : r, c);
#pragma unroll
            for (int u = 0; u < U; u++)
                if (r + u * step < rows) add(r + u * step, c, read[u], sums);
        }
    }
    for (int n = 0; n < N; n++) shared[n * blockDim.x + threadIdx.x] = sums[n];
    over_lanes<N>(shared, width, lanes);
    if (row == 0 && c < channels)
        for (int n = 0; n < N; n++) partial[(n * gridDim.x + blockIdx.x) * channels + c] = shared[n * blockDim.x + threadIdx.x];
    if (!is_last(counters + blockIdx.y, gridDim.x)) return;
    // The parts of all blocks, so many at once that about sixteen reads are on their way.
    constexpr int AT_ONCE = N < 8 ? 16 / N : 2;
    int blocks = gridDim.x;
    double totals[N];
    for (int n = 0; n < N; n++) totals[n] = 0.0;
    if (c < channels) {
#pragma unroll 1
        for (int b = row; b < blocks; b += AT_ONCE * lanes) {
            double parts[AT_ONCE][N];
#pragma unroll
            for (int t = 0; t < AT_ONCE; t++)
#pragma unroll
                for (int n = 0; n < N; n++)
                    parts[t][n] = b + t * lanes < blocks ? partial[(n * blocks + b + t * lanes) * channels + c] : 0.0;
#pragma unroll
            for (int t = 0; t < AT_ONCE; t++)
#pragma unroll
                for (int n = 0; n < N; n++) totals[n] += parts[t][n];
        }
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
        // A kernel's bounds stand before its name.
        let name = name.split_whitespace().last()?;
        Some((name.to_owned(), kinds.collect::<Option<Vec<_>>>()?))
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
