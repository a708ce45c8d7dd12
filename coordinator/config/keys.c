/* Finding keys, and saying in words what their values may be. */
#include <inttypes.h>
#include <string.h>

#include "schema.h"

size_t config_key_find(const char *path) {
    size_t i = 0;
    while (i < config_key_count && strcmp(config_keys[i].path, path) != 0) i++;
    return i;
}

size_t config_key_at(size_t offset) {
    size_t i = 0;
    while (i < config_key_count && config_keys[i].offset != offset) i++;
    return i;
}

const char *config_key_name(const config_key *key) {
    return strchr(key->path, '.') + 1;
}

bool config_key_in(const config_key *key, const config_section *section) {
    size_t length = strlen(section->name);
    return strncmp(key->path, section->name, length) == 0 && key->path[length] == '.';
}

static void describe_names(const config_key *key, char *text_out, size_t room) {
    size_t used = (size_t)snprintf(text_out, room, "one of");
    for (const char *const *name = key->names; *name != NULL && used < room; name++)
        used += (size_t)snprintf(text_out + used, room - used, "%s %s", name == key->names ? "" : ",", *name);
}

void config_key_describe(const config_key *key, char *text_out, size_t room) {
    switch (key->kind) {
    case KIND_WHOLE:
        snprintf(text_out, room, "%s%sa whole number from %" PRIu64 " to %" PRIu64,
                 key->names != NULL ? key->names[0] : "", key->names != NULL ? " or " : "", key->low,
                 key->high);
        break;
    case KIND_REAL:
        if (!key->low_excluded && !key->high_excluded)
            snprintf(text_out, room, "a number from %g to %g", key->real_low, key->real_high);
        else
            snprintf(text_out, room, "a number %s %g and %s %g", key->low_excluded ? "above" : "not below",
                     key->real_low, key->high_excluded ? "below" : "not above", key->real_high);
        break;
    case KIND_BOOL:
        snprintf(text_out, room, "true or false");
        break;
    case KIND_ENUM:
        describe_names(key, text_out, room);
        break;
    case KIND_TEXT:
        snprintf(text_out, room, "text");
        break;
    case KIND_PATH:
        snprintf(text_out, room, "a path");
        break;
    case KIND_WORDS:
        snprintf(text_out, room, "a word or a list of words");
        break;
    case KIND_SOURCES:
        snprintf(text_out, room, "a list of paths or of {path, weight, heldout}");
        break;
    }
}

void mst_config_keys(mst_config_key_fn *visit, void *context) {
    static const char *const truths[] = {"true", "false", NULL};
    for (size_t i = 0; i < config_key_count; i++)
        visit(context, config_keys[i].path, config_keys[i].kind == KIND_BOOL ? truths : config_keys[i].names);
}
