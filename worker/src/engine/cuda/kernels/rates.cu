// What the rates do to the thin products, and their gradient: partial sums over fixed stretches of rows, then the sum of
// those in order. The same numbers in every run.

// out[rows, rank] = h * r by column; of several parts below each other, each with its own rates, one part's after the
// other's. p: h rates out; n: count, rank, first rate, numbers of a part; h and out narrow
extern "C" __global__ void scale_columns(Arguments a) {
    unsigned i = first_of_eight();
    if (i >= (unsigned)a.n[0]) return;
    unsigned rate = a.n[2] + i / (unsigned)a.n[3] * a.n[1] + i % (unsigned)a.n[1];
    Eight h = load8(a.p[0], i, 0), r = load8(a.p[1], rate, 1);
    for (int k = 0; k < 8; k++) h.x[k] *= r.x[k];
    store8(a.p[2], i, 0, h);
}

// partial[chunk, to..] = sum over the chunk's rows of h gh, 0 beyond the last row, and out = gh * r if out isn't null. A
// block for each chunk and 32 columns: 8 threads along y take every eighth row, and are summed in their order.
// p: h gh rates partial out; n: rows, rank, first rate, rows of a chunk, columns of partial, to; h and out narrow, gh wide
extern "C" __global__ void rate_gradient(Arguments a) {
    __shared__ float sums[8][32];
    const bf16 *h = (const bf16 *)a.p[0];
    const float *gh = (const float *)a.p[1], *rates = (const float *)a.p[2];
    float *partial = (float *)a.p[3];
    bf16 *out = (bf16 *)a.p[4];
    int rows = a.n[0], rank = a.n[1], chunk = a.n[3];
    int column = blockIdx.y * 32 + threadIdx.x % 32, lane = threadIdx.x / 32;
    long first = (long)blockIdx.x * chunk, end = first + chunk < rows ? first + chunk : rows;
    float sum = 0.0f;
    if (column < rank) {
        float rate = rates[a.n[2] + column];
        for (long row = first + lane; row < end; row += 8) {
            float g = gh[row * rank + column];
            sum += widen(h[row * rank + column]) * g;
            if (out) out[row * rank + column] = narrow(g * rate);
        }
    }
    sums[lane][threadIdx.x % 32] = sum;
    __syncthreads();
    if (lane == 0 && column < rank) {
        for (int k = 1; k < 8; k++) sum += sums[k][threadIdx.x];
        partial[(long)blockIdx.x * a.n[4] + a.n[5] + column] = sum;
    }
}

// out[columns] = sum of the chunks, in order. p: partial out; n: chunks, columns
extern "C" __global__ void sum_chunks(Arguments a) {
    int column = thread_index(), chunks = a.n[0], columns = a.n[1];
    if (column >= columns) return;
    const float *partial = (const float *)a.p[0];
    float sum = 0.0f;
    for (int chunk = 0; chunk < chunks; chunk++) sum += partial[(long)chunk * columns + column];
    ((float *)a.p[1])[column] = sum;
}
