// Attention with heads of 64 channels on the matrix units, after flash attention (Dao, "FlashAttention-2", 2023): scores
// are never stored. Tiles of 64 queries and 64 keys, four warps of 16 rows each. The backward pass is two kernels, one for
// the gradients of k and v and one for that of q: each sums in its own order, so there are no atomics and every run gives the
// same bits. q, k, v, o are narrow [b, rows, heads 64]; sums [b, heads, rows] are logarithms of sums of exponentials.
//
// Fragments of mma.m16n8k16, by the PTX manual: with r = lane / 4 and c = lane % 4 * 2, a thread has of A (16 x 16) the
// pairs (r, c) (r + 8, c) (r, c + 8) (r + 8, c + 8), of B (16 x 8) the pairs of rows (c, r) (c + 8, r), and of C (16 x 8)
// the pairs (r, c) (r + 8, c).

#define TILE 64
// Rows of a tile in shared memory, eight longer than needed so that rows begin in different banks.
#define PITCH 72

#ifdef __CUDA_ARCH__
__device__ inline void mma(float d[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// Copies 64 rows of one head into shared memory, zeros beyond the last row; if asked also transposed.
__device__ inline void fetch(const bf16 *x, long stride, int first, int rows, bf16 *tile, bf16 *transposed) {
    for (int i = threadIdx.x; i < TILE * 8; i += 128) {
        int row = i / 8, at = i % 8 * 8;
        uint4 v = make_uint4(0, 0, 0, 0);
        if (first + row < rows) v = *(const uint4 *)(x + (long)(first + row) * stride + at);
        if (tile) *(uint4 *)(tile + row * PITCH + at) = v;
        if (transposed) {
            unsigned u[4] = {v.x, v.y, v.z, v.w};
            for (int k = 0; k < 8; k++) transposed[(at + k) * PITCH + row] = (bf16)(u[k / 2] >> (k % 2 * 16));
        }
    }
}

// The A fragments of 16 rows from a tile in shared memory: four steps of 16 channels.
__device__ inline void rows_of(const bf16 *tile, int first, unsigned a[4][4]) {
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 4; i++) {
            a[step][i] = *(const unsigned *)(tile + (first + r + i % 2 * 8) * PITCH + step * 16 + c + i / 2 * 8);
        }
    }
}

// d[16, 64] += a[16, 64] t^T with the tile t[64, 64] in shared memory.
__device__ inline void times(float d[8][4], const unsigned a[4][4], const bf16 *t) {
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    for (int n = 0; n < 8; n++) {
        for (int step = 0; step < 4; step++) {
            const bf16 *at = t + (n * 8 + r) * PITCH + step * 16 + c;
            mma(d[n], a[step], *(const unsigned *)at, *(const unsigned *)(at + 8));
        }
    }
}

// What a product left, [16, 64], as the A of another.
__device__ inline void again(const float d[8][4], unsigned a[4][4]) {
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 4; i++) {
            const float *pair = d[2 * step + i / 2] + i % 2 * 2;
            a[step][i] = pack(pair[0], pair[1]);
        }
    }
}

__device__ inline void zero(float d[8][4]) {
    for (int n = 0; n < 8; n++)
        for (int i = 0; i < 4; i++) d[n][i] = 0.0f;
}

// Writes a warp's [16, 64], times a factor for each half of its rows.
__device__ inline void put(bf16 *x, long stride, int first, int rows, const float d[8][4], float low, float high) {
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    for (int n = 0; n < 8; n++) {
        bf16 *at = x + (long)(first + r) * stride + n * 8 + c;
        if (first + r < rows) *(unsigned *)at = pack(d[n][0] * low, d[n][1] * low);
        if (first + r + 8 < rows) *(unsigned *)(at + 8 * stride) = pack(d[n][2] * high, d[n][3] * high);
    }
}

// Sum or maximum over the four threads that share a row of a fragment.
__device__ inline float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

__device__ inline float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// Where this block's head begins in a matrix of so many rows a sample.
__device__ inline long head_of(int rows, int heads) {
    return (long)blockIdx.z * rows * heads * 64 + blockIdx.y * 64;
}

// grid: tiles of queries, heads, b. p: q k v out sums; n: queries, keys, heads, causal; f: scale
extern "C" __global__ void __launch_bounds__(128) attention(Arguments a) {
    __shared__ __align__(16) bf16 tile[TILE * PITCH], transposed[TILE * PITCH];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    long stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    int first = blockIdx.x * TILE, mine = first + threadIdx.x / 32 * 16;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    unsigned q[4][4], p[4][4];
    fetch((const bf16 *)a.p[0] + of_q, stride, first, queries, tile, 0);
    __syncthreads();
    rows_of(tile, threadIdx.x / 32 * 16, q);
    float most[2] = {-1e30f, -1e30f}, sum[2] = {0.0f, 0.0f}, out[8][4], s[8][4];
    zero(out);
    int end = causal && first + TILE < keys ? first + TILE : keys;
    for (int key = 0; key < end; key += TILE) {
        __syncthreads();
        fetch((const bf16 *)a.p[1] + of_k, stride, key, keys, tile, 0);
        fetch((const bf16 *)a.p[2] + of_k, stride, key, keys, 0, transposed);
        __syncthreads();
        zero(s);
        times(s, q, tile);
        float now[2] = {most[0], most[1]};
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) {
                int at = key + n * 8 + c + i % 2, row = mine + r + i / 2 * 8;
                s[n][i] = at < keys && (!causal || at <= row) ? s[n][i] * a.f[0] : -1e30f;
                now[i / 2] = fmaxf(now[i / 2], s[n][i]);
            }
        }
        for (int half = 0; half < 2; half++) {
            now[half] = row_max(now[half]);
            float shrink = __expf(most[half] - now[half]);
            most[half] = now[half];
            sum[half] *= shrink;
            for (int n = 0; n < 8; n++) {
                for (int i = 0; i < 2; i++) {
                    float *score = &s[n][2 * half + i];
                    *score = *score > -1e29f ? __expf(*score - now[half]) : 0.0f;
                    sum[half] += *score;
                    out[n][2 * half + i] *= shrink;
                }
            }
        }
        again(s, p);
        times(out, p, transposed);
    }
    for (int half = 0; half < 2; half++) {
        sum[half] = row_sum(sum[half]);
        int row = mine + r + half * 8;
        if (c == 0 && row < queries) {
            ((float *)a.p[4])[((long)blockIdx.z * heads + blockIdx.y) * queries + row] = most[half] + __logf(sum[half]);
        }
    }
    put((bf16 *)a.p[3] + of_q, stride, mine, queries, out, 1.0f / sum[0], 1.0f / sum[1]);
}

// along[b, heads, rows] = sum over channels of g o, a warp for each row and head. p: o g along; n: rows, heads, b
extern "C" __global__ void attention_along(Arguments a) {
    long i = thread_index() / 32;
    int lane = threadIdx.x % 32, rows = a.n[0], heads = a.n[1];
    if (i >= (long)a.n[2] * heads * rows) return;
    long row = i % rows, head = i / rows % heads, sample = i / rows / heads;
    long at = ((sample * rows + row) * heads + head) * 64 + lane * 2;
    const bf16 *o = (const bf16 *)a.p[0] + at, *g = (const bf16 *)a.p[1] + at;
    float sum = warp_sum(widen(o[0]) * widen(g[0]) + widen(o[1]) * widen(g[1]));
    if (lane == 0) ((float *)a.p[2])[i] = sum;
}

// grid: tiles of keys, heads, b. p: q k v sums g along by_k by_v; n: queries, keys, heads, causal; f: scale
extern "C" __global__ void __launch_bounds__(128) attention_by_keys(Arguments a) {
    __shared__ __align__(16) bf16 q[TILE * PITCH], q_transposed[TILE * PITCH];
    __shared__ __align__(16) bf16 g[TILE * PITCH], g_transposed[TILE * PITCH];
    __shared__ float sums[TILE], along[TILE];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    long stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    long of_row = ((long)blockIdx.z * heads + blockIdx.y) * queries;
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    unsigned k[4][4], v[4][4], p[4][4];
    fetch((const bf16 *)a.p[1] + of_k, stride, first, keys, q, 0);
    fetch((const bf16 *)a.p[2] + of_k, stride, first, keys, g, 0);
    __syncthreads();
    rows_of(q, warp, k);
    rows_of(g, warp, v);
    float by_k[8][4], by_v[8][4], s[8][4], d[8][4];
    zero(by_k);
    zero(by_v);
    for (int query = causal ? first : 0; query < queries; query += TILE) {
        __syncthreads();
        fetch((const bf16 *)a.p[0] + of_q, stride, query, queries, q, q_transposed);
        fetch((const bf16 *)a.p[4] + of_q, stride, query, queries, g, g_transposed);
        if (threadIdx.x < TILE) {
            int row = query + threadIdx.x;
            // Beyond the last row a probability is exp of minus much.
            sums[threadIdx.x] = row < queries ? ((const float *)a.p[3])[of_row + row] : 1e30f;
            along[threadIdx.x] = row < queries ? ((const float *)a.p[5])[of_row + row] : 0.0f;
        }
        __syncthreads();
        zero(s);
        zero(d);
        times(s, k, q);
        times(d, v, g);
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) {
                int at = n * 8 + c + i % 2, key = mine + r + i / 2 * 8;
                int seen = key < keys && (!causal || key <= query + at);
                s[n][i] = seen ? __expf(s[n][i] * a.f[0] - sums[at]) : 0.0f;
                d[n][i] = s[n][i] * (d[n][i] - along[at]);
            }
        }
        again(s, p);
        times(by_v, p, g_transposed);
        again(d, p);
        times(by_k, p, q_transposed);
    }
    put((bf16 *)a.p[6] + of_k, stride, mine, keys, by_k, a.f[0], a.f[0]);
    put((bf16 *)a.p[7] + of_k, stride, mine, keys, by_v, 1.0f, 1.0f);
}

// grid: tiles of queries, heads, b. p: q k v sums g along by_q; n: queries, keys, heads, causal; f: scale
extern "C" __global__ void __launch_bounds__(128) attention_by_queries(Arguments a) {
    __shared__ __align__(16) bf16 k[TILE * PITCH], k_transposed[TILE * PITCH], v[TILE * PITCH];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    long stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    long of_row = ((long)blockIdx.z * heads + blockIdx.y) * queries;
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    unsigned q[4][4], g[4][4], p[4][4];
    fetch((const bf16 *)a.p[0] + of_q, stride, first, queries, k, 0);
    fetch((const bf16 *)a.p[4] + of_q, stride, first, queries, v, 0);
    __syncthreads();
    rows_of(k, warp, q);
    rows_of(v, warp, g);
    float sum[2], along[2], by_q[8][4], s[8][4], d[8][4];
    for (int half = 0; half < 2; half++) {
        int row = mine + r + half * 8;
        sum[half] = row < queries ? ((const float *)a.p[3])[of_row + row] : 1e30f;
        along[half] = row < queries ? ((const float *)a.p[5])[of_row + row] : 0.0f;
    }
    zero(by_q);
    int end = causal && first + TILE < keys ? first + TILE : keys;
    for (int key = 0; key < end; key += TILE) {
        __syncthreads();
        fetch((const bf16 *)a.p[1] + of_k, stride, key, keys, k, k_transposed);
        fetch((const bf16 *)a.p[2] + of_k, stride, key, keys, v, 0);
        __syncthreads();
        zero(s);
        zero(d);
        times(s, q, k);
        times(d, g, v);
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) {
                int at = key + n * 8 + c + i % 2, row = mine + r + i / 2 * 8;
                int seen = at < keys && (!causal || at <= row);
                float probability = seen ? __expf(s[n][i] * a.f[0] - sum[i / 2]) : 0.0f;
                d[n][i] = probability * (d[n][i] - along[i / 2]);
            }
        }
        again(d, p);
        times(by_q, p, k_transposed);
    }
    put((bf16 *)a.p[6] + of_q, stride, mine, queries, by_q, a.f[0], a.f[0]);
}
