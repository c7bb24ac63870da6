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

__device__ inline Eight load8(const void *p, long at, int wide) {
    Eight e;
    if (wide) {
        const float4 *q = (const float4 *)((const float *)p + at);
        float4 a = q[0], b = q[1];
        e.x[0] = a.x, e.x[1] = a.y, e.x[2] = a.z, e.x[3] = a.w;
        e.x[4] = b.x, e.x[5] = b.y, e.x[6] = b.z, e.x[7] = b.w;
    } else {
        uint4 a = *(const uint4 *)((const bf16 *)p + at);
        unsigned u[4] = {a.x, a.y, a.z, a.w};
        for (int i = 0; i < 4; i++) {
            e.x[2 * i] = __uint_as_float(u[i] << 16);
            e.x[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
        }
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

__device__ inline float sigmoid(float x) {
    return 1.0f / (1.0f + __expf(-x));
}

// Distribution function of the normal distribution.
__device__ inline float normal(float x) {
    return 0.5f * (1.0f + erff(x * 0.70710678f));
}

// 0 SiLU, 1 gelu, 2 quick gelu.
__device__ inline float apply(int f, float x) {
    return f == 0 ? x * sigmoid(x) : f == 1 ? x * normal(x) : x * sigmoid(1.702f * x);
}

__device__ inline float slope(int f, float x) {
    if (f == 1) return normal(x) + x * 0.39894228f * __expf(-0.5f * x * x);
    float k = f == 0 ? 1.0f : 1.702f, s = sigmoid(k * x);
    return s + k * x * s * (1.0f - s);
}
