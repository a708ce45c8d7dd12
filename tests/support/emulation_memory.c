#include "emulation_memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAPPINGS = 4096, PAGE = 4096 };

static struct {
    void *memory;
    size_t bytes;
} mappings[MAPPINGS];
static size_t mapping_count;
static int users;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void protect_all(int protection) {
    for (size_t i = 0; i < mapping_count; i++)
        if (mprotect(mappings[i].memory, mappings[i].bytes, protection) != 0) abort();
}

void mst_emulation_open(void) {
    pthread_mutex_lock(&lock);
    if (users++ == 0) protect_all(PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&lock);
}

void mst_emulation_close(void) {
    pthread_mutex_lock(&lock);
    if (--users == 0) protect_all(PROT_NONE);
    pthread_mutex_unlock(&lock);
}

void *mst_emulation_map(size_t bytes) {
    if (bytes > SIZE_MAX / 2 || mapping_count == MAPPINGS) return NULL;
    size_t rounded = (bytes + PAGE - 1) / PAGE * PAGE;
    char *memory = mmap(NULL, rounded + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    memset(memory, 0xff, rounded);
    if (mprotect(memory + rounded, PAGE, PROT_NONE) != 0) abort(); /* whoever runs past the end */
    pthread_mutex_lock(&lock);
    mappings[mapping_count].memory = memory;
    mappings[mapping_count++].bytes = rounded;
    if (users == 0 && mprotect(memory, rounded, PROT_NONE) != 0) abort();
    pthread_mutex_unlock(&lock);
    return memory;
}

void mst_emulation_unmap(void *memory) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < mapping_count; i++) {
        if (mappings[i].memory != memory) continue;
        munmap(memory, mappings[i].bytes + PAGE);
        mappings[i] = mappings[--mapping_count];
        pthread_mutex_unlock(&lock);
        return;
    }
    abort(); /* it was never allocated */
}
