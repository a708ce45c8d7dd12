#include "emulation_memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAPPINGS = 4096, PINNED = 1024, PAGE = 4096 };

static struct {
    void *memory;
    size_t bytes;
    int file;   /* that others map, too; -1: none */
    int joined; /* another process's, whose device has the bytes */
} mappings[MAPPINGS];
static size_t mapping_count, mapped, most; /* bytes: now, and at most so far */
static struct {
    void *memory;
    size_t bytes;
} pinned[PINNED];
static size_t pinned_count;
static int users;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((destructor)) static void tell_most(void) {
    const char *path = getenv("MST_EMULATED_MOST");
    FILE *file = path ? fopen(path, "ae") : NULL;
    if (!file) return;
    fprintf(file, "%zu\n", most);
    fclose(file);
}

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

void mst_emulation_room(size_t *free_out, size_t *all_out) {
    const char *limit = getenv("MST_EMULATED_BYTES");
    *all_out = limit ? strtoull(limit, NULL, 10) : SIZE_MAX / 2;
    *free_out = *all_out > mapped ? *all_out - mapped : 0;
}

/* Keeps account of memory of `rounded` bytes, behind which stands a page that nobody may touch. */
static void *keep(char *memory, size_t rounded, int joined) {
    if (mprotect(memory + rounded, PAGE, PROT_NONE) != 0) abort(); /* whoever runs past the end */
    pthread_mutex_lock(&lock);
    if (mapping_count == MAPPINGS) abort();
    mappings[mapping_count].memory = memory;
    mappings[mapping_count].file = -1;
    mappings[mapping_count].joined = joined;
    mappings[mapping_count++].bytes = rounded;
    if (!joined) mapped += rounded;
    if (mapped > most) most = mapped;
    if (users == 0 && mprotect(memory, rounded, PROT_NONE) != 0) abort();
    pthread_mutex_unlock(&lock);
    return memory;
}

static char *reserve(size_t rounded) {
    void *memory = mmap(NULL, rounded + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void *mst_emulation_map(size_t bytes) {
    size_t room, all;
    mst_emulation_room(&room, &all);
    if (bytes > room || mapping_count == MAPPINGS) return NULL;
    size_t rounded = (bytes + PAGE - 1) / PAGE * PAGE;
    char *memory = reserve(rounded);
    if (!memory) return NULL;
    memset(memory, 0xff, rounded);
    return keep(memory, rounded, 0);
}

/* The same content at the same place, but in a file, which /proc shows to others. */
int mst_emulation_share(void *memory, mst_emulation_name *name_out) {
    int shared = 0;
    mst_emulation_open();
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < mapping_count && !shared; i++) {
        const size_t bytes = mappings[i].bytes;
        if (mappings[i].memory != memory) continue;
        if (mappings[i].file < 0) {
            int file = memfd_create("emulated", MFD_CLOEXEC);
            if (file < 0 || write(file, memory, bytes) != (ssize_t)bytes ||
                mmap(memory, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
                abort();
            mappings[i].file = file;
        }
        *name_out = (mst_emulation_name){.process = getpid(), .file = mappings[i].file, .bytes = bytes};
        shared = 1;
    }
    pthread_mutex_unlock(&lock);
    mst_emulation_close();
    return shared;
}

void *mst_emulation_join(const mst_emulation_name *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", name->process, name->file);
    int file = open(path, O_RDWR | O_CLOEXEC);
    char *memory = file < 0 ? NULL : reserve(name->bytes);
    if (memory &&
        mmap(memory, name->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
        abort();
    if (file >= 0) close(file);
    return memory ? keep(memory, name->bytes, 1) : NULL;
}

void mst_emulation_unmap(void *memory) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < mapping_count; i++) {
        if (mappings[i].memory != memory) continue;
        munmap(memory, mappings[i].bytes + PAGE);
        if (!mappings[i].joined) mapped -= mappings[i].bytes;
        if (mappings[i].file >= 0) close(mappings[i].file);
        mappings[i] = mappings[--mapping_count];
        pthread_mutex_unlock(&lock);
        return;
    }
    abort(); /* it was never allocated */
}

void *mst_emulation_pin(size_t bytes) {
    void *memory = NULL;
    if (bytes > SIZE_MAX / 2 || posix_memalign(&memory, 256, bytes) != 0) return NULL;
    memset(memory, 0xff, bytes);
    pthread_mutex_lock(&lock);
    if (pinned_count == PINNED) abort();
    pinned[pinned_count].memory = memory;
    pinned[pinned_count++].bytes = bytes;
    pthread_mutex_unlock(&lock);
    return memory;
}

void mst_emulation_unpin(void *memory) {
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < pinned_count && pinned[i].memory != memory) i++;
    if (i == pinned_count) abort(); /* it was never allocated */
    memset(memory, 0xff, pinned[i].bytes);
    pinned[i] = pinned[--pinned_count];
    pthread_mutex_unlock(&lock);
    free(memory);
}

static bool is_within(const void *memory, const void *begin, size_t bytes) {
    return (uintptr_t)memory - (uintptr_t)begin < bytes;
}

bool mst_emulation_is_pageable(const void *memory) {
    bool known = false;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < mapping_count && !known; i++)
        known = is_within(memory, mappings[i].memory, mappings[i].bytes);
    for (size_t i = 0; i < pinned_count && !known; i++)
        known = is_within(memory, pinned[i].memory, pinned[i].bytes);
    pthread_mutex_unlock(&lock);
    return !known;
}
