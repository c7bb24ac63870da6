// Attention with heads of 64 channels on the matrix units, after flash attention (Dao, "FlashAttention-2", 2023): scores
// are never stored. Tiles of 64 queries and 64 keys, four warps of 16 rows each; the next tile is copied while one is
// multiplied. The backward pass is two kernels, one for the gradients of k and v and one for that of q: each sums in its
// own order, so there are no atomics and every run gives the same bits. q, k, v, o are narrow [b, rows, heads 64]; sums
// [b, heads, rows] are logarithms of sums of exponentials. Rows beyond the last are zeros in a tile, and add nothing.
// The products themselves are in tiles.cu.

#define LOG2E 1.44269504f

// Blocks of the backward kernels on a multiprocessor for which registers are to suffice without spilling.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define BLOCKS_BY_KEYS 2
#define BLOCKS_BY_QUERIES 4
#else
#define BLOCKS_BY_KEYS 1
#define BLOCKS_BY_QUERIES 2
#endif

// Sum or maximum over the four threads that share a row of a fragment.
__device__ inline float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

__device__ inline float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// Where this block's head begins in a matrix of so many rows a sample, which is less than 2^32 numbers.
__device__ inline unsigned head_of(int rows, int heads) {
    return (blockIdx.z * rows * heads + blockIdx.y) * 64;
}

// grid: tiles of queries, heads, b. p: q k v out sums; n: queries, keys, heads, causal; f: scale
extern "C" __global__ void __launch_bounds__(128) attention(Arguments a) {
    __shared__ __align__(1024) bf16 tiles[2][2][CELLS], q[CELLS];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    unsigned stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    const bf16 *k = (const bf16 *)a.p[1], *v = (const bf16 *)a.p[2];
    unsigned p[4][4];
    Part part = part_of(of_k, stride, 0, keys);
    fetch((const bf16 *)a.p[0], part_of(of_q, stride, first, queries), q);
    fetch(k, part, tiles[0][0]);
    fetch(v, part, tiles[0][1]);
    float scale = a.f[0] * LOG2E, most[2] = {-1e30f, -1e30f}, sum[2] = {0.0f, 0.0f}, out[8][4], s[8][4];
    zero(out);
    int end = causal && first + TILE < keys ? first + TILE : keys;
    for (int key = 0, now = 0; key < end; key += TILE, now ^= 1) {
        fetched();
        if (key + TILE < end) {
            advance(part);
            fetch(k, part, tiles[now ^ 1][0]);
            fetch(v, part, tiles[now ^ 1][1]);
        }
        times(s, q, tiles[now][0], 1);
        finish(s, 0);
        // Every row sees key 0, so that the largest is a score, and what is hidden adds 2^-huge.
        if (key + TILE > keys) {
            for (int n = 0; n < 8; n++)
                for (int i = 0; i < 4; i++) s[n][i] = n * 8 + i % 2 < keys - key - c ? s[n][i] : -1e30f;
        }
        if (causal & (key == first)) {
            for (int n = 0; n < 8; n++)
                for (int i = 0; i < 4; i++) s[n][i] = n * 8 + i % 2 - i / 2 * 8 <= warp + r - c ? s[n][i] : -1e30f;
        }
        for (int half = 0; half < 2; half++) {
            float high = s[0][2 * half];
            for (int n = 0; n < 8; n++) high = fmaxf(high, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
            high = fmaxf(most[half], row_max(high) * scale);
            float shrink = power(most[half] - high);
            most[half] = high;
            sum[half] *= shrink;
            for (int n = 0; n < 8; n++) {
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    s[n][i] = power(fmaf(s[n][i], scale, -high));
                    sum[half] += s[n][i];
                    out[n][i] *= shrink;
                }
            }
        }
        again(s, p);
        times_turned(out, p, tiles[now][1]);
        finish(out, 0);
    }
    for (int half = 0; half < 2; half++) {
        sum[half] = row_sum(sum[half]);
        int row = mine + r + half * 8;
        if (c == 0 && row < queries) {
            float all = most[half] / LOG2E + __logf(sum[half]);
            ((float *)a.p[4])[((long)blockIdx.z * heads + blockIdx.y) * queries + row] = all;
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
extern "C" __global__ void __launch_bounds__(128, BLOCKS_BY_KEYS) attention_by_keys(Arguments a) {
    __shared__ __align__(1024) bf16 tiles[2][2][CELLS], k[CELLS], v[CELLS];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    unsigned stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    long of_row = ((long)blockIdx.z * heads + blockIdx.y) * queries;
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2, begin = causal ? first : 0;
    const bf16 *q = (const bf16 *)a.p[0], *g = (const bf16 *)a.p[4];
    const float *sums = (const float *)a.p[3] + of_row, *alongs = (const float *)a.p[5] + of_row;
    unsigned p[4][4], e[4][4];
    Part part = part_of(of_k, stride, first, keys);
    fetch((const bf16 *)a.p[1], part, k);
    fetch((const bf16 *)a.p[2], part, v);
    part = part_of(of_q, stride, begin, queries);
    if (begin < queries) {
        fetch(q, part, tiles[0][0]);
        fetch(g, part, tiles[0][1]);
    }
    float scale = a.f[0] * LOG2E, by_k[8][4], by_v[8][4], s[8][4], d[8][4], sum[16], along[16];
    zero(by_k);
    zero(by_v);
    for (int query = begin, now = 0; query < queries; query += TILE, now ^= 1) {
        fetched();
        if (query + TILE < queries) {
            advance(part);
            fetch(q, part, tiles[now ^ 1][0]);
            fetch(g, part, tiles[now ^ 1][1]);
        }
        if (query + TILE <= queries) {
            const float *of_sums = sums + query + c, *of_alongs = alongs + query + c;
            for (int i = 0; i < 16; i++) sum[i] = of_sums[i / 2 * 8 + i % 2], along[i] = of_alongs[i / 2 * 8 + i % 2];
        } else {
            // Beyond the last query those of the last: finite, which is enough where q and g are 0.
            for (int i = 0; i < 16; i++) {
                int at = query + i / 2 * 8 + c + i % 2, there = at < queries ? at : queries - 1;
                sum[i] = sums[there], along[i] = alongs[there];
            }
        }
        times(s, k, tiles[now][0], 1);
        times(d, v, tiles[now][1], 1);
        finish(s, 1);
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) s[n][i] = power(fmaf(s[n][i], scale, sum[2 * n + i % 2] * -LOG2E));
        }
        if (causal & (query == first)) {
            for (int n = 0; n < 8; n++)
                for (int i = 0; i < 4; i++) s[n][i] = n * 8 + i % 2 - i / 2 * 8 >= warp + r - c ? s[n][i] : 0.0f;
        }
        again(s, p);
        times_turned(by_v, p, tiles[now][1]);
        finish(d, 1);
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) d[n][i] = s[n][i] * (d[n][i] - along[2 * n + i % 2]);
        }
        again(d, e);
        times_turned(by_k, e, tiles[now][0]);
        finish(by_v, 1);
        finish(by_k, 0);
    }
    put((bf16 *)a.p[6] + of_k, stride, mine, keys, by_k, a.f[0], a.f[0]);
    put((bf16 *)a.p[7] + of_k, stride, mine, keys, by_v, 1.0f, 1.0f);
}

// grid: tiles of queries, heads, b. p: q k v sums g along by_q; n: queries, keys, heads, causal; f: scale
extern "C" __global__ void __launch_bounds__(128, BLOCKS_BY_QUERIES) attention_by_queries(Arguments a) {
    __shared__ __align__(1024) bf16 tiles[2][2][CELLS], q[CELLS], g[CELLS];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    unsigned stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    long of_row = ((long)blockIdx.z * heads + blockIdx.y) * queries;
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    const bf16 *k = (const bf16 *)a.p[1], *v = (const bf16 *)a.p[2];
    Part part = part_of(of_q, stride, first, queries);
    fetch((const bf16 *)a.p[0], part, q);
    fetch((const bf16 *)a.p[4], part, g);
    part = part_of(of_k, stride, 0, keys);
    fetch(k, part, tiles[0][0]);
    fetch(v, part, tiles[0][1]);
    float scale = a.f[0] * LOG2E, sum[2], along[2], by_q[8][4], s[8][4], d[8][4];
    unsigned e[4][4];
    for (int half = 0; half < 2; half++) {
        int row = mine + r + half * 8;
        sum[half] = row < queries ? ((const float *)a.p[3])[of_row + row] * -LOG2E : 0.0f;
        along[half] = row < queries ? ((const float *)a.p[5])[of_row + row] : 0.0f;
    }
    zero(by_q);
    int end = causal && first + TILE < keys ? first + TILE : keys;
    for (int key = 0, now = 0; key < end; key += TILE, now ^= 1) {
        fetched();
        if (key + TILE < end) {
            advance(part);
            fetch(k, part, tiles[now ^ 1][0]);
            fetch(v, part, tiles[now ^ 1][1]);
        }
        times(s, q, tiles[now][0], 1);
        times(d, g, tiles[now][1], 1);
        finish(s, 1);
        for (int n = 0; n < 8; n++)
            for (int i = 0; i < 4; i++) s[n][i] = power(fmaf(s[n][i], scale, sum[i / 2]));
        if (key + TILE > keys) {
            for (int n = 0; n < 8; n++)
                for (int i = 0; i < 4; i++) s[n][i] = n * 8 + i % 2 < keys - key - c ? s[n][i] : 0.0f;
        }
        if (causal & (key == first)) {
            for (int n = 0; n < 8; n++)
                for (int i = 0; i < 4; i++) s[n][i] = n * 8 + i % 2 - i / 2 * 8 <= warp + r - c ? s[n][i] : 0.0f;
        }
        finish(d, 0);
        for (int n = 0; n < 8; n++)
            for (int i = 0; i < 4; i++) d[n][i] = s[n][i] * (d[n][i] - along[i / 2]);
        again(d, e);
        times_turned(by_q, e, tiles[now][0]);
        finish(by_q, 0);
    }
    put((bf16 *)a.p[6] + of_q, stride, mine, queries, by_q, a.f[0], a.f[0]);
}
