/* Memory that runs out: the Nth allocation of the tokenizer room fails, for every N until none does. The linker puts the functions below
 * between the room and the library. */
#include "tokenizer_fixture.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *at, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *at, size_t bytes);

static size_t left = SIZE_MAX; /* allocations that succeed */

static bool fails(void) {
    if (left == SIZE_MAX) return false;
    return left == 0 || --left == 0;
}

void *__wrap_malloc(size_t bytes) {
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *at, size_t bytes) {
    return fails() ? NULL : __real_realloc(at, bytes);
}

static const char sample[] =
    "abc <s> e\xCC\x81 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
    "\xE1\xA0\x8E 12";

/* Reads, encodes and decodes; the first failure. Nothing may be left of what failed. */
static mst_status try_all(const char *text) {
    mst_tokenizer *t = NULL;
    mst_token_list tokens = {0};
    mst_byte_list bytes = {0};
    mst_status status = mst_tokenizer_parse(text, strlen(text), "test", &t);
    CHECK((status == MST_OK) == (t != NULL), "%s", mst_error_message());
    if (status == MST_OK)
        status = mst_tokenizer_encode(t, (const uint8_t *)sample, sizeof sample - 1,
                                      &(mst_encode_options){.affixes = true}, &tokens);
    if (status == MST_OK) status = mst_tokenizer_decode(t, tokens.at, tokens.count, true, &bytes);
    CHECK(status != MST_OK || (bytes.count > 60 && memcmp(bytes.at, "abc <s> \xC3\xA9 aa", 13) == 0),
          "decoding");
    mst_tokenizer_destroy(&t);
    free(tokens.at);
    free(bytes.at);
    return status;
}

int main(void) {
    const char *text = tokenizer_text((tokenizer_parts){
        .normalizer = "{\"type\": \"NFC\"}",
        .model = "\"type\": \"BPE\", \"ignore_merges\": true",
        .pre_tokenizer = "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
                         "\"individual_digits\": true}, "
                         "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{L}+|\\\\s\"}, \"behavior\": "
                         "\"MergedWithNext\"}, " BYTE_LEVEL "]}",
        .added = "[{\"id\": 263, \"content\": \"<s>\"}, {\"id\": 264, \"content\": \"<t>\", \"normalized\": "
                 "true}]"});
    mst_status status = MST_ENOMEM;
    size_t count = 0;
    for (; status != MST_OK && count < 10000; count++) {
        left = count + 1;
        status = try_all(text);
        left = SIZE_MAX;
        CHECK(status == MST_OK || status == MST_ENOMEM, "allocation %zu: %s: %s", count,
              mst_status_name(status), mst_error_message());
    }
    printf("%zu allocations\n", count - 1);
    CHECK(status == MST_OK && count > 20, "%s", mst_error_message());
    return test_finish("tokenizer memory");
}
