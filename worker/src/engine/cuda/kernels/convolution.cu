// Convolutions channels last, a number a thread: for the few that the library refuses, and for comparing with it. All narrow;
// the filter is [co, kernel, kernel, ci].
// p: x w out (backward: g w out); n: count of out, h, w, ci, oh, ow, co, kernel, stride, padding

extern "C" __global__ void convolution(Arguments a) {
    long i = thread_index();
    if (i >= a.n[0]) return;
    const bf16 *x = (const bf16 *)a.p[0], *w = (const bf16 *)a.p[1];
    int height = a.n[1], width = a.n[2], ci = a.n[3], oh = a.n[4], ow = a.n[5], co = a.n[6], kernel = a.n[7];
    int to = i % co, column = i / co % ow, row = i / co / ow % oh;
    long sample = i / co / ow / oh;
    float sum = 0.0f;
    for (int place = 0; place < kernel * kernel; place++) {
        int y = row * a.n[8] + place / kernel - a.n[9], z = column * a.n[8] + place % kernel - a.n[9];
        if (y < 0 || z < 0 || y >= height || z >= width) continue;
        const bf16 *from = x + ((sample * height + y) * width + z) * ci;
        const bf16 *weights = w + ((long)to * kernel * kernel + place) * ci;
        for (int c = 0; c < ci; c++) sum += widen(from[c]) * widen(weights[c]);
    }
    ((bf16 *)a.p[2])[i] = narrow(sum);
}

extern "C" __global__ void convolution_backward(Arguments a) {
    long i = thread_index();
    if (i >= a.n[0]) return;
    const bf16 *g = (const bf16 *)a.p[0], *w = (const bf16 *)a.p[1];
    int height = a.n[1], width = a.n[2], ci = a.n[3], oh = a.n[4], ow = a.n[5], co = a.n[6], kernel = a.n[7];
    int to = i % ci, column = i / ci % width, row = i / ci / width % height;
    long sample = i / ci / width / height;
    float sum = 0.0f;
    for (int place = 0; place < kernel * kernel; place++) {
        int y = row + a.n[9] - place / kernel, z = column + a.n[9] - place % kernel;
        if (y < 0 || z < 0 || y % a.n[8] || z % a.n[8] || y / a.n[8] >= oh || z / a.n[8] >= ow) continue;
        const bf16 *from = g + ((sample * oh + y / a.n[8]) * ow + z / a.n[8]) * co;
        const bf16 *weights = w + (long)place * ci + to;
        for (int c = 0; c < co; c++) sum += widen(from[c]) * widen(weights[(long)c * kernel * kernel * ci]);
    }
    ((bf16 *)a.p[2])[i] = narrow(sum);
}
