// Tiles of 64 rows and 64 channels in shared memory, and products with them on the matrix units.
//
// A row of a tile is 128 bytes: eight pieces of 16 bytes, piece i of row r at place i ^ (r % 8). That is the layout that
// Hopper's matrix instructions call 128-byte swizzled, and elsewhere it keeps the threads of a warp out of each other's
// banks. A tile begins at a multiple of 1024 bytes.
//
// Fragments of mma.m16n8k16, by the PTX manual: with r = lane / 4 and c = lane % 4 * 2, a thread has of A (16 x 16) the
// pairs (r, c) (r + 8, c) (r, c + 8) (r + 8, c + 8), of B (16 x 8) the pairs of rows (c, r) (c + 8, r), and of C (16 x 8)
// the pairs (r, c) (r + 8, c). What four warps have of wgmma.m64n64k16 is the same, warp by warp, so that code around the
// products need not know which of the two there is.

#define TILE 64
#define CELLS (TILE * 64)

__device__ inline int cell(int row, int channel) {
    return row * 64 + ((channel / 8 ^ row % 8) * 8) + channel % 8;
}

#ifdef __CUDA_ARCH__

__device__ inline unsigned shared_address(const void *p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

// Begins to copy 16 bytes, or zeros.
__device__ inline void copy16(void *to, const void *from, int there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0));
}

__device__ inline void copy4(void *to, const void *from, int there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 4 : 0));
}

// What was begun since the last call is a group from now on.
__device__ inline void copied() {
    asm volatile("cp.async.commit_group;");
}

// Waits for all groups but the latest `left`.
__device__ inline void await_copies(int left) {
    if (left == 0) asm volatile("cp.async.wait_group 0;");
    if (left == 2) asm volatile("cp.async.wait_group 2;");
    if (left == 3) asm volatile("cp.async.wait_group 3;");
}

// 2^x; tiny results are zero.
__device__ inline float power(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

// Begins to copy 64 rows of one head, zeros beyond the last row: one group of copies.
__device__ inline void fetch(const bf16 *x, long stride, int first, int rows, bf16 *tile) {
    for (int i = threadIdx.x; i < TILE * 8; i += 128) {
        int row = i / 8, at = i % 8 * 8, there = first + row < rows;
        copy16(tile + cell(row, at), x + (there ? (long)(first + row) * stride + at : 0), there);
    }
    copied();
}

// The same for 64 numbers of each of two rows.
__device__ inline void fetch_row(const float *x, const float *y, int first, int rows, float to[2][TILE]) {
    int half = threadIdx.x / TILE, i = threadIdx.x % TILE, there = first + i < rows;
    copy4(&to[half][i], (half ? y : x) + (there ? first + i : 0), there);
    copied();
}

// Waits until all but the latest `left` groups are there, for the whole block.
__device__ inline void fetched(int left) {
    await_copies(left);
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    // The matrix instructions read by another way than the copies wrote.
    asm volatile("fence.proxy.async.shared::cta;");
#endif
    __syncthreads();
}

__device__ inline void zero(float d[8][4]) {
    for (int n = 0; n < 8; n++)
        for (int i = 0; i < 4; i++) d[n][i] = 0.0f;
}

// The A fragments of 16 rows of a tile: four steps of 16 channels.
__device__ inline void rows_of(const bf16 *tile, int first, unsigned a[4][4]) {
    int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 4; i++) {
            a[step][i] = *(const unsigned *)(tile + cell(first + r + i % 2 * 8, step * 16 + c + i / 2 * 8));
        }
    }
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#define FOUR(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define ALL(d) FOUR(d, 0), FOUR(d, 1), FOUR(d, 2), FOUR(d, 3), FOUR(d, 4), FOUR(d, 5), FOUR(d, 6), FOUR(d, 7)

// Hopper: four warps together, A from registers, B from shared memory. `turned` as the instruction wants it: 0 where a row of
// the tile is a column of B, 1 where it is a row.
#define WGMMA(d, a, b, keep, turned)                                                                                       \
    asm volatile(                                                                                                          \
        "{ .reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "                     \
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"  \
        "%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, " #turned "; }"                                                        \
        : ALL(d)                                                                                                           \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep))

// The descriptor of a tile: its address, 1024 bytes from eight rows to the next eight, swizzled by 128 bytes.
__device__ inline unsigned long long tile_of(const bf16 *tile) {
    return (unsigned long long)((shared_address(tile) & 0x3ffff) >> 4) | 64ull << 16 | 64ull << 32 | 1ull << 62;
}

__device__ inline void begin_products(float d[8][4]) {
    asm volatile("" : ALL(d)::"memory");
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// d[16, 64] (+)= a[16, 64] t^T: begins; `finish` waits for it.
__device__ inline void times(float d[8][4], const unsigned a[4][4], const bf16 *t, int fresh) {
    begin_products(d);
    unsigned long long b = tile_of(t);
#pragma unroll
    for (int step = 0; step < 4; step++) WGMMA(d, a[step], b + step * 2, step || !fresh ? 1 : 0, 0);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// d[16, 64] += a[16, 64] t: begins.
__device__ inline void times_turned(float d[8][4], const unsigned a[4][4], const bf16 *t) {
    begin_products(d);
    unsigned long long b = tile_of(t);
#pragma unroll
    for (int step = 0; step < 4; step++) WGMMA(d, a[step], b + step * 128, 1, 1);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits for all products begun, whose results are not to be touched before.
__device__ inline void finish(float d[8][4]) {
    asm volatile("wgmma.wait_group.sync.aligned 0;" : ALL(d)::"memory");
}

#else

#ifdef __CUDA_ARCH__
__device__ inline void mma(float d[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 matrices, whose rows begin where the threads of each eighth of the warp say: with lane = 4 r + c / 2 the pair
// (r, c), or turned (c, r) and (c + 1, r).
__device__ inline void load_matrices(unsigned b[4], const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                 : "r"(shared_address(row)));
}

__device__ inline void load_matrices_turned(unsigned b[4], const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                 : "r"(shared_address(row)));
}
#endif

__device__ inline void times(float d[8][4], const unsigned a[4][4], const bf16 *t, int fresh) {
    int row = threadIdx.x % 8, eighth = threadIdx.x % 32 / 8;
    if (fresh) zero(d);
    for (int n = 0; n < 8; n++) {
        for (int step = 0; step < 4; step += 2) {
            unsigned b[4];
            load_matrices(b, t + cell(n * 8 + row, step * 16 + eighth * 8));
            mma(d[n], a[step], b[0], b[1]);
            mma(d[n], a[step + 1], b[2], b[3]);
        }
    }
}

__device__ inline void times_turned(float d[8][4], const unsigned a[4][4], const bf16 *t) {
    int row = threadIdx.x % 8, eighth = threadIdx.x % 32 / 8;
    for (int n = 0; n < 8; n++) {
        for (int step = 0; step < 4; step += 2) {
            unsigned b[4];
            load_matrices_turned(b, t + cell(step * 16 + eighth * 8 + row, n * 8));
            mma(d[n], a[step], b[0], b[1]);
            mma(d[n], a[step + 1], b[2], b[3]);
        }
    }
}

__device__ inline void finish(float[8][4]) {}

#endif

// What a product left, [16, 64], as the A of another.
__device__ inline void again(const float d[8][4], unsigned a[4][4]) {
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 4; i++) {
            const float *pair = d[2 * step + i / 2] + i % 2 * 2;
            a[step][i] = pack(pair[0], pair[1]);
        }
    }
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
