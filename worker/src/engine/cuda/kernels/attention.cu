// Attention with heads of 64 channels on the matrix units, after flash attention (Dao, "FlashAttention-2", 2023): scores
// are never stored. Tiles of 64 queries and 64 keys, four warps of 16 rows each; the next tile is copied while one is
// multiplied. The backward pass is two kernels, one for the gradients of k and v and one for that of q: each sums in its
// own order, so there are no atomics and every run gives the same bits. q, k, v, o are narrow [b, rows, heads 64], rows of q
// and those of k and v as far apart as the strides say: they may lie side by side. Sums [b, heads, rows] are logarithms of sums of exponentials. Rows beyond the last are zeros in a tile, and add nothing.
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
__device__ inline unsigned head_of(int rows, unsigned stride) {
    return blockIdx.z * rows * stride + blockIdx.y * 64;
}

// grid: tiles of queries, heads, b. p: q k v out sums; n: queries, keys, heads, causal, strides of q and of k; f: scale
extern "C" __global__ void __launch_bounds__(128) attention(Arguments a) {
    __shared__ __align__(1024) bf16 tiles[2][2][CELLS], q[CELLS];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    const bf16 *k = (const bf16 *)a.p[1], *v = (const bf16 *)a.p[2];
    unsigned p[4][4];
    Part part = part_of(head_of(keys, a.n[5]), a.n[5], 0, keys);
    fetch((const bf16 *)a.p[0], part_of(head_of(queries, a.n[4]), a.n[4], first, queries), q);
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
    unsigned stride = heads * 64;
    put((bf16 *)a.p[3] + head_of(queries, stride), stride, mine, queries, out, 1.0f / sum[0], 1.0f / sum[1]);
}

// Where a row's number is among those of so many places for each head; its second is a tile's rows further.
__device__ inline long of_row(long head, long row, int places) {
    return (head * places + row / TILE * TILE) * 2 + row % TILE;
}

// For rows `row` and `row + 8` -sums log2(e), and the sums over channels of g o, to which four threads contribute.
__device__ inline void numbers_of_rows(const Arguments &a, int row, float sum[2], float along[2]) {
    int queries = a.n[0], heads = a.n[2], quarter = threadIdx.x % 4;
    long head = (long)blockIdx.z * heads + blockIdx.y;
    float *to = (float *)a.p[6];
    for (int half = 0; half < 2; half++, row += 8) {
        int there = row < queries;
        sum[half] = there ? ((const float *)a.p[5])[head * queries + row] * -LOG2E : 0.0f;
        along[half] = 0.0f;
        for (int piece = quarter; there && piece < 8; piece += 4) {
            long at = (((long)blockIdx.z * queries + row) * heads + blockIdx.y) * 64 + piece * 8;
            Eight g = load8(a.p[3], at, 0), o = load8(a.p[4], at, 0);
            for (int k = 0; k < 8; k++) along[half] += g.x[k] * o.x[k];
        }
        along[half] = row_sum(along[half]);
        if (to && quarter == 0) {
            long at = of_row(head, row, a.n[6]);
            to[at] = sum[half], to[at + TILE] = along[half];
        }
    }
}

// Also what by_keys needs of each row: of_rows[b, heads, places / 64, 2, 64] = for 64 rows -sums log2(e), then sums over
// channels of g o; zeros beyond the last row. p: q k v g o sums of_rows (or null) by_q; n: queries, keys, heads, causal,
// strides of q and of k, places; f: scale
// grid: tiles of queries, heads, b
extern "C" __global__ void __launch_bounds__(128, BLOCKS_BY_QUERIES) attention_by_queries(Arguments a) {
    __shared__ __align__(1024) bf16 tiles[2][2][CELLS], q[CELLS], g[CELLS];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    unsigned stride = a.n[4], of_q = head_of(queries, stride);
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    const bf16 *k = (const bf16 *)a.p[1], *v = (const bf16 *)a.p[2];
    fetch((const bf16 *)a.p[0], part_of(of_q, stride, first, queries), q);
    fetch((const bf16 *)a.p[3], part_of(head_of(queries, heads * 64), heads * 64, first, queries), g);
    Part part = part_of(head_of(keys, a.n[5]), a.n[5], 0, keys);
    fetch(k, part, tiles[0][0]);
    fetch(v, part, tiles[0][1]);
    float sum[2], along[2];
    numbers_of_rows(a, mine + r, sum, along);
    float scale = a.f[0] * LOG2E, by_q[8][4], s[8][4], d[8][4];
    unsigned e[4][4];
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
    put((bf16 *)a.p[7] + of_q, stride, mine, queries, by_q, a.f[0], a.f[0]);
}

// Probabilities of a warp's keys for a tile of queries, whose sums these are: those before `seen` do not see the first key.
__device__ inline void probabilities(float s[8][4], const float sums[TILE], float scale, int seen) {
    int c = threadIdx.x % 4 * 2;
    for (int n = 0; n < 8; n++) {
        float2 sum = *(const float2 *)&sums[n * 8 + c];
        for (int i = 0; i < 4; i++) s[n][i] = power(fmaf(s[n][i], scale, i % 2 ? sum.y : sum.x));
    }
    if (seen >= 0) {
        for (int n = 0; n < 8; n++)
            for (int i = 0; i < 4; i++) s[n][i] = n * 8 + c + i % 2 - i / 2 * 8 >= seen ? s[n][i] : 0.0f;
    }
}

// grid: tiles of keys, heads, b. p: q k v g of_rows by_k by_v; n: queries, keys, heads, causal, strides of q and of k,
// places; f: scale
extern "C" __global__ void __launch_bounds__(128, BLOCKS_BY_KEYS) attention_by_keys(Arguments a) {
    __shared__ __align__(1024) bf16 of_q[3][CELLS], of_g[2][CELLS];
    __shared__ __align__(16) float numbers[2][2 * TILE];
    int queries = a.n[0], keys = a.n[1], heads = a.n[2], causal = a.n[3];
    unsigned stride = a.n[5], to = head_of(keys, stride), nothing = keys >> 31;
    int first = blockIdx.x * TILE, warp = threadIdx.x / 32 * 16, mine = first + warp;
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2, begin = causal ? first : 0, four = threadIdx.x % 32 * 4;
    const bf16 *q = (const bf16 *)a.p[0], *g = (const bf16 *)a.p[3];
    const float *rows = (const float *)a.p[4] + of_row((long)blockIdx.z * heads + blockIdx.y, 0, a.n[6]) + four;
    unsigned k[4][4], v[4][4], p[4][4], e[4][4];
    Part part_q = part_of(head_of(queries, a.n[4]), a.n[4], begin, queries);
    Part part_g = part_of(head_of(queries, heads * 64), heads * 64, begin, queries);
    float scale = a.f[0] * LOG2E, by_k[8][4], by_v[8][4], s[8][4], d[8][4];
    zero(by_k);
    zero(by_v);
    // Beyond the last query q and g are 0, and their numbers are those of a tile that is there.
    for (int at = 0; at < 2; at++) {
        fetch(q, part_q, of_q[at]);
        fetch(g, part_g, of_g[at]);
        int tile = begin + at * TILE < queries ? begin + at * TILE : 0;
        copy16(&numbers[at][four], rows + tile * 2, 1);
        advance(part_q);
        advance(part_g);
    }
    rows_of((const bf16 *)a.p[1], to, stride, mine, keys, k);
    rows_of((const bf16 *)a.p[2], to, stride, mine, keys, v);
    fetched();
    times(s, k, of_q[0], 1);
    times(d, v, of_g[0], 1);
    finish(s, 1);
    probabilities(s, numbers[0], scale, causal ? mine + r - first : -TILE);
    finish(d, 0);
    for (int query = begin, now = 0, place = 0;; query += TILE, now ^= 1) {
        again(s, p);
        times_turned(by_v, p, of_g[now]);
        for (int n = 0; n < 8; n++) {
            float2 along = *(const float2 *)&numbers[now][TILE + n * 8 + c];
            for (int i = 0; i < 4; i++) d[n][i] = s[n][i] * (d[n][i] - (i % 2 ? along.y : along.x));
        }
        again(d, e);
        times_turned(by_k, e, of_q[place]);
        if (query + TILE >= queries) break;
        finish(by_v, 1);
        fetched();
        // Every warp is done with this tile's g and with the q of the one before.
        place = place == 2 ? 0 : place + 1;
        if (query + 2 * TILE < queries) {
            fetch(q, part_q, of_q[place == 2 ? 0 : place + 1]);
            fetch(g, part_g, of_g[now]);
            copy16(&numbers[now][four], rows + (query + 2 * TILE) * 2, 1);
            advance(part_q);
            advance(part_g);
        }
        hold(k, nothing);
        hold(v, nothing);
        times(s, k, of_q[place], 1);
        times(d, v, of_g[now ^ 1], 1);
        finish(s, 1);
        finish(by_k, 1);
        probabilities(s, numbers[now ^ 1], scale, -TILE);
        finish(d, 0);
    }
    finish(by_k, 0);
    finish(by_v, 0);
    put((bf16 *)a.p[5] + to, stride, mine, keys, by_k, a.f[0], a.f[0]);
    put((bf16 *)a.p[6] + to, stride, mine, keys, by_v, 1.0f, 1.0f);
}
