/* Memory that runs out: the Nth allocation of the chat room fails, for every N until none does. The linker puts the functions below
 * between the room and the library. */
#include "muster/chat.h"
#include "test.h"

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

static const char text[] =
    "{% macro f(a, b='y') %}{{ a ~ b }}{% endmacro %}{% set a %}x{% endset %}{% for m in messages "
    "%}{{ f(a) ~ m.role ~ (m | tojson) }}{% "
    "generation %}{{ m.content.split(' ') | "
    "join('-') }}{% endgeneration %}{% endfor %}";
static const char line[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"a <eos> b\"}, {\"role\": "
                           "\"assistant\", \"content\": \"c d\"}]}";

/* Reads, renders and encodes; the first failure. Nothing may be left of what failed. */
static mst_status try_all(mst_tokenizer *tokenizer) {
    mst_status status = MST_OK;
    mst_chat_template *chat = NULL;
    mst_encoder *encoder = NULL;
    mst_chat_report report;
    const int32_t *tokens = NULL;
    const uint8_t *mask = NULL;
    size_t count = 0;
    const mst_chat_encoding encoding = {.sanitize = true};
    MST_TRY(mst_chat_template_parse(text, sizeof text - 1, "test", &chat));
    MST_TRY(mst_chat_encoder(tokenizer, NULL, chat, &encoding, &report, &encoder));
    MST_TRY(encoder->encode_record(encoder->context, (const uint8_t *)line, sizeof line - 1, &tokens, &mask,
                                   &count));
    CHECK(count > 60 && mask[count - 1] == 1, "%zu tokens", count);
done:
    mst_chat_encoder_destroy(&encoder);
    mst_chat_template_destroy(&chat);
    return status;
}

int main(void) {
    mst_tokenizer *tokenizer = NULL;
    mst_status status = MST_ENOMEM;
    size_t count = 0;
    CHECK_OK(mst_tokenizer_bytes(&tokenizer));
    for (; status != MST_OK && count < 10000; count++) {
        left = count + 1;
        status = try_all(tokenizer);
        left = SIZE_MAX;
        CHECK(status == MST_OK || status == MST_ENOMEM, "allocation %zu: %s: %s", count,
              mst_status_name(status), mst_error_message());
    }
    mst_tokenizer_destroy(&tokenizer);
    printf("%zu allocations\n", count - 1);
    CHECK(status == MST_OK && count > 15, "%s", mst_error_message());
    return test_finish("test_chat_memory");
}
