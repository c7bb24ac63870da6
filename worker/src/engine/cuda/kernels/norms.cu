// Layer norm: a warp for each row. Group norm: sums by channel over stretches of pixels, then by group, then applied.

__device__ inline float warp_sum(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

// A lane of a warp holds up to five times eight numbers of its row, so that a row of 1280 is read once; a longer one is read
// for every pass over it.
#define HELD 5
#define WIDTH (HELD * 256)

__device__ inline void hold(Eight held[HELD], const void *x, long row, int c, int from, int wide) {
    for (int j = 0; j < HELD; j++) {
        int i = from + j * 256 + threadIdx.x % 32 * 8;
        if (i < c) held[j] = load8(x, row * c + i, wide);
        else for (int k = 0; k < 8; k++) held[j].x[k] = 0.0f;
    }
}

// p: x scale shift out statistics; n: rows, c, x wide, out wide; f: eps
extern "C" __global__ void layer_norm(Arguments a) {
    long row = thread_index() / 32;
    int lane = threadIdx.x % 32, c = a.n[1], wide = a.n[2];
    if (row >= a.n[0]) return;
    Eight x[HELD];
    float sum = 0.0f, squares = 0.0f;
    for (int from = 0; from < c; from += WIDTH) {
        hold(x, a.p[0], row, c, from, wide);
        for (int j = 0; j < HELD; j++)
            for (int k = 0; k < 8; k++) sum += x[j].x[k];
    }
    float mean = warp_sum(sum) / c;
    for (int from = 0; from < c; from += WIDTH) {
        if (c > WIDTH) hold(x, a.p[0], row, c, from, wide);
        for (int j = 0; j < HELD; j++) {
            if (from + j * 256 + lane * 8 >= c) continue;
            for (int k = 0; k < 8; k++) squares += (x[j].x[k] - mean) * (x[j].x[k] - mean);
        }
    }
    float inverse = rsqrtf(warp_sum(squares) / c + a.f[0]);
    for (int from = 0; from < c; from += WIDTH) {
        if (c > WIDTH) hold(x, a.p[0], row, c, from, wide);
        for (int j = 0; j < HELD; j++) {
            int i = from + j * 256 + lane * 8;
            if (i >= c) continue;
            Eight scale = load8(a.p[1], i, 1), shift = load8(a.p[2], i, 1);
            for (int k = 0; k < 8; k++) scale.x[k] = (x[j].x[k] - mean) * inverse * scale.x[k] + shift.x[k];
            store8(a.p[3], row * c + i, a.n[3], scale);
        }
    }
    if (lane == 0) {
        ((float *)a.p[4])[2 * row] = mean;
        ((float *)a.p[4])[2 * row + 1] = inverse;
    }
}

// out = addend + inverse (e - mean(e) - z mean(e z)), e = g scale. p: x scale statistics g addend out; n: rows, c, x wide, g wide, out (and addend) wide
extern "C" __global__ void layer_norm_backward(Arguments a) {
    long row = thread_index() / 32;
    int lane = threadIdx.x % 32, c = a.n[1];
    if (row >= a.n[0]) return;
    float mean = ((const float *)a.p[2])[2 * row], inverse = ((const float *)a.p[2])[2 * row + 1];
    float sum = 0.0f, along = 0.0f;
    // Standardised numbers, and what comes of g.
    Eight z[HELD], e[HELD];
    for (int from = 0; from < c; from += WIDTH) {
        hold(z, a.p[0], row, c, from, a.n[2]);
        hold(e, a.p[3], row, c, from, a.n[3]);
        for (int j = 0; j < HELD; j++) {
            int i = from + j * 256 + lane * 8;
            if (i >= c) continue;
            Eight scale = load8(a.p[1], i, 1);
            for (int k = 0; k < 8; k++) {
                z[j].x[k] = (z[j].x[k] - mean) * inverse;
                e[j].x[k] *= scale.x[k];
                sum += e[j].x[k];
                along += e[j].x[k] * z[j].x[k];
            }
        }
    }
    sum = warp_sum(sum) / c;
    along = warp_sum(along) / c;
    for (int from = 0; from < c; from += WIDTH) {
        if (c > WIDTH) {
            hold(z, a.p[0], row, c, from, a.n[2]);
            hold(e, a.p[3], row, c, from, a.n[3]);
        }
        for (int j = 0; j < HELD; j++) {
            int i = from + j * 256 + lane * 8;
            if (i >= c) continue;
            Eight y = {};
            if (a.p[4]) y = load8(a.p[4], row * c + i, a.n[4]);
            if (c > WIDTH) {
                Eight scale = load8(a.p[1], i, 1);
                for (int k = 0; k < 8; k++) {
                    z[j].x[k] = (z[j].x[k] - mean) * inverse;
                    e[j].x[k] *= scale.x[k];
                }
            }
            for (int k = 0; k < 8; k++) y.x[k] += inverse * (e[j].x[k] - sum - z[j].x[k] * along);
            store8(a.p[5], row * c + i, a.n[4], y);
        }
    }
}

// Gradient by z of one number: g, through SiLU if asked, times the scale.
__device__ inline float by_z(float z, float g, float scale, float shift, int silu) {
    return (silu ? g * slope(0, z * scale + shift) : g) * scale;
}

// Where a channel's group has its two numbers, and how many channels of it are left: no division for each channel.
struct Group {
    int at, left, width;
};

__device__ inline Group group_of(int channel, int c) {
    int width = c / 32;
    return {channel / width * 2, width - channel % width, width};
}

// The next channel's.
__device__ inline void next(Group &group) {
    if (--group.left == 0) group.at += 2, group.left = group.width;
}

// Sums by channel over one stretch of pixels: partial[b, stretch, 2, c] = sums of x and of x^2, or, given g, of e and e z.
// grid: stretches, b, groups of 256 channels; 32 x 8 threads, eight channels along x, every eighth pixel along y.
// p: x scale shift statistics g partial; n: places, c, places of a stretch, x wide, g wide, silu
extern "C" __global__ void group_sums(Arguments a) {
    __shared__ float sums[2][8][256];
    int places = a.n[0], c = a.n[1], stretch = a.n[2];
    int lane = threadIdx.x % 32, line = threadIdx.x / 32, channel = blockIdx.z * 256 + lane * 8;
    int first = blockIdx.x * stretch, end = first + stretch < places ? first + stretch : places;
    const float *statistics = (const float *)a.p[3];
    Eight one = {}, two = {};
    if (channel < c) {
        Eight scale = load8(a.p[1], channel, 1), shift = load8(a.p[2], channel, 1);
        for (int place = first + line; place < end; place += 8) {
            long at = ((long)blockIdx.y * places + place) * c + channel;
            Eight x = load8(a.p[0], at, a.n[3]);
            if (!a.p[4]) {
                for (int k = 0; k < 8; k++) one.x[k] += x.x[k], two.x[k] += x.x[k] * x.x[k];
            } else {
                Eight g = load8(a.p[4], at, a.n[4]);
                Group group = group_of(channel, c);
                for (int k = 0; k < 8; k++, next(group)) {
                    const float *s = statistics + blockIdx.y * 64 + group.at;
                    float z = (x.x[k] - s[0]) * s[1];
                    float e = by_z(z, g.x[k], scale.x[k], shift.x[k], a.n[5]);
                    one.x[k] += e, two.x[k] += e * z;
                }
            }
        }
    }
    for (int k = 0; k < 8; k++) sums[0][line][lane * 8 + k] = one.x[k], sums[1][line][lane * 8 + k] = two.x[k];
    __syncthreads();
    float *partial = (float *)a.p[5] + ((long)blockIdx.y * gridDim.x + blockIdx.x) * 2 * c;
    for (int i = threadIdx.x; i < 512; i += 256) {
        int which = i / 256, at = i % 256;
        if ((int)blockIdx.z * 256 + at >= c) continue;
        float sum = 0.0f;
        for (int k = 0; k < 8; k++) sum += sums[which][k][at];
        partial[which * c + blockIdx.z * 256 + at] = sum;
    }
}

// Sums of a group: mean and 1 / sqrt(variance + eps), or, for the backward pass, both means. A warp for each group, in f64.
// p: partial out[b, 32, 2]; n: b 32, c, stretches, places, backward; f: eps
extern "C" __global__ void group_totals(Arguments a) {
    long group = thread_index() / 32;
    int lane = threadIdx.x % 32, c = a.n[1], width = c / 32, stretches = a.n[2];
    if (group >= a.n[0]) return;
    const float *partial = (const float *)a.p[0] + group / 32 * stretches * 2 * c + group % 32 * width;
    double one = 0.0, two = 0.0;
    for (int i = lane; i < stretches * width; i += 32) {
        const float *at = partial + (long)(i / width) * 2 * c + i % width;
        one += at[0], two += at[c];
    }
    for (int step = 16; step > 0; step /= 2) {
        one += __shfl_xor_sync(0xffffffffu, one, step);
        two += __shfl_xor_sync(0xffffffffu, two, step);
    }
    if (lane != 0) return;
    double n = (double)a.n[3] * width, mean = one / n, other = two / n;
    float *out = (float *)a.p[1] + 2 * group;
    out[0] = (float)mean;
    out[1] = a.n[4] ? (float)other : (float)(1.0 / sqrt(fmax(other - mean * mean, 0.0) + (double)a.f[0]));
}

// out = silu?(z scale + shift). p: x scale shift statistics out; n: count, c, numbers of a sample, x wide, out wide, silu
extern "C" __global__ void group_norm(Arguments a) {
    unsigned i = first_of_eight();
    int c = a.n[1], channel = i % (unsigned)c;
    if (i >= (unsigned)a.n[0]) return;
    const float *statistics = (const float *)a.p[3] + i / (unsigned)a.n[2] * 64;
    Eight x = load8(a.p[0], i, a.n[3]), scale = load8(a.p[1], channel, 1), shift = load8(a.p[2], channel, 1);
    Group group = group_of(channel, c);
    for (int k = 0; k < 8; k++, next(group)) {
        const float *s = statistics + group.at;
        float y = (x.x[k] - s[0]) * s[1] * scale.x[k] + shift.x[k];
        x.x[k] = a.n[5] ? apply(0, y) : y;
    }
    store8(a.p[4], i, a.n[4], x);
}

// As the layer norm's. p: x scale shift statistics g addend out means; n: count, c, numbers of a sample, x wide, g wide,
// out (and addend) wide, silu
extern "C" __global__ void group_norm_backward(Arguments a) {
    unsigned i = first_of_eight();
    int c = a.n[1], channel = i % (unsigned)c;
    if (i >= (unsigned)a.n[0]) return;
    unsigned sample = i / (unsigned)a.n[2];
    const float *statistics = (const float *)a.p[3] + sample * 64, *means = (const float *)a.p[7] + sample * 64;
    Eight x = load8(a.p[0], i, a.n[3]), g = load8(a.p[4], i, a.n[4]), y = {};
    Eight scale = load8(a.p[1], channel, 1), shift = load8(a.p[2], channel, 1);
    if (a.p[5]) y = load8(a.p[5], i, a.n[5]);
    Group group = group_of(channel, c);
    for (int k = 0; k < 8; k++, next(group)) {
        const float *s = statistics + group.at, *m = means + group.at;
        float z = (x.x[k] - s[0]) * s[1];
        float e = by_z(z, g.x[k], scale.x[k], shift.x[k], a.n[6]);
        y.x[k] += s[1] * (e - m[0] - z * m[1]);
    }
    store8(a.p[6], i, a.n[5], y);
}
