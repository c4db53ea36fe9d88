// What the source of a kernel sees on the emulated device: the words of CUDA C that NVRTC knows without any header.
// Nothing is included, so that a source that needs a header fails here as it does there.
#pragma once

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define EMULATED_VECTOR(T, name)                                                                                       \
    struct name##1 { T x; };                                                                                           \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                                 \
    struct name##3 { T x, y, z; };                                                                                     \
    struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; };                                 \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                  \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                          \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATED_VECTOR(float, float)
EMULATED_VECTOR(double, double)
EMULATED_VECTOR(int, int)
EMULATED_VECTOR(unsigned, uint)
EMULATED_VECTOR(signed char, char)
EMULATED_VECTOR(unsigned char, uchar)
EMULATED_VECTOR(short, short)
EMULATED_VECTOR(unsigned short, ushort)
EMULATED_VECTOR(long long, longlong)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Who and where a thread is; the emulator writes these through their addresses.
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

// The same as in emulator.h.
struct emulated_services {
    int (*barrier)(int line, int predicate);
    unsigned long long (*exchange)(unsigned mask, int kind, unsigned long long value, int from, int line);
    void (*fresh)(void *shared, size_t bytes);
    void *dynamic;
    unsigned long long block;
};
static const emulated_services *emulated;
struct emulated_frame {
    uint3 *thread, *block;
    dim3 *block_dim, *grid_dim;
    const emulated_services **services;
};
extern "C" __attribute__((visibility("default"))) void emulated_open(emulated_frame *frame) {
    *frame = {&threadIdx, &blockIdx, &blockDim, &gridDim, &emulated};
}

// A shared array holds garbage when a block begins: the compiler step puts this behind each declaration of one.
#define EMULATED_FRESH(name)                                                                                           \
    {                                                                                                                  \
        static unsigned long long seen;                                                                                \
        if (seen != emulated->block) {                                                                                 \
            seen = emulated->block;                                                                                    \
            emulated->fresh((void *)&name, sizeof name);                                                               \
        }                                                                                                              \
    }

// Barriers. The line tells barriers apart: all threads of a block must wait at the same one.
#define __syncthreads() ((void)emulated->barrier(__LINE__, 0))
#define __syncthreads_count(p) (emulated->barrier(__LINE__, !!(p)))
#define __syncthreads_or(p) (emulated->barrier(__LINE__, !!(p)) != 0)
#define __syncthreads_and(p) (emulated->barrier(__LINE__, !(p)) == 0)
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
static inline void __nanosleep(unsigned) {}

// Warps: 32 neighbors of a block's threads, counted with x first.
static inline int emulated_lane() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31;
}
template <typename T> static inline T emulated_shuffle(unsigned mask, T value, int from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
    unsigned long long bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    bits = emulated->exchange(mask, 0, bits, from, 0);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
// A source outside the part of `width` lanes is the lane itself.
template <typename T> static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
    return emulated_shuffle(mask, value, (emulated_lane() & ~(width - 1)) | (from & (width - 1)));
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    int lane = emulated_lane(), from = lane + (int)by;
    return emulated_shuffle(mask, value, (lane & (width - 1)) + (int)by < width ? from : lane);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    int lane = emulated_lane();
    return emulated_shuffle(mask, value, (lane & (width - 1)) >= (int)by ? lane - (int)by : lane);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32) {
    int lane = emulated_lane(), from = lane ^ by;
    return emulated_shuffle(mask, value, from / width > lane / width ? lane : from);
}
// The lanes that take part in the upper half, their votes in the lower.
static inline unsigned long long emulated_vote(unsigned mask, int vote) { return emulated->exchange(mask, 1, vote != 0, 0, 0); }
static inline unsigned __ballot_sync(unsigned mask, int p) { return (unsigned)emulated_vote(mask, p); }
static inline int __any_sync(unsigned mask, int p) { return (unsigned)emulated_vote(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) {
    unsigned long long votes = emulated_vote(mask, p);
    return (unsigned)votes == (unsigned)(votes >> 32);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulated->exchange(mask, 2, 0, 0, 0); }

// Atomics: nothing interrupts a thread between barriers.
#define EMULATED_ATOMIC(name, T, next)                                                                                 \
    static inline T name(T *at, T value) {                                                                             \
        T old = *at;                                                                                                   \
        *at = next;                                                                                                    \
        return old;                                                                                                    \
    }
#define EMULATED_ATOMICS(T)                                                                                            \
    EMULATED_ATOMIC(atomicAdd, T, old + value)                                                                         \
    EMULATED_ATOMIC(atomicExch, T, value)
#define EMULATED_INTEGER_ATOMICS(T)                                                                                    \
    EMULATED_ATOMICS(T)                                                                                                \
    EMULATED_ATOMIC(atomicMax, T, old > value ? old : value)                                                           \
    EMULATED_ATOMIC(atomicMin, T, old < value ? old : value)                                                           \
    EMULATED_ATOMIC(atomicOr, T, old | value)                                                                          \
    EMULATED_ATOMIC(atomicAnd, T, old & value)                                                                         \
    EMULATED_ATOMIC(atomicXor, T, old ^ value)                                                                         \
    static inline T atomicCAS(T *at, T compare, T value) {                                                             \
        T old = *at;                                                                                                   \
        if (old == compare) *at = value;                                                                               \
        return old;                                                                                                    \
    }
EMULATED_INTEGER_ATOMICS(int)
EMULATED_INTEGER_ATOMICS(unsigned)
EMULATED_INTEGER_ATOMICS(unsigned long long)
EMULATED_ATOMICS(float)
EMULATED_ATOMIC(atomicAdd, double, old + value)
EMULATED_ATOMIC(atomicSub, int, old - value)
EMULATED_ATOMIC(atomicSub, unsigned, old - value)
EMULATED_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
EMULATED_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)

// Mathematics, in single precision under both names, as C++ and as C have them.
#define EMULATED_ONE(name)                                                                                             \
    extern "C" double name(double) noexcept;                                                                           \
    extern "C" float name##f(float) noexcept;                                                                          \
    static inline float name(float x) { return name##f(x); }
#define EMULATED_TWO(name)                                                                                             \
    extern "C" double name(double, double) noexcept;                                                                   \
    extern "C" float name##f(float, float) noexcept;                                                                   \
    static inline float name(float x, float y) { return name##f(x, y); }
EMULATED_ONE(exp) EMULATED_ONE(exp2) EMULATED_ONE(expm1) EMULATED_ONE(log) EMULATED_ONE(log2) EMULATED_ONE(log10)
EMULATED_ONE(log1p) EMULATED_ONE(sqrt) EMULATED_ONE(cbrt) EMULATED_ONE(sin) EMULATED_ONE(cos) EMULATED_ONE(tan)
EMULATED_ONE(asin) EMULATED_ONE(acos) EMULATED_ONE(atan) EMULATED_ONE(sinh) EMULATED_ONE(cosh) EMULATED_ONE(tanh)
EMULATED_ONE(erf) EMULATED_ONE(erfc) EMULATED_ONE(lgamma) EMULATED_ONE(tgamma) EMULATED_ONE(fabs) EMULATED_ONE(floor)
EMULATED_ONE(ceil) EMULATED_ONE(trunc) EMULATED_ONE(round) EMULATED_ONE(rint) EMULATED_ONE(nearbyint)
EMULATED_TWO(pow) EMULATED_TWO(fmod) EMULATED_TWO(fmin) EMULATED_TWO(fmax) EMULATED_TWO(copysign) EMULATED_TWO(atan2)
EMULATED_TWO(hypot) EMULATED_TWO(fdim) EMULATED_TWO(remainder)
extern "C" float fmaf(float, float, float) noexcept;
extern "C" double fma(double, double, double) noexcept;
extern "C" float ldexpf(float, int) noexcept;
extern "C" double ldexp(double, int) noexcept;
extern "C" int printf(const char *, ...);
static inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __expf(float x) { return expf(x); }
static inline float __exp10f(float x) { return powf(10.0f, x); }
static inline float __logf(float x) { return logf(x); }
static inline float __log2f(float x) { return log2f(x); }
static inline float __powf(float x, float y) { return powf(x, y); }
static inline float __sinf(float x) { return sinf(x); }
static inline float __cosf(float x) { return cosf(x); }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

#define EMULATED_ORDERED(T)                                                                                            \
    static inline T min(T x, T y) { return y < x ? y : x; }                                                            \
    static inline T max(T x, T y) { return x < y ? y : x; }
EMULATED_ORDERED(int) EMULATED_ORDERED(unsigned) EMULATED_ORDERED(long) EMULATED_ORDERED(unsigned long)
EMULATED_ORDERED(long long) EMULATED_ORDERED(unsigned long long)
static inline float min(float x, float y) { return fminf(x, y); }
static inline float max(float x, float y) { return fmaxf(x, y); }
static inline double min(double x, double y) { return fmin(x, y); }
static inline double max(double x, double y) { return fmax(x, y); }
static inline unsigned min(int x, unsigned y) { return min((unsigned)x, y); }
static inline unsigned min(unsigned x, int y) { return min(x, (unsigned)y); }
static inline unsigned max(int x, unsigned y) { return max((unsigned)x, y); }
static inline unsigned max(unsigned x, int y) { return max(x, (unsigned)y); }
static inline int abs(int x) { return x < 0 ? -x : x; }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline float abs(float x) { return fabsf(x); }
static inline double abs(double x) { return fabs(x); }
template <typename T> static inline bool isnan(T x) { return __builtin_isnan(x); }
template <typename T> static inline bool isinf(T x) { return __builtin_isinf(x); }
template <typename T> static inline bool isfinite(T x) { return __builtin_isfinite(x); }
template <typename T> static inline bool signbit(T x) { return __builtin_signbit(x); }

// Bits, conversions, and loads that say how they are cached.
template <typename To, typename From> static inline To emulated_bits(From from) {
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
static inline int __float_as_int(float x) { return emulated_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return emulated_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return emulated_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return emulated_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return emulated_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return emulated_bits<double>(x); }
static inline int __float2int_rn(float x) { return (int)rintf(x); }
static inline int __float2int_rz(float x) { return (int)x; }
static inline int __float2int_rd(float x) { return (int)floorf(x); }
static inline int __float2int_ru(float x) { return (int)ceilf(x); }
static inline unsigned __float2uint_rn(float x) { return (unsigned)rintf(x); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __double2float_rn(double x) { return (float)x; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __mulhi(int x, int y) { return (int)((long long)x * y >> 32); }
static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
template <typename T> static inline T __ldg(const T *at) { return *at; }
template <typename T> static inline T __ldcs(const T *at) { return *at; }
template <typename T> static inline T __ldcg(const T *at) { return *at; }
template <typename T> static inline void __stcs(T *at, T value) { *at = value; }
template <typename T> static inline void __stcg(T *at, T value) { *at = value; }
