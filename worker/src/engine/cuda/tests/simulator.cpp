// Runs the CUDA kernels on the processor, thread by thread, for tests. Each thread of a block is a fiber; a barrier hands
// over to the next. Commands come from stdin, answers go to stdout, both binary; simulator.rs speaks the same.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <ucontext.h>
#include <vector>

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

#define __device__ static
#define __global__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// The C library has functions of these names too.
#define __expf fast_exp
#define __logf fast_log

static float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
static unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
static float __expf(float x) { return std::exp(x); }
static float __logf(float x) { return std::log(x); }
static float __fdividef(float x, float y) { return x / y; }
static float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// Fibers of one block.
static const int MOST = 512;
static ucontext_t scheduler, fibers[MOST];
static std::vector<char> stacks(MOST * 65536);
static bool done[MOST];
static int current, threads;
static int arrived, generation, warp_arrived[MOST / 32], warp_generation[MOST / 32];

static void yield() { swapcontext(&fibers[current], &scheduler); }

static void __syncthreads() {
    int mine = generation;
    if (++arrived == threads) arrived = 0, generation++;
    else while (generation == mine) yield();
}

static void warp_barrier() {
    int warp = current / 32, mine = warp_generation[warp];
    if (++warp_arrived[warp] == 32) warp_arrived[warp] = 0, warp_generation[warp]++;
    else while (warp_generation[warp] == mine) yield();
}

template <class T> static T __shfl_xor_sync(unsigned, T x, int mask) {
    static T slots[MOST];
    slots[current] = x;
    warp_barrier();
    T y = slots[current / 32 * 32 + ((current % 32) ^ mask)];
    warp_barrier();
    return y;
}

// mma.m16n8k16 with the fragments of the PTX manual.
static void mma(float d[4], const unsigned a[4], unsigned b0, unsigned b1) {
    static unsigned as[MOST][4], bs[MOST][2];
    memcpy(as[current], a, 16);
    bs[current][0] = b0, bs[current][1] = b1;
    warp_barrier();
    int lane = current % 32, first = current - lane;
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        float sum = d[i];
        for (int k = 0; k < 16; k++) {
            unsigned x = as[first + row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2] >> (k % 2 * 16);
            unsigned y = bs[first + column * 4 + k % 8 / 2][k / 8] >> (k % 2 * 16);
            sum += __uint_as_float(x << 16) * __uint_as_float(y << 16);
        }
        d[i] = sum;
    }
    warp_barrier();
}

// What these begin is done at once.
static void copy16(void *to, const void *from, int there) { there ? (void)memcpy(to, from, 16) : (void)memset(to, 0, 16); }
static void await_copies() {}

static float power(float x) { return std::exp2(x); }

// ldmatrix.x4 by the PTX manual.
static void matrices(unsigned b[4], const unsigned short *row, bool turned) {
    static const unsigned short *rows[MOST];
    rows[current] = row;
    warp_barrier();
    int lane = current % 32, first = current - lane, r = lane / 4, c = lane % 4 * 2;
    for (int i = 0; i < 4; i++) {
        const unsigned short **of = rows + first + i * 8;
        b[i] = turned ? of[c][r] | of[c + 1][r] << 16 : of[r][c] | of[r][c + 1] << 16;
    }
    warp_barrier();
}

static void load_matrices(unsigned b[4], const unsigned short *row) { matrices(b, row, false); }
static void load_matrices_turned(unsigned b[4], const unsigned short *row) { matrices(b, row, true); }

#include "kernels.cu"

typedef void (*Kernel)(Arguments);
static const std::map<std::string, Kernel> KERNELS = {
#define K(name) {#name, name}
    K(add), K(cast), K(unpack), K(pointwise), K(pointwise_backward), K(geglu), K(geglu_backward), K(add_to_pixels), K(add_few),
    K(compare),
    K(sum_pixels), K(concat), K(slice), K(upsample), K(upsample_backward), K(scale_columns), K(rate_gradient),
    K(sum_chunks), K(layer_norm), K(layer_norm_backward), K(group_sums), K(group_sums_backward), K(group_totals), K(group_norm),
    K(group_norm_backward), K(convolution), K(convolution_backward), K(attention), K(attention_by_keys), K(attention_by_queries),
};

static Kernel kernel;
static Arguments arguments;

static void enter() {
    kernel(arguments);
    done[current] = true;
    swapcontext(&fibers[current], &scheduler);
}

static void launch(Index grid, unsigned block) {
    gridDim = grid, blockDim = {block, 1, 1}, threads = block;
    for (unsigned z = 0; z < grid.z; z++) for (unsigned y = 0; y < grid.y; y++) for (unsigned x = 0; x < grid.x; x++) {
        arrived = 0;
        memset(warp_arrived, 0, sizeof warp_arrived);
        for (int i = 0; i < threads; i++) {
            getcontext(&fibers[i]);
            fibers[i].uc_stack.ss_sp = &stacks[i * 65536], fibers[i].uc_stack.ss_size = 65536;
            makecontext(&fibers[i], enter, 0);
            done[i] = false;
        }
        for (int left = threads; left > 0;) {
            left = 0;
            for (current = 0; current < threads; current++) {
                if (done[current]) continue;
                threadIdx = {(unsigned)current, 0, 0}, blockIdx = {x, y, z};
                swapcontext(&scheduler, &fibers[current]);
                left += !done[current];
            }
        }
    }
}

template <class T> static T take() {
    T x;
    if (fread(&x, sizeof x, 1, stdin) != 1) exit(0);
    return x;
}

// Arena, parameters, scratch.
static std::vector<char> spaces[3];

static char *address() {
    uint32_t space = take<uint32_t>();
    uint64_t offset = take<uint64_t>();
    return space < 3 ? spaces[space].data() + offset : nullptr;
}

static float load(const char *p, long i, bool wide) { return wide ? ((const float *)p)[i] : widen(((const bf16 *)p)[i]); }
static void store(char *p, long i, bool wide, float x) { if (wide) ((float *)p)[i] = x; else ((bf16 *)p)[i] = narrow(x); }

static void product() {
    char *x = address(), *w = address(), *bias = address(), *addend = address(), *out = address();
    bool transposed = take<uint32_t>(), wide = take<uint32_t>();
    long rows = take<uint64_t>(), inner = take<uint64_t>(), columns = take<uint64_t>(), parts = take<uint64_t>(), below = take<uint64_t>();
    // Where a part's row is, of so many numbers.
    auto row = [&](long part, long r, long width) { return below ? (part * rows + r) * width : (r * parts + part) * width; };
    for (long part = 0; part < parts; part++) for (long r = 0; r < rows; r++) for (long c = 0; c < columns; c++) {
        long to = row(part, r, columns) + c, from = row(part, r, inner), weight = part * inner * columns;
        double sum = (bias ? load(bias, c, wide) : 0.0) + (addend ? load(addend, to, wide) : 0.0);
        for (long k = 0; k < inner; k++) sum += (double)load(x, from + k, 0) * load(w, weight + (transposed ? c * inner + k : k * columns + c), 0);
        store(out, to, wide, (float)sum);
    }
}

int main() {
    for (;;) {
        switch (take<uint32_t>()) {
        case 0: {  // a space of so many bytes, all ones: not a number in either type
            uint32_t space = take<uint32_t>();
            spaces[space].assign(take<uint64_t>(), (char)0xff);
            break;
        }
        case 1: {
            char *to = address();
            uint64_t bytes = take<uint64_t>();
            if (bytes && fread(to, bytes, 1, stdin) != 1) exit(1);
            break;
        }
        case 2: {
            char *from = address();
            uint64_t bytes = take<uint64_t>();
            fwrite(from, 1, bytes, stdout);
            fflush(stdout);
            break;
        }
        case 3: {
            std::string name(take<uint32_t>(), ' ');
            if (fread(&name[0], name.size(), 1, stdin) != 1) exit(1);
            auto found = KERNELS.find(name);
            if (found == KERNELS.end()) { fprintf(stderr, "there is no kernel %s\n", name.c_str()); exit(1); }
            kernel = found->second;
            Index grid = take<Index>();
            unsigned block = take<uint32_t>();
            for (auto &p : arguments.p) p = address();
            for (auto &n : arguments.n) n = take<int32_t>();
            for (auto &f : arguments.f) f = take<float>();
            launch(grid, block);
            break;
        }
        case 4: product(); break;
        default: exit(1);
        }
    }
}
