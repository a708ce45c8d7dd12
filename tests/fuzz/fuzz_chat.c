/* Fuzzing of chat templates and conversations: mutations of templates, each with a conversation behind a line of its own. What is read
 * is rendered; what fails does so with one of the statuses that the header promises, and spans lie inside of the text. */
#include "fuzz.h"
#include "muster/chat.h"

#define BORDER "\n====\n"

static bool is_refusal(mst_status status) {
    return status == MST_EUNSUPPORTED || status == MST_EFORMAT || status == MST_ENOMEM ||
           status == MST_ECONFIG;
}

static void check_text(const mst_chat_text *text) {
    size_t from = 0;
    for (size_t i = 0; i < text->span_count; i++) {
        if (text->spans[i].start < from || text->spans[i].end < text->spans[i].start) abort();
        from = text->spans[i].end;
    }
    if (from > text->count) abort();
}

static mst_status render(const mst_chat_template *chat, const mst_conversation *conversation) {
    static mst_tokenizer *tokenizer;
    mst_status status = MST_OK;
    mst_chat_text text = {0};
    mst_token_list tokens = {0};
    const mst_chat_options whole = {.date = "2026-02-28"}, reply = {.reply = true};
    MST_TRY(mst_chat_render(chat, conversation, &reply, &text));
    check_text(&text);
    mst_chat_text_clear(&text);
    MST_TRY(mst_chat_render_spans(chat, conversation, &whole, &text));
    check_text(&text);
    if (tokenizer == NULL && mst_tokenizer_bytes(&tokenizer) != MST_OK) abort();
    MST_TRY(mst_chat_tokens(chat, tokenizer, conversation, &whole, true, &tokens));
done:
    mst_chat_text_clear(&text);
    free(tokens.at);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mst_chat_template *chat = NULL;
    mst_conversation *conversation = NULL;
    const size_t border = sizeof BORDER - 1;
    const uint8_t *end = memmem(data, size, BORDER, border);
    const size_t bytes = end != NULL ? (size_t)(end - data) : size;
    mst_status status = mst_chat_template_parse((const char *)data, bytes, "fuzz", &chat);
    if ((status == MST_OK) != (chat != NULL)) abort();
    if (status != MST_OK && (!is_refusal(status) || strncmp(mst_error_message(), "fuzz", 4) != 0)) abort();
    if (end != NULL) {
        mst_status read =
            mst_conversation_parse((const char *)end + border, size - bytes - border, &conversation);
        if ((read == MST_OK) != (conversation != NULL) || (read != MST_OK && !is_refusal(read))) abort();
    }
    if (chat != NULL && conversation != NULL) {
        status = render(chat, conversation);
        if (status != MST_OK && !is_refusal(status)) abort();
        fuzz_accepted += status == MST_OK;
    }
    mst_conversation_destroy(&conversation);
    mst_chat_template_destroy(&chat);
    return 0;
}

#define TALK                                                                                                 \
    BORDER                                                                                                   \
    "{\"messages\": [{\"role\": \"system\", \"content\": \" caf\\u00e9 \\n\"}, {\"role\": \"user\", "        \
    "\"content\": \"1 2,3<eos>\"}, {\"role\": \"assistant\", \"content\": \"a</think>b\", \"tool_calls\": "  \
    "[{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": [1, 2.5e-7, null, true, {}]}}}]}], "           \
    "\"tools\": [{\"type\": \"function\"}], \"chat_template_kwargs\": {\"bos_token\": \"<s>\", "             \
    "\"n\": -7}}"

static const char *const valid_inputs[] = {
    "{{ bos_token }}{%- for message in messages %}{{ '<' + message.role + '>' + message['content'] | trim "
    "}}{% endfor "
    "%}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}" TALK,
    "{%- set ns = namespace(i=0, text='') %}{# c -#}\n{% for m in messages[::-1] if m.role != 'tool' %}\n  "
    "{%- set ns.i = "
    "ns.i + 1 %}{% if ns.i > 7 %}{% break %}{% elif loop.first and not loop.last %}{{ loop.index0 ~ "
    "loop.length }}{% elif "
    "m.content is string and 'a' in m.content %}{% generation %}{{ "
    "m.content.split('</think>')[-1].lstrip('\\n') }}{% "
    "endgeneration %}{% else %}{{ m.content | replace('a', 'b') | upper if m.content is mapping else m.role "
    "| length }}{% "
    "endif %}\n{%- else %}none{% endfor %}{{ ns.i }}" TALK,
    "{% if tools %}{% for t in tools %}{{ t | tojson(indent=2) }}{% endfor %}{% endif %}{% set a %}x{{ n // "
    "2 }}{% endset "
    "%}{{ a | string }}{% for k, v in {'a': [1, 2.5, none], 'b': (1,)}.items() %}{{ k ~ v | tojson }}{% "
    "endfor %}{{ range(3) "
    "| list | join('-') }}{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | "
    "first | default('') "
    "}}{{ strftime_now('%d %b') if strftime_now is defined }}{% generation %}{{ "
    "messages[2].tool_calls[0].function.arguments | "
    "tojson }}{% endgeneration %}" TALK,
    "{% macro f(a, b=1, c=a ~ b) %}{% if b < 4 %}{{ a ~ f(c, b=b + 1) }}{% else %}{{ c }}{% endif %}{% "
    "endmacro %}{% macro g() "
    "%}{{ f(n) }}{% endmacro %}{{ g() ~ (tools | tojson | safe) }}{% for m in messages %}{{ f(m.content, 2, "
    "c='<eos>') }}{% "
    "endfor %}" TALK};
enum { VALID = sizeof valid_inputs / sizeof *valid_inputs };

static size_t fuzz_valid(size_t number, uint8_t *data) {
    if (number >= VALID) return 0;
    memcpy(data, valid_inputs[number], strlen(valid_inputs[number]));
    return strlen(valid_inputs[number]);
}

static void change_once(uint8_t *data, size_t *size) {
    static const char *const words[] = {"{{",
                                        "}}",
                                        "{%",
                                        "%}",
                                        "{%-",
                                        "-%}",
                                        "{#",
                                        "#}",
                                        "(",
                                        ")",
                                        "[",
                                        "]",
                                        "{",
                                        "}",
                                        ".",
                                        ":",
                                        ",",
                                        "|",
                                        "~",
                                        "+",
                                        "-",
                                        "//",
                                        "%",
                                        "==",
                                        " in ",
                                        " not ",
                                        " is ",
                                        " and ",
                                        " or ",
                                        " if ",
                                        " else ",
                                        "'",
                                        "'a'",
                                        "1",
                                        "-1",
                                        "messages",
                                        "loop",
                                        "tools",
                                        "ns",
                                        "none",
                                        "{% for x in range(1000000) %}",
                                        "{% endfor %}",
                                        "{% if n %}",
                                        "{% endif %}",
                                        "{% else %}",
                                        "{% set ns.text = [ns.text, ns.text] %}",
                                        "{% set ns.i = ns %}",
                                        "{% set ns.text = ns.text ~ ns.text ~ 'ab' %}",
                                        "{% generation %}",
                                        "{% macro f(a, b=2) %}",
                                        "{% endmacro %}",
                                        "f(a, b=n)",
                                        "{{ f(f(1)) }}",
                                        "<eos>",
                                        "| safe",
                                        "{% endgeneration %}",
                                        "{% break %}",
                                        "{% continue %}",
                                        "| trim",
                                        "| tojson",
                                        "| length",
                                        "| join('', 'x')",
                                        "| list",
                                        "| first",
                                        "| reverse",
                                        ".items()",
                                        ".strip('a')",
                                        ".split('a', 1)",
                                        "[::-1]",
                                        "[1:]",
                                        "{{ ns.text == ns.text }}",
                                        "namespace(a=1)",
                                        "raise_exception('x')",
                                        "((((((((((((((((",
                                        "-----------",
                                        "not not not "};
    const uint8_t *border = memmem(data, *size, BORDER, sizeof BORDER - 1);
    const size_t end = border != NULL ? (size_t)(border - data) : *size;
    if (end == 0 || fuzz_random(3) == 0) {
        fuzz_mutate(data, size, 0, *size);
        return;
    }
    const char *word = words[fuzz_random(sizeof words / sizeof *words)];
    const size_t at = fuzz_random(end),
                 count = fuzz_random(4) == 0 ? fuzz_random(end - at < 12 ? end - at : 12) : 0;
    fuzz_splice(data, size, at, count, word, strlen(word));
}

static void fuzz_change(uint8_t *data, size_t *size) {
    for (uint64_t changes = 1 + fuzz_random(3); changes > 0; changes--) change_once(data, size);
    if (fuzz_random(32) == 0) *size = fuzz_random(*size + 1);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    return fuzz_main(argc, argv, "fuzz_chat");
}
#endif
