// Layer norm: a row for each 8, 16 or 32 lanes of a warp. Group norm: sums by group over stretches of pixels, then over those,
// then applied. All is narrow but scale, shift and statistics.

// A lane holds up to five times eight numbers of its row, packed as they are stored, so that a row of 1280 is read once; a
// longer one is read for every pass over it.
#define HELD 5

// Where a row's piece j of this lane begins.
__device__ inline int piece(int from, int j, int lanes) {
    return from + (j * lanes + threadIdx.x % lanes) * 8;
}

__device__ inline void hold(uint4 held[HELD], const void *row, int c, int from, int lanes) {
    for (int j = 0; j < HELD; j++) {
        int i = piece(from, j, lanes);
        held[j] = i < c ? *(const uint4 *)((const bf16 *)row + i) : make_uint4(0, 0, 0, 0);
    }
}

// Sum over the lanes of a row.
__device__ inline float sum_of_row(float x, int lanes) {
    for (int step = lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

// p: x scale shift out statistics; n: rows, c, lanes of a row; f: eps
extern "C" __global__ void __launch_bounds__(128) layer_norm(Arguments a) {
    int c = a.n[1], lanes = a.n[2], span = lanes * 8 * HELD, row = thread_index() / lanes, there = row < a.n[0];
    // Lanes without a row stay for the sums, with that of others.
    long begin = (long)(there ? row : 0) * c;
    const bf16 *of_x = (const bf16 *)a.p[0] + begin;
    uint4 x[HELD];
    float sum = 0.0f, squares = 0.0f;
    for (int from = 0; from < c; from += span) {
        hold(x, of_x, c, from, lanes);
        for (int j = 0; j < HELD; j++) {
            Eight e = widen8(x[j]);
            for (int k = 0; k < 8; k++) sum += e.x[k];
        }
    }
    float mean = sum_of_row(sum, lanes) / c;
    for (int from = 0; from < c; from += span) {
        if (c > span) hold(x, of_x, c, from, lanes);
        for (int j = 0; j < HELD; j++) {
            Eight e = widen8(x[j]);
            if (piece(from, j, lanes) >= c) continue;
            for (int k = 0; k < 8; k++) squares += (e.x[k] - mean) * (e.x[k] - mean);
        }
    }
    float inverse = rsqrtf(sum_of_row(squares, lanes) / c + a.f[0]);
    if (!there) return;
    for (int from = 0; from < c; from += span) {
        if (c > span) hold(x, of_x, c, from, lanes);
        for (int j = 0; j < HELD; j++) {
            int i = piece(from, j, lanes);
            if (i >= c) continue;
            Eight e = widen8(x[j]), scale = load8(a.p[1], i, 1), shift = load8(a.p[2], i, 1);
            for (int k = 0; k < 8; k++) e.x[k] = (e.x[k] - mean) * inverse * scale.x[k] + shift.x[k];
            store8(a.p[3], begin + i, 0, e);
        }
    }
    if (threadIdx.x % lanes == 0) {
        ((float *)a.p[4])[2 * row] = mean;
        ((float *)a.p[4])[2 * row + 1] = inverse;
    }
}

// out = addend + inverse (e - mean(e) - z mean(e z)), e = g scale. p: x scale statistics g addend out; n: rows, c, lanes of a
// row
extern "C" __global__ void __launch_bounds__(128, 7) layer_norm_backward(Arguments a) {
    int c = a.n[1], lanes = a.n[2], span = lanes * 8 * HELD, row = thread_index() / lanes, there = row < a.n[0];
    if (!there) row = 0;
    long begin = (long)row * c;
    const bf16 *of_x = (const bf16 *)a.p[0] + begin, *of_g = (const bf16 *)a.p[3] + begin;
    // z = x inverse + offset.
    float inverse = ((const float *)a.p[2])[2 * row + 1], offset = -((const float *)a.p[2])[2 * row] * inverse;
    float sum = 0.0f, along = 0.0f;
    uint4 x[HELD], g[HELD];
    for (int from = 0; from < c; from += span) {
        hold(x, of_x, c, from, lanes);
        hold(g, of_g, c, from, lanes);
        for (int j = 0; j < HELD; j++) {
            int i = piece(from, j, lanes);
            if (i >= c) continue;
            Eight z = widen8(x[j]), e = widen8(g[j]), scale = load8(a.p[1], i, 1);
            for (int k = 0; k < 8; k++) {
                e.x[k] *= scale.x[k];
                sum += e.x[k];
                along += e.x[k] * (z.x[k] * inverse + offset);
            }
        }
    }
    sum = sum_of_row(sum, lanes) / c;
    along = sum_of_row(along, lanes) / c;
    if (!there) return;
    for (int from = 0; from < c; from += span) {
        if (c > span) {
            hold(x, of_x, c, from, lanes);
            hold(g, of_g, c, from, lanes);
        }
        for (int j = 0; j < HELD; j++) {
            int i = piece(from, j, lanes);
            if (i >= c) continue;
            Eight y = {}, z = widen8(x[j]), e = widen8(g[j]), scale = load8(a.p[1], i, 1);
            if (a.p[4]) y = load8(a.p[4], begin + i, 0);
            for (int k = 0; k < 8; k++) {
                y.x[k] += inverse * (e.x[k] * scale.x[k] - sum - (z.x[k] * inverse + offset) * along);
            }
            store8(a.p[5], begin + i, 0, y);
        }
    }
}

// What a thread of a group norm does: eight channels of a sample, and every so manieth pixel of a stretch.
// Of all: grid: stretches, b; a thread for each eight channels and line of pixels; n: places, c, places of a stretch, silu
struct Column {
    int channel, place, lines, end;
    // Where the channels are in the sample's first pixel, and its statistics.
    long first;
    int groups;
};

// Of stretch and sample as they are counted, or from the last to the first: what was read last is still in the cache.
__device__ inline Column column_of(const Arguments &a, int last_first) {
    int octets = a.n[1] / 8, stretch = last_first ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    int sample = last_first ? gridDim.y - 1 - blockIdx.y : blockIdx.y, begin = stretch * a.n[2], end = begin + a.n[2];
    Column column;
    column.channel = threadIdx.x % octets * 8;
    column.place = begin + threadIdx.x / octets;
    column.lines = blockDim.x / octets;
    column.end = end < a.n[0] ? end : a.n[0];
    column.first = (long)sample * a.n[0] * a.n[1] + column.channel;
    column.groups = sample * 64;
    return column;
}

// Two numbers of each channel's group.
__device__ inline void of_groups(const void *numbers, const Column &column, int c, float one[8], float two[8]) {
    int width = c / 32, at = column.channel / width, left = width - column.channel % width;
    const float *of = (const float *)numbers + column.groups;
    for (int k = 0; k < 8; k++) {
        one[k] = of[2 * at], two[k] = of[2 * at + 1];
        if (--left == 0) at++, left = width;
    }
}

// Numbers that a block's threads add up.
#define SUMS (16 * 512)

// partial[b, stretch, 2, 32] = sums by group over one stretch, of each channel's two sums.
__device__ inline void add_up(float sums[SUMS], Eight one, Eight two, const Column &column, int c, void *partial) {
    int line = threadIdx.x / (c / 8) * 2 * c + column.channel, width = c / 32;
    store8(sums, line, 1, one);
    store8(sums, line + c, 1, two);
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * c; i += blockDim.x) {
        float sum = sums[i];
        for (int k = 1; k < column.lines; k++) sum += sums[k * 2 * c + i];
        sums[i] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 64; i += blockDim.x) {
        const float *from = sums + i / 32 * c + i % 32 * width;
        float sum = 0.0f;
        for (int k = 0; k < width; k++) sum += from[k];
        ((float *)partial)[((long)blockIdx.y * gridDim.x + blockIdx.x) * 64 + i] = sum;
    }
}

// Sums of x and of x^2. p: x partial
extern "C" __global__ void group_sums(Arguments a) {
    __shared__ __align__(16) float sums[SUMS];
    int c = a.n[1];
    Column column = column_of(a, 0);
    Eight one = {}, two = {};
#pragma unroll 4
    for (int place = column.place; place < column.end; place += column.lines) {
        Eight x = load8(a.p[0], column.first + (long)place * c, 0);
        for (int k = 0; k < 8; k++) one.x[k] += x.x[k], two.x[k] += x.x[k] * x.x[k];
    }
    add_up(sums, one, two, column, c, a.p[1]);
}

// Sums of e and of e z, e being the gradient by z: g, through SiLU if asked, times the scale. p: x scale shift statistics g
// partial
extern "C" __global__ void group_sums_backward(Arguments a) {
    __shared__ __align__(16) float sums[SUMS];
    int c = a.n[1];
    Column column = column_of(a, 0);
    Eight one = {}, two = {}, scale = load8(a.p[1], column.channel, 1), shift = load8(a.p[2], column.channel, 1);
    float mean[8], inverse[8];
    of_groups(a.p[3], column, c, mean, inverse);
#pragma unroll 2
    for (int place = column.place; place < column.end; place += column.lines) {
        long at = column.first + (long)place * c;
        Eight x = load8(a.p[0], at, 0), g = load8(a.p[4], at, 0);
        for (int k = 0; k < 8; k++) {
            float z = (x.x[k] - mean[k]) * inverse[k];
            float e = a.n[3] ? g.x[k] * slope(0, z * scale.x[k] + shift.x[k]) : g.x[k];
            one.x[k] += e, two.x[k] += e * z;
        }
    }
    for (int k = 0; k < 8; k++) one.x[k] *= scale.x[k], two.x[k] *= scale.x[k];
    add_up(sums, one, two, column, c, a.p[5]);
}

// Sums of a group: mean and 1 / sqrt(variance + eps), or, for the backward pass, both means. A warp for each group, in f64.
// p: partial out[b, 32, 2]; n: b 32, numbers of a group, stretches, backward; f: eps
extern "C" __global__ void group_totals(Arguments a) {
    int group = thread_index() / 32, lane = threadIdx.x % 32, stretches = a.n[2];
    if (group >= a.n[0]) return;
    const float *partial = (const float *)a.p[0] + (long)(group / 32) * stretches * 64 + group % 32;
    double one = 0.0, two = 0.0;
    for (int i = lane; i < stretches; i += 32) one += partial[i * 64], two += partial[i * 64 + 32];
    for (int step = 16; step > 0; step /= 2) {
        one += __shfl_xor_sync(0xffffffffu, one, step);
        two += __shfl_xor_sync(0xffffffffu, two, step);
    }
    if (lane != 0) return;
    double mean = one / a.n[1], other = two / a.n[1];
    float *out = (float *)a.p[1] + 2 * group;
    out[0] = (float)mean;
    out[1] = a.n[3] ? (float)other : (float)(1.0 / sqrt(fmax(other - mean * mean, 0.0) + (double)a.f[0]));
}

// out = silu?(z scale + shift). p: x scale shift statistics out
extern "C" __global__ void group_norm(Arguments a) {
    int c = a.n[1];
    Column column = column_of(a, 1);
    float mean[8], inverse[8];
    Eight scale = load8(a.p[1], column.channel, 1), shift = load8(a.p[2], column.channel, 1);
    of_groups(a.p[3], column, c, mean, inverse);
    for (int k = 0; k < 8; k++) scale.x[k] *= inverse[k], shift.x[k] -= mean[k] * scale.x[k];
#pragma unroll 4
    for (int place = column.place; place < column.end; place += column.lines) {
        long at = column.first + (long)place * c;
        Eight x = load8(a.p[0], at, 0);
        for (int k = 0; k < 8; k++) {
            float y = x.x[k] * scale.x[k] + shift.x[k];
            x.x[k] = a.n[3] ? apply(0, y) : y;
        }
        store8(a.p[4], at, 0, x);
    }
}

// As the layer norm's. p: x scale shift statistics g addend out means
extern "C" __global__ void group_norm_backward(Arguments a) {
    int c = a.n[1];
    Column column = column_of(a, 1);
    float mean[8], inverse[8], by_one[8], along[8];
    Eight scale = load8(a.p[1], column.channel, 1), shift = load8(a.p[2], column.channel, 1);
    of_groups(a.p[3], column, c, mean, inverse);
    of_groups(a.p[7], column, c, by_one, along);
    // With y = x scale + shift it is addend + g slope(y) scale - by_one - x along, all these numbers being those of x.
    for (int k = 0; k < 8; k++) {
        scale.x[k] *= inverse[k], shift.x[k] -= mean[k] * scale.x[k];
        along[k] *= inverse[k] * inverse[k];
        by_one[k] = by_one[k] * inverse[k] - mean[k] * along[k];
    }
#pragma unroll 2
    for (int place = column.place; place < column.end; place += column.lines) {
        long at = column.first + (long)place * c;
        Eight x = load8(a.p[0], at, 0), g = load8(a.p[4], at, 0), y = {};
        if (a.p[5]) y = load8(a.p[5], at, 0);
        for (int k = 0; k < 8; k++) {
            float e = a.n[3] ? g.x[k] * slope(0, x.x[k] * scale.x[k] + shift.x[k]) : g.x[k];
            y.x[k] += e * scale.x[k] - by_one[k] - x.x[k] * along[k];
        }
        store8(a.p[6], at, 0, y);
    }
}
