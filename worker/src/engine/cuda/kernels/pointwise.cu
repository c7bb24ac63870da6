// Elementwise kernels: eight numbers a thread. count, rows and the like are in units of numbers.

// x += bias[i % c], where there is one.
__device__ inline void add_bias(Eight &x, const void *bias, unsigned i, unsigned c) {
    if (!bias) return;
    Eight b = load8(bias, i % c, 1);
    for (int k = 0; k < 8; k++) x.x[k] += b.x[k];
}

// out = x + y + bias. p: x y out bias; n: count, x wide, y wide, out wide, channels
extern "C" __global__ void add(Arguments a) {
    unsigned i = first_of_eight();
    if (i >= (unsigned)a.n[0]) return;
    Eight x = load8(a.p[0], i, a.n[1]), y = load8(a.p[1], i, a.n[2]);
    for (int k = 0; k < 8; k++) x.x[k] += y.x[k];
    add_bias(x, a.p[3], i, a.n[4]);
    store8(a.p[2], i, a.n[3], x);
}

// out = x. p: x out; n: count, x wide, out wide
extern "C" __global__ void cast(Arguments a) {
    unsigned i = first_of_eight();
    if (i < (unsigned)a.n[0]) store8(a.p[1], i, a.n[2], load8(a.p[0], i, a.n[1]));
}

// out = f(x). p: x out; n: count, x wide, out wide, f
extern "C" __global__ void pointwise(Arguments a) {
    unsigned i = first_of_eight();
    if (i >= (unsigned)a.n[0]) return;
    Eight x = load8(a.p[0], i, a.n[1]);
    for (int k = 0; k < 8; k++) x.x[k] = apply(a.n[3], x.x[k]);
    store8(a.p[1], i, a.n[2], x);
}

// out = g f'(x). p: x g out; n: count, x wide, g wide, out wide, f
extern "C" __global__ void pointwise_backward(Arguments a) {
    unsigned i = first_of_eight();
    if (i >= (unsigned)a.n[0]) return;
    Eight x = load8(a.p[0], i, a.n[1]), g = load8(a.p[1], i, a.n[2]);
    for (int k = 0; k < 8; k++) g.x[k] *= slope(a.n[4], x.x[k]);
    store8(a.p[2], i, a.n[3], g);
}

// out[rows, c] = a gelu(b) of x[rows, 2 c]. p: x out; n: rows c, c, x wide, out wide
extern "C" __global__ void geglu(Arguments a) {
    unsigned i = first_of_eight(), c = a.n[1];
    if (i >= (unsigned)a.n[0]) return;
    long at = (long)(i / c) * 2 * c + i % c;
    Eight u = load8(a.p[0], at, a.n[2]), v = load8(a.p[0], at + c, a.n[2]);
    for (int k = 0; k < 8; k++) u.x[k] *= apply(1, v.x[k]);
    store8(a.p[1], i, a.n[3], u);
}

// out = [g gelu(b), g a gelu'(b)]. p: x g out; n: rows c, c, x wide, g wide, out wide
extern "C" __global__ void geglu_backward(Arguments a) {
    unsigned i = first_of_eight(), c = a.n[1];
    if (i >= (unsigned)a.n[0]) return;
    long at = (long)(i / c) * 2 * c + i % c;
    Eight u = load8(a.p[0], at, a.n[2]), v = load8(a.p[0], at + c, a.n[2]), g = load8(a.p[1], i, a.n[3]), h;
    for (int k = 0; k < 8; k++) {
        float bell, all = normal(v.x[k], &bell);
        h.x[k] = g.x[k] * v.x[k] * all;
        u.x[k] *= g.x[k] * (all + v.x[k] * 0.39894228f * bell);
    }
    store8(a.p[2], at, a.n[4], h);
    store8(a.p[2], at + c, a.n[4], u);
}

// out[b, p, c] = x + y[b, c] + bias[c]. p: x y out bias; n: count, c, numbers of a sample, x wide, y wide, out wide
extern "C" __global__ void add_to_pixels(Arguments a) {
    unsigned i = first_of_eight(), c = a.n[1];
    if (i >= (unsigned)a.n[0]) return;
    Eight x = load8(a.p[0], i, a.n[3]), y = load8(a.p[1], i / (unsigned)a.n[2] * c + i % c, a.n[4]);
    for (int k = 0; k < 8; k++) x.x[k] += y.x[k];
    add_bias(x, a.p[3], i, c);
    store8(a.p[2], i, a.n[5], x);
}

// out[b, c] = sum over p of g[b, p, c]; a thread for eight channels of a sample, so the order is fixed.
// p: g out; n: b c, c, places, g wide, out wide
extern "C" __global__ void sum_pixels(Arguments a) {
    unsigned i = first_of_eight(), c = a.n[1], places = a.n[2];
    if (i >= (unsigned)a.n[0]) return;
    Eight sum = {};
    for (unsigned place = 0; place < places; place++) {
        Eight g = load8(a.p[0], ((long)(i / c) * places + place) * c + i % c, a.n[3]);
        for (int k = 0; k < 8; k++) sum.x[k] += g.x[k];
    }
    store8(a.p[1], i, a.n[4], sum);
}

// out[rows, cx + cy] = [x, y]. p: x y out; n: count of out, cx, cy, x wide, y wide, out wide
extern "C" __global__ void concat(Arguments a) {
    unsigned i = first_of_eight(), cx = a.n[1], cy = a.n[2], c = cx + cy;
    if (i >= (unsigned)a.n[0]) return;
    unsigned row = i / c, at = i % c;
    Eight e = at < cx ? load8(a.p[0], (long)row * cx + at, a.n[3]) : load8(a.p[1], (long)row * cy + at - cx, a.n[4]);
    store8(a.p[2], i, a.n[5], e);
}

// out[rows, c] = g[rows, from..from + c]. p: g out; n: count of out, c, width of g, from, g wide, out wide
extern "C" __global__ void slice(Arguments a) {
    unsigned i = first_of_eight(), c = a.n[1];
    if (i >= (unsigned)a.n[0]) return;
    store8(a.p[1], i, a.n[5], load8(a.p[0], (long)(i / c) * a.n[2] + a.n[3] + i % c, a.n[4]));
}

// Where the number i of an image [b, 2 h, 2 w, c] is in [b, h, w, c].
__device__ inline long halved(unsigned i, unsigned height, unsigned width, unsigned c) {
    unsigned pixel = i / c, x = pixel % (2 * width), y = pixel / (2 * width) % (2 * height);
    unsigned sample = pixel / (4 * height * width);
    return (long)((sample * height + y / 2) * width + x / 2) * c + i % c;
}

// Each pixel becomes four. p: x out; n: count of out, h, w, c, x wide, out wide (h and w of x)
extern "C" __global__ void upsample(Arguments a) {
    unsigned i = first_of_eight();
    if (i >= (unsigned)a.n[0]) return;
    store8(a.p[1], i, a.n[5], load8(a.p[0], halved(i, a.n[1], a.n[2], a.n[3]), a.n[4]));
}

// Four pixels become one. p: g out; n: count of out, h, w, c, g wide, out wide (h and w of out)
extern "C" __global__ void upsample_backward(Arguments a) {
    unsigned i = first_of_eight(), height = a.n[1], width = a.n[2], c = a.n[3];
    if (i >= (unsigned)a.n[0]) return;
    unsigned pixel = i / c, x = pixel % width, y = pixel / width % height, sample = pixel / (height * width);
    Eight sum = {};
    for (int k = 0; k < 4; k++) {
        long from = (long)((sample * 2 * height + 2 * y + k / 2) * 2 * width + 2 * x + k % 2) * c + i % c;
        Eight g = load8(a.p[0], from, a.n[4]);
        for (int j = 0; j < 8; j++) sum.x[j] += g.x[j];
    }
    store8(a.p[1], i, a.n[5], sum);
}

// add_to_pixels for channels that come in no multiple of eight: the four of the prediction. A number a thread, all narrow.
// p: x y out; n: count, c, numbers of a sample
extern "C" __global__ void add_few(Arguments a) {
    long i = thread_index();
    if (i >= a.n[0]) return;
    float y = widen(((const bf16 *)a.p[1])[i / a.n[2] * a.n[1] + i % a.n[1]]);
    ((bf16 *)a.p[2])[i] = narrow(widen(((const bf16 *)a.p[0])[i]) + y);
}

// out = slope (prediction - target), the slope by sample. p: prediction target slopes out; n: count, numbers of a sample,
// wide prediction out
extern "C" __global__ void compare(Arguments a) {
    long i = thread_index();
    if (i >= a.n[0]) return;
    float x = a.n[2] ? ((const float *)a.p[0])[i] : widen(((const bf16 *)a.p[0])[i]);
    float y = ((const float *)a.p[2])[i / a.n[1]] * (x - ((const float *)a.p[1])[i]);
    if (a.n[3]) {
        ((float *)a.p[3])[i] = y;
    } else {
        ((bf16 *)a.p[3])[i] = narrow(y);
    }
}

// out[rows, c] = e4m3 numbers times their row's scale, narrow; four a thread. p: packed out; n: rows c, c, where the
// scales begin
extern "C" __global__ void unpack(Arguments a) {
    long i = thread_index() * 4;
    if (i >= a.n[0]) return;
    unsigned codes = *(const unsigned *)((const unsigned char *)a.p[0] + i), out[4];
    float scale = ((const float *)((const unsigned char *)a.p[0] + a.n[2]))[i / a.n[1]];
    for (int k = 0; k < 4; k++) {
        unsigned code = codes >> (8 * k) & 255, size = code & 127;
        // Below 8 there is no leading one: the mantissa counts in steps of 2^-9.
        float x = size < 8 ? size * 0.001953125f : __uint_as_float((size << 20) + (120u << 23));
        out[k] = narrow((code & 128 ? -x : x) * scale);
    }
    *(uint2 *)((bf16 *)a.p[1] + i) = make_uint2(out[0] | out[1] << 16, out[2] | out[3] << 16);
}

// out = numbers from -1 to 1 without order, which cost a matrix unit the power that real ones do. p: out; n: count; narrow
extern "C" __global__ void noise(Arguments a) {
    unsigned i = first_of_eight();
    if (i >= (unsigned)a.n[0]) return;
    Eight e;
    for (int k = 0; k < 8; k++) {
        unsigned h = (i + k) * 0x9e3779b9u;
        h = (h ^ h >> 15) * 0x85ebca6bu;
        h = (h ^ h >> 13) * 0xc2b2ae35u;
        e.x[k] = (int)(h ^ h >> 16) * 4.6566129e-10f;
    }
    store8(a.p[0], i, 0, e);
}
