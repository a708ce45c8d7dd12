#include "emulation_stream.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECES = 4096, STREAMS = 64, IDLE_NS = 10000000 /* until the thread begins what nobody waits for */ };

/* What stands on a stream: work, or a wait for `count` pieces of another one. */
typedef struct piece {
    mst_emulation_work work;
    struct CUstream_st *other; /* NULL: it is work */
    uint64_t count;
    bool beside, begun; /* beside: a library's */
} piece;

struct CUstream_st {
    piece pieces[PIECES]; /* a ring: number n stands at n % PIECES */
    uint64_t pushed, ended;
    size_t beside; /* libraries' pieces that have not ended */
};

static struct CUstream_st legacy, *streams[STREAMS] = {&legacy};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static bool started;
static size_t waits, drains;
static uint64_t touched; /* when the program last did something with a stream */
static const char *const orders[] = {"", "lazy", "others"};
static enum { AT_ONCE, LAZY, OTHERS_FIRST } order;

static void read_order(void) {
    const char *text = getenv("MST_EMULATED_STREAMS");
    for (order = AT_ONCE; order <= OTHERS_FIRST; order++)
        if (strcmp(text ? text : "", orders[order]) == 0) return;
    fprintf(stderr, "emulation: MST_EMULATED_STREAMS is '%s': there are lazy, others\n", text);
    abort();
}

bool mst_emulation_is_lazy(void) {
    return order != AT_ONCE;
}

static struct CUstream_st *named(struct CUstream_st *s) {
    return s ? s : &legacy;
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin_call(void) {
    pthread_mutex_lock(&lock);
}

static void end_call(void) {
    touched = now();
    pthread_mutex_unlock(&lock);
}

/* ---- going on; whoever calls these holds the lock ---- */

static bool is_empty(const struct CUstream_st *s) {
    return s->ended == s->pushed;
}

static piece *first_of(struct CUstream_st *s) {
    return &s->pieces[s->ended % PIECES];
}

/* Whether the first piece has ended. */
static bool step(struct CUstream_st *s) {
    piece *first = first_of(s);
    first->begun = true;
    if (first->other ? first->other->ended < first->count : !first->work.step(first->work.context))
        return false;
    if (!first->other) first->work.drop(first->work.context, true);
    s->beside -= first->beside;
    s->ended++;
    return true;
}

/* Does what the other streams may do without more of this one. */
static void run_others(const struct CUstream_st *s) {
    bool moved = true;
    while (moved) {
        moved = false;
        for (size_t i = 0; i < STREAMS; i++)
            while (streams[i] && streams[i] != s && !is_empty(streams[i]) && step(streams[i])) moved = true;
    }
}

/* Steps of libraries' work that was begun. Whether any ended. */
static bool carry_on(void) {
    bool moved = false;
    for (size_t i = 0; i < STREAMS; i++)
        if (streams[i] && streams[i]->beside > 0 && first_of(streams[i])->beside &&
            first_of(streams[i])->begun)
            moved |= step(streams[i]);
    return moved;
}

static bool force(struct CUstream_st *s, uint64_t count);

/* Whether a piece ended. */
static bool advance(struct CUstream_st *s) {
    if (is_empty(s)) return false;
    const piece *first = first_of(s);
    if (first->other && !force(first->other, first->count)) return false;
    if (!first->other && order == OTHERS_FIRST) run_others(s);
    return step(s);
}

/* Whether so many pieces have ended now. */
static bool force(struct CUstream_st *s, uint64_t count) {
    while (s->ended < count) {
        if (!advance(s)) return false;
        carry_on();
    }
    return true;
}

static bool libraries_work(void) {
    size_t pieces = 0;
    for (size_t i = 0; i < STREAMS; i++) pieces += streams[i] ? streams[i]->beside : 0;
    return pieces > 0;
}

static void *run(void *context) {
    (void)context;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!libraries_work()) pthread_cond_wait(&arrived, &lock);
        bool moved = carry_on();
        const bool left_alone = order == AT_ONCE || now() - touched > IDLE_NS;
        for (size_t i = 0; i < STREAMS && left_alone && !moved; i++)
            if (streams[i] && streams[i]->beside > 0) moved = advance(streams[i]);
        pthread_mutex_unlock(&lock);
        nanosleep(&(struct timespec){.tv_nsec = moved ? 1 : 50000}, NULL);
        pthread_mutex_lock(&lock);
    }
    return NULL;
}

static void put(struct CUstream_st *s, const piece *new) {
    while (s->pushed - s->ended == PIECES)
        if (!advance(s)) abort();
    s->pieces[s->pushed++ % PIECES] = *new;
    s->beside += new->beside;
}

static void abort_waiting(void) {
    fprintf(stderr, "emulation: the program waits for a stream with a library's work, which may never end\n");
    abort();
}

static void finish(struct CUstream_st *s) {
    if (!force(s, s->pushed)) abort_waiting();
}

/* ---- kernels and copies ---- */

typedef struct call {
    void (*work)(const void *arguments);
    alignas(max_align_t) char arguments[];
} call;

static bool do_call(void *context) {
    const call *c = context;
    c->work(c->arguments);
    return true;
}

static void drop_call(void *context, bool ended) {
    (void)ended;
    free(context);
}

void mst_emulation_queue(struct CUstream_st *s, void (*work)(const void *arguments), const void *arguments,
                         size_t bytes) {
    if (!mst_emulation_is_lazy()) {
        work(arguments);
        return;
    }
    call *c = malloc(sizeof *c + bytes);
    if (!c) abort();
    c->work = work;
    memcpy(c->arguments, arguments, bytes);
    begin_call();
    put(named(s), &(piece){.work = {do_call, drop_call, c}});
    end_call();
}

/* ---- streams ---- */

struct CUstream_st *mst_emulation_stream_create(void) {
    struct CUstream_st *s = calloc(1, sizeof *s);
    if (!s) abort();
    begin_call();
    read_order();
    size_t i = 0;
    while (i < STREAMS && streams[i]) i++;
    if (i == STREAMS) abort();
    streams[i] = s;
    end_call();
    return s;
}

void mst_emulation_stream_destroy(struct CUstream_st *s) {
    mst_emulation_drop(s);
    begin_call();
    finish(s);
    for (size_t i = 0; i < STREAMS; i++)
        if (streams[i] == s) streams[i] = NULL;
    end_call();
    free(s);
}

void mst_emulation_follow(struct CUstream_st *stream, struct CUstream_st *other, uint64_t count) {
    begin_call();
    if (mst_emulation_is_lazy())
        put(named(stream), &(piece){.other = named(other), .count = count});
    else if (named(other)->ended < count) /* nobody of ours waits so for what does not end at once */
        abort();
    end_call();
}

void mst_emulation_push(struct CUstream_st *s, const mst_emulation_work *work) {
    pthread_t thread;
    begin_call();
    put(named(s), &(piece){.work = *work, .beside = true});
    if (!started && (pthread_create(&thread, NULL, run, NULL) != 0 || pthread_detach(thread) != 0)) abort();
    started = true;
    pthread_cond_signal(&arrived);
    end_call();
}

void mst_emulation_drop(struct CUstream_st *stream) {
    struct CUstream_st *s = named(stream);
    begin_call();
    for (uint64_t i = s->ended; i < s->pushed; i++) {
        piece *p = &s->pieces[i % PIECES];
        if (!p->beside) continue;
        p->work.drop(p->work.context, false);
        *p = (piece){.other = s}; /* a wait for nothing */
    }
    s->beside = 0;
    if (!mst_emulation_is_lazy()) finish(s);
    end_call();
}

uint64_t mst_emulation_pushed(struct CUstream_st *s) {
    begin_call();
    const uint64_t pushed = named(s)->pushed;
    end_call();
    return pushed;
}

bool mst_emulation_passed(struct CUstream_st *s, uint64_t count) {
    begin_call();
    const bool passed = named(s)->ended >= count;
    end_call();
    return passed;
}

bool mst_emulation_look(struct CUstream_st *s, uint64_t count) {
    begin_call();
    const bool passed = named(s)->ended >= count;
    if (!passed && mst_emulation_is_lazy()) advance(named(s));
    end_call();
    return passed;
}

void mst_emulation_wait(struct CUstream_st *stream, uint64_t count) {
    struct CUstream_st *s = named(stream);
    begin_call();
    const bool met = s->ended < count;
    if (!force(s, count)) abort_waiting();
    waits += met;
    drains += met && is_empty(s);
    end_call();
}

void mst_emulation_finish(struct CUstream_st *s) {
    mst_emulation_wait(s, mst_emulation_pushed(s));
}

size_t mst_emulation_waits(void) {
    return waits;
}

size_t mst_emulation_drains(void) {
    return drains;
}

void mst_emulation_finish_all(void) {
    begin_call();
    for (size_t i = 0; i < STREAMS; i++)
        if (streams[i]) finish(streams[i]);
    end_call();
}
