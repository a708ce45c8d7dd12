/* Fuzzing of the reader of tokenizer.json: mutations of three valid files. Each is refused with one of the statuses that the header
 * promises, or encodes a text into tokens that exist. */
#include "../unit/tokenizer_fixture.h"
#include "fuzz.h"

static const char sample[] = "Hello world's <s>  12345\n\n \t e\xCC\x81 \xE6\xBC\xA2 \xF0\x9F\x98\x80 <name> "
                             "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                             "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xFF\xC3 \xE1\xA0\x8E\xF0\x91\xBD\x90 'LL int "
                             "main(void) { return abcabc; }   ";

static bool is_refusal(mst_status status) {
    return status == MST_EUNSUPPORTED || status == MST_EFORMAT || status == MST_ENOMEM;
}

static void use(mst_tokenizer *t, mst_encode_options options) {
    mst_token_list tokens = {0};
    mst_byte_list bytes = {0};
    mst_status status =
        mst_tokenizer_encode(t, (const uint8_t *)sample, sizeof sample - 1, &options, &tokens);
    if (status != MST_OK && (!is_refusal(status) || tokens.count != 0)) abort();
    for (size_t i = 0; i < tokens.count; i++) {
        size_t length;
        bool special;
        if (mst_tokenizer_piece(t, tokens.at[i], &length, &special) == NULL || length == 0) abort();
    }
    if (mst_tokenizer_decode(t, tokens.at, tokens.count, true, &bytes) != MST_OK) abort();
    free(tokens.at);
    free(bytes.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mst_tokenizer *t = NULL;
    mst_status status = mst_tokenizer_parse((const char *)data, size, "fuzz", &t);
    if ((status == MST_OK) != (t != NULL)) abort();
    if (status != MST_OK && (!is_refusal(status) || strncmp(mst_error_message(), "fuzz: ", 6) != 0)) abort();
    if (t == NULL) return 0;
    fuzz_accepted++;
    use(t, (mst_encode_options){.affixes = true});
    use(t, (mst_encode_options){.plain = true});
    mst_tokenizer_destroy(&t);
    return 0;
}

#define SPLIT_THEN(pattern)                                                                                  \
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" pattern \
    "\"}, \"behavior\": "                                                                                    \
    "\"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "              \
    "\"trim_offsets\": false, "                                                                              \
    "\"use_regex\": false}]}"
#define CL100K                                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "                   \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"                                                               \
    "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

static const tokenizer_parts valid_parts[] = {
    {.pre_tokenizer = "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
                      "\"individual_digits\": true}, " BYTE_LEVEL "]}",
     .added = "[{\"id\": 263, \"content\": \"<name>\", \"single_word\": true, \"lstrip\": true, \"rstrip\": "
              "true, \"normalized\": "
              "true, \"special\": false}]"},
    {.pre_tokenizer = SPLIT_THEN(CL100K),
     .model = "\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"byte_fallback\": false, "
              "\"ignore_merges\": true",
     .added = "[{\"id\": 263, \"content\": \"<s>\", \"normalized\": false, \"special\": true}]",
     .post_processor = "{\"type\": \"Sequence\", \"processors\": [" BYTE_LEVEL
                       ", {\"type\": \"TemplateProcessing\", \"single\": "
                       "[{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": "
                       "\"A\", \"type_id\": 0}}], "
                       "\"pair\": [], \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [263], "
                       "\"tokens\": [\"<s>\"]}}}]}"},
    {.pre_tokenizer = SPLIT_THEN(
         "[^\\\\S\\\\r\\\\n]+|(?:a|ab)*?b|\\\\p{^N}{2,5}+|(?<=a)(?>b+)|\\\\x{61}[\\\\u0062-z\\\\-]"),
     .normalizer = "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}]}"}};
enum { VALID = sizeof valid_parts / sizeof *valid_parts };

/* Puts a word in the place of `count` bytes at a place. */
static void put_word(uint8_t *data, size_t *size, size_t at, size_t count, const char *const *words,
                     size_t word_count) {
    const char *word = words[fuzz_random(word_count)];
    fuzz_splice(data, size, at, count, word, strlen(word));
}

/* Somewhere in the text of a pattern. */
static bool mutate_pattern(uint8_t *data, size_t *size) {
    static const char *const words[] = {
        "(",         ")",     "(?i:",  "(?=",      "(?<!",     "(?>",          "[",       "]",
        "[^",        "|",     "*",     "+",        "?",        "{1,3}",        "{0,999}", "{2}",
        "\\\\s",     "\\\\S", "\\\\d", "\\\\p{L}", "\\\\P{N}", "\\\\p{^Lu}",   "\\\\",    ".",
        "-",         "a",     "'",     "(?:a*)*",  "(a|a)+",   "\\\\x{1F600}", "\\u0300", "\\ud83d\\ude00",
        "\\\\u00e9", "",      ""};
    const uint8_t *start = memmem(data, *size, "\"Regex\": \"", 10);
    const uint8_t *end = start == NULL ? NULL : memmem(start, *size - (size_t)(start - data), "\"}", 2);
    if (end == NULL || end < start + 12) return false;
    size_t at = (size_t)(start - data) + 10 + fuzz_random((uint64_t)(end - start) - 10);
    put_word(data, size, at, fuzz_random(2), words, sizeof words / sizeof *words);
    return true;
}

/* One value, of those outside of the vocabulary. */
static bool mutate_value(uint8_t *data, size_t *size) {
    static const char *const words[] = {"true",
                                        "false",
                                        "null",
                                        "\"\"",
                                        "[]",
                                        "{}",
                                        "0",
                                        "256",
                                        "263",
                                        "2097151",
                                        "-1",
                                        "\"a\"",
                                        "\"ab\"",
                                        "\"Removed\"",
                                        "\"MergedWithNext\"",
                                        "\"MergedWithPrevious\"",
                                        "\"Contiguous\"",
                                        "\"Isolated\"",
                                        "\"NFC\"",
                                        "\"Sequence\"",
                                        "\"ByteLevel\"",
                                        "\"Digits\"",
                                        "\"A\"",
                                        "\"<s>\"",
                                        "[\"a b\"]"};
    const uint8_t *vocab = memmem(data, *size, "\"vocab\"", 7);
    size_t high = vocab == NULL ? *size : (size_t)(vocab - data), at, end;
    if (high == 0) return false;
    at = fuzz_random(high);
    while (at + 1 < high && !(data[at] == ':' && data[at + 1] == ' ')) at++;
    if (at + 2 >= high) return false;
    for (end = at += 2; end < high && strchr(",}]", data[end]) == NULL;) end++;
    put_word(data, size, at, end - at, words, sizeof words / sizeof *words);
    return true;
}

static void change_once(uint8_t *data, size_t *size) {
    uint64_t kind = fuzz_random(8);
    if (kind < 4 && mutate_pattern(data, size)) return;
    if (kind < 6 && mutate_value(data, size)) return;
    fuzz_mutate(data, size, 0, *size);
}

static size_t fuzz_valid(size_t number, uint8_t *data) {
    static char valid[VALID][FUZZ_ROOM / 8];
    if (number >= VALID) return 0;
    if (valid[number][0] == '\0')
        snprintf(valid[number], sizeof valid[number], "%s", tokenizer_text(valid_parts[number]));
    memcpy(data, valid[number], strlen(valid[number]));
    return strlen(valid[number]);
}

static void fuzz_change(uint8_t *data, size_t *size) {
    for (uint64_t changes = 1 + fuzz_random(3); changes > 0; changes--) change_once(data, size);
    if (fuzz_random(32) == 0) *size = fuzz_random(*size + 1);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    return fuzz_main(argc, argv, "fuzz_tokenizer");
}
#endif
