// Attention with heads of 64 channels on the matrix units, after flash attention (Dao, "FlashAttention-2", 2023): scores
// are never stored. Tiles of 64 queries and 64 keys, four warps of 16 rows each; the next tile is copied while one is
// multiplied. The backward pass is two kernels, one for the gradients of k and v and one for that of q: each sums in its
// own order, so there are no atomics and every run gives the same bits. q, k, v, o are narrow [b, rows, heads 64]; sums
// [b, heads, rows] are logarithms of sums of exponentials. Rows beyond the last are zeros in a tile, and add nothing.
// The products themselves are in tiles.cu.

#define LOG2E 1.44269504f

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
    __shared__ __align__(1024) bf16 tiles[2][2][CELLS];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    long stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    unsigned q[4][4], p[4][4];
    fetch((const bf16 *)a.p[0] + of_q, stride, first, queries, tiles[1][0]);
    fetched(0);
    rows_of(tiles[1][0], warp, q);
    __syncthreads();
    float scale = a.f[0] * LOG2E, most[2] = {-1e30f, -1e30f}, sum[2] = {0.0f, 0.0f}, out[8][4], s[8][4];
    zero(out);
    int end = causal && first + TILE < keys ? first + TILE : keys;
    fetch((const bf16 *)a.p[1] + of_k, stride, 0, keys, tiles[0][0]);
    fetch((const bf16 *)a.p[2] + of_k, stride, 0, keys, tiles[0][1]);
    for (int key = 0, now = 0; key < end; key += TILE, now ^= 1) {
        int next = key + TILE < end;
        if (next) {
            fetch((const bf16 *)a.p[1] + of_k, stride, key + TILE, keys, tiles[now ^ 1][0]);
            fetch((const bf16 *)a.p[2] + of_k, stride, key + TILE, keys, tiles[now ^ 1][1]);
        }
        fetched(next ? 2 : 0);
        times(s, q, tiles[now][0], 1);
        finish(s);
        int cut = causal || key + TILE > keys;
        float high[2] = {most[0], most[1]};
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) {
                int at = key + n * 8 + c + i % 2, row = mine + r + i / 2 * 8;
                s[n][i] = !cut || (at < keys && (!causal || at <= row)) ? s[n][i] * scale : -1e30f;
                high[i / 2] = fmaxf(high[i / 2], s[n][i]);
            }
        }
        for (int half = 0; half < 2; half++) {
            high[half] = row_max(high[half]);
            float shrink = power(most[half] - high[half]);
            most[half] = high[half];
            sum[half] *= shrink;
            for (int n = 0; n < 8; n++) {
                for (int i = 0; i < 2; i++) {
                    float *score = &s[n][2 * half + i];
                    *score = *score > -1e29f ? power(*score - high[half]) : 0.0f;
                    sum[half] += *score;
                    out[n][2 * half + i] *= shrink;
                }
            }
        }
        again(s, p);
        times_turned(out, p, tiles[now][1]);
        finish(out);
        __syncthreads();
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
extern "C" __global__ void __launch_bounds__(128) attention_by_keys(Arguments a) {
    __shared__ __align__(1024) bf16 tiles[2][2][CELLS];
    __shared__ float along[2][2][TILE];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    long stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    long of_row = ((long)blockIdx.z * heads + blockIdx.y) * queries;
    const bf16 *q = (const bf16 *)a.p[0] + of_q, *g = (const bf16 *)a.p[4] + of_q;
    const float *sums = (const float *)a.p[3] + of_row, *alongs = (const float *)a.p[5] + of_row;
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2, begin = causal ? first : 0;
    unsigned k[4][4], v[4][4], p[4][4], e[4][4];
    fetch((const bf16 *)a.p[1] + of_k, stride, first, keys, tiles[1][0]);
    fetch((const bf16 *)a.p[2] + of_k, stride, first, keys, tiles[1][1]);
    fetched(0);
    rows_of(tiles[1][0], warp, k);
    rows_of(tiles[1][1], warp, v);
    __syncthreads();
    float scale = a.f[0] * LOG2E, by_k[8][4], by_v[8][4], s[8][4], d[8][4];
    zero(by_k);
    zero(by_v);
    if (begin < queries) {
        fetch(q, stride, begin, queries, tiles[0][0]);
        fetch(g, stride, begin, queries, tiles[0][1]);
        fetch_row(sums, alongs, begin, queries, along[0]);
    }
    for (int query = begin, now = 0; query < queries; query += TILE, now ^= 1) {
        int next = query + TILE < queries;
        if (next) {
            fetch(q, stride, query + TILE, queries, tiles[now ^ 1][0]);
            fetch(g, stride, query + TILE, queries, tiles[now ^ 1][1]);
            fetch_row(sums, alongs, query + TILE, queries, along[now ^ 1]);
        }
        fetched(next ? 3 : 0);
        times(s, k, tiles[now][0], 1);
        times(d, v, tiles[now][1], 1);
        finish(s);
        finish(d);
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) {
                int at = n * 8 + c + i % 2;
                s[n][i] = power(s[n][i] * scale - along[now][0][at] * LOG2E);
                if (causal && mine + r + i / 2 * 8 > query + at) s[n][i] = 0.0f;
                d[n][i] = s[n][i] * (d[n][i] - along[now][1][at]);
            }
        }
        again(s, p);
        again(d, e);
        times_turned(by_v, p, tiles[now][1]);
        times_turned(by_k, e, tiles[now][0]);
        finish(by_v);
        finish(by_k);
        __syncthreads();
    }
    put((bf16 *)a.p[6] + of_k, stride, mine, keys, by_k, a.f[0], a.f[0]);
    put((bf16 *)a.p[7] + of_k, stride, mine, keys, by_v, 1.0f, 1.0f);
}

// grid: tiles of queries, heads, b. p: q k v sums g along by_q; n: queries, keys, heads, causal; f: scale
extern "C" __global__ void __launch_bounds__(128) attention_by_queries(Arguments a) {
    __shared__ __align__(1024) bf16 tiles[2][2][CELLS];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    long stride = heads * 64, of_q = head_of(queries, heads), of_k = head_of(keys, heads);
    long of_row = ((long)blockIdx.z * heads + blockIdx.y) * queries;
    const bf16 *k = (const bf16 *)a.p[1] + of_k, *v = (const bf16 *)a.p[2] + of_k;
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    unsigned q[4][4], g[4][4], e[4][4];
    fetch((const bf16 *)a.p[0] + of_q, stride, first, queries, tiles[1][0]);
    fetch((const bf16 *)a.p[4] + of_q, stride, first, queries, tiles[1][1]);
    fetched(0);
    rows_of(tiles[1][0], warp, q);
    rows_of(tiles[1][1], warp, g);
    __syncthreads();
    float scale = a.f[0] * LOG2E, sum[2], along[2], by_q[8][4], s[8][4], d[8][4];
    for (int half = 0; half < 2; half++) {
        int row = mine + r + half * 8;
        sum[half] = row < queries ? ((const float *)a.p[3])[of_row + row] * LOG2E : 0.0f;
        along[half] = row < queries ? ((const float *)a.p[5])[of_row + row] : 0.0f;
    }
    zero(by_q);
    int end = causal && first + TILE < keys ? first + TILE : keys;
    fetch(k, stride, 0, keys, tiles[0][0]);
    fetch(v, stride, 0, keys, tiles[0][1]);
    for (int key = 0, now = 0; key < end; key += TILE, now ^= 1) {
        int next = key + TILE < end;
        if (next) {
            fetch(k, stride, key + TILE, keys, tiles[now ^ 1][0]);
            fetch(v, stride, key + TILE, keys, tiles[now ^ 1][1]);
        }
        fetched(next ? 2 : 0);
        times(s, q, tiles[now][0], 1);
        times(d, g, tiles[now][1], 1);
        finish(s);
        finish(d);
        int cut = causal || key + TILE > keys;
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) {
                int at = key + n * 8 + c + i % 2, row = mine + r + i / 2 * 8;
                s[n][i] = power(s[n][i] * scale - sum[i / 2]);
                if (cut && (at >= keys || (causal && at > row))) s[n][i] = 0.0f;
                d[n][i] = s[n][i] * (d[n][i] - along[i / 2]);
            }
        }
        again(d, e);
        times_turned(by_q, e, tiles[now][0]);
        finish(by_q);
        __syncthreads();
    }
    put((bf16 *)a.p[6] + of_q, stride, mine, queries, by_q, a.f[0], a.f[0]);
}
