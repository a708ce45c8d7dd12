/* How text is cut into words before training, in code and as the "pre_tokenizer" of tokenizer.json. */
#ifndef TOKENIZER_TRAIN_SCHEME_H
#define TOKENIZER_TRAIN_SCHEME_H

#include <jansson.h>

#include "pretokenize.h"

typedef struct train_scheme {
    const char *name;
    const char *regex; /* NULL: that of GPT-2, which ByteLevel brings along */
} train_scheme;

/** Finds a pattern by name; NULL: gpt2. @retval MST_ECONFIG an unknown name, with those that there are */
mst_status train_scheme_find(const char *name, const train_scheme **scheme_out);

/** @param digits each digit is a word of its own @retval MST_ENOMEM */
mst_status train_scheme_pretokenizer(const train_scheme *scheme, bool digits, pretokenizer **p_out);
/** A new object; NULL without memory. */
json_t *train_scheme_json(const train_scheme *scheme, bool digits);

#endif
