"""Tokenizers with the structure of the published tokenizer.json of each family, trained here, and texts to try them on."""
import json
import random
import subprocess
from array import array
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def split(pattern):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})


# name: pre-tokenizer, normalizer, special tokens, begin-of-text token or None, changes of the model
FAMILIES = {
    "gpt2": (byte_level(), None, ["<|endoftext|>"], None, {}),
    "llama3": (split(LLAMA3), None, ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], "<|begin_of_text|>",
               {"ignore_merges": True}),
    "smollm2": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]), None,
                ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, {"merges": "texts"}),
    "qwen2.5": (split(QWEN2), normalizers.NFC(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, {}),
    "olmo2": (split(LLAMA3), None, ["<|endoftext|>", "<|pad|>"], None, {"merges": "texts"}),
    "o200k": (split(O200K), None, ["<|endoftext|>"], None, {}),
    "gpt2 with a prefix space": (byte_level(add_prefix_space=True), None, ["<|endoftext|>"], None, {}),
}


def train(name, text, vocab=6000):
    """The tokenizer.json of a family, as a text."""
    pre_tokenizer, normalizer, special, begin, changes = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=special[:1], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_special_tokens([AddedToken(s, normalized=False) for s in special[1:]])
    # as the published ones of OLMo 2 and SmolLM2 have them: tokens of several spaces, names that are no special tokens
    tokenizer.add_tokens([AddedToken("    ", normalized=True), AddedToken("<name>", normalized=False),
                          AddedToken("|||PHONE_NUMBER|||", normalized=True, lstrip=True)])
    if begin:
        template = processors.TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1",
                                                 special_tokens=[(begin, tokenizer.token_to_id(begin))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    root = json.loads(tokenizer.to_str())
    if changes.get("ignore_merges"):
        root["model"]["ignore_merges"] = True
    if changes.get("merges") == "texts":
        root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"]]
    return json.dumps(root, ensure_ascii=len(name) % 2 == 0)


def files(folders, suffixes, limit):
    """Texts of files in name order, whole ones, `limit` characters together."""
    texts, seen = [], set()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if limit <= 0:
                return texts
            if not path.name.endswith(suffixes) or not path.is_file():
                continue
            text = path.read_bytes().decode(errors="ignore")[:200000]
            if text and text not in seen:
                seen.add(text)
                texts.append(text)
                limit -= len(text)
    return texts


ENGLISH = (["/usr/share/common-licenses", "/usr/share/doc", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/share/perl"],
           ("copyright", ".txt", ".rst", ".pod", "README", "README.md", "GPL-2", "GPL-3", "Artistic"))
CODE = (["/usr/include", "/usr/lib/python3.11", "/usr/lib/python3"], (".h", ".py", ".hpp"))

SCRIPTS = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x5D0, 0x5EA), (0x620, 0x669),
           (0x900, 0x97F), (0xE00, 0xE5B), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2150, 0x218B),
           (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0x1F300, 0x1FAFF), (0x10000, 0x10FFFF),
           (0, 0x1F), (0x80, 0x9F), (0x180E, 0x180E)]


def scripted(rng, length):
    """Words of several scripts, emoji, control bytes, contractions, long runs of spaces and digits."""
    parts, left = [], length
    while left > 0:
        kind = rng.randrange(12)
        if kind == 0:
            part = rng.choice(" \t\n\r\u3000\u00a0") * rng.choice([1, 2, 3, 17, 300])
        elif kind == 1:
            part = "".join(rng.choice("0123456789\u0663\u0967\u2167\u00bd") for _ in range(rng.choice([1, 2, 3, 4, 9, 200])))
        elif kind == 2:
            part = rng.choice(["'s", "'T", "'re", "'LL", "'\u017f", "\u2019s", "'d've", "\r\n", "<|endoftext|>", "<name>", "  \n\n "])
        elif kind == 3:
            part = rng.choice("\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea\u2764\ufe0f")
        else:
            low, high = rng.choice(SCRIPTS)
            part = "".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 12))) + rng.choice(["", " ", "\n", "."])
        part = part.encode(errors="ignore").decode()
        parts.append(part)
        left -= len(part)
    return "".join(parts)


def mixed(limit, seed):
    """About `limit` characters: code, English, and several scripts, as texts of some ten thousand characters."""
    rng = random.Random(seed)
    texts = files(*CODE, limit * 2 // 5) + files(*ENGLISH, limit * 2 // 5)
    return texts + [scripted(rng, 20000) for _ in range(limit // 5 // 20000)]


def pack(items, code):
    """Records of tokenizer_dump."""
    return b"".join(len(item).to_bytes(4, "little") + (array("i", item).tobytes() if code == "i" else item) for item in items)


def unpack(data, code):
    items, at, size = [], 0, 4 if code == "i" else 1
    while at < len(data):
        count = int.from_bytes(data[at : at + 4], "little") * size
        body = data[at + 4 : at + 4 + count]
        items.append(array("i", body).tolist() if code == "i" else body)
        at += 4 + count
    return items


class Muster:
    def __init__(self, program, path):
        self.program, self.path = program, path

    def run(self, mode, data):
        done = subprocess.run([self.program, self.path, mode], input=data, stdout=subprocess.PIPE, check=True)
        return done.stdout

    def encode(self, texts, mode="encode"):
        return unpack(self.run(mode, pack([t if isinstance(t, bytes) else t.encode() for t in texts], "b")), "i")

    def decode(self, ids):
        return unpack(self.run("decode", pack(ids, "i")), "b")
