/* From a YAML document to values: sections, keys, the list of sources, lists of words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster/nearest.h"
#include "reader.h"

enum { SOURCES_MAX = 4096, LABEL_MAX = 96 };

static yaml_node_t *node_of(const config_reader *reader, int index) {
    return yaml_document_get_node(reader->document, index);
}

static config_place place_of(const config_reader *reader, const yaml_node_t *node) {
    return config_place_at(reader, node->start_mark);
}

static const char *kind_of(const yaml_node_t *node) {
    if (node->type == YAML_MAPPING_NODE) return "keys with values";
    return node->type == YAML_SEQUENCE_NODE ? "a list" : "a single value";
}

static bool is_plain(const yaml_node_t *node) {
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* Nothing after the colon, or null. */
static bool is_nothing(const yaml_node_t *node) {
    if (!is_plain(node)) return false;
    const char *text = (const char *)node->data.scalar.value;
    return *text == '\0' || strcmp(text, "null") == 0 || strcmp(text, "~") == 0;
}

/* The text of a scalar; NULL after an error, when it has a NUL inside. */
static const char *text_of(config_reader *reader, const yaml_node_t *node, const char *label) {
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length) {
        config_report(reader, place_of(reader, node), label, "the value has a NUL character inside");
        return NULL;
    }
    return text;
}

static void read_scalar(config_reader *reader, const yaml_node_t *node, const config_key *key,
                        const char *label, void *field) {
    char why[CONFIG_WHY_MAX];
    if (node->type != YAML_SCALAR_NODE) {
        config_key_describe(key, why, sizeof why);
        config_report(reader, place_of(reader, node), label, "expected %s, found %s", why, kind_of(node));
        return;
    }
    const char *text = text_of(reader, node, label);
    if (text != NULL && !config_scalar_read(reader, key, text, !is_plain(node), field, why))
        config_report(reader, place_of(reader, node), label, "%s", why);
}

/* ---- data.sources ---- */

enum { SOURCE_PATH, SOURCE_WEIGHT, SOURCE_HELDOUT, SOURCE_KEYS };
static const config_key source_keys[SOURCE_KEYS] = {
    {.path = "path", .kind = KIND_PATH},
    {.path = "weight", .kind = KIND_REAL, .real_low = 0, .real_high = 1e9, .low_excluded = true},
    {.path = "heldout", .kind = KIND_PATH},
};

/* A source while it is read: its texts are not const yet. */
typedef struct source_texts {
    bool given[SOURCE_KEYS];
    char *path, *heldout;
    double weight;
} source_texts;

/* One key of {path: FILE, weight: W, heldout: FILE}. */
static void read_source_key(config_reader *reader, const yaml_node_t *key, const yaml_node_t *value,
                            const char *label, source_texts *texts) {
    char quoted[CONFIG_QUOTE_MAX], inner[LABEL_MAX + 16];
    void *const fields[SOURCE_KEYS] = {&texts->path, &texts->weight, &texts->heldout};
    const char *name = key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "";
    size_t which = 0;
    while (which < SOURCE_KEYS && strcmp(source_keys[which].path, name) != 0) which++;
    if (which == SOURCE_KEYS) {
        config_report(reader, place_of(reader, key), label,
                      "unknown key %s; known here: path, weight, heldout", config_quote(name, quoted));
        return;
    }
    snprintf(inner, sizeof inner, "%s.%s", label, name);
    if (texts->given[which]) config_report(reader, place_of(reader, key), inner, "key given twice");
    texts->given[which] = true;
    read_scalar(reader, value, &source_keys[which], inner, fields[which]);
}

static void read_source(config_reader *reader, const yaml_node_t *node, size_t index,
                        mst_source_config *source) {
    char label[LABEL_MAX];
    source_texts texts = {.weight = 1};
    snprintf(label, sizeof label, "data.sources[%zu]", index);
    if (node->type == YAML_MAPPING_NODE) {
        for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
             pair++)
            read_source_key(reader, node_of(reader, pair->key), node_of(reader, pair->value), label, &texts);
        if (!texts.given[SOURCE_PATH])
            config_report(reader, place_of(reader, node), label, "path is missing");
    } else {
        read_scalar(reader, node, &source_keys[SOURCE_PATH], label, &texts.path);
    }
    *source = (mst_source_config){.path = texts.path, .weight = texts.weight, .heldout = texts.heldout};
}

static void read_sources(config_reader *reader, const yaml_node_t *node) {
    static const char label[] = "data.sources";
    bool list = node->type == YAML_SEQUENCE_NODE; /* anything else is read as a list of one */
    size_t count = 1;
    if (list) count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    if (count == 0 || is_nothing(node)) {
        config_report(reader, place_of(reader, node), label,
                      "no source is listed; expected [tokens.h5] or more");
        return;
    }
    if (count > SOURCES_MAX) {
        config_report(reader, place_of(reader, node), label, "%zu sources; at most %d are possible", count,
                      SOURCES_MAX);
        return;
    }
    config_sources_free(reader->config);
    mst_source_config *sources = calloc(count, sizeof *sources);
    if (sources == NULL) {
        reader->status = mst_error(MST_ENOMEM, "%s: no memory for %zu sources", label, count);
        return;
    }
    reader->config->data.sources = sources;
    reader->config->data.source_count = count;
    for (size_t i = 0; i < count; i++)
        read_source(reader, list ? node_of(reader, node->data.sequence.items.start[i]) : node, i,
                    &sources[i]);
}

/* ---- lists of words ---- */

/* Adds a word to those that are there. Returns false after an error. */
static bool add_word(config_reader *reader, const yaml_node_t *node, const config_key *key, char **words) {
    char quoted[CONFIG_QUOTE_MAX], *more = NULL;
    const char *text = node->type == YAML_SCALAR_NODE ? text_of(reader, node, key->path) : NULL;
    if (node->type != YAML_SCALAR_NODE)
        config_report(reader, place_of(reader, node), key->path, "expected a word, found %s", kind_of(node));
    if (text == NULL) return false;
    if (*text == '\0' ||
        text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] != '\0') {
        config_report(reader, place_of(reader, node), key->path,
                      "%s is no word; expected letters, digits, '.', '_' and '-'",
                      config_quote(text, quoted));
        return false;
    }
    const size_t room = (*words != NULL ? strlen(*words) + 1 : 0) + strlen(text) + 1;
    more = malloc(room);
    if (more == NULL) {
        reader->status = mst_error(MST_ENOMEM, "%s: no memory for %zu bytes", key->path, room);
        return false;
    }
    snprintf(more, room, "%s%s%s", *words != NULL ? *words : "", *words != NULL ? "," : "", text);
    free(*words);
    *words = more;
    return true;
}

static void read_words(config_reader *reader, const yaml_node_t *node, const config_key *key, char **field) {
    char *words = NULL;
    bool good = true;
    if (node->type == YAML_SEQUENCE_NODE)
        for (yaml_node_item_t *item = node->data.sequence.items.start;
             item < node->data.sequence.items.top && good; item++)
            good = add_word(reader, node_of(reader, *item), key, &words);
    else
        good = add_word(reader, node, key, &words);
    if (good && words == NULL)
        config_report(reader, place_of(reader, node), key->path,
                      "the list is empty; expected at least one word");
    free(*field);
    *field = words;
}

/* ---- keys and sections ---- */

static void read_key(config_reader *reader, size_t index, const yaml_node_t *node) {
    const config_key *key = &config_keys[index];
    reader->places[index] = place_of(reader, node);
    if (key->kind == KIND_SOURCES)
        read_sources(reader, node);
    else if (key->kind == KIND_WORDS)
        read_words(reader, node, key, config_key_field(key, reader->config));
    else
        read_scalar(reader, node, key, key->path, config_key_field(key, reader->config));
}

/* A key that the section does not have: a slip, another section's key, or nothing that we know. */
static void report_unknown(config_reader *reader, config_place place, const config_section *section,
                           const char *name) {
    char quoted[CONFIG_QUOTE_MAX], known[512] = "";
    mst_nearest nearest = {.word = name};
    const char *elsewhere = NULL;
    for (size_t i = 0; i < config_key_count; i++) {
        const char *candidate = config_key_name(&config_keys[i]);
        if (!config_key_in(&config_keys[i], section)) {
            if (strcmp(candidate, name) == 0) elsewhere = config_keys[i].path;
            continue;
        }
        mst_nearest_offer(&nearest, candidate);
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "", candidate);
    }
    config_quote(name, quoted);
    if (elsewhere != NULL)
        config_report(reader, place, section->name, "unknown key %s; did you mean '%s'?", quoted, elsewhere);
    else if (nearest.best != NULL)
        config_report(reader, place, section->name, "unknown key %s; did you mean '%s'?", quoted,
                      nearest.best);
    else
        config_report(reader, place, section->name, "unknown key %s; known here: %s", quoted, known);
}

static void read_section(config_reader *reader, const yaml_node_t *node, const config_section *section) {
    if (is_nothing(node)) return; /* a section whose keys are all commented out */
    if (node->type != YAML_MAPPING_NODE) {
        reader->incomplete = true;
        config_report(reader, place_of(reader, node), section->name, "expected keys with values, found %s",
                      kind_of(node));
        return;
    }
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *key = node_of(reader, pair->key);
        config_place place = place_of(reader, key);
        if (key->type != YAML_SCALAR_NODE) {
            config_report(reader, place, section->name, "expected the name of a key, found %s", kind_of(key));
            continue;
        }
        char path[LABEL_MAX];
        snprintf(path, sizeof path, "%s.%s", section->name, (const char *)key->data.scalar.value);
        size_t index = config_key_find(path);
        if (index == config_key_count)
            report_unknown(reader, place, section, (const char *)key->data.scalar.value);
        else if (reader->places[index].text != NULL)
            config_report(reader, place, path, "key given twice; first in line %zu",
                          reader->places[index].line);
        else
            read_key(reader, index, node_of(reader, pair->value));
    }
}

static void report_unknown_section(config_reader *reader, config_place place, const char *name) {
    char quoted[CONFIG_QUOTE_MAX], known[256] = "";
    mst_nearest nearest = {.word = name};
    for (size_t i = 0; i < config_section_count; i++) {
        mst_nearest_offer(&nearest, config_sections[i].name);
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "", config_sections[i].name);
    }
    config_quote(name, quoted);
    for (size_t i = 0; i < config_key_count; i++) {
        if (strcmp(config_key_name(&config_keys[i]), name) != 0) continue;
        config_report(reader, place, "", "unknown section %s; did you mean '%s'?", quoted,
                      config_keys[i].path);
        return;
    }
    if (nearest.best != NULL)
        config_report(reader, place, "", "unknown section %s; did you mean '%s'?", quoted, nearest.best);
    else
        config_report(reader, place, "", "unknown section %s; known: %s", quoted, known);
}

void config_walk(config_reader *reader, const yaml_node_t *root) {
    if (root->type != YAML_MAPPING_NODE) {
        reader->incomplete = true;
        config_report(reader, place_of(reader, root), "", "expected sections (model:, data:, ...), found %s",
                      kind_of(root));
        return;
    }
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *key = node_of(reader, pair->key);
        const char *name = key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "";
        size_t which = 0;
        while (which < config_section_count && strcmp(config_sections[which].name, name) != 0) which++;
        if (which == config_section_count) {
            reader->incomplete = true;
            report_unknown_section(reader, place_of(reader, key), name);
        } else if (reader->sections[which].text != NULL) {
            config_report(reader, place_of(reader, key), name, "section given twice; first in line %zu",
                          reader->sections[which].line);
        } else {
            reader->sections[which] = place_of(reader, key);
            read_section(reader, node_of(reader, pair->value), &config_sections[which]);
        }
    }
}

void config_walk_value(config_reader *reader, size_t key_index, const yaml_node_t *node) {
    read_key(reader, key_index, node);
}
