/* From text to a YAML document. libyaml resolves aliases to shared nodes and does not expand them, and only
 * nodes that the schema knows are visited: an alias costs no more than its own text. Nesting is bounded
 * before the document is built. */
#include <string.h>

#include "muster/nearest.h"
#include "reader.h"

static config_place place_of_offset(const config_reader *reader, const char *text, size_t length,
                                    size_t offset) {
    config_place place = {.text = reader->source, .line = 1, .column = 1};
    if (reader->is_override) return (config_place){.text = reader->source};
    for (size_t i = 0; i < offset && i < length; i++) {
        place.column++;
        if (text[i] != '\n') continue;
        place.line++;
        place.column = 1;
    }
    return place;
}

/* Whether a mark points to a tab. Marks count characters, so that this may miss
 * one after a non-ASCII character. */
static bool is_tab_at(const char *text, size_t length, yaml_mark_t mark) {
    size_t line = 0, i = 0;
    for (; i < length && line < mark.line; i++) line += text[i] == '\n';
    return i + mark.column < length && text[i + mark.column] == '\t';
}

static void report_syntax(config_reader *reader, const yaml_parser_t *parser, const char *text,
                          size_t length) {
    const char *problem = parser->problem != NULL ? parser->problem : "not valid YAML";
    reader->incomplete = true;
    if (parser->error == YAML_MEMORY_ERROR) {
        reader->status =
            mst_error(MST_ENOMEM, "%s: no memory to parse %zu bytes of YAML", reader->source, length);
        return;
    }
    if (parser->error == YAML_READER_ERROR) {
        config_place place = place_of_offset(reader, text, length, parser->problem_offset);
        config_report(reader, place, "", "%s (0x%02x); a config is plain UTF-8 text", problem,
                      (unsigned)parser->problem_value);
        return;
    }
    config_place place = config_place_at(reader, parser->problem_mark);
    if (is_tab_at(text, length, parser->problem_mark))
        config_report(reader, place, "", "a tab character; YAML is indented with spaces");
    else if (parser->context != NULL)
        config_report(reader, place, "", "YAML syntax: %s, %s (line %zu)", problem, parser->context,
                      parser->context_mark.line + 1);
    else
        config_report(reader, place, "", "YAML syntax: %s", problem);
}

enum { DEPTH_MAX = 16 }; /* a config has 4 levels; libyaml takes time in the square of the depth */

static bool begin(config_reader *reader, yaml_parser_t *parser, const char *text, size_t length) {
    if (!yaml_parser_initialize(parser)) {
        reader->status = mst_error(MST_ENOMEM, "%s: no memory for a YAML parser", reader->source);
        return false;
    }
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, (const unsigned char *)text, length);
    return true;
}

/* The tag that a text gave to a value, NULL: none. In the document it could not be told from a default one. */
static const char *tag_of(const yaml_event_t *event) {
    const yaml_char_t *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) tag = event->data.scalar.tag;
    if (event->type == YAML_SEQUENCE_START_EVENT) tag = event->data.sequence_start.tag;
    if (event->type == YAML_MAPPING_START_EVENT) tag = event->data.mapping_start.tag;
    return (const char *)tag;
}

/* A first pass over the text: is it YAML, one document, without tags, and not nested too deeply? Reports what
 * is wrong. */
static bool is_sound(config_reader *reader, const char *text, size_t length) {
    yaml_parser_t parser;
    char quoted[CONFIG_QUOTE_MAX];
    int depth = 0, documents = 0;
    size_t before = reader->error_count;
    if (!begin(reader, &parser, text, length)) return false;
    for (bool more = true; more && reader->error_count == before && reader->status == MST_OK;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            report_syntax(reader, &parser, text, length);
            break;
        }
        depth += event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT;
        depth -= event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT;
        documents += event.type == YAML_DOCUMENT_START_EVENT;
        more = event.type != YAML_STREAM_END_EVENT;
        config_place place = config_place_at(reader, event.start_mark);
        if (depth > DEPTH_MAX) config_report(reader, place, "", "nested deeper than %d levels", DEPTH_MAX);
        if (documents > 1) config_report(reader, place, "", "a second YAML document; a config is one");
        if (tag_of(&event) != NULL)
            config_report(reader, place, "", "tag %s: tags are not used here; write the bare value",
                          config_quote(tag_of(&event), quoted));
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return reader->error_count == before && reader->status == MST_OK;
}

static void report_nothing(config_reader *reader, size_t key_index) {
    config_place place = {.text = reader->source, .line = reader->is_override ? 0 : 1, .column = 1};
    reader->incomplete = true;
    if (key_index < config_key_count)
        config_report(reader, place, config_keys[key_index].path, "the value is missing");
    else
        config_report(reader, place, "",
                      "the config is empty; 'muster train --help-config' prints one to begin with");
}

/* Hands the document's root to config_walk, or to config_walk_value for one key. */
static void read_text(config_reader *reader, const char *text, size_t length, size_t key_index) {
    yaml_parser_t parser;
    yaml_document_t document;
    if (!is_sound(reader, text, length)) {
        reader->incomplete = true;
        return;
    }
    if (!begin(reader, &parser, text, length)) return;
    if (!yaml_parser_load(&parser, &document)) {
        report_syntax(reader, &parser, text, length); /* undefined aliases are found only now */
    } else {
        const yaml_node_t *root = yaml_document_get_root_node(&document);
        reader->document = &document;
        if (root == NULL)
            report_nothing(reader, key_index);
        else if (key_index < config_key_count)
            config_walk_value(reader, key_index, root);
        else
            config_walk(reader, root);
        reader->document = NULL;
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
}

void config_read_file(config_reader *reader, const char *text, size_t length) {
    reader->is_override = false;
    read_text(reader, text, length, config_key_count);
}

/* The left side of --set names no key: finds the one that may have been meant. */
static void report_unknown_path(config_reader *reader, const char *path) {
    config_place place = {.text = reader->source};
    char quoted[CONFIG_QUOTE_MAX];
    mst_nearest nearest = {.word = path};
    const char *same_name = NULL;
    config_quote(path, quoted);
    for (size_t i = 0; i < config_section_count; i++)
        if (strcmp(config_sections[i].name, path) == 0) {
            config_report(reader, place, "", "%s is a section; set its keys one by one, as %s.key=value",
                          quoted, path);
            return;
        }
    const char *dot = strrchr(path, '.'), *name = dot != NULL ? dot + 1 : path;
    for (size_t i = 0; i < config_key_count; i++) {
        if (strcmp(config_key_name(&config_keys[i]), name) == 0) same_name = config_keys[i].path;
        mst_nearest_offer(&nearest, config_keys[i].path);
    }
    const char *meant = same_name != NULL ? same_name : nearest.best;
    if (meant != NULL)
        config_report(reader, place, "", "unknown key %s; did you mean '%s'?", quoted, meant);
    else
        config_report(reader, place, "", "unknown key %s; 'muster train --help-config' lists all", quoted);
}

void config_read_override(config_reader *reader, const char *assignment) {
    const char *equals = strchr(assignment, '=');
    char path[64];
    reader->is_override = true;
    if (equals == NULL || equals == assignment) {
        config_report(reader, (config_place){.text = reader->source}, "",
                      "expected key=value, such as run.steps=100");
        return;
    }
    snprintf(path, sizeof path, "%.*s", (int)(equals - assignment < 63 ? equals - assignment : 63),
             assignment);
    size_t index = config_key_find(path);
    if (index == config_key_count)
        report_unknown_path(reader, path);
    else
        read_text(reader, equals + 1, strlen(equals + 1), index);
}
