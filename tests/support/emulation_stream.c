#include "emulation_stream.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { WORKS = 4096, STREAMS = 64 };

struct CUstream_st {
    mst_emulation_work works[WORKS]; /* a ring: number n stands at n % WORKS */
    uint64_t pushed, ended;
};

static struct CUstream_st *streams[STREAMS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static bool started;

static bool is_busy(void) {
    for (size_t i = 0; i < STREAMS; i++)
        if (streams[i] && streams[i]->ended < streams[i]->pushed) return true;
    return false;
}

static void end_first(struct CUstream_st *s, bool ended) {
    mst_emulation_work *first = &s->works[s->ended++ % WORKS];
    first->drop(first->context, ended);
}

/* Whether anything ended. */
static bool advance(struct CUstream_st *s) {
    if (s->ended == s->pushed) return false;
    mst_emulation_work *first = &s->works[s->ended % WORKS];
    if (!first->step(first->context)) return false;
    end_first(s, true);
    return true;
}

static void *run(void *context) {
    (void)context;
    pthread_mutex_lock(&lock);
    for (;;) {
        bool moved = false;
        while (!is_busy()) pthread_cond_wait(&arrived, &lock);
        for (size_t i = 0; i < STREAMS; i++)
            if (streams[i]) moved |= advance(streams[i]);
        pthread_mutex_unlock(&lock);
        nanosleep(&(struct timespec){.tv_nsec = moved ? 1 : 50000}, NULL);
        pthread_mutex_lock(&lock);
    }
    return NULL;
}

struct CUstream_st *mst_emulation_stream_create(void) {
    struct CUstream_st *s = calloc(1, sizeof *s);
    if (!s) abort();
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < STREAMS && streams[i]) i++;
    if (i == STREAMS) abort();
    streams[i] = s;
    pthread_mutex_unlock(&lock);
    return s;
}

void mst_emulation_stream_destroy(struct CUstream_st *s) {
    mst_emulation_drop(s);
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < STREAMS; i++)
        if (streams[i] == s) streams[i] = NULL;
    pthread_mutex_unlock(&lock);
    free(s);
}

void mst_emulation_push(struct CUstream_st *s, const mst_emulation_work *work) {
    pthread_t thread;
    pthread_mutex_lock(&lock);
    if (s->pushed - s->ended == WORKS) abort();
    s->works[s->pushed++ % WORKS] = *work;
    if (!started && (pthread_create(&thread, NULL, run, NULL) != 0 || pthread_detach(thread) != 0)) abort();
    started = true;
    pthread_cond_signal(&arrived);
    pthread_mutex_unlock(&lock);
}

void mst_emulation_drop(struct CUstream_st *s) {
    pthread_mutex_lock(&lock);
    while (s->ended < s->pushed) end_first(s, false);
    pthread_mutex_unlock(&lock);
}

uint64_t mst_emulation_pushed(struct CUstream_st *s) {
    pthread_mutex_lock(&lock);
    const uint64_t pushed = s->pushed;
    pthread_mutex_unlock(&lock);
    return pushed;
}

bool mst_emulation_passed(struct CUstream_st *s, uint64_t count) {
    pthread_mutex_lock(&lock);
    const bool passed = s->ended >= count;
    pthread_mutex_unlock(&lock);
    return passed;
}
