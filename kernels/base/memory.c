#include "muster/queue.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Debug builds fill freed memory with a NaN pattern, so that a use after free shows in the numbers. The size
 * needed for that stands in a header before the memory, one alignment unit long. */
enum { PAGE = 4096, LINE = 64, HUGE_PAGE = 2 << 20, HUGE_FROM = 2 * HUGE_PAGE };

typedef struct header {
    void *base;
    size_t bytes;
} header;

static const mst_memory_face
    *attached; /* where PINNED and DEVICE memory comes from; NULL: the CPU has one kind */

void mst_memory_attach(const mst_memory_face *face) {
    attached = face;
}

mst_status mst_memory_drive(mst_queue *queue) {
    return attached && !mst_queue_device(queue) ? attached->drive(queue) : MST_OK;
}

bool mst_memory_is_apart(void) {
    return attached != NULL;
}

mst_status mst_memory_room(size_t *free_out, size_t *all_out) {
    *free_out = *all_out = 0;
    return attached ? attached->room(free_out, all_out) : MST_OK;
}

mst_status mst_memory_alloc(mst_space space, size_t bytes, void **memory_out) {
    *memory_out = NULL;
    if (attached && space != MST_SPACE_HOST) return attached->alloc(space, bytes > 0 ? bytes : 1, memory_out);
    if (bytes > SIZE_MAX - 4 * (size_t)HUGE_PAGE)
        return mst_error(MST_ENOMEM, "cannot allocate %zu bytes", bytes);
    size_t rounded = (bytes + LINE - 1) / LINE * LINE;
    size_t alignment = rounded >= HUGE_FROM ? HUGE_PAGE : rounded >= PAGE ? PAGE : LINE;
    /* calloc: large pieces come from the system as zero pages, touched first by the thread that uses them */
    char *base = calloc(1, rounded + 2 * alignment);
    if (base == NULL) return mst_error(MST_ENOMEM, "cannot allocate %zu bytes", bytes);
    uintptr_t start = ((uintptr_t)base + sizeof(header) + alignment - 1) / alignment * alignment;
    char *memory = base + (start - (uintptr_t)base);
    header h = {base, rounded};
    memcpy(memory - sizeof h, &h, sizeof h);
    if (alignment == HUGE_PAGE)
        madvise(memory, rounded / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* where the system has them */
    *memory_out = memory;
    return MST_OK;
}

static void free_host(char *memory) {
    header h;
    memcpy(&h, memory - sizeof h, sizeof h);
#ifdef MST_DEBUG
    memset(memory, 0xff, h.bytes);
#endif
    free(h.base);
}

void mst_memory_free(mst_space space, void *memory_pointer_address) {
    char *memory;
    memcpy(&memory, memory_pointer_address, sizeof memory);
    if (memory == NULL) return;
    if (attached && space != MST_SPACE_HOST)
        attached->free(space, memory);
    else
        free_host(memory);
    memory = NULL;
    memcpy(memory_pointer_address, &memory, sizeof memory);
}
