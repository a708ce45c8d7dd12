/* MST_BOTH: a function that the CPU and the GPU compile from the same lines. Private to kernels/. */
#ifndef MST_BASE_BOTH_H
#define MST_BASE_BOTH_H

#ifdef __CUDACC__
#define MST_BOTH static __host__ __device__ inline
#else
#define MST_BOTH static inline
#endif

#endif
