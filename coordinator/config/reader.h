/* Reading a config: what is known while it is read, and how errors are reported. Private to the room. */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include <yaml.h>

#include "schema.h"

/* Where a value was given. */
typedef struct config_place {
    const char *text; /* the file's name, or the text of --set; NULL: nowhere */
    size_t line;      /* from 1; 0: in a --set */
    size_t column;    /* from 1, in characters */
} config_place;

typedef struct config_reader {
    mst_config *config;
    config_place places[CONFIG_KEYS_MAX];   /* of each key's value */
    config_place sections[CONFIG_KEYS_MAX]; /* of each section's name */

    FILE *errors;
    size_t error_count;
    bool incomplete;   /* a part could not be read: what is missing may stand in it */
    mst_status status; /* anything but a wrong config that went wrong: no memory */

    /* of the document being read */
    const char *source; /* the file's name, or the text of --set */
    const char *folder; /* where relative paths start, absolute */
    bool is_override;   /* --set */
    yaml_document_t *document;
} config_reader;

/* Prints "place: error: path: ..." and counts it. `path` may be "". */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
void config_report(config_reader *reader, config_place place, const char *path, const char *format, ...);

/* "FILE:LINE:COLUMN", or "--set ..."; the caller frees it. NULL when there is no memory. */
char *config_place_text(config_place place);

/* The place of a mark of the document being read. */
config_place config_place_at(const config_reader *reader, yaml_mark_t mark);

/* A user's text made fit for one line of a message: quoted, control characters replaced, cut when long. */
enum { CONFIG_QUOTE_MAX = 72 };
const char *config_quote(const char *text, char quoted_out[CONFIG_QUOTE_MAX]);

/* One value's text into `field`, by the key's type and range. Returns false, with what is wrong in `why_out`,
 * when it does not fit. Not for KIND_SOURCES. TEXT and PATH store a copy, and free what was there. */
enum { CONFIG_WHY_MAX = 256 };
bool config_scalar_read(config_reader *reader, const config_key *key, const char *text, bool quoted,
                        void *field, char why_out[CONFIG_WHY_MAX]);

/* The values of a whole document, or of one key. */
void config_walk(config_reader *reader, const yaml_node_t *root);
void config_walk_value(config_reader *reader, size_t key_index, const yaml_node_t *node);

/* Parses YAML text and walks it: a whole file, or "key.path=value". */
void config_read_file(config_reader *reader, const char *text, size_t length);
void config_read_override(config_reader *reader, const char *assignment);

/* Fills in fixed defaults (before reading), derived ones (after), and checks values against each other. */
void config_apply_defaults(config_reader *reader);
void config_derive(config_reader *reader);
void config_check(config_reader *reader);

/* The path as it is meant from `folder`, absolute; NULL when there is no memory. */
char *config_path_absolute(const char *folder, const char *path);
void config_sources_free(mst_config *config);

/* Decodes one UTF-8 character and moves *text past it; UINT32_MAX, without moving, when it is malformed. */
uint32_t config_utf8_next(const char **text);

#endif
