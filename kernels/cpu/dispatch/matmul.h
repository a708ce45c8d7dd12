/* The CPU matrix product: oneDNN, one single-threaded call per tile of a fixed grid.
 * docs/determinism-cpu.md says why. */
#ifndef MST_CPU_MATMUL_H
#define MST_CPU_MATMUL_H

#include "muster/kernels.h"

/** Matrix product, accumulated in fp32; the same bits for any number of threads. Takes F32 and BF16. */
mst_matmul_fn mst_matmul_cpu;

/** What that refuses. Not collective. @retval MST_EUNSUPPORTED, MST_EINVAL the type; dimensions or options that do not go together */
mst_status mst_matmul_cpu_check(const mst_matmul_args *args);

/**
 * Restricts oneDNN to the instructions of a level, so that a run can be repeated on a lesser machine.
 *
 * Not collective. Call it before the first product of the process and before mst_matmul_cpu_class.
 * @param level "x86-64-v2", "x86-64-v3" or "x86-64-v4"; v4 and every other level restrict nothing
 * @retval MST_EUNSUPPORTED oneDNN is in use already, with other instructions
 */
mst_status mst_matmul_cpu_limit(const char *level);

/**
 * Writes what the bits of a product depend on besides its arguments, such as
 * "onednn-2.6.3-avx512_core_bf16-l2=1024k": version, effective instruction set, and the cache size from which
 * oneDNN derives some of its block sizes.
 *
 * Not collective. From here on mst_matmul_cpu_limit comes too late.
 * @param text, size receives the text, cut to size - 1 characters
 */
void mst_matmul_cpu_class(char *text, size_t size);

#endif
