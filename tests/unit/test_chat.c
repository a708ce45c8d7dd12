/* Chat templates: limits, messages with their places, where templates come from, and which tokens are learned. What the text is,
 * transformers says in tests/oracle/check_chat.py. */
#include <time.h>

#include "data_fixture.h"
#include "muster/chat.h"

static const char talk[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": "
                           "\"assistant\", \"content\": \"yo\"}]}";

/* The text of a conversation; "" and the status where it fails. The caller clears it. */
static mst_status render(const mst_chat_template *chat, const char *line, const mst_chat_options *options,
                         mst_chat_text *text) {
    mst_conversation *conversation = NULL;
    mst_status status = mst_conversation_parse(line, strlen(line), &conversation);
    *text = (mst_chat_text){0};
    if (status == MST_OK) status = mst_chat_render(chat, conversation, options, text);
    mst_conversation_destroy(&conversation);
    return status;
}

/* What a template makes of the talk above. */
static mst_status render_text(const char *text, const char *line, char out[256]) {
    mst_chat_template *chat = NULL;
    mst_chat_text rendered = {0};
    const mst_chat_options options = {.date = "2026-02-28"};
    mst_status status = mst_chat_template_parse(text, strlen(text), "t", &chat);
    out[0] = '\0';
    if (status == MST_OK) status = render(chat, line, &options, &rendered);
    if (status == MST_OK) snprintf(out, 256, "%.*s", (int)rendered.count, rendered.at);
    mst_chat_text_clear(&rendered);
    mst_chat_template_destroy(&chat);
    return status;
}

/* ---- templates that would never end, or take all memory ---- */

static void test_limits(void) {
    static const char *const endless[] = {
        "{% for a in range(1000000) %}{% for b in range(1000000) %}{{ b }}{% endfor %}{% endfor %}",
        "{% set ns = namespace(t='ab') %}{% for a in range(100) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ "
        "ns.t }}",
        "{% set ns = namespace(t='abc') %}{% for a in range(23) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ "
        "ns.t }}",
        "{% set ns = namespace(t=[1]) %}{% for a in range(150) %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ "
        "ns.t == ns.t }}",
        "{% set ns = namespace(t=[1]) %}{% for a in range(150) %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ "
        "ns.t | tojson }}",
        "{% set ns = namespace(t=[1]) %}{% for a in range(1000) %}{% set ns.t = [ns.t] %}{% endfor %}{{ ns.t "
        "| tojson }}",
        "{% set ns = namespace(t='ab') %}{% for a in range(20) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ "
        "ns.t.strip(ns.t) }}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% macro f(n, t) %}{{ f(n - 1, t ~ t) if n else t }}{% endmacro %}{{ f(90, 'ab') }}"};
    char out[256];
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        const clock_t begin = clock();
        mst_status status = render_text(endless[i], talk, out);
        const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        CHECK(status == MST_EUNSUPPORTED || status == MST_ENOMEM, "template %zu: %s: %s", i,
              mst_status_name(status), mst_error_message());
        CHECK(strncmp(mst_error_message(), "t:1:", 4) == 0, "no place: %s", mst_error_message());
        CHECK(seconds < 20, "template %zu took %.1f s", i, seconds);
    }
    char *deep = malloc(1 << 22);
    for (int kind = 0; kind < 4;
         kind++) { /* nested and long expressions, nested statements, a long template */
        static const char *const parts[] = {"(", "1+", "{% if a %}", "long text "};
        const size_t count = kind == 3 ? 200000 : 5000;
        strcpy(deep, kind < 2 ? "{{ " : "");
        for (size_t i = 0, at = strlen(deep); i < count; i++, at += strlen(parts[kind]))
            strcpy(deep + at, parts[kind]);
        strcat(deep, kind == 1 ? "1 }}" : "");
        mst_status status = render_text(deep, talk, out);
        CHECK(status == MST_EUNSUPPORTED, "kind %d: %s: %s", kind, mst_status_name(status),
              mst_error_message());
    }
    free(deep);
}

/* ---- messages ---- */

static void test_messages(void) {
    static const struct {
        const char *text, *words;
        mst_status status;
    } cases[] = {{"a\n{{ raise_exception('no ' ~ messages[0].role) }}",
                  "t:2:4: the template refuses the conversation: no user", MST_EFORMAT},
                 {"{{ nothing.role }}", "t:1:12: 'nothing' has no value, so it has no 'role'", MST_EFORMAT},
                 {"{{ messages[5]['role'] }}", "has no value, so it has no 'role'", MST_EFORMAT},
                 {"{{ messages }}", "t:1:1: a list as a text is not supported; the filter tojson makes one",
                  MST_EUNSUPPORTED},
                 {"{{ 'a' + 1 }}", "t:1:8: this operation between a text and a whole number", MST_EFORMAT},
                 {"{{ 1 // 0 }}", "t:1:6: 1 divided by 0", MST_EFORMAT},
                 {"{{ 9223372036854775807 + 1 }}", "a whole number beyond 64 bits", MST_EUNSUPPORTED},
                 {"{{ 'Ä' | lower }}", "letters outside of ASCII", MST_EUNSUPPORTED},
                 {"{{ messages[0].items }}", "the method 'items' without a call", MST_EUNSUPPORTED},
                 {"{{ namespace }}", "the function 'namespace' without a call", MST_EUNSUPPORTED},
                 {"{{ bos_token }}", "'bos_token' is not known", MST_ECONFIG},
                 {"{% set messages.x = 1 %}", "'messages' is no namespace", MST_EFORMAT},
                 {"{{ strftime_now('%H') }}", "not %H", MST_EUNSUPPORTED},
                 {"{{ 'a\xFF' }}", "byte 5 is not UTF-8", MST_EFORMAT},
                 {"{{ 1 | map('upper') }}", "map with a filter is not supported", MST_EUNSUPPORTED}};
    char out[256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_STATUS(render_text(cases[i].text, talk, out), cases[i].status);
        CHECK(strstr(mst_error_message(), cases[i].words) != NULL, "%s: '%s', not '%s'", cases[i].text,
              mst_error_message(), cases[i].words);
    }
    CHECK_OK(render_text("{{ strftime_now('%a %A %b %B %d %m %y %Y %j %%') }}", talk, out));
    CHECK(strcmp(out, "Sat Saturday Feb February 28 02 26 2026 059 %") == 0, "a day is '%s'", out);
    CHECK_OK(render_text("{{ enable_thinking }} {{ messages[0].thinking }} {{ messages[0].reasoning_content "
                         "}} {{ 'x' in messages[0] }}",
                         "{\"messages\": [{\"role\": \"user\", \"reasoning\": \"hm\", \"x\": null}], "
                         "\"chat_template_kwargs\": {\"enable_thinking\": false}}",
                         out));
    CHECK(strcmp(out, "False hm hm False") == 0, "variables and thoughts: '%s'", out);
}

/* ---- where templates come from ---- */

static void check_loaded(const char *name, const char *line, const char *expected) {
    mst_chat_template *chat = NULL;
    mst_chat_text text = {0};
    CHECK_OK(mst_chat_template_load(name, &chat));
    if (chat == NULL) return;
    CHECK_OK(render(chat, line, &(mst_chat_options){0}, &text));
    CHECK(text.count == strlen(expected) && memcmp(text.at, expected, text.count) == 0,
          "%s: '%.*s', not '%s'", name, (int)text.count, text.at, expected);
    mst_chat_text_clear(&text);
    mst_chat_template_destroy(&chat);
}

static void test_sources(void) {
    static const char tools[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": [1]}";
    mst_chat_template *chat = NULL;
    mkdir("model", 0777);
    put_text("model/tokenizer_config.json", "{\"bos_token\": null, \"eos_token\": {\"content\": \"</s>\"}, "
                                            "\"chat_template\": [{\"name\": \"tool_use\", \"template\": "
                                            "\"tools{{ tools }}\"}, {\"name\": \"default\", \"template\": "
                                            "\"{{ bos_token }}{{ messages[0].content }}{{ eos_token }}\"}]}");
    CHECK_STATUS(mst_chat_template_load("model/nothing.jinja", &chat), MST_ECONFIG);
    check_loaded("model", talk, "hi</s>");
    check_loaded("model/tokenizer_config.json", talk, "hi</s>");
    put_text("model/chat_template.jinja", "new {{ eos_token }}\r\n\n");
    check_loaded("model", talk, "new </s>\n");
    check_loaded("model", tools, "new </s>\n");
    check_loaded("model/chat_template.jinja", talk, "new </s>\n");
    CHECK_OK(mst_chat_template_load("model/tokenizer_config.json", &chat));
    mst_chat_text text;
    CHECK_STATUS(render(chat, tools, &(mst_chat_options){0}, &text),
                 MST_EUNSUPPORTED); /* a list as a text: the other template */
    mst_chat_template_destroy(&chat);
    check_loaded("chatml", talk, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n");
    check_loaded("tulu", talk, "<|user|>\nhi\n<|assistant|>\nyo<|endoftext|>");
    check_loaded("llama3", talk,
                 "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|"
                 ">assistant"
                 "<|end_header_id|>\n\nyo<|eot_id|>");
    put_text("model/tokenizer_config.json", "{\"eos_token\": \"</s>\"}");
    CHECK_STATUS(mst_chat_template_load("model/tokenizer_config.json", &chat), MST_EFORMAT);
}

/* ---- what is learned: with bytes as tokens a mask is a text with capitals in the place of what is learned ---- */

/* "hi" with `h` learned is "Hi"; the end token, <eos>, is # or, learned, $. */
static void check_encoded(const char *template_text, const char *line, size_t max_tokens, bool sanitize,
                          const char *expected) {
    mst_tokenizer *tokenizer = NULL;
    mst_chat_template *chat = NULL;
    mst_encoder *encoder = NULL;
    mst_chat_report report;
    const mst_chat_encoding encoding = {.max_tokens = max_tokens, .sanitize = sanitize};
    const int32_t *tokens = NULL;
    const uint8_t *mask = NULL;
    size_t count = 0;
    char found[256] = "";
    CHECK_OK(mst_tokenizer_bytes(&tokenizer));
    CHECK_OK(mst_chat_template_parse(template_text, strlen(template_text), "t", &chat));
    CHECK_OK(mst_chat_encoder(tokenizer, NULL, chat, &encoding, &report, &encoder));
    mst_status status =
        encoder->encode_record(encoder->context, (const uint8_t *)line, strlen(line), &tokens, &mask, &count);
    for (size_t i = 0; status == MST_OK && i < count && i < sizeof found - 1; i++) {
        const int letter = tokens[i] == MST_BYTE_EOS ? '#' : tokens[i];
        found[i] = (char)(mask[i] == 0 ? letter : letter == '#' ? '$' : letter == '\n' ? '_' : letter - 32);
    }
    if (status != MST_OK) snprintf(found, sizeof found, "%s", mst_error_message());
    CHECK(strstr(found, expected) != NULL && (status != MST_OK || strcmp(found, expected) == 0),
          "'%s', not '%s'", found, expected);
    mst_chat_encoder_destroy(&encoder);
    mst_chat_template_destroy(&chat);
    mst_tokenizer_destroy(&tokenizer);
}

static void check_learned(const char *template_text, const char *line, size_t max_tokens,
                          const char *expected) {
    check_encoded(template_text, line, max_tokens, false, expected);
}

#define TURNS                                                                                                \
    "[{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"yo\"}, "           \
    "{\"role\": \"user\", "                                                                                  \
    "\"content\": \"so\"}, {\"role\": \"assistant\", \"content\": \"ok\"}]"

static void test_learned(void) {
    static const char whole[] = "{\"messages\": " TURNS "}";
    static const char last[] =
        "{\"prompt\": " TURNS ", \"completion\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": "
        "\"assistant\", \"content\": \"b\"}]}";
    static const char by_text[] =
        "{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content ~ '<eos>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}a:{% endif %}";
    static const char without_end[] =
        "{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content ~ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}a:{% endif %}";
    static const char by_marks[] =
        "{% for m in messages %}{{ m.role[0] ~ ':' }}{% if m.role == 'assistant' %}{% generation %}{{ "
        "m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    static const char unstable[] = "{{ messages | length }}{{ messages[-1].content }}";
    check_learned(by_text, whole, 0, "u:hi#\na:YO$\nu:so#\na:OK$\n");
    check_learned(without_end, whole, 0,
                  "u:hi\na:YO_u:so\na:OK_"); /* the newline is all that ends a turn here */
    check_learned(by_marks, whole, 0, "u:hia:YOu:soa:OK");
    check_learned(by_text, last, 0, "u:hi#\na:yo#\nu:so#\na:ok#\nu:a#\na:B$\n");
    check_learned(by_marks, last, 0, "u:hia:you:soa:oku:aa:B");
    check_learned(by_text, "{\"prompt\": \"p\", \"completion\": \"c\"}", 0, "u:p#\na:C$\n");
    check_learned(by_text, whole, 9, "u:hi#\na:Y");
    check_learned(by_text, whole, 6, ""); /* passed over */
    check_learned(by_text, "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", 0,
                  "no token of the assistant's");
    check_learned(by_text, "{\"messages\": []}", 0, "a conversation without messages");
    check_learned(unstable, whole, 0, "is another when more follow");
}

/* "<eos>" in a message stays text; learned, < and > are the characters 32 below. */
static void test_sanitized(void) {
    static const char line[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a<eos>b<pad>\"}, {\"role\": "
        "\"assistant\", \"content\": \"c<eos>d\"}]}";
    static const char by_text[] =
        "{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content ~ '<eos>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}a:{% endif %}";
    static const char by_marks[] = "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ "
                                   "m.content }}<eos>{% endgeneration %}"
                                   "{% else %}{{ m.content }}<eos>{% endif %}{% endfor %}";
    static const char apart[] =
        "{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content.split('os')[0] ~ '<eos>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}a:{% endif %}";
    static const char forged[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"\xF3\xB0\x80\x80<eos>\xF3\xB0\x80\x81x<e"
        "\xF3\xB0\x80\x81os>\"}, {\"role\": \"assistant\", \"content\": \"y\"}]}";
    check_encoded(by_text, line, 0, true,
                  "u:a<eos>b<pad>#\na:C\x1c"
                  "EOS\x1e"
                  "D$\n");
    check_encoded(by_marks, line, 0, true,
                  "a<eos>b<pad>#C\x1c"
                  "EOS\x1e"
                  "D$");
    check_encoded(apart, line, 0, true,
                  "u:a<e#\na:C\x1c"
                  "E$\n");
    check_encoded("{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content | lower ~ '<eos>\n' }}{% endfor %}"
                  "{% if add_generation_prompt %}a:{% endif %}",
                  line, 0, true,
                  "u:a<eos>b<pad>#\na:C\x1c"
                  "EOS\x1e"
                  "D$\n");
    check_encoded("{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content | upper ~ '<eos>\n' }}{% endfor %}"
                  "{% if add_generation_prompt %}a:{% endif %}",
                  line, 0, true,
                  "u:A<EOS>B<PAD>#\na:#\x1c"
                  "%/3\x1e"
                  "$$\n");
    check_encoded(by_text, forged, 0, true, "u:<eos>x<eos>#\na:Y$\n");
}

static void test_ends(void) {
    mst_tokenizer *tokenizer = NULL;
    mst_chat_template *chat = NULL;
    int32_t ends[2];
    CHECK_OK(mst_tokenizer_bytes(&tokenizer));
    for (int with = 0; with < 2; with++) {
        const char *text =
            with ? "{% for m in messages %}{{ m.content }}<eos>{% endfor %}" : "{{ messages[-1].content }}\n";
        CHECK_OK(mst_chat_template_parse(text, strlen(text), "t", &chat));
        CHECK_OK(mst_chat_ends(chat, tokenizer, &(mst_chat_options){0}, ends));
        CHECK(ends[0] == MST_BYTE_EOS && ends[1] == (with ? MST_BYTE_EOS : -1), "ends %d and %d", ends[0],
              ends[1]);
        mst_chat_template_destroy(&chat);
    }
    mst_tokenizer_destroy(&tokenizer);
}

int main(void) {
    scratch_enter();
    test_limits();
    test_messages();
    test_sources();
    test_learned();
    test_sanitized();
    test_ends();
    scratch_leave();
    return test_finish("test_chat");
}
