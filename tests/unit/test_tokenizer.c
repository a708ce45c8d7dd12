/* Reading tokenizer.json, encoding and decoding, in small: what each part does, and what is refused. The ids of real texts are compared
 * with Hugging Face's tokenizers by tests/oracle/check_tokenizer.py. */
#include <time.h>
#include <unistd.h>

#include "muster/random.h"
#include "pattern.h"
#include "tokenizer_fixture.h"

/* ---- encoding ---- */

/* Checks that a text becomes these tokens; the list ends with -1. */
static void expect(mst_tokenizer *tokenizer, const char *text, mst_encode_options options,
                   const int32_t *wanted) {
    mst_token_list tokens = {0};
    size_t count = 0;
    while (wanted[count] >= 0) count++;
    CHECK_OK(mst_tokenizer_encode(tokenizer, (const uint8_t *)text, strlen(text), &options, &tokens));
    CHECK(tokens.count == count, "'%s': %zu tokens, not %zu", text, tokens.count, count);
    for (size_t i = 0; i < count && i < tokens.count; i++)
        CHECK(tokens.at[i] == wanted[i], "'%s': token %zu is %d, not %d", text, i, tokens.at[i], wanted[i]);
    free(tokens.at);
}
#define EXPECT(tokenizer, text, ...)                                                                         \
    expect(tokenizer, text, (mst_encode_options){0}, (const int32_t[]){__VA_ARGS__, -1})

static void test_merges(void) {
    mst_tokenizer *t = open_tokenizer((tokenizer_parts){0});
    EXPECT(t, "", -1);
    EXPECT(t, "abc", 257);
    EXPECT(t, "xbc abc a", 'x', 258, ' ', 257, 259);
    EXPECT(t, "aaaaa", 262, 'a'); /* the leftmost first */
    EXPECT(t, "a1212", 'a', 260, 260);
    EXPECT(t, "\xC3\xA9", 0xC3, 0xA9);
    EXPECT(t,
           "ab\xFF"
           "c\xED\xA0\x80",
           256, 0xFF, 'c', 0xED, 0xA0, 0x80); /* no UTF-8: a byte, a surrogate */
    mst_tokenizer_destroy(&t);
    /* of two merges for one pair the later one holds */
    t = open_tokenizer((tokenizer_parts){.merges = "[\"a b\", \"b c\", \"a b\"]"});
    EXPECT(t, "abc", 'a', 258);
    mst_tokenizer_destroy(&t);
    t = open_tokenizer(
        (tokenizer_parts){.model = "\"type\": \"BPE\", \"ignore_merges\": true", .merges = "[]"});
    EXPECT(t, "abc aaaa aaa", 257, ' ', 'a', 'a', 'a', 'a', ' ', 'a', 'a', 'a');
    EXPECT(t, "aaaa", 262);
    mst_tokenizer_destroy(&t);
}

static void test_pre_tokenizers(void) {
    mst_tokenizer *t = open_tokenizer(
        (tokenizer_parts){.pre_tokenizer = "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": "
                                           "\"Digits\", \"individual_digits\": true}, " BYTE_LEVEL "]}"});
    EXPECT(t, "ab12", 256, '1', '2');
    mst_tokenizer_destroy(&t);
    t = open_tokenizer((tokenizer_parts){.pre_tokenizer =
                                             "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                                             "\"trim_offsets\": true, \"use_regex\": true}"});
    EXPECT(t, "a a", 259, 259);
    EXPECT(t, " a", 259);
    mst_tokenizer_destroy(&t);
    t = open_tokenizer((tokenizer_parts){
        .pre_tokenizer =
            "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
            "\"\\\\s+|b\"}, "
            "\"behavior\": \"MergedWithPrevious\", \"invert\": false}, {\"type\": \"ByteLevel\", "
            "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}]}"});
    EXPECT(t, "abc a", 256, 'c', ' ', 'a');
    mst_tokenizer_destroy(&t);
    t = open_tokenizer((tokenizer_parts){
        .pre_tokenizer = "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
                         "{\"String\": \"b.\"}, "
                         "\"behavior\": \"Removed\", \"invert\": false}, " BYTE_LEVEL "]}"});
    EXPECT(t, "ab.ab", 'a', 256);
    mst_tokenizer_destroy(&t);
}

static void test_normalizer(void) {
    mst_tokenizer *t = open_tokenizer((tokenizer_parts){
        .normalizer = "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}]}",
        .added = "[{\"id\": 263, \"content\": \"e\\u0301\", \"normalized\": true, \"special\": false}]"});
    EXPECT(t,
           "xu\xCC\x88"
           "bc",
           'x', 0xC3, 0xBC, 258);
    EXPECT(t, "u\xFF\xCC\x88", 'u', 0xFF, 0xCC, 0x88);
    EXPECT(t, "e\xCC\x81\xC3\xA9", 263, 263); /* looked for in NFC */
    mst_tokenizer_destroy(&t);
}

#define ADDED(flags)                                                                                         \
    "[{\"id\": 263, \"content\": \"<s>\", \"normalized\": false, \"special\": true" flags "}]"

static void test_added(void) {
    mst_tokenizer *t = open_tokenizer((tokenizer_parts){.added = ADDED("")});
    EXPECT(t, "ab<s>c", 256, 263, 'c');
    EXPECT(t, "<s><s", 263, '<', 's');
    expect(t, "<s>", (mst_encode_options){.plain = true}, (const int32_t[]){'<', 's', '>', -1});
    mst_tokenizer_destroy(&t);
    t = open_tokenizer((tokenizer_parts){.added = ADDED(", \"lstrip\": true")});
    EXPECT(t, "a \xE3\x80\x80<s> a", 'a', 263, 259);
    mst_tokenizer_destroy(&t);
    t = open_tokenizer((tokenizer_parts){.added = ADDED(", \"rstrip\": true")});
    EXPECT(t, "a <s> \na<s>", 'a', ' ', 263, 'a', 263);
    mst_tokenizer_destroy(&t);
    t = open_tokenizer((tokenizer_parts){.added = ADDED(", \"single_word\": true")});
    EXPECT(t, "<s>a <s>", '<', 's', '>', 'a', ' ', 263);
    EXPECT(t, "\xC3\xA9<s>", 0xC3, 0xA9, '<', 's', '>');
    mst_tokenizer_destroy(&t);
    /* of white space that two of them take, the first has it; one that is nothing else is gone then */
    t = open_tokenizer(
        (tokenizer_parts){.added = "[{\"id\": 263, \"content\": \"<s>\", \"rstrip\": true}, {\"id\": 264, "
                                   "\"content\": \"\\n\", \"lstrip\": true}]"});
    EXPECT(t, "<s>\na \n", 263, 'a', 264);
    mst_tokenizer_destroy(&t);
    /* the leftmost, of these the longest */
    t = open_tokenizer((tokenizer_parts){
        .added = "[{\"id\": 263, \"content\": \"xy\"}, {\"id\": 264, \"content\": \"xyxz\"}, "
                 "{\"id\": 265, \"content\": \"yx\"}]"});
    EXPECT(t, "xyxyxz", 263, 264);
    EXPECT(t, "zyxyx", 'z', 265, 265);
    mst_tokenizer_destroy(&t);
}

#define TEMPLATE                                                                                             \
    "{\"type\": \"Sequence\", \"processors\": [" BYTE_LEVEL                                                  \
    ", {\"type\": \"TemplateProcessing\", \"single\": ["                                                     \
    "{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": "    \
    "0}}, "                                                                                                  \
    "{\"SpecialToken\": {\"id\": \"e\", \"type_id\": 0}}], \"pair\": [], \"special_tokens\": {"              \
    "\"<s>\": {\"id\": \"<s>\", \"ids\": [263], \"tokens\": [\"<s>\"]}, \"e\": {\"id\": \"e\", \"ids\": "    \
    "[101, 102], \"tokens\": []}}}]}"

static void test_affixes(void) {
    mst_tokenizer *t = open_tokenizer((tokenizer_parts){.added = ADDED(""), .post_processor = TEMPLATE});
    EXPECT(t, "ab", 256);
    expect(t, "ab", (mst_encode_options){.affixes = true}, (const int32_t[]){263, 256, 101, 102, -1});
    expect(t, "", (mst_encode_options){.affixes = true}, (const int32_t[]){263, 101, 102, -1});
    mst_tokenizer_destroy(&t);
}

/* ---- what a tokenizer knows ---- */

static void test_known(void) {
    size_t bytes;
    bool special;
    tokenizer_parts parts = {.added = "[{\"id\": 263, \"content\": \"<|endoftext|>\", \"special\": true}]"};
    mst_tokenizer *t = open_tokenizer(parts);
    CHECK(mst_tokenizer_vocab_size(t) == 264, "%zu", mst_tokenizer_vocab_size(t));
    CHECK(mst_tokenizer_id(t, "<|endoftext|>") == 263 && mst_tokenizer_id(t, "abc") == 257, "ids");
    CHECK(mst_tokenizer_id(t, "abcd") == -1 && mst_tokenizer_id(t, "") == -1, "no such token");
    CHECK(mst_tokenizer_end(t) == 263, "%d", mst_tokenizer_end(t));
    const uint8_t *piece = mst_tokenizer_piece(t, 259, &bytes, &special);
    CHECK(bytes == 2 && memcmp(piece, " a", 2) == 0 && !special, "the piece of 259");
    piece = mst_tokenizer_piece(t, 263, &bytes, &special);
    CHECK(bytes == 13 && memcmp(piece, "<|endoftext|>", 13) == 0 && special, "the piece of 263");
    CHECK(mst_tokenizer_piece(t, 264, &bytes, &special) == NULL &&
              mst_tokenizer_piece(t, -1, &bytes, &special) == NULL,
          "none");
    const char *json = mst_tokenizer_json(t, &bytes);
    CHECK(bytes == strlen(tokenizer_text(parts)) && strcmp(json, tokenizer_text(parts)) == 0,
          "the text that was read");
    mst_byte_list text = {0};
    CHECK_OK(mst_tokenizer_decode(t, (const int32_t[]){257, 263, 9999, -5, 256}, 5, false, &text));
    CHECK_OK(mst_tokenizer_decode(t, (const int32_t[]){263}, 1, true, &text));
    CHECK(text.count == 18 && memcmp(text.at, "abcab<|endoftext|>", 18) == 0, "decoding");
    free(text.at);
    mst_tokenizer_destroy(&t);
    t = open_tokenizer((tokenizer_parts){0});
    CHECK(mst_tokenizer_end(t) == -1, "%d", mst_tokenizer_end(t));
    mst_tokenizer_destroy(&t);
}

static void test_load(void) {
    mst_tokenizer *t = NULL;
    CHECK_STATUS(mst_tokenizer_load("no/such/tokenizer.json", &t), MST_EIO);
    CHECK(t == NULL && strstr(mst_error_message(), "no/such/tokenizer.json") != NULL, "%s",
          mst_error_message());
    CHECK_STATUS(mst_tokenizer_load(".", &t), MST_EIO);
    CHECK_STATUS(mst_tokenizer_load("/dev/zero", &t), MST_EUNSUPPORTED);
    FILE *file = fopen("test_tokenizer.json", "wb");
    CHECK(file != NULL && fputs(tokenizer_text((tokenizer_parts){0}), file) >= 0 && fclose(file) == 0,
          "cannot write");
    CHECK_OK(mst_tokenizer_load("test_tokenizer.json", &t));
    if (t != NULL) EXPECT(t, "abc", 257);
    mst_tokenizer_destroy(&t);
    unlink("test_tokenizer.json");
}

/* ---- any bytes, and back ---- */

static uint32_t random_below(uint64_t seed, uint64_t trial, uint64_t index, uint32_t below) {
    uint32_t bits[4];
    mst_random_bits(seed, MST_RANDOM_TEST, trial, index, bits);
    return (uint32_t)(((uint64_t)bits[0] * below) >> 32);
}

/* Pieces of text that mean something here, and bytes that mean nothing. */
static size_t random_text(uint64_t seed, uint64_t trial, uint8_t *out, size_t room) {
    static const char *const parts[] = {"ab",
                                        "abc",
                                        " a",
                                        "12",
                                        "\n",
                                        "   ",
                                        "<s>",
                                        "<s",
                                        "\xC3",
                                        "\xA9",
                                        "\xF0\x9F",
                                        "\x98\x80",
                                        "\xED\xA0\x80",
                                        "\xF4\x90\x80\x80",
                                        "\xC0\xAF",
                                        "'s",
                                        "\xE2\x80\x83",
                                        "\xE1\xA0\x8E",
                                        "\xF0\x91\xBD\x90"};
    size_t used = 0, count = random_below(seed, trial, 0, 60);
    for (size_t i = 0; i < count && used + 8 < room; i++) {
        uint32_t pick = random_below(seed, trial, 2 * i + 1, 32);
        uint8_t byte = (uint8_t)random_below(seed, trial, 2 * i + 2, 256);
        if (pick < sizeof parts / sizeof *parts)
            used += (size_t)snprintf((char *)out + used, room - used, "%s", parts[pick]);
        else
            out[used++] = byte;
    }
    return used;
}

static void check_round_trip(mst_tokenizer *t, const uint8_t *text, size_t count, bool plain,
                             uint64_t trial) {
    mst_token_list tokens = {0};
    mst_byte_list back = {0};
    CHECK_OK(mst_tokenizer_encode(t, text, count, &(mst_encode_options){.plain = plain}, &tokens));
    CHECK_OK(mst_tokenizer_decode(t, tokens.at, tokens.count, true, &back));
    CHECK(back.count == count && (count == 0 || memcmp(back.at, text, count) == 0),
          "trial %llu: another text", (unsigned long long)trial);
    free(tokens.at);
    free(back.at);
}

static void test_round_trip(uint64_t seed) {
    static const char *const steps[] = {
        BYTE_LEVEL,
        "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": "
        "true}, " BYTE_LEVEL "]}",
        "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
        "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"
        "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": false}, "
        "{\"type\": \"ByteLevel\", "
        "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}]}"};
    uint8_t text[1024];
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        mst_tokenizer *t = open_tokenizer((tokenizer_parts){.added = ADDED(""), .pre_tokenizer = steps[s]});
        for (uint64_t trial = 0; trial < 4000; trial++)
            check_round_trip(t, text, random_text(seed, trial, text, sizeof text), trial % 2 == 0, trial);
        for (unsigned a = 0; a < 256; a++) /* every pair of bytes */
            for (unsigned b = 0; b < 256; b++)
                check_round_trip(t, (const uint8_t[]){(uint8_t)a, (uint8_t)b}, 2, true, a << 8 | b);
        mst_tokenizer_destroy(&t);
    }
}

/* ---- classes of characters ---- */

/* Whether a pattern matches a character, by the body for usual texts and by the one for all. */
static bool matches(pattern *p, uint32_t character, bool exact) {
    uint8_t text[4];
    size_t start, end, count = utf8_encode(character, text);
    bool found = false;
    pattern_budget budget = pattern_budget_for(count);
    CHECK_OK(pattern_find(p, text, count, 0, exact, &budget, &found, &start, &end));
    return found && start == 0 && end == count;
}

/* Every character: by category as Unicode has it, with the characters that PCRE2 does not know; both bodies alike for those that it
 * knows. */
static void test_classes(void) {
    static const char *const sets[][2] = {{"\\p{L}", "[\\p{Lu}\\p{Ll}\\p{Lt}\\p{Lm}\\p{Lo}]"},
                                          {"\\p{N}", "[\\p{Nd}\\p{Nl}\\p{No}]"},
                                          {"\\s", "[^\\S]"},
                                          {"[^\\s\\p{L}\\p{N}]", "(?![\\p{L}\\p{N}])\\S"},
                                          {"\\P{M}", "[^\\p{M}]"},
                                          {"\\p{^Lu}", "(?!\\p{Lu})(?:.|\\n)"}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        pattern *p[2] = {NULL, NULL};
        size_t differ = 0, wrong = 0;
        for (size_t side = 0; side < 2; side++)
            CHECK_OK(pattern_create(sets[i][side], strlen(sets[i][side]), false, &p[side]));
        if (p[0] == NULL || p[1] == NULL) return;
        for (uint32_t c = 0; c <= 0x10FFFF; c += c == 0xD7FF ? 0x801 : 1) {
            bool exact = matches(p[1], c, true), numeric = i == 1 && unicode_is_numeric(c) != exact;
            differ += !unicode_is_unusual(c) && matches(p[1], c, false) != exact;
            wrong += matches(p[0], c, true) != exact || (i == 2 && unicode_is_space(c) != exact);
            wrong += numeric && !(c >= 0x11DE0 && c <= 0x11DE9) &&
                     !(c >= 0x16FF4 && c <= 0x16FF6); /* of Unicode 17 */
        }
        CHECK(differ == 0 && wrong == 0, "%s: %zu characters differ, %zu are wrong", sets[i][1], differ,
              wrong);
        pattern_destroy(&p[0]);
        pattern_destroy(&p[1]);
    }
}

/* ---- long words ---- */

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* What merging step by step gives, for words of the letters a, b, c: slow and plain. */
static size_t merge_plainly(int32_t *tokens, size_t count) {
    static const int32_t merges[][3] = {{'a', 'b', 256}, {256, 'c', 257}, {'b', 'c', 258}, {' ', 'a', 259},
                                        {'1', '2', 260}, {'a', 'a', 261}, {261, 261, 262}};
    for (size_t m = 0; m < sizeof merges / sizeof *merges; m++)
        for (size_t i = 0; i + 1 < count; i++)
            if (tokens[i] == merges[m][0] && tokens[i + 1] == merges[m][1]) {
                tokens[i] = merges[m][2];
                memmove(tokens + i + 1, tokens + i + 2, (count - i - 2) * sizeof *tokens);
                count--;
                m = (size_t)-1; /* from the first merge on */
                break;
            }
    return count;
}

static void test_long_words(uint64_t seed) {
    mst_tokenizer *t = open_tokenizer((tokenizer_parts){0});
    uint8_t word[300];
    int32_t wanted[300];
    for (uint64_t trial = 0; trial < 500; trial++) {
        size_t count = 1 + random_below(seed, trial, 0, sizeof word);
        mst_token_list tokens = {0};
        for (size_t i = 0; i < count; i++)
            wanted[i] = word[i] = (uint8_t)('a' + random_below(seed, trial, i + 1, 3));
        size_t left = merge_plainly(wanted, count);
        CHECK_OK(mst_tokenizer_encode(t, word, count, &(mst_encode_options){0}, &tokens));
        CHECK(tokens.count == left && memcmp(tokens.at, wanted, left * sizeof *wanted) == 0,
              "a word of %zu bytes", count);
        free(tokens.at);
    }
    mst_tokenizer_destroy(&t);
}

/* Text of one character, or of one word: no time that grows with its square. */
static void test_monsters(void) {
    static const char *const kinds[] = {"a", " ", "1", "\n", "ab", "\xC3\xA9", "\xFF", "<s", " \t"};
    enum { MONSTER = 1 << 20 };
    uint8_t *text = malloc(MONSTER);
    mst_tokenizer *t = open_tokenizer((tokenizer_parts){.added = ADDED(", \"lstrip\": true")});
    if (text == NULL) exit(1);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t length = strlen(kinds[k]);
        for (size_t i = 0; i < MONSTER; i++) text[i] = (uint8_t)kinds[k][i % length];
        double begin = cpu_seconds();
        check_round_trip(t, text, MONSTER / length * length, false, k);
        CHECK(cpu_seconds() - begin < 5, "'%s': %.1f s for 1 MiB", kinds[k], cpu_seconds() - begin);
    }
    mst_tokenizer_destroy(&t);
    free(text);
}

int main(void) {
    uint64_t seed = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    printf("seed %llu\n", (unsigned long long)seed);
    test_merges();
    test_pre_tokenizers();
    test_normalizer();
    test_added();
    test_affixes();
    test_known();
    test_load();
    test_round_trip(seed);
    test_classes();
    test_long_words(seed);
    test_monsters();
    return test_finish("tokenizer");
}
