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

// Waits for all copies.
__device__ inline void await_copies() {
    asm volatile("cp.async.wait_all;");
}

// 2^x; tiny results are zero.
__device__ inline float power(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
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

// What a thread copies of the tiles of a matrix: one piece of four rows, 16 rows apart. Where they begin in memory and
// in a tile is found once; the next tile costs an addition.
struct Part {
    unsigned from, stride;
    int to, left;
};

// For rows from `first` on of matrices with so many, whose head begins at `head`.
__device__ inline Part part_of(unsigned head, unsigned stride, int first, int rows) {
    int row = threadIdx.x / 8, channel = threadIdx.x % 8 * 8;
    return {head + (first + row) * stride + channel, stride, cell(row, channel), rows - first - row};
}

// Begins to copy 64 rows of one head, zeros beyond the last row, where nothing is read.
__device__ inline void fetch(const bf16 *x, const Part &part, bf16 *tile) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        copy16(tile + part.to + i * 16 * 64, x + (part.from + i * 16 * part.stride), i * 16 < part.left);
    }
}

__device__ inline void advance(Part &part) {
    part.from += TILE * part.stride;
    part.left -= TILE;
}

// Waits until all that was begun is there, for the whole block.
__device__ inline void fetched() {
    await_copies();
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

// The A fragments of 16 rows of one head in memory, four steps of 16 channels; zeros beyond the last row.
__device__ inline void rows_of(const bf16 *x, unsigned head, unsigned stride, int first, int rows, unsigned a[4][4]) {
    int r = first + threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2;
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 4; i++) {
            int row = r + i % 2 * 8;
            a[step][i] = row < rows ? *(const unsigned *)(x + (head + row * stride + step * 16 + i / 2 * 8 + c)) : 0;
        }
    }
}

// The A fragments of 16 rows of a tile: four steps of 16 channels.
__device__ inline void rows_of(const bf16 *tile, int first, unsigned a[4][4]) {
    int row = first + threadIdx.x % 16, channel = threadIdx.x % 32 / 16 * 8;
    for (int step = 0; step < 4; step++) load_matrices(a[step], tile + cell(row, step * 16 + channel));
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#define FOUR(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define ALL(d) FOUR(d, 0), FOUR(d, 1), FOUR(d, 2), FOUR(d, 3), FOUR(d, 4), FOUR(d, 5), FOUR(d, 6), FOUR(d, 7)

// Hopper: four warps together, A from registers or shared memory as `from` says, B from shared memory. `turns` ends
// as the instruction wants it: 0 where a row of the tile is a column of B, 1 where it is a row.
#define WGMMA(d, from, b, keep, turns, ...)                                                                            \
    asm volatile(                                                                                                      \
        "{ .reg .pred p; setp.ne.b32 p, %33, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"                \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,"   \
        "%29,%30,%31}, " from ", %32, p, 1, 1, " turns "; }"                                                           \
        : ALL(d)                                                                                                       \
        : "l"(b), "r"(keep), __VA_ARGS__)

#define FROM_REGISTERS "{%34,%35,%36,%37}"
#define REGISTERS(a) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])

// The descriptor of a tile: its address, 1024 bytes from eight rows to the next eight, swizzled by 128 bytes.
__device__ inline unsigned long long tile_of(const bf16 *tile) {
    return (unsigned long long)((shared_address(tile) & 0x3ffff) >> 4) | 64ull << 16 | 64ull << 32 | 1ull << 62;
}

__device__ inline void begin_products(float d[8][4]) {
    // The instructions want their warps together.
    __syncwarp();
    asm volatile("" : ALL(d)::"memory");
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// Says that fixed A fragments change in a loop, by a `nothing` that the compiler can't know to be 0: that of CUDA 13.0 gives
// the registers of those that don't change to others after the loop's first round, while products still read them.
__device__ inline void hold(unsigned a[4][4], unsigned nothing) {
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 4; i++) asm volatile("xor.b32 %0, %0, %1;" : "+r"(a[step][i]) : "r"(nothing));
    }
}

// d[16, 64] (+)= a[16, 64] t^T: begins; `finish` waits for it.
__device__ inline void times(float d[8][4], const unsigned a[4][4], const bf16 *t, int fresh) {
    begin_products(d);
    unsigned long long b = tile_of(t);
#pragma unroll
    for (int step = 0; step < 4; step++) WGMMA(d, FROM_REGISTERS, b + step * 2, step || !fresh ? 1 : 0, "0", REGISTERS(a[step]));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// d[16, 64] (+)= a[16, 64] t^T with a tile's rows as a, 16 for each warp, which costs no registers.
__device__ inline void times(float d[8][4], const bf16 *rows, const bf16 *t, int fresh) {
    begin_products(d);
    unsigned long long a = tile_of(rows), b = tile_of(t);
#pragma unroll
    for (int step = 0; step < 4; step++) {
        WGMMA(d, "%34", b + step * 2, step || !fresh ? 1 : 0, "0, 0", "l"(a + step * 2));
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// d[16, 64] += a[16, 64] t: begins.
__device__ inline void times_turned(float d[8][4], const unsigned a[4][4], const bf16 *t) {
    begin_products(d);
    unsigned long long b = tile_of(t);
#pragma unroll
    for (int step = 0; step < 4; step++) WGMMA(d, FROM_REGISTERS, b + step * 128, 1, "1", REGISTERS(a[step]));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits for all products begun but the latest `left`: their results are not to be touched before.
__device__ inline void finish(float d[8][4], int left) {
    if (left) {
        asm volatile("wgmma.wait_group.sync.aligned 1;" : ALL(d)::"memory");
    } else {
        asm volatile("wgmma.wait_group.sync.aligned 0;" : ALL(d)::"memory");
    }
}

#else

#ifdef __CUDA_ARCH__
__device__ inline void mma(float d[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
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

__device__ inline void times(float d[8][4], const bf16 *rows, const bf16 *t, int fresh) {
    unsigned a[4][4];
    rows_of(rows, threadIdx.x / 32 * 16, a);
    times(d, a, t, fresh);
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

__device__ inline void hold(unsigned[4][4], unsigned) {}

__device__ inline void finish(float[8][4], int) {}

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
