// Products of matrices with any strides: packed blocks, a kernel of 6 x 16 results in registers.
#include "emulator.h"
#include <algorithm>
#include <cstring>
#include <vector>

namespace {

constexpr long ROWS = 6, COLUMNS = 16;                  // of the innermost kernel
constexpr long DEPTH = 256, HIGH = 96, WIDE = 1024;     // of packed blocks: a block of A fits the second cache

typedef float Lane __attribute__((vector_size(32)));

/// Ten bits of mantissa, to the nearest, ties away from zero.
inline float as_tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + 0x1000) & ~0x1fffu;
    memcpy(&x, &bits, 4);
    return x;
}

/// Panels of `step` lines of `lines`, each `depth` long; what is over is zero.
void pack(float *to, const float *from, long lines, long depth, long line, long next, long step, bool tf32) {
    for (long first = 0; first < lines; first += step, to += step * depth) {
        long full = std::min(step, lines - first);
        for (long i = 0; i < full; i++) {
            const float *at = from + (first + i) * line;
            for (long d = 0; d < depth; d++) to[d * step + i] = at[d * next];
        }
        for (long i = full; i < step; i++)
            for (long d = 0; d < depth; d++) to[d * step + i] = 0.0f;
        if (tf32)
            for (long i = 0; i < step * depth; i++) to[i] = as_tf32(to[i]);
    }
}

// Each sum has a name of its own: an array of them would stay in memory.
#define ALL(each) each(0) each(1) each(2) each(3) each(4) each(5)
#define BEGIN(r) Lane left##r = {}, right##r = {};
#define ADD(r) left##r += a[r] * left, right##r += a[r] * right;
#define END(r) memcpy(out + r * COLUMNS, &left##r, sizeof left), memcpy(out + r * COLUMNS + 8, &right##r, sizeof right);

#define PRODUCT(name)                                                                                                  \
    void name(const float *a, const float *b, long depth, float *out) {                                                \
        Lane left, right;                                                                                              \
        ALL(BEGIN)                                                                                                     \
        for (long d = 0; d < depth; d++, a += ROWS, b += COLUMNS) {                                                    \
            memcpy(&left, b, sizeof left);                                                                             \
            memcpy(&right, b + 8, sizeof right);                                                                       \
            ALL(ADD)                                                                                                   \
        }                                                                                                              \
        ALL(END)                                                                                                       \
    }
PRODUCT(product_anywhere)
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) PRODUCT(product_wide)
const auto product = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? product_wide : product_anywhere;
#else
const auto product = product_anywhere;
#endif

} // namespace

void gemm(long m, long n, long k, float alpha, Strided a, Strided b, float beta, float *c, long rows, long columns, bool tf32) {
    if (rows == 1 && columns != 1) { // the kernel's long side along what lies side by side
        std::swap(m, n);
        std::swap(rows, columns);
        std::swap(a, b);
        std::swap(a.rows, a.columns);
        std::swap(b.rows, b.columns);
    }
    if (beta != 1.0f)
        for (long i = 0; i < m; i++)
            for (long j = 0; j < n; j++) {
                float *at = c + i * rows + j * columns;
                *at = beta == 0.0f ? 0.0f : beta * *at;
            }
    if (alpha == 0.0f) return;
    static thread_local std::vector<float> left(HIGH * DEPTH), right((WIDE + COLUMNS) * DEPTH);
    for (long j = 0; j < n; j += WIDE)
        for (long d = 0; d < k; d += DEPTH) {
            long wide = std::min(WIDE, n - j), depth = std::min(DEPTH, k - d);
            pack(right.data(), b.at + j * b.columns + d * b.rows, wide, depth, b.columns, b.rows, COLUMNS, tf32);
            for (long i = 0; i < m; i += HIGH) {
                long high = std::min(HIGH, m - i);
                pack(left.data(), a.at + i * a.rows + d * a.columns, high, depth, a.rows, a.columns, ROWS, tf32);
                for (long y = 0; y < wide; y += COLUMNS)
                    for (long x = 0; x < high; x += ROWS) {
                        float out[ROWS][COLUMNS];
                        product(left.data() + x * depth, right.data() + y * depth, depth, out[0]);
                        long lines = std::min(ROWS, high - x), across = std::min(COLUMNS, wide - y);
                        for (long r = 0; r < lines; r++) {
                            float *to = c + (i + x + r) * rows + (j + y) * columns;
                            for (long s = 0; s < across; s++) to[s * columns] += alpha * out[r][s];
                        }
                    }
            }
        }
}
