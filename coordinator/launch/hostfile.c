/* Hostfiles as mpirun reads them: "host", "host slots=4 max_slots=8", comments after #. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "place.h"

enum { SLOTS_MOST = 1 << 16 };

/*
 * Whether mpirun may take a word as a host: a name, an address, USER@HOST. It gets a list of them with commas between, and ":4"
 * behind each, so a host that already ends in one (as MPICH's hostfiles have it) would be another.
 */
static bool is_host(const char *text) {
    static const char fit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:";
    const char *colon = strchr(text, ':');
    return text[0] != '-' && text[strspn(text, fit)] == '\0' &&
           (colon == NULL || strchr(colon + 1, ':') != NULL); /* two: an IPv6 address */
}

/* Reads " slots = 4" among the words after a host; 0: it is not there. */
static mst_status read_slots(char *text, const char *path, size_t line, size_t *slots_out) {
    mst_status status = MST_OK;
    *slots_out = 0;
    char *rest = NULL;
    for (char *word = strtok_r(text, " \t=", &rest); word != NULL; word = strtok_r(NULL, " \t=", &rest)) {
        const char *value = strtok_r(NULL, " \t=", &rest);
        char *end = NULL;
        const bool is_number = value != NULL && value[0] >= '0' && value[0] <= '9';
        const unsigned long number = is_number ? strtoul(value, &end, 10) : 0;
        MST_CHECK(number > 0 && number <= SLOTS_MOST && *end == '\0', MST_ECONFIG,
                  "hostfile %s, line %zu: expected HOST or HOST slots=N (1 to %d), found '%s%s%s'", path,
                  line, SLOTS_MOST, word, value != NULL ? "=" : "", value != NULL ? value : "");
        if (strcmp(word, "slots") == 0) *slots_out = number;
    }
done:
    return status;
}

static mst_status read_line(char *text, const char *path, size_t line, size_t cores, place *p) {
    mst_status status = MST_OK;
    size_t slots = 0;
    text[strcspn(text, "#\r\n")] = '\0';
    text += strspn(text, " \t");
    if (*text == '\0') return MST_OK;
    const size_t length = strcspn(text, " \t");
    char *rest = text + length + (text[length] != '\0');
    text[length] = '\0';
    MST_CHECK(length < PLACE_NAME_MAX && is_host(text), MST_ECONFIG,
              "hostfile %s, line %zu: '%.40s' is no host; a line is HOST or HOST slots=N", path, line, text);
    MST_TRY(read_slots(rest, path, line, &slots));
    MST_TRY(place_add(p, text, slots > 0 ? slots : cores));
done:
    return status;
}

mst_status place_read_hostfile(const char *path, size_t cores, place *p) {
    mst_status status = MST_OK;
    char *text = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "re");
    MST_CHECK(file != NULL, MST_ECONFIG, "cannot read the hostfile %s: %s", path, strerror(errno));
    for (size_t line = 1; getline(&text, &room, file) >= 0; line++)
        MST_TRY(read_line(text, path, line, cores, p));
    MST_CHECK(!ferror(file), MST_ECONFIG, "cannot read the hostfile %s: %s", path, strerror(errno));
    MST_CHECK(p->count > 0, MST_ECONFIG, "the hostfile %s names no host", path);
    snprintf(p->hostfile, sizeof p->hostfile, "%s", path);
done:
    free(text);
    if (file != NULL) fclose(file);
    return status;
}
