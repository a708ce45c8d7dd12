"""Chat templates in the form of each family's, written for these tests, and conversations to try them on."""
import random

# name: (template, special tokens of the template, what it refuses)
CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant called Tiny<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}
"""

QWEN = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a careful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nThe functions below may be called:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nA call is {\"name\": ..., \"arguments\": ...} in <tool_call></tool_call>.<|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are a careful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

LLAMA = r"""{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message is taken out: it stands in the first part, whatever it is. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- The system's part #}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code') | join(", ") + "\n\n"}}
{%- endif %}
{{- "Knowledge until: December 2023\n" }}
{{- "Today: " + date_string + "\n\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {{- "You have these functions:\n\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{#- Functions are told in the first message of the user. #}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("No first user message to put the functions into!") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\n\n' -}}
    {{- "These functions may be called as {\"name\": ..., \"parameters\": ...}.\n\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

TULU = r"""{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"""

MISTRAL = r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- Turns must alternate, tools aside. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("Roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with an optional system message first!") }}
    {%- endif %}
{%- endfor %}
"""

# {% generation %}, and as much of the language as fits in: reverse loops, break, captures, chained comparisons.
MARKED = r"""{%- set ns = namespace(last_user=-1, calls=0, text='') -%}
{%- for message in messages[::-1] %}
  {%- set index = (messages|length - 1) - loop.index0 %}
  {%- if ns.last_user < 0 and message.role == "user" and not(message.content.startswith('<tool') and message.content.endswith('>')) %}
    {%- set ns.last_user = index %}{% break %}
  {%- endif %}
{%- endfor %}
{% set heading %}
<|im_start|>{{ 'about' }} {{ messages | length }} of {{ messages | map(attribute='role') | join(',') }} last {{ ns.last_user }}
{% endset -%}
{{ heading | trim }}<|im_end|>
{%+ for message in messages if message.role in ('user', 'assistant', "tool") or message['role'] is eq 'system' -%}
  {% if message.role == 'assistant' %}
    {{- '<|im_start|>assistant' ~ '\n' -}}
    {% generation %}
    {%- if message.content %}{{ message.content.split('</think>')[-1].lstrip('\n') if '</think>' in message.content else message.content }}{% endif %}
    {%- for call in message.tool_calls or [] %}
      {%- set ns.calls = ns.calls + 1 %}
      {{- '\n<call ' ~ ns.calls ~ '>' ~ (call.function | tojson(sort_keys=True, separators=(',', ':'))) ~ '</call>' }}
    {%- endfor -%}
    {{ '<|im_end|>' }}{% endgeneration %}
  {% else %}
    {{- '<|im_start|>' + message.role|upper + ('!' if 0 < loop.index <= 2 else '') + '\n' + (message.content|string).replace('a', 'aa') + '<|im_end|>' }}
  {% endif %}
{%- else %}nothing{% endfor %}
{%- for key, value in {'b': [1, 2.5, none, true], 'a': {'x': -7 // 2, 'y': 7 % -3, 'z': 1e1 if false else 10 / 4}}.items() %}{{ key }}={{ value|tojson }};{% endfor %}
{{- [0, 1, 2, none, '', 'x'] | select | list | tojson }}{{ [1, 2, 3, 4] | select('odd') | join('+') }}{{ messages | rejectattr('tool_calls') | list | length }}
{%- if add_generation_prompt and not messages[-1].role == 'assistant' %}<|im_start|>assistant
{% endif %}
""".replace("1e1", "100.0")

# Macros, as Qwen3-Coder's and gpt-oss's templates have them: with parameters by place and by name, values of their own, one that calls
# itself, one that calls another, what they see of the template's variables and of those of the loop around the call, `safe`.
MACROS = r"""{%- macro extra(spec, handled) %}
    {%- if spec is mapping %}
        {%- for key in spec if key not in handled %}
            {%- if spec[key] is mapping or (spec[key] is sequence and spec[key] is not string) %}
                {{- '\n<' ~ key ~ '>' ~ (spec[key] | tojson | safe) ~ '</' ~ key ~ '>' }}
            {%- else %}
                {{- '\n<' ~ key ~ '>' ~ (spec[key] | string) ~ '</' ~ key ~ '>' }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- macro type_of(spec, required, nullable=false, indent='  ', open='{' ~ indent) -%}
    {%- if spec.type == "array" -%}
        {{- type_of(spec['items'], required, indent=indent) if spec['items'] else 'any' }}[]
    {%- elif spec.type == "object" -%}
        {%- set before = open -%}
        {{- before }}
        {%- for name, inner in spec.properties.items() -%}
            {{- name ~ ('' if name in (spec.required or []) else '?') }}: {{ type_of(inner, spec.required or [], nullable=true,) -}}
            {{- ', ' if not loop.last -}}
        {%- endfor -%}
        {{- '}' }}
    {%- elif spec.type is defined and spec.type is sequence and spec.type is not string -%}
        {{- spec.type | join(' | ') }}
    {%- else -%}
        {{- spec.type | default('any') }}
    {%- endif -%}
    {%- if nullable and not spec.nullable is defined %} | null{% endif -%}
{%- endmacro -%}
{%- macro tools_of(name, tools) -%}
    {{- "## " + name + "\n" }}
    {%- for tool in tools -%}
        {%- set tool = tool.function -%}
        {{- tool.name ~ (extra(tool, ['name', 'parameters'])) ~ ' = ' }}{{ type_of(tool.parameters, []) ~ ';\n' }}
    {%- endfor -%}
{%- endmacro -%}
{%- macro turn(role, text='nothing') %}<|im_start|>{{ role ~ '/' ~ style ~ '/' ~ count.turns }}
{{ text }}{% set count.turns = count.turns + 1 %}{{ inner is defined }}{{ message is defined }}{{ missing is defined }}<|im_end|>{% endmacro -%}
{%- set style = 'plain' -%}
{%- set count = namespace(turns=0) -%}
{{- turn is defined ~ turn('system', tools_of('functions', tools) if tools else 'no tools') }}
{%- set style = 'later' -%}
{%- for message in messages -%}
    {%- set inner = message.content or '' -%}
    {{- turn(text=inner, role=message.role) }}
    {%- if message.tool_calls -%}
        {%- for call in message.tool_calls -%}
            {%- for name, value in call.function.arguments.items() -%}
                {%- set value = value | tojson | safe if value is mapping or (value is sequence and value is not string) else value | string %}
                {{- turn(name, value) }}{{ value == 'x' }}{{ value is string }}{{ value ~ '&' }}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant/{{ style }}/{{ count.turns }}
{% endif %}
"""

TEMPLATES = {
    "chatml": (CHATML, {"eos_token": "<|im_end|>"}),
    "smollm2": (CHATML, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}),
    "qwen": (QWEN, {"eos_token": "<|im_end|>"}),
    "llama": (LLAMA, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    "tulu": (TULU, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
    "mistral": (MISTRAL, {"bos_token": "<s>", "eos_token": "</s>"}),
    "marked": (MARKED, {"eos_token": "<|im_end|>"}),
    "macros": (MACROS, {"eos_token": "<|im_end|>"}),
}

WORDS = ["naïve", "cafe\u0301", "漢字", "😀", "👨‍👩‍👧", "hello", "world", "\u0338x", "ﬁ", "Straße", "a\u00a0b", "{{ x }}", "<|im_end|>",
         "<tool>", "\\n", '"quoted"', "it's", "1234", "x = [1, 2]", "\u2028", "الصباح", "e\u0301\u0323", "</think>", "\t", "가각", "안"]


def text(rng, most=12):
    between = rng.choice([" ", "\n", "  ", " \n"])
    body = between.join(rng.choice(WORDS) for _ in range(rng.randrange(1, most)))
    return rng.choice(["", " ", "\n"]) + body + rng.choice(["", "\n", " \u3000"])


def call(rng, number):
    arguments = {"city": text(rng, 3), "days": rng.randrange(9), "exact": rng.random() < 0.5, "scale": rng.choice([0.1, 1e-7, 2.0, 1e22, -3.25]),
                 "none": None, "list": [1, "zwei", {"drei": 3}]}
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": rng.choice(["weather", "search"]), "arguments": arguments}}


TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Says the \"weather\" — für <alle>", "parameters":
          {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 0}}, "required": ["city"]}}},
         {"type": "function", "function": {"name": "search", "description": "", "parameters": {"type": "object", "properties": {}}}}]


def conversation(number):
    """The record of a .jsonl file: system or none, one to five turns, with tools in every third."""
    rng = random.Random(number)
    messages = [{"role": "system", "content": text(rng)}] if rng.random() < 0.5 else []
    with_tools = number % 3 == 0
    for turn in range(rng.randrange(1, 6)):
        messages.append({"role": "user", "content": text(rng)})
        if with_tools and rng.random() < 0.6:
            called = call(rng, turn)
            messages.append({"role": "assistant", "content": "", "tool_calls": [called]})
            messages.append({"role": "tool", "content": text(rng, 4), "tool_call_id": called["id"], "name": called["function"]["name"]})
        messages.append({"role": "assistant", "content": text(rng), "refusal": None})
    record = {"messages": messages}
    if with_tools:
        record["tools"] = TOOLS
    if number % 5 == 0:
        record["chat_template_kwargs"] = {"builtin_tools": ["search", "code", "images"]}
    return record


CONVERSATIONS = [conversation(number) for number in range(50)]
