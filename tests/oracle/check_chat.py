"""Chat templates: muster's text against transformers' (jinja2), tokens and masks against apply_chat_template, refusals by name."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

import hf_tokenizers
from chat_templates import CONVERSATIONS, TEMPLATES

DUMP = sys.argv[1]
checks = failures = 0


def check(condition, message):
    global checks, failures
    checks += 1
    if not condition:
        failures += 1
        if failures < 20:
            print(f"failed: {message}")


def dump(template, mode, records, *more):
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    done = subprocess.run([DUMP, str(template), mode, *more], input=lines, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def train(family, special, folder):
    """A tokenizer of a family that has the template's special tokens, for both."""
    texts = [json.dumps(record, ensure_ascii=False) for record in CONVERSATIONS]
    tokenizer = Tokenizer.from_str(hf_tokenizers.train(family, texts, vocab=600))
    tokenizer.add_special_tokens([token for token in special if tokenizer.token_to_id(token) is None])
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def expected(tokenizer, record, **options):
    """What transformers renders, or None where the template refuses."""
    try:
        return tokenizer.apply_chat_template(record["messages"], tools=record.get("tools"), tokenize=False,
                                             **record.get("chat_template_kwargs", {}), **options)
    except Exception as error:  # noqa: BLE001 jinja2's, whatever it is
        return error


def check_text(name, tokenizer, path):
    refused = 0
    for mode, prompt in (("render", False), ("reply", True)):
        for record, ours in zip(CONVERSATIONS, dump(path, mode, CONVERSATIONS)):
            theirs = expected(tokenizer, record, add_generation_prompt=prompt)
            if isinstance(theirs, Exception):
                refused += 1
                check("error" in ours, f"{name}: muster renders what jinja2 refuses: {theirs}")
            else:
                check(ours.get("text") == theirs, f"{name}: text\n  {ours.get('text', ours)!r}\nnot\n  {theirs!r}")
    return refused


def prefix_spans(tokenizer, record):
    """The parts of the text that the assistant wrote: None where the text of a prefix is no prefix."""
    whole, spans = expected(tokenizer, record), []
    for i, message in enumerate(record["messages"]):
        if message["role"] != "assistant":
            continue
        before = expected(tokenizer, {**record, "messages": record["messages"][:i]}, add_generation_prompt=True)
        after = expected(tokenizer, {**record, "messages": record["messages"][: i + 1]})
        if isinstance(before, Exception) or not whole.startswith(before) or not whole.startswith(after):
            return None
        spans.append((len(before), len(after)))
    return spans


def prefix_mask(encoding, spans, special):
    """1 where a token overlaps a span; white space behind the special token that ends a turn is none of the turn."""
    ids, tokens = encoding.ids, encoding.tokens
    mask = [int(any(start < b and end > a for a, b in spans)) for start, end in encoding.offsets]
    at = len(ids)
    while at > 0:
        last = at
        while last > 0 and not mask[last - 1]:
            last -= 1
        end = last
        while end > 0 and mask[end - 1] and not tokens[end - 1].replace("Ġ", " ").replace("Ċ", "\n").replace("ĉ", "\t").strip():
            end -= 1
        if end > 0 and mask[end - 1] and ids[end - 1] in special:
            mask[end:last] = [0] * (last - end)
        at = end
        while at > 0 and mask[at - 1]:
            at -= 1
    return mask


def check_tokens(name, tokenizer, path, tokenizer_path):
    marked = "{% generation %}" in tokenizer.chat_template
    learned = 0
    special = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    for record, ours in zip(CONVERSATIONS, dump(path, "spans", CONVERSATIONS, "", str(tokenizer_path))):
        text = expected(tokenizer, record)
        spans = None if isinstance(text, Exception) or marked else prefix_spans(tokenizer, record)
        if isinstance(text, Exception) or (not marked and spans is None):
            check("error" in ours, f"{name}: no error where there are no spans")
            continue
        theirs = tokenizer.apply_chat_template(record["messages"], tools=record.get("tools"), return_dict=True,
                                               return_assistant_tokens_mask=marked, **record.get("chat_template_kwargs", {}))
        check(ours.get("ids") == theirs["input_ids"], f"{name}: ids {ours.get('ids', ours)} not {theirs['input_ids']} of {text!r}")
        if marked:
            mask = theirs["assistant_masks"]
        else:
            check(ours.get("spans") == [list(span) for span in spans], f"{name}: spans {ours.get('spans')} not {spans}")
            mask = prefix_mask(tokenizer._tokenizer.encode(text, add_special_tokens=False), spans, special)
        check(ours.get("mask") == mask, f"{name}: mask\n  {ours.get('mask', ours)}\nnot\n  {mask} of {text!r}")
        learned += sum(mask)
    check(learned > 0, f"{name}: nothing was learned in any conversation")
    return learned


REFUSED = [  # what muster does not support is refused where it stands, when the template is read
    ("{% macro f() %}{% endmacro %}", "1:4: the statement 'macro' is not supported"),
    ("a\n {{ x | wordwrap }}", "2:9: the filter 'wordwrap' is not supported"),
    ("{{ x.title.encode() }}", "1:12: the method 'encode' is not supported"),
    ("{{ cycler(1, 2) }}", "1:4: 'cycler' is not supported"),
    ("{{ f(1) }}", "1:4: the function 'f' is not supported"),
    ("{{ x is sameas y }}", "1:9: the test 'sameas' is not supported"),
    ("{{ 2 ** 3 }}", "1:6: the operator '**' is not supported"),
    ("{{ x.__class__ }}", "1:6: the name '__class__' begins with _"),
    ("{% for a in b recursive %}{% endfor %}", "1:15: a recursive loop is not supported"),
    ("{% if x %}", "1:4: {% if %} has no end"),
    ("{{ x", "1:1: {{ has no }}"),
    ("{{ 'x }}", "1:4: the text in quotes has no end"),
    ("{{ x | tojson(5, foo=1) }}", "1:18: the argument 'foo' of 'tojson' is not supported"),
    ("{{ '\\x41' }}", "the escape \\x is not supported"),
    ("{% set a %}{% generation %}{% endgeneration %}{% endset %}", "has no place"),
]


def check_refusals(folder):
    for template, words in REFUSED:
        path = folder / "refused.jinja"
        path.write_text(template)
        done = subprocess.run([DUMP, str(path), "render"], input=b"", capture_output=True)
        said = done.stderr.decode()
        check(done.returncode == 1 and words in said, f"{template!r}: said {said!r}, not {words!r}")


BUILTIN = ("chatml", "llama3", "tulu")


def check_builtin():
    """What the assistant wrote in muster's own templates, whose text tests/unit/test_chat.c says."""
    records = [{"messages": [{"role": m["role"], "content": m["content"]} for m in record["messages"] if m["role"] != "tool" and m["content"]]}
               for record in CONVERSATIONS]
    for name in BUILTIN:
        for record, ours in zip(records, dump(name, "spans", records)):
            text, spans = ours["text"], ours["spans"]
            wanted = [m["content"] for m in record["messages"] if m["role"] == "assistant"]
            found = [text[a:b] for a, b in spans]
            check(len(found) == len(wanted) and all(f.startswith(w.strip() if name == "llama3" else w) and f.endswith(("<|im_end|>", "<|eot_id|>", "<|endoftext|>"))
                                                    for f, w in zip(found, wanted)), f"{name}: spans {found} of {wanted}")


def check_others(folder):
    """A date; conversations that a template refuses; another template for tools; variables of a record."""
    template, tokens = TEMPLATES["llama"]
    dated = TEMPLATES["llama"][0].replace('strftime_now("%d %b %Y")', '"29 Nov 2026"')
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(hf_tokenizers.train("llama3", ["text"], 300)), **tokens)
    for path, text, date in (("a.jinja", template, "2026-11-29"), ("b.jinja", dated, "")):
        (folder / path).write_text(text)
    tokenizer.chat_template = dated
    for record, ours, same in zip(CONVERSATIONS, dump(folder / "a.jinja", "render", CONVERSATIONS, "2026-11-29"),
                                  dump(folder / "b.jinja", "render", CONVERSATIONS, "2026-11-29")):
        theirs = expected(tokenizer, record)
        check(ours.get("text") == theirs == same.get("text"), f"a date: {ours} not {theirs!r}")

    twice = [{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
             {"messages": [{"role": "user", "content": "a"}, {"role": "narrator", "content": "b"}]},
             {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls":
                           [{"id": "short", "function": {"name": "f", "arguments": {}}}]}]}]
    (folder / "c.jinja").write_text(TEMPLATES["mistral"][0])
    tokenizer.chat_template = TEMPLATES["mistral"][0]
    for record, ours in zip(twice, dump(folder / "c.jinja", "render", twice)):
        theirs = expected(tokenizer, record)
        check(isinstance(theirs, Exception) and str(theirs) in ours.get("error", ""), f"refused: {ours} not {theirs!r}")

    (folder / "d.jinja").write_text("{{ style }} {{ level + 1 }} {{ documents }} {{ tools is none }} {{ unknown }}")
    tokenizer.chat_template = (folder / "d.jinja").read_text()
    record = {"messages": twice[0]["messages"], "chat_template_kwargs": {"style": "bold", "level": 2}}
    theirs = expected(tokenizer, record)
    check(dump(folder / "d.jinja", "render", [record])[0].get("text") == theirs, f"variables: not {theirs!r}")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_refusals(folder)
        check_builtin()
        check_others(folder)
        for number, (name, (template, tokens)) in enumerate(TEMPLATES.items()):
            here = folder / str(number)
            here.mkdir()
            special = sorted(set(tokens.values()) | {"<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                                                     "<|endoftext|>", "[INST]", "[/INST]"})
            tokenizer_path = train({"llama": "llama3", "qwen": "qwen2.5", "marked": "qwen2.5"}.get(name, "olmo2"), special, here)
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_path), **tokens)
            tokenizer.chat_template = template
            if number % 2 == 0:  # the two places where transformers keeps a template
                path = here
                (here / "chat_template.jinja").write_text(template)
                (here / "tokenizer_config.json").write_text(json.dumps(tokens))
            else:
                path = here / "tokenizer_config.json"
                path.write_text(json.dumps({**tokens, "eos_token": {"content": tokens["eos_token"], "lstrip": False},
                                            "chat_template": [{"name": "other", "template": "{{ nothing"},
                                                              {"name": "default", "template": template}]}))
            if name == "llama":
                template = template.replace("strftime_now is defined", "false")
                tokenizer.chat_template = template
            refused = check_text(name, tokenizer, path)
            learned = check_tokens(name, tokenizer, path, tokenizer_path)
            print(f"{name}: {len(CONVERSATIONS)} conversations, {refused} renderings refused by both, {learned} tokens of the assistant's")
    print(f"check_chat: {checks} checks, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
