#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

enum { NODES = 4096, NAMES = 64, NAME_ROOM = 96, FDS = 1024, PAGE = 4096 };

typedef enum call_kind { MAKE, REMOVE, RENAME, EXCHANGE, WRITE, RESIZE, SYNC } call_kind;

/* One call. Nodes are files and folders, whatever their names are at a time. */
typedef struct call {
    call_kind kind;
    int folder, node, other; /* folder: whose names change; other: EXCHANGE */
    char name[NAME_ROOM], to[NAME_ROOM];
    size_t offset, bytes; /* RESIZE: bytes is the size */
    uint8_t *data;        /* WRITE */
    struct call *later;   /* the next one of this node, or folder, that is not synced */
} call;

typedef struct entry {
    char name[NAME_ROOM];
    int node;
} entry;
typedef struct names {
    entry at[NAMES];
    size_t count;
} names;
typedef struct content {
    uint8_t *at;
    size_t size;
} content;

typedef struct node {
    bool folder;
    names now;                /* as the program sees it; for finding nodes by paths */
    names synced;             /* the model's */
    content bytes;            /* the model's, synced */
    call *unsynced, **append; /* the model's */
} node;

disk_rules disk_is;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ckpt_calls real;
static char base[CKPT_PATH_MAX];
static node *nodes;
static int node_count, node_of[FDS];
static call **log_;
static size_t log_count, log_room, applied;

static void *must(void *memory) {
    if (memory != NULL) return memory;
    fprintf(stderr, "disk: out of memory\n");
    exit(1);
}

static void broken(const char *what, const char *path) {
    fprintf(stderr, "disk: %s: %s\n", what, path);
    exit(1);
}

/* --- names --- */

static entry *find(names *in, const char *name) {
    for (size_t i = 0; i < in->count; i++)
        if (strcmp(in->at[i].name, name) == 0) return &in->at[i];
    return NULL;
}

static void set(names *in, const char *name, int number) {
    entry *there = find(in, name);
    if (there == NULL && in->count == NAMES) broken("too many names", name);
    if (there == NULL) there = &in->at[in->count++];
    snprintf(there->name, sizeof there->name, "%s", name);
    there->node = number;
}

/* Only if the name still stands for this node. */
static void unset(names *in, const char *name, int number) {
    entry *there = find(in, name);
    if (there != NULL && there->node == number) *there = in->at[--in->count];
}

static void change(names *in, const call *c) {
    if (c->kind == MAKE) set(in, c->name, c->node);
    if (c->kind == REMOVE) unset(in, c->name, c->node);
    if (c->kind == RENAME) {
        unset(in, c->name, c->node);
        set(in, c->to, c->node);
    }
    if (c->kind == EXCHANGE) {
        set(in, c->name, c->other);
        set(in, c->to, c->node);
    }
}

/* --- recording --- */

/* The folder that a path's last name stands in; -1: not below base. */
static int folder_of(const char *path, char name_out[NAME_ROOM]) {
    size_t length = strlen(base);
    if (strncmp(path, base, length) != 0 || path[length] != '/') return -1;
    int at = 0;
    for (const char *part = path + length + 1;;) {
        const char *end = strchrnul(part, '/');
        snprintf(name_out, NAME_ROOM, "%.*s", (int)(end - part), part);
        if (*end == '\0') return at;
        const entry *there = find(&nodes[at].now, name_out);
        if (there == NULL) return -1;
        at = there->node;
        part = end + 1;
    }
}

static int node_at(const char *path) {
    char name[NAME_ROOM];
    if (strcmp(path, base) == 0) return 0;
    int folder = folder_of(path, name);
    const entry *there = folder >= 0 ? find(&nodes[folder].now, name) : NULL;
    return there != NULL ? there->node : -1;
}

static int new_node(bool folder) {
    if (node_count == NODES) broken("too many files", base);
    nodes[node_count] = (node){.folder = folder};
    return node_count++;
}

static void keep(call c) {
    if (log_count == log_room) {
        log_room = 2 * log_room + 64;
        log_ = must(realloc(log_, log_room * sizeof(call *)));
    }
    log_[log_count] = must(malloc(sizeof c));
    *log_[log_count++] = c;
    if (c.kind <= EXCHANGE) change(&nodes[c.folder].now, &c);
}

static void keep_name(call_kind kind, const char *path, const char *to, int number, int other) {
    call c = {.kind = kind, .node = number, .other = other};
    c.folder = folder_of(path, c.name);
    if (c.folder < 0) return;
    if (to != NULL && folder_of(to, c.to) != c.folder) broken("renamed into another folder", path);
    keep(c);
}

/* Every call of the table begins with this. */
static bool may_begin(bool changes) {
    pthread_mutex_lock(&lock);
    if (!changes || disk_is.dead_after == 0 || log_count < disk_is.dead_after) return true;
    errno = EIO;
    return false;
}

/* ... and ends with this. */
static int end(int result) {
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int open_(const char *path, int flags, mode_t mode) {
    const bool makes = flags & O_CREAT;
    int fd = may_begin(makes) ? real.open(path, flags, mode) : -1;
    if (fd >= FDS) broken("too many open files", path);
    if (fd >= 0 && makes) keep_name(MAKE, path, NULL, new_node(false), 0);
    if (fd >= 0) node_of[fd] = node_at(path);
    return end(fd);
}
static ssize_t pwrite_(int fd, const void *buffer, size_t bytes, off_t offset) {
    ssize_t put = may_begin(true) ? real.pwrite(fd, buffer, bytes, offset) : -1;
    if (put > 0) {
        call c = {.kind = WRITE, .node = node_of[fd], .offset = (size_t)offset, .bytes = (size_t)put};
        c.data = must(malloc(c.bytes));
        memcpy(c.data, buffer, c.bytes);
        keep(c);
    }
    end(0);
    return put;
}
static int ftruncate_(int fd, off_t bytes) {
    int failed = may_begin(true) ? real.ftruncate(fd, bytes) : -1;
    if (failed == 0) keep((call){.kind = RESIZE, .node = node_of[fd], .bytes = (size_t)bytes});
    return end(failed);
}
static int fsync_(int fd) {
    if (!may_begin(true)) return end(-1);
    const int at = node_of[fd];
    if (at >= 0 && !(nodes[at].folder ? disk_is.ignores_folders : disk_is.ignores_files))
        keep((call){.kind = SYNC, .node = at});
    return end(0);
}
static int mkdir_(const char *path, mode_t mode) {
    int failed = may_begin(true) ? real.mkdir(path, mode) : -1;
    if (failed == 0) keep_name(MAKE, path, NULL, new_node(true), 0);
    return end(failed);
}
static int rename_(const char *from, const char *to) {
    bool may = may_begin(true);
    int moved = node_at(from), failed = may ? real.rename(from, to) : -1;
    if (failed == 0) keep_name(RENAME, from, to, moved, 0);
    return end(failed);
}
static int exchange_(const char *one, const char *other) {
    bool may = may_begin(true);
    int left = node_at(one), right = node_at(other);
    if (may && !disk_is.can_exchange) errno = EINVAL;
    int failed = may && disk_is.can_exchange ? real.exchange(one, other) : -1;
    if (failed == 0) keep_name(EXCHANGE, one, other, left, right);
    return end(failed);
}
static int unlink_(const char *path) {
    bool may = may_begin(true);
    int gone = node_at(path), failed = may ? real.unlink(path) : -1;
    if (failed == 0) keep_name(REMOVE, path, NULL, gone, 0);
    return end(failed);
}
static int rmdir_(const char *path) {
    bool may = may_begin(true);
    int gone = node_at(path), failed = may ? real.rmdir(path) : -1;
    if (failed == 0) keep_name(REMOVE, path, NULL, gone, 0);
    return end(failed);
}

void disk_record(const char *folder) {
    if (real.open == NULL) real = ckpt_system;
    disk_stop();
    snprintf(base, sizeof base, "%s", folder);
    nodes = must(calloc(NODES, sizeof *nodes));
    new_node(true);
    ckpt_system.open = open_;
    ckpt_system.pwrite = pwrite_;
    ckpt_system.ftruncate = ftruncate_;
    ckpt_system.fsync = fsync_;
    ckpt_system.mkdir = mkdir_;
    ckpt_system.rename = rename_;
    ckpt_system.exchange = exchange_;
    ckpt_system.unlink = unlink_;
    ckpt_system.rmdir = rmdir_;
}

void disk_stop(void) {
    ckpt_system = real;
    for (int i = 0; i < node_count; i++) free(nodes[i].bytes.at);
    for (size_t i = 0; i < log_count; i++) {
        free(log_[i]->data);
        free(log_[i]);
    }
    free(nodes);
    free(log_);
    nodes = NULL;
    log_ = NULL;
    node_count = 0;
    log_count = log_room = applied = 0;
}

size_t disk_calls(void) {
    return log_count;
}

/* --- the model --- */

static void resize(content *c, size_t size) {
    c->at = must(realloc(c->at, size + 1));
    if (size > c->size) memset(c->at + c->size, 0, size - c->size);
    c->size = size;
}

static void put(content *to, const call *c) {
    if (c->kind == RESIZE) {
        resize(to, c->bytes);
        return;
    }
    if (c->offset + c->bytes > to->size) resize(to, c->offset + c->bytes);
    memcpy(to->at + c->offset, c->data, c->bytes);
}

bool disk_advance(void) {
    if (applied == log_count) return false;
    call *c = log_[applied++];
    node *n = &nodes[c->kind <= EXCHANGE ? c->folder : c->node];
    if (c->kind != SYNC) {
        if (n->unsynced == NULL) n->append = &n->unsynced;
        *n->append = c;
        n->append = &c->later;
        return true;
    }
    for (const call *u = n->unsynced; u != NULL; u = u->later) {
        if (n->folder)
            change(&n->synced, u);
        else
            put(&n->bytes, u);
    }
    n->unsynced = NULL;
    return true;
}

const char *disk_last(void) {
    static const char *const kinds[] = {"make", "remove", "rename", "exchange", "write", "resize", "fsync"};
    static char text[64 + 2 * NAME_ROOM];
    if (applied == 0) return "nothing";
    const call *c = log_[applied - 1];
    snprintf(text, sizeof text, "call %zu, %s %s %s", applied, kinds[c->kind], c->name, c->to);
    return text;
}

static uint64_t roll(uint64_t *dice, uint64_t limit) {
    *dice = *dice * 6364136223846793005u + 1442695040888963407u;
    return (*dice >> 33) % limit;
}

/* A part of a write, within one page, on a disk that may have done it or not. */
static void put_page(content *to, const call *c, size_t from, size_t bytes, disk_luck luck, uint64_t *dice) {
    const uint64_t fate = luck == DISK_RANDOM ? roll(dice, 3) : luck == DISK_SIZES ? 2 : 0;
    if (fate == 1) return;
    if (fate == 0)
        memcpy(to->at + c->offset + from, c->data + from, bytes);
    else
        memset(to->at + c->offset + from, 0, bytes);
}

static void cut_file(const node *n, disk_luck luck, uint64_t *dice, const char *path) {
    content c = {0};
    resize(&c, n->bytes.size);
    if (n->bytes.size > 0) memcpy(c.at, n->bytes.at, n->bytes.size);
    for (const call *u = n->unsynced; u != NULL; u = u->later) {
        if (luck == DISK_NOTHING || luck == DISK_NAMES) break;
        if (luck == DISK_RANDOM && roll(dice, 4) == 0) continue; /* its size too */
        if (u->kind == RESIZE) {
            put(&c, u);
            continue;
        }
        if (u->offset + u->bytes > c.size) resize(&c, u->offset + u->bytes);
        for (size_t from = 0, some; from < u->bytes; from += some) {
            some = PAGE - (u->offset + from) % PAGE;
            if (some > u->bytes - from) some = u->bytes - from;
            put_page(&c, u, from, some, luck, dice);
        }
    }
    if (luck == DISK_RANDOM && n->unsynced != NULL && roll(dice, 4) == 0 && c.size > n->bytes.size)
        c.size = n->bytes.size + roll(dice, c.size - n->bytes.size);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(c.at, 1, c.size, file) != c.size || fclose(file) != 0)
        broken("cannot write", path);
    free(c.at);
}

static void cut_folder(int number, disk_luck luck, uint64_t *dice, const char *path) {
    const node *n = &nodes[number];
    names in = n->synced;
    char inner[CKPT_PATH_MAX];
    for (const call *u = n->unsynced; u != NULL; u = u->later) {
        if (luck == DISK_NOTHING || luck == DISK_BYTES) break;
        if (luck != DISK_RANDOM || roll(dice, 2) == 0) change(&in, u);
    }
    if (mkdir(path, 0777) != 0) broken("cannot make", path);
    for (size_t i = 0; i < in.count; i++) {
        if (ckpt_path_join(path, in.at[i].name, inner) != MST_OK) broken("too long", path);
        if (nodes[in.at[i].node].folder)
            cut_folder(in.at[i].node, luck, dice, inner);
        else
            cut_file(&nodes[in.at[i].node], luck, dice, inner);
    }
}

void disk_cut(disk_luck luck, uint64_t *dice, const char *target) {
    cut_folder(0, luck, dice, target);
}
