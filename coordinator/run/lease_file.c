#include "lease_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/run.h"

static void lease_name(uint64_t epoch, char name_out[40]) {
    snprintf(name_out, 40, "lease-%" PRIu64 ".json", epoch);
}

void lease_path(const char *folder, uint64_t epoch, char path_out[LEASE_PATH_MAX]) {
    char name[40];
    lease_name(epoch, name);
    snprintf(path_out, LEASE_PATH_MAX, "%s/%s", folder, name);
}

static const char part_prefix[] = ".lease-";

void lease_part_path(const char *folder, const char *token, char path_out[LEASE_PATH_MAX]) {
    snprintf(path_out, LEASE_PATH_MAX, "%s/%s%s", folder, part_prefix, token);
}

/* The epoch that a file's name says, if it is a lease's; else 0. */
static uint64_t epoch_of(const char *name) {
    char expected[40];
    if (strncmp(name, "lease-", 6) != 0) return 0;
    const uint64_t epoch = strtoull(name + 6, NULL, 10);
    lease_name(epoch, expected);
    return strcmp(name, expected) == 0 && epoch < INT64_MAX ? epoch : 0;
}

mst_status lease_print(const lease_record *record, uint64_t epoch, char text_out[LEASE_TEXT_MAX]) {
    mst_status status = MST_OK;
    char host_id[20], *text = NULL;
    snprintf(host_id, sizeof host_id, "%016" PRIx64, record->process.host);
    json_t *root =
        json_pack("{s:i, s:I, s:s, s:s, s:s, s:I, s:I, s:s, s:I, s:s, s:s}", "version", 1, "epoch",
                  (json_int_t)epoch, "token", record->token, "host", record->host, "host_id", host_id, "pid",
                  (json_int_t)record->process.pid, "process_start", (json_int_t)record->process.start, "job",
                  record->job, "restarts", (json_int_t)record->restarts, "since", record->since, "renewed",
                  record->renewed);
    MST_CHECK(root != NULL && (text = json_dumps(root, JSON_INDENT(2))) != NULL, MST_ENOMEM,
              "lease: out of memory");
    MST_CHECK(strlen(text) + 2 <= LEASE_TEXT_MAX, MST_EINTERNAL, "lease: a text of %zu bytes", strlen(text));
    snprintf(text_out, LEASE_TEXT_MAX, "%s\n", text);
done:
    free(text);
    json_decref(root);
    return status;
}

/* Of these are the texts in a lease: nothing that a terminal would obey, or JSON would write longer. */
static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";

void lease_word(const char *from, char word_out[LEASE_WORD_MAX]) {
    snprintf(word_out, LEASE_WORD_MAX, "%s", from);
    for (char *c = word_out; *(c += strspn(c, plain)) != '\0';) *c = '-';
}

static bool get_word(const json_t *root, const char *key, char *word_out, size_t room) {
    const char *word = json_string_value(json_object_get(root, key));
    if (word == NULL || strlen(word) >= room || word[strspn(word, plain)] != '\0') return false;
    snprintf(word_out, room, "%s", word);
    return true;
}

/* Whether a text is a lease. What it says is only believed, not trusted: at worst a start is refused. */
static bool parse(const char *text, lease_record *record_out) {
    lease_record r = {0};
    char host_id[20] = "";
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const bool good =
        json_integer_value(json_object_get(root, "version")) == 1 &&
        get_word(root, "token", r.token, sizeof r.token) && get_word(root, "host", r.host, sizeof r.host) &&
        get_word(root, "host_id", host_id, sizeof host_id) && get_word(root, "job", r.job, sizeof r.job) &&
        get_word(root, "since", r.since, sizeof r.since) &&
        get_word(root, "renewed", r.renewed, sizeof r.renewed);
    r.process.host = strtoull(host_id, NULL, 16);
    r.process.pid = json_integer_value(json_object_get(root, "pid"));
    r.process.start = (uint64_t)json_integer_value(json_object_get(root, "process_start"));
    r.restarts = (uint64_t)json_integer_value(json_object_get(root, "restarts"));
    json_decref(root);
    *record_out = r;
    return good && r.process.pid > 0 && r.process.start > 0;
}

mst_status lease_read(const char *folder, uint64_t epoch, lease_found *found_out) {
    char path[LEASE_PATH_MAX];
    *found_out = (lease_found){.epoch = epoch};
    lease_path(folder, epoch, path);
    struct stat facts;
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* on NFS, opening asks the server */
    const bool other = file >= 0 && fstat(file, &facts) == 0 && !S_ISREG(facts.st_mode);
    ssize_t bytes = file < 0 ? -1 : read(file, found_out->text, sizeof found_out->text - 1);
    const int error = errno;
    if (file >= 0) close(file);
    if (bytes < 0 && (error == ENOENT || error == ESTALE)) {
        found_out->epoch = 0;
        return MST_OK;
    }
    if (other)
        return mst_error(MST_EIO, "the lease %s is no regular file; move it away: muster did not make it",
                         path);
    if (bytes < 0) return mst_error(MST_EIO, "cannot read the lease %s: %s", path, strerror(error));
    found_out->text[bytes] = '\0';
    found_out->readable = parse(found_out->text, &found_out->record);
    return MST_OK;
}

typedef mst_status visit_fn(const char *folder, const char *name, void *context);

static mst_status each_name(const char *folder, visit_fn *visit, void *context) {
    mst_status status = MST_OK;
    DIR *entries = opendir(folder);
    if (entries == NULL) return mst_error(MST_EIO, "cannot read the folder %s: %s", folder, strerror(errno));
    for (struct dirent *entry; status == MST_OK && (entry = readdir(entries)) != NULL;)
        status = visit(folder, entry->d_name, context);
    closedir(entries);
    return status;
}

typedef struct highest {
    uint64_t except, epoch;
} highest;

static mst_status take_highest(const char *folder, const char *name, void *context) {
    (void)folder;
    highest *h = context;
    const uint64_t epoch = epoch_of(name);
    if (epoch != h->except && epoch > h->epoch) h->epoch = epoch;
    return MST_OK;
}

mst_status lease_find(const char *folder, uint64_t except, lease_found *found_out) {
    mst_status status = MST_OK;
    highest h = {.except = except};
    *found_out = (lease_found){0};
    MST_TRY(each_name(folder, take_highest, &h));
    if (h.epoch == 0) goto done;
    MST_TRY(lease_read(folder, h.epoch, found_out));
    found_out->epoch = h.epoch;
done:
    return status;
}

/* A file that a process was making when it was killed: a lease, config.yaml, run.json. */
static bool in_the_making(const char *name) {
    static const char *const prefixes[] = {part_prefix, ".config.yaml.", ".run.json."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

static mst_status remove_left(const char *folder, const char *name, void *context) {
    const uint64_t *mine = context, epoch = epoch_of(name);
    char path[LEASE_PATH_MAX];
    if ((epoch == 0 || epoch >= *mine) && !in_the_making(name)) return MST_OK;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (unlink(path) == 0 || errno == ENOENT) return MST_OK;
    return mst_error(MST_EIO, "cannot remove %s, which a former process has left: %s", path, strerror(errno));
}

mst_status lease_remove_below(const char *folder, uint64_t epoch) {
    return each_name(folder, remove_left, &epoch);
}

void lease_describe(const lease_found *found, char *text_out, size_t room) {
    const lease_record *r = &found->record;
    if (!found->readable) {
        snprintf(text_out, room, "an unknown process (lease-%" PRIu64 ".json cannot be read)", found->epoch);
        return;
    }
    snprintf(text_out, room, "process %" PRId64 " on host %s%s%s%s, since %s, last renewed %s",
             r->process.pid, r->host, r->job[0] != '\0' ? " (Slurm job " : "", r->job,
             r->job[0] != '\0' ? ")" : "", r->since, r->renewed);
}

mst_status mst_run_holder(const char *folder, char *text_out, size_t room) {
    lease_found found;
    mst_status status = lease_find(folder, 0, &found);
    if (status == MST_OK && found.epoch != 0)
        lease_describe(&found, text_out, room);
    else
        snprintf(text_out, room, "%s", "");
    return status;
}

bool mst_run_is_held_here(const char *folder) {
    lease_found found;
    return lease_find(folder, 0, &found) == MST_OK && found.epoch != 0 && found.readable &&
           found.record.process.host == mst_process_self().host && mst_process_runs(&found.record.process);
}
