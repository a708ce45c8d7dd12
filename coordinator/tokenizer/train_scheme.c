#include "train_scheme.h"

#include <string.h>

/* The names are those under which the patterns are known; Llama 3 has that of cl100k. */
static const train_scheme schemes[] = {
    {"gpt2", NULL},
    {"cl100k", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
               "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
              "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
};

mst_status train_scheme_find(const char *name, const train_scheme **scheme_out) {
    *scheme_out = &schemes[0];
    if (name == NULL) return MST_OK;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        *scheme_out = &schemes[i];
        if (strcmp(schemes[i].name, name) == 0) return MST_OK;
    }
    return mst_error(MST_ECONFIG, "the pattern '%s' is not known; there are gpt2, cl100k and qwen2", name);
}

mst_status train_scheme_pretokenizer(const train_scheme *scheme, bool digits, pretokenizer **p_out) {
    mst_status status = MST_OK;
    pretokenizer *p = NULL;
    MST_TRY(pretokenizer_create(&p));
    if (digits) MST_TRY(pretokenizer_add_digits(p, true));
    if (scheme->regex != NULL)
        MST_TRY(
            pretokenizer_add_split(p, scheme->regex, strlen(scheme->regex), false, SPLIT_ISOLATED, false));
    MST_TRY(pretokenizer_add_byte_level(p, false, scheme->regex == NULL));
    *p_out = p;
    p = NULL;
done:
    pretokenizer_destroy(&p);
    return status;
}

/* Every call below takes over its values, and accepts NULL for those that there was no memory for. */
static json_t *append(json_t *steps, json_t *step) {
    if (json_array_append_new(steps, step) == 0) return steps;
    json_decref(steps);
    return NULL;
}

json_t *train_scheme_json(const train_scheme *scheme, bool digits) {
    json_t *byte_level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                   "trim_offsets", 1, "use_regex", scheme->regex == NULL);
    if (!digits && scheme->regex == NULL) return byte_level;
    json_t *steps = json_array();
    if (digits) steps = append(steps, json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1));
    if (scheme->regex != NULL)
        steps = append(steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                                        scheme->regex, "behavior", "Isolated", "invert", 0));
    steps = append(steps, byte_level);
    return steps == NULL ? NULL : json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}
