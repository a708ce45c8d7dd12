/* What is refused of a tokenizer.json, and with which words; patterns that take too long. */
#include <time.h>

#include "tokenizer_fixture.h"

static void expect_refused(const char *text, size_t bytes, mst_status wanted, const char *word) {
    mst_tokenizer *tokenizer = NULL;
    CHECK_STATUS(mst_tokenizer_parse(text, bytes, "t.json", &tokenizer), wanted);
    CHECK(tokenizer == NULL, "a tokenizer after a refusal");
    CHECK(strstr(mst_error_message(), "t.json: ") == mst_error_message() &&
              strstr(mst_error_message(), word) != NULL,
          "'%s' (expected '%s')", mst_error_message(), word);
    mst_tokenizer_destroy(&tokenizer);
}

#define SEQUENCE(steps) "{\"type\": \"Sequence\", \"pretokenizers\": [" steps "]}"
#define SPLIT(pattern)                                                                                       \
    SEQUENCE("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" pattern                                     \
             "\"}, \"behavior\": \"Isolated\", \"invert\": false}, " BYTE_LEVEL)
#define BPE "\"type\": \"BPE\""

static const struct {
    tokenizer_parts parts;
    mst_status status;
    const char *word;
} cases[] = {
    /* kinds that are not read */
    {{.model = "\"type\": \"Unigram\""}, MST_EUNSUPPORTED, "model 'Unigram'"},
    {{.model = BPE ", \"byte_fallback\": true"}, MST_EUNSUPPORTED, "model.byte_fallback"},
    {{.model = BPE ", \"dropout\": 0.1"}, MST_EUNSUPPORTED, "model.dropout"},
    {{.model = BPE ", \"unk_token\": \"<unk>\""}, MST_EUNSUPPORTED, "model.unk_token"},
    {{.model = BPE ", \"continuing_subword_prefix\": \"##\""},
     MST_EUNSUPPORTED,
     "model.continuing_subword_prefix"},
    {{.model = BPE ", \"end_of_word_suffix\": \"</w>\""}, MST_EUNSUPPORTED, "model.end_of_word_suffix"},
    {{.model = BPE ", \"fuse_unk\": true"}, MST_EUNSUPPORTED, "model.fuse_unk"},
    {{.model = BPE ", \"magic\": 1"}, MST_EUNSUPPORTED, "'magic'"},
    {{.normalizer = "{\"type\": \"Lowercase\"}"}, MST_EUNSUPPORTED, "normalizer 'Lowercase'"},
    {{.normalizer = "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"NFKC\"}]}"},
     MST_EUNSUPPORTED,
     "normalizer 'NFKC' is not supported (normalizer.normalizers[1])"},
    {{.normalizer = "{\"type\": \"\\u001b[2J\\u009b31m\\u007f\"}"},
     MST_EUNSUPPORTED,
     "normalizer '?[2J??31m?'"}, /* nothing that steers a terminal */
    {{.pre_tokenizer = "null"}, MST_EUNSUPPORTED, "without ByteLevel"},
    {{.pre_tokenizer = "{\"type\": \"Whitespace\"}"}, MST_EUNSUPPORTED, "pre-tokenizer 'Whitespace'"},
    {{.pre_tokenizer = SEQUENCE(BYTE_LEVEL ", {\"type\": \"Digits\"}")},
     MST_EUNSUPPORTED,
     "ByteLevel is not the last"},
    {{.pre_tokenizer = SEQUENCE("{\"type\": \"Digits\"}")}, MST_EUNSUPPORTED, "without ByteLevel"},
    {{.pre_tokenizer = SEQUENCE(SEQUENCE(""))}, MST_EUNSUPPORTED, "pre-tokenizer 'Sequence'"},
    {{.decoder = "null"}, MST_EUNSUPPORTED, "decoder null"},
    {{.decoder = "{\"type\": \"Metaspace\"}"}, MST_EUNSUPPORTED, "decoder 'Metaspace'"},
    {{.post_processor = "{\"type\": \"BertProcessing\"}"},
     MST_EUNSUPPORTED,
     "post-processor 'BertProcessing'"},
    /* patterns */
    {{.pre_tokenizer = SPLIT("\\\\w+")}, MST_EUNSUPPORTED, "pattern: '\\w' at byte 0"},
    {{.pre_tokenizer = SPLIT("ab^")}, MST_EUNSUPPORTED, "pattern: '^' at byte 2"},
    {{.pre_tokenizer = SPLIT("\\\\p{Han}+")}, MST_EUNSUPPORTED, "pattern: '\\p{Han}'"},
    {{.pre_tokenizer = SPLIT("[a&&b]")}, MST_EUNSUPPORTED, "intersections"},
    {{.pre_tokenizer = SPLIT("[a[b]]")}, MST_EUNSUPPORTED, "class inside of a class"},
    {{.pre_tokenizer = SPLIT("(?i:ss)")}, MST_EUNSUPPORTED, "ligature"},
    {{.pre_tokenizer = SPLIT("(?<n>a)")}, MST_EUNSUPPORTED, "this kind of group"},
    {{.pre_tokenizer = SPLIT("(a)\\\\1")}, MST_EUNSUPPORTED, "'\\1'"},
    {{.pre_tokenizer = SPLIT("a{2000}")}, MST_EUNSUPPORTED, "at most 1000"},
    {{.pre_tokenizer = SPLIT("a**")}, MST_EUNSUPPORTED, "a repetition of a repetition"},
    {{.pre_tokenizer = SPLIT("(?:a|a){24}[bc]")}, MST_EUNSUPPORTED, "more than 64 ways"},
    {{.pre_tokenizer = SPLIT("(?:(?:a|b)(?:a|b|c)){9}")}, MST_EUNSUPPORTED, "more than 64 ways"},
    {{.pre_tokenizer = SPLIT("")}, MST_EUNSUPPORTED, "an empty one"},
    {{.pre_tokenizer = SPLIT("(a")}, MST_EFORMAT, "( without )"},
    {{.pre_tokenizer = SPLIT("a)")}, MST_EFORMAT, ") without ("},
    {{.pre_tokenizer = SPLIT("[a")}, MST_EFORMAT, "[ without ]"},
    {{.pre_tokenizer = SPLIT("[z-a]")}, MST_EFORMAT, "a range"},
    {{.pre_tokenizer = SPLIT("(?<=a+)b")}, MST_EFORMAT, "lookbehind"},
    {{.pre_tokenizer = SPLIT("(((a{1000}){1000}){1000})")}, MST_EFORMAT, "too large"},
    {{.pre_tokenizer = "{\"type\": \"Split\", \"pattern\": 7, \"behavior\": \"Isolated\"}"},
     MST_EFORMAT,
     "pattern is not an object"},
    {{.pre_tokenizer = "{\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Eaten\"}"},
     MST_EUNSUPPORTED,
     "'Eaten'"},
    /* things that are no tokenizer */
    {{.model = "\"type\": 7"}, MST_EFORMAT, "model.type is not a text"},
    {{.model = BPE ", \"type\": \"BPE\""}, MST_EFORMAT, "duplicate"},
    {{.model = BPE ", \"ignore_merges\": 1"}, MST_EFORMAT, "model.ignore_merges is neither"},
    {{.normalizer = "7"}, MST_EFORMAT, "normalizer is not an object"},
    {{.normalizer = "{\"type\": \"Sequence\"}"}, MST_EFORMAT, "normalizer.normalizers is not a list"},
    {{.vocab = "\"x\\u0100\": -1"}, MST_EFORMAT, "id -1 is out of range"},
    {{.vocab = "\"xy\": 2097152"}, MST_EFORMAT, "id 2097152 is out of range"},
    {{.vocab = "\"xy\": 1.5"}, MST_EFORMAT, "'xy': not a whole number"},
    {{.vocab = "\"xy\": 99999999999999999999"}, MST_EFORMAT, "not JSON"},
    {{.vocab = "\"xy\": 97"}, MST_EFORMAT, "id 97 is that of 'a'"},
    {{.vocab = "\"\": 256"}, MST_EFORMAT, "a token of 0 bytes"},
    {{.merges = "7"}, MST_EFORMAT, "model.merges is not a list"},
    {{.merges = "[\"a b\", \"ab\"]"}, MST_EFORMAT, "model.merges[1]: neither"},
    {{.merges = "[\"a b c\"]"}, MST_EFORMAT, "model.merges[0]: neither"},
    {{.merges = "[[\"a\", 7]]"}, MST_EFORMAT, "model.merges[0]: neither"},
    {{.merges = "[\"a  b\"]"}, MST_EFORMAT, "model.merges[0]: neither"},
    {{.merges = "[\"a xy\"]"}, MST_EFORMAT, "'xy' is not in the vocabulary"},
    {{.merges = "[\"a z\"]"}, MST_EFORMAT, "'az' is not in the vocabulary"},
    {{.added = "7"}, MST_EFORMAT, "added_tokens is not a list"},
    {{.added = "[7]"}, MST_EFORMAT, "added_tokens[0] is not an object"},
    {{.added = "[{\"content\": \"x\"}]"}, MST_EFORMAT, "added_tokens[0].id"},
    {{.added = "[{\"id\": 263, \"content\": \"\"}]"}, MST_EFORMAT, "a token of 0 bytes"},
    {{.added = "[{\"id\": 300, \"content\": \"<s>\"}]"}, MST_EFORMAT, "id 300, but the next one is 263"},
    {{.added = "[{\"id\": 263, \"content\": \"abc\"}]"}, MST_EFORMAT, "id 263, but the vocabulary has 257"},
    {{.added = "[{\"id\": 263, \"content\": \"<s>\"}, {\"id\": 263, \"content\": \"<s>\"}]"},
     MST_EFORMAT,
     "stands twice"},
    {{.added = "[{\"id\": 233, \"content\": \"\\u00e9\"}]"}, MST_EUNSUPPORTED, "also spells other bytes"},
    {{.added = "[{\"id\": 263, \"content\": \"<s>\", \"lstrip\": 1}]"},
     MST_EFORMAT,
     "added_tokens[0].lstrip"},
    {{.post_processor = "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
                        "\"<s>\"}}], \"special_tokens\": {}}"},
     MST_EFORMAT,
     "'<s>' is not among"},
    {{.post_processor = "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
                        "\"s\"}}], \"special_tokens\": "
                        "{\"s\": {\"ids\": [263]}}}"},
     MST_EFORMAT,
     "is none of a token"},
    {{.post_processor = "{\"type\": \"TemplateProcessing\", \"single\": [], \"special_tokens\": {}}"},
     MST_EUNSUPPORTED,
     "one Sequence A"},
};

static void test_cases(void) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text = tokenizer_text(cases[i].parts);
        expect_refused(text, strlen(text), cases[i].status, cases[i].word);
    }
}

static void test_no_json(void) {
    static const struct {
        const char *text, *word;
        mst_status status;
    } texts[] = {{"", "not JSON", MST_EFORMAT},
                 {"[]", "not an object", MST_EFORMAT},
                 {"{\"version\": \"1.0\"}", "model is not an object", MST_EFORMAT},
                 {"{\"version\": \"2.0\"}", "version '2.0'", MST_EUNSUPPORTED},
                 {"{\"version\": \"1.0\", \"model\": {}, \"x\": 1}", "'x'", MST_EUNSUPPORTED},
                 {"{\"version\": \"1.0\"} x", "line 1", MST_EFORMAT},
                 {"{\"version\": \"1.0\", \"a\": \"\xFF\"}", "not JSON", MST_EFORMAT}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect_refused(texts[i].text, strlen(texts[i].text), texts[i].status, texts[i].word);
    char deep[20000];
    memset(deep, '[', sizeof deep);
    expect_refused(deep, sizeof deep, MST_EFORMAT, "not JSON");
    expect_refused("{\0}", 3, MST_EFORMAT, "not JSON");
}

static void test_missing_byte(void) {
    static const char text[] =
        "{\"version\": \"1.0\", \"pre_tokenizer\": " BYTE_LEVEL ", \"decoder\": " BYTE_LEVEL
        ", \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}";
    mst_tokenizer *t = NULL;
    mst_token_list tokens = {0};
    CHECK_OK(mst_tokenizer_parse(text, sizeof text - 1, "t.json", &t));
    CHECK_OK(mst_tokenizer_encode(t, (const uint8_t *)"aa", 2, &(mst_encode_options){0}, &tokens));
    CHECK_STATUS(mst_tokenizer_encode(t, (const uint8_t *)"ab", 2, &(mst_encode_options){0}, &tokens),
                 MST_EUNSUPPORTED);
    CHECK(strstr(mst_error_message(), "0x62") != NULL && tokens.count == 2, "%s, %zu", mst_error_message(),
          tokens.count);
    free(tokens.at);
    mst_tokenizer_destroy(&t);
}

/* Patterns that backtrack without end, on the text that makes them: an error within seconds. */
static void test_catastrophes(void) {
    static const char *const steps[] = {SPLIT("(?:a+)+[bc]"),        SPLIT("(?:a|a)*[bc]"),
                                        SPLIT("a*a*a*a*a*a*[bc]"),   SPLIT("(?:(?:a?){30}){30}[bc]"),
                                        SPLIT("(?=(?:a+)+[bc])a"),   SPLIT("(?:a*?)*[bc]"),
                                        SPLIT("(?:a{1,2}){11}[bc]"), SPLIT("(?:a{1,2}){17}[bc]")};
    enum { LENGTH = 1 << 16 };
    static uint8_t text[LENGTH];
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        mst_tokenizer *t = open_tokenizer((tokenizer_parts){.pre_tokenizer = steps[i]});
        mst_token_list tokens = {0};
        struct timespec begin, end;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
        CHECK_STATUS(mst_tokenizer_encode(t, text, sizeof text, &(mst_encode_options){0}, &tokens),
                     MST_EFORMAT);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        CHECK(strstr(mst_error_message(), "takes too long") != NULL, "%s", mst_error_message());
        CHECK(end.tv_sec - begin.tv_sec < 20, "pattern %zu: %ld s", i, (long)(end.tv_sec - begin.tv_sec));
        free(tokens.at);
        mst_tokenizer_destroy(&t);
    }
}

int main(void) {
    test_cases();
    test_no_json();
    test_missing_byte();
    test_catastrophes();
    return test_finish("tokenizer refused");
}
