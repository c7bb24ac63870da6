// What all kernels share. Compiled by NVRTC without any header of the toolkit: bfloat16 is converted by hand.
//
// Every kernel takes one Arguments by value. A flag "wide" says f32 instead of bfloat16; it is the same for all threads, so
// testing it costs nothing beside the memory that the kernels wait for. Counts of channels are multiples of 8.

struct Arguments {
    void *p[12];
    int n[12];
    float f[4];
};

struct Eight {
    float x[8];
};

typedef unsigned short bf16;

__device__ inline float widen(bf16 x) {
    return __uint_as_float((unsigned)x << 16);
}

// Round to nearest, ties to even.
__device__ inline bf16 narrow(float x) {
    unsigned u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

__device__ inline unsigned pack(float low, float high) {
#ifdef __CUDA_ARCH__
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return (unsigned)narrow(low) | ((unsigned)narrow(high) << 16);
#endif
}

__device__ inline Eight widen8(uint4 a) {
    unsigned u[4] = {a.x, a.y, a.z, a.w};
    Eight e;
    for (int i = 0; i < 4; i++) {
        e.x[2 * i] = __uint_as_float(u[i] << 16);
        e.x[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
    }
    return e;
}

__device__ inline Eight load8(const void *p, long at, int wide) {
    Eight e;
    if (wide) {
        const float4 *q = (const float4 *)((const float *)p + at);
        float4 a = q[0], b = q[1];
        e.x[0] = a.x, e.x[1] = a.y, e.x[2] = a.z, e.x[3] = a.w;
        e.x[4] = b.x, e.x[5] = b.y, e.x[6] = b.z, e.x[7] = b.w;
    } else {
        e = widen8(*(const uint4 *)((const bf16 *)p + at));
    }
    return e;
}

__device__ inline void store8(void *p, long at, int wide, Eight e) {
    if (wide) {
        float4 *q = (float4 *)((float *)p + at);
        q[0] = make_float4(e.x[0], e.x[1], e.x[2], e.x[3]);
        q[1] = make_float4(e.x[4], e.x[5], e.x[6], e.x[7]);
    } else {
        *(uint4 *)((bf16 *)p + at) =
            make_uint4(pack(e.x[0], e.x[1]), pack(e.x[2], e.x[3]), pack(e.x[4], e.x[5]), pack(e.x[6], e.x[7]));
    }
}

__device__ inline long thread_index() {
    return (long)blockIdx.x * blockDim.x + threadIdx.x;
}

// Where the eight numbers of this thread begin: no program has more than 2^31 in a buffer, and short divisions are faster.
__device__ inline unsigned first_of_eight() {
    return (blockIdx.x * blockDim.x + threadIdx.x) * 8;
}

__device__ inline float sigmoid(float x) {
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

// Distribution function of the normal distribution, and exp(-x^2 / 2). By Abramowitz and Stegun, "Handbook of Mathematical
// Functions", 7.1.26, off by 1e-7.
__device__ inline float normal(float x, float *bell) {
    *bell = __expf(-0.5f * x * x);
    float t = __fdividef(1.0f, 1.0f + 0.23164190f * fabsf(x));
    float sum = t * (0.127414796f + t * (-0.142248368f + t * (0.7107068705f + t * (-0.7265760135f + t * 0.5307027145f))));
    return x < 0.0f ? sum * *bell : 1.0f - sum * *bell;
}

// 0 SiLU, 1 gelu, 2 quick gelu.
__device__ inline float apply(int f, float x) {
    float bell;
    return f == 0 ? x * sigmoid(x) : f == 1 ? x * normal(x, &bell) : x * sigmoid(1.702f * x);
}

__device__ inline float slope(int f, float x) {
    if (f == 1) {
        float bell, all = normal(x, &bell);
        return all + x * 0.39894228f * bell;
    }
    float k = f == 0 ? 1.0f : 1.702f, s = sigmoid(k * x);
    return s + k * x * s * (1.0f - s);
}
