/* Reading of tokenizer.json. Private to the room. */
#ifndef TOKENIZER_PARSE_H
#define TOKENIZER_PARSE_H

#include <jansson.h>

#include "state.h"

/* What takes part in reading is called `where` in messages, such as "pre_tokenizer.pretokenizers[1]". */
enum { PARSE_WHERE = 160 };

/** The text of a field that must be there. @retval MST_EFORMAT not there, no string */
mst_status parse_string(const json_t *object, const char *where, const char *field, const char **text_out,
                        size_t *bytes_out);
/** A field that may be missing or null. @retval MST_EFORMAT neither true nor false */
mst_status parse_bool(const json_t *object, const char *where, const char *field, bool otherwise,
                      bool *value_out);
/** @retval MST_EFORMAT not there, no list */
mst_status parse_list(const json_t *object, const char *where, const char *field, const json_t **list_out);
/** The field "type" of an object. @retval MST_EFORMAT no object, or none of a type */
mst_status parse_type(const json_t *object, const char *where, const char **type_out);
/** Refuses fields that are not named; `known` ends with NULL. @retval MST_EUNSUPPORTED (the field named) */
mst_status parse_known(const json_t *object, const char *where, const char *const *known);

/** The parts of the file. @retval MST_EFORMAT, MST_EUNSUPPORTED (place and thing named); MST_ENOMEM */
mst_status parse_model(mst_tokenizer *t, const json_t *model);
mst_status parse_added(mst_tokenizer *t, const json_t *added);
mst_status parse_normalizer(mst_tokenizer *t, const json_t *normalizer);
mst_status parse_pre_tokenizer(mst_tokenizer *t, const json_t *pre_tokenizer);
mst_status parse_decoder(const json_t *decoder);
mst_status parse_post_processor(mst_tokenizer *t, const json_t *post_processor);

#endif
