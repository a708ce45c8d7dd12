/* The emulation's device memory: out of the CPU's reach but while a kernel, a copy or the matrix library works, so that
 * host code which touches it ends with a segmentation fault, as it would beside a GPU. */
#ifndef MUSTER_TESTS_EMULATION_MEMORY_H
#define MUSTER_TESTS_EMULATION_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Device memory filled with NaN; NULL: there is none. */
void *mst_emulation_map(size_t bytes);
void mst_emulation_unmap(void *memory);

/* Device work begins and ends; from any thread, also nested. */
void mst_emulation_open(void);
void mst_emulation_close(void);

#ifdef __cplusplus
}
#endif
#endif
