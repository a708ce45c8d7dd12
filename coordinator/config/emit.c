/* A config written as YAML, such that reading it gives the same values bit for bit. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reader.h"

/* The shortest decimal number that reads back as the same double. */
static void put_real(FILE *file, double value) {
    char text[40];
    if (fabs(value) < 1e15 && value == floor(value)) {
        fprintf(file, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fputs(text, file);
}

/* In double quotes; what YAML does not take as it is stands as an escape. */
static void put_text(FILE *file, const char *text) {
    if (text == NULL) {
        fputs("null", file);
        return;
    }
    fputc('"', file);
    while (*text != '\0') {
        const char *start = text;
        uint32_t code = config_utf8_next(&text);
        if (code == UINT32_MAX) text++; /* cannot be: load refuses it */
        bool line_break = code == 0x85 || code == 0x2028 || code == 0x2029;
        bool printable = (code >= 0x20 && code < 0x7f) || (code >= 0xa0 && code < 0xfffe && code != 0xfeff) ||
                         (code >= 0x10000 && code <= 0x10ffff);
        if (code == '"' || code == '\\')
            fprintf(file, "\\%c", (int)code);
        else if (printable && !line_break)
            fwrite(start, 1, (size_t)(text - start), file);
        else
            fprintf(file, "\\U%08" PRIx32, code);
    }
    fputc('"', file);
}

static void put_sources(FILE *file, const mst_config *config) {
    for (size_t i = 0; i < config->data.source_count; i++) {
        fputs("\n    - {path: ", file);
        put_text(file, config->data.sources[i].path);
        fputs(", weight: ", file);
        put_real(file, config->data.sources[i].weight);
        if (config->data.sources[i].heldout != NULL) {
            fputs(", heldout: ", file);
            put_text(file, config->data.sources[i].heldout);
        }
        fputc('}', file);
    }
}

/* One word as it is, several as a list. */
static void put_words(FILE *file, const char *words) {
    const bool list = words != NULL && strchr(words, ',') != NULL;
    if (list) fputc('[', file);
    for (const char *at = words; at != NULL && *at != '\0';) {
        const size_t length = strcspn(at, ",");
        fprintf(file, "%s\"%.*s\"", at == words ? "" : ", ", (int)length, at);
        at += length + (at[length] == ',');
    }
    if (list) fputc(']', file);
}

static void put_value(FILE *file, const config_key *key, const mst_config *config) {
    const void *value = config_key_value(key, config);
    int number = 0;
    switch (key->kind) {
    case KIND_WHOLE:
        if (key->size == sizeof(int))
            fprintf(file, "%d", *(const int *)value);
        else if (key->names != NULL && *(const uint64_t *)value == MST_CONFIG_AUTO)
            fputs(key->names[0], file);
        else
            fprintf(file, "%" PRIu64, *(const uint64_t *)value);
        break;
    case KIND_REAL:
        put_real(file, *(const double *)value);
        break;
    case KIND_BOOL:
        fputs(*(const bool *)value ? "true" : "false", file);
        break;
    case KIND_ENUM:
        memcpy(&number, value, sizeof number);
        fputs(key->names[number], file);
        break;
    case KIND_TEXT:
    case KIND_PATH:
        put_text(file, *(char *const *)value);
        break;
    case KIND_WORDS:
        put_words(file, *(char *const *)value);
        break;
    case KIND_SOURCES:
        put_sources(file, config);
        break;
    }
}

/* The value's text, which the caller frees; NULL when there is no memory. */
static char *value_text(const config_key *key, const mst_config *config) {
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    if (file == NULL) return NULL;
    put_value(file, key, config);
    if (fclose(file) == 0) return text;
    free(text);
    return NULL;
}

mst_status mst_config_compare(const mst_config *before, const mst_config *after, mst_config_change_fn *change,
                              void *context) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < config_key_count && status == MST_OK; i++) {
        const config_key *key = &config_keys[i];
        char *old = value_text(key, before), *new = value_text(key, after);
        if (old == NULL || new == NULL)
            status = mst_error(MST_ENOMEM, "comparing configs: no memory");
        else if (strcmp(old, new) != 0)
            change(context, key->path, old, new, key->fixed);
        free(old);
        free(new);
    }
    return status;
}

/* What follows from run.epochs once the data is there is not written before, unless it was given. */
static bool is_known(const mst_config *config, size_t key) {
    static const char *const counted[] = {"run.steps", "schedule.warmup", "schedule.decay"};
    bool follows = false;
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++)
        follows = follows || strcmp(config_keys[key].path, counted[i]) == 0;
    return !follows || config->run.steps > 0 || config->run.epochs == 0 || config->places[key] != NULL;
}

mst_status mst_config_to_yaml(const mst_config *config, char **yaml_out) {
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    if (file == NULL) return mst_error(MST_ENOMEM, "writing the config: no memory");
    for (size_t s = 0; s < config_section_count; s++) {
        fprintf(file, "%s:\n", config_sections[s].name);
        for (size_t i = 0; i < config_key_count; i++) {
            if (!config_key_in(&config_keys[i], &config_sections[s]) || !is_known(config, i)) continue;
            fprintf(file, "  %s:%s", config_key_name(&config_keys[i]),
                    config_keys[i].kind == KIND_SOURCES ? "" : " ");
            put_value(file, &config_keys[i], config);
            fputc('\n', file);
        }
    }
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        free(text);
        return mst_error(MST_ENOMEM, "writing the config: no memory");
    }
    *yaml_out = text;
    return MST_OK;
}
