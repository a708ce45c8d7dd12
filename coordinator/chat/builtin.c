/* Templates that muster brings along: of the shape that many models were trained with, to begin a chat model from a plain one. */
#include <string.h>

#include "template.h"

/* clang-format off */
static const char chatml[] =
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message.content + '<|im_end|>' }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static const char llama3[] =
    "{{- bos_token }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ message.content | trim + '<|eot_id|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

static const char tulu[] =
    "{%- for message in messages %}"
    "{{ '<|' + message.role + '|>\\n' }}"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ message.content }}{% endif %}"
    "{% if not loop.last or message.role != 'assistant' %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";
/* clang-format on */

typedef struct builtin {
    const char *name, *text, *tokens;
} builtin;

static const builtin builtins[] = {
    {"chatml", chatml, "{\"eos_token\": \"<|im_end|>\"}"},
    {"llama3", llama3, "{\"bos_token\": \"<|begin_of_text|>\", \"eos_token\": \"<|eot_id|>\"}"},
    {"tulu", tulu, "{\"eos_token\": \"<|endoftext|>\"}"}};

bool chat_builtin(const char *name, const char **text_out, const char **tokens_out) {
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++) {
        if (strcmp(builtins[i].name, name) != 0) continue;
        *text_out = builtins[i].text;
        *tokens_out = builtins[i].tokens;
        return true;
    }
    return false;
}

const char *mst_chat_template_names(void) {
    return "chatml llama3 tulu";
}
