/* The emulation's device memory: out of the CPU's reach but while a kernel, a copy or the matrix library works, so that
 * host code which touches it ends with a segmentation fault, as it would beside a GPU. */
#ifndef MUSTER_TESTS_EMULATION_MEMORY_H
#define MUSTER_TESTS_EMULATION_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Device memory filled with NaN; NULL: there is none (MST_EMULATED_BYTES in the environment limits it). */
void *mst_emulation_map(size_t bytes);
void mst_emulation_unmap(void *memory);

/* Pinned memory of the host, filled with NaN, also when it is freed; NULL: there is none. */
void *mst_emulation_pin(size_t bytes);
void mst_emulation_unpin(void *memory);
/* Whether memory is neither the device's nor pinned. */
bool mst_emulation_is_pageable(const void *memory);

/* An allocation as other processes of the host find it. */
typedef struct mst_emulation_name {
    int process, file; /* a descriptor of that process */
    size_t bytes;
} mst_emulation_name;

/* Lets other processes map an allocation; 0: it is none. */
int mst_emulation_share(void *memory, mst_emulation_name *name_out);
/* Maps another process's; to be unmapped as one's own. NULL: it is not there. */
void *mst_emulation_join(const mst_emulation_name *name);

/* Bytes of device memory that are left, and all. */
void mst_emulation_room(size_t *free_out, size_t *all_out);

/* Device work begins and ends; from any thread, also nested. */
void mst_emulation_open(void);
void mst_emulation_close(void);

#ifdef __cplusplus
}
#endif
#endif
