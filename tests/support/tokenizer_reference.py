#!/usr/bin/env python3
"""BERT's tokenizer and a plain byte-pair trainer once more, in Python and without a thought for
speed, for the C++ ones to be compared with. Unicode comes from Python's own unicodedata.

  tokenizer_reference.py fixture OUT.json [BERT_VOCAB.txt]   writes the fixture of the unit tests
  tokenizer_reference.py compare PROGRAM                     every kind of character through PROGRAM
                                                             tokenize; with $PARSIMONY_DATA also
                                                             real text in BERT's vocabulary

`compare` exits 77 (skipped) where PROGRAM's Unicode version is older than Python's.
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VARIANTS = {  # name: (lower case, strip accents, ideographs alone)
    "uncased": (True, True, True),
    "cased": (False, False, True),
    "lower-accents": (True, False, True),
    "cased-stripped": (False, True, True),
    "uncased-no-cjk": (True, True, False),
}
IDEOGRAPHS = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
              (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]


def is_ideograph(c):
    return any(first <= ord(c) <= last for first, last in IDEOGRAPHS)


def is_punctuation(c):
    ascii_sign = ord(c) < 128 and c.isprintable() and not c.isalnum() and c != " "
    return ascii_sign or unicodedata.category(c)[0] == "P"


def clean(text):
    kept = []
    for c in text:
        category = unicodedata.category(c)
        if c in "\t\n\r" or category == "Zs":
            kept.append(" ")
        elif c not in "\0\ufffd" and category[0] != "C":
            kept.append(c)
    return "".join(kept)


def words(text, variant):
    lower, strip, cjk = VARIANTS[variant]
    text = clean(text)
    if cjk:
        text = "".join(f" {c} " if is_ideograph(c) else c for c in text)
    for token in text.split():
        if lower:
            token = token.lower()
        if strip:
            token = "".join(c for c in unicodedata.normalize("NFD", token)
                            if unicodedata.category(c) != "Mn")
        word = ""
        for c in token:
            if is_punctuation(c):
                yield from filter(None, (word, c))
                word = ""
            else:
                word += c
        if word:
            yield word


def pieces(word, vocabulary):
    if len(word) > 100:
        return ["[UNK]"]
    found, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        found.append(piece)
        start = end
    return found


def parts(text):
    """Text between special tokens, and those, in order."""
    while text:
        at = [(text.find(s), s) for s in SPECIAL if s in text]
        if not at:
            yield text, False
            return
        where, special = min(at)
        yield text[:where], False
        yield special, True
        text = text[where + len(special):]


def ids(text, variant, vocabulary):
    """`vocabulary` maps tokens to ids."""
    out = []
    for part, special in parts(text):
        if special:
            out.append(vocabulary[part])
            continue
        for word in words(part, variant):
            out += [vocabulary[p] for p in pieces(word, vocabulary)]
    return out


def count_words(texts, variant):
    counts = Counter()
    for text in texts:
        for part, special in parts(text):
            if not special:
                counts.update(w for w in words(part, variant) if len(w) <= 100)
    return counts


def train(counts, size, min_frequency, alphabet_limit):
    """All pairs counted anew for every merge."""
    letters = Counter()
    for word, n in counts.items():
        for c in word:
            letters[c] += n
    order = sorted(letters, key=lambda c: (-letters[c], ord(c)))[:alphabet_limit]
    kept = sorted(order, key=ord)
    counts = {w: n for w, n in counts.items() if set(w) <= set(kept)}
    inside = {c for w in counts for c in w[1:]}
    vocabulary = SPECIAL + kept + ["##" + c for c in kept if c in inside]
    rank = {t: i for i, t in enumerate(vocabulary)}
    split = {w: [w[0]] + ["##" + c for c in w[1:]] for w in counts}
    while len(vocabulary) < size:
        pairs = Counter()
        for w, p in split.items():
            for pair in zip(p, p[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], rank[p[0]], rank[p[1]]))
        if pairs[best] < min_frequency:
            break
        merged = best[0] + best[1][2:]
        if merged not in rank:
            rank[merged] = len(vocabulary)
            vocabulary.append(merged)
        for w, p in split.items():
            out, i = [], 0
            while i < len(p):
                here = tuple(p[i:i + 2]) == best
                out.append(merged if here else p[i])
                i += 2 if here else 1
            split[w] = out
    return vocabulary


# --- Hard strings ---------------------------------------------------------------------------------

BY_HAND = """\
|
Hello, World!|The quick brown fox jumps over the lazy dog.|don't can't won't it's
$1,234.56 (approx.) -- 50% off!!! #1 @home ^_^ a+b=c <tag> {x|y} ~tilde `tick`
naïve café résumé|NAÏVE CAFÉ RÉSUMÉ|nai\u0308ve cafe\u0301 re\u0301sume\u0301
Ångström A\u030angstro\u0308m Å|o\u0302\u0323 \u1ed9 o\u0323\u0302|\u0301abc|a \u0301 b
Straße STRASSE ẞ ß|ﬁnance ﬀ ﬃ ﬆ|Æsop œuvre ŒUVRE ĳ Ĳ ŀ Ŀ|Ǆ ǅ ǆ Ǉ ǈ ǉ ǲ
İstanbul ISTANBUL ıstanbul istanbul|İİ Iİ iI ıI DİYARBAKIR|İ|I\u0307|Iğdır ŞANLIURFA
ΟΔΟΣ ΟΔΟΣ. ΟΔΟΣΑ Σ ΣΑΣ ΑΣ' 'ΑΣ ΑΣ'Α ΑΣ:Β Α:Σ .Σ ΑΣ\u0301 ΑΣ\u00adΑ|Σίσυφος ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ
ΆΈΉΊΌΎΏ ΐ ΰ ᾳ ᾼ ῷ ῼ Ὧ ὣ ᾯ|ªΣ ⅣΣ ⓐΣ ʰΣ \u02b0Σ ^Σ `Σ A^Σ AΣ^ A·Σ·B AΣ’s
Привет, мир! ПРИВЕТ МИР|Ёлка ёлка йод Й и\u0306|Київ Ї ї Ґ ґ|ЉЊЂЋЏ љњђћџ
Здравствуйте-как-дела?|Съешь же ещё этих мягких французских булок
你好世界|我爱北京天安门|漢字と仮名交じり文|日本語のテキスト、です。|「引用」『本』【注】〜〇々ゝ
abc中def文ghi|中\u0301文|㐀䶿\u9fff豈﨎\U0002f800\U00020000\U0002a6d6\U0002b820|\U00030000\u2e80\u3007\u3021
ガギグ か\u3099 ガ ｶﾞ ﾊﾟ パ は\u309a|ヴァイオリン ばびぶべぼ
안녕하세요 한국어|각 가\u11a8 \u1100\u1161\u11a8 ᄀ|뷁 힣|한글 HANGUL
مرحبا بالعالم|السلام عليكم،|\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651\u064e\u0629|آ أ إ ؤ ئ|١٢٣٤ ۱۲۳
שלום עולם|שָׁלוֹם|\ufb2a \ufb4b|\u202bשלום\u202c abc \u200fx\u200e|יִשְׂרָאֵל
नमस्ते दुनिया|क्षत्रिय क़ ख़|हिन्दी|বাংলা ো ৌ|தமிழ் ொ|తెలుగు ൊ|ไทย ภาษา กำ|ລາວ|မြန်မာ|ខ្មែរ
ქართული ᲥᲐᲠᲗᲣᲚᲘ Ⴀ ⴀ|Հայերեն ՀԱՅԵՐԵՆ և|ᏣᎳᎩ ꮳꮃꭹ|ᎠᏴ Ᏸ ᏸ|𐐀𐐨 𐓐𐓸 𞤀𞤢
😀 😃😄 a😀b|👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪|❤ ❤️ ☕️ ™ © ® ℃ №|⌚️x|#️⃣ 1️⃣
non\u00a0breaking\u2003em\u2009thin\u202fnarrow\u3000ideographic\u1680ogham\u205fmath
zero\u200bwidth\u200cnon\u200djoin\u2060er\ufeffbom|\ufeffstart|soft\u00adhyphen co\u00adop
line\u2028separator\u2029paragraph|next\u0085line|vt\u000bff\u000cfs\u001cgs\u001drs\u001eus\u001f|tab\tsep  twice
nul\u0000byte|\u0001\u0002\u0003|del\u007fete|\u0080\u009f|\ufffdreplacement\ufffd|\ue000private\uf8ff|\u0378unassigned|\ufdd0\uffff
¿Qué? ¡Sí! «guillemets» „quotes“ ‚x‘ ‹y› ‘a’ “b”|em—dash en–dash hy‐phen minus−sign|…ellipsis ‥ ․|§¶†‡•‰′″‽⁂
a_b __init__ ‿ ⁀ ﹏ ＿|（full）［width］ＡＢＣａｂｃ１２３！？，．：；|ﾌﾙ|⁽⁾₍₎|¨´¸˚ ` ^ ~ ¯ ¦ ¬ ± × ÷|\u1fef \u037e \u0387 \u00b7
€ £ ¥ ₹ ₿ ¢ $|x² y³ ½ ¼ ⅓ ₁₂ ⁴ ① ⑴ ⒈ Ⅷ ⅷ|∑ ∫ ∂ √ ∞ ≠ ≤ ⊂ ∀|\u2126 \u212a \u212b Ω K Å|ℵ ℝ ℂ 𝐀𝒜𝔸
[MASK]|the [MASK] sat|a[MASK]b[SEP]c|[CLS] x [SEP] y [PAD][PAD]|[mask] [Mask] [UNK]|[MASK|[[MASK]]|[ MASK ]|[MA[MASK]SK]|[unused0] [unused99]
##ing ## # ### ##a #a a## a##b|un##able|'##'|##|#
e\u0301\u0302\u0303\u0304\u0305 stacked|a\u0316\u0301b\u0301\u0316|\u1e69 s\u0323\u0307 s\u0307\u0323|\u0344 \u0340 \u0341 \u0343|\u302e\u302f 가\u302e\u0301|q\u0307\u0323\u0359
\U0001d15e \U0001d15f\U0001d160|\U000110ab \U00011131\U00011127|\u0f43\u0f4d \u0f73 \u0f75 \u0f81|\u0958\u09dc\u0a33\u0b5c
ﷺ ﷲ ﻻ ﺍ|㎏ ㍿ ㈱ ㋿|ﬅ ﬓ|Ŀ ŉ ǰ ΐ|ꟸ ꟹ ꭜ ꞌ Ꞌ|ẖ ẗ ẘ ẙ ẚ|Ⱥ ⱥ Ɐ ɐ Ⱦ ɫ Ɫ
x\u0338 = \u2260 < \u226e|\u2adc \u2add\u0338|\u0387\u00b7|\u2000\u2001 \u2002|\u2329\u232a\u3008
https://example.org/a?b=c&d=%20#frag user.name+tag@mail.example.co.uk C:\\path\\to\\file.txt
3.14159 1e-10 0xFF 192.168.0.1 2024-02-29T12:34:56Z +49 (0)30 1234|1st 2nd 3rd 4TH
iPhone McDonald's O'Brien JavaScript XMLHttpRequest snake_case camelCase SCREAMING_CASE kebab-case
supercalifragilisticexpialidocious antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis
dinh Đinh Đđ Łódź ŁÓDŹ Øre Þór þ ð Ð ŋ Ŋ ħ Ħ|Phở Hà Nội Việt Nam ệ|čšž ČŠŽ ő ű Ő Ű ğ ç|ā ē ī ō ū ṃ ṇ ṭ
"""


def hard_strings():
    texts = [""]
    for line in BY_HAND.strip("\n").split("\n"):
        texts += line.split("|")
    texts += [" ", "   \t \r ", "a\rb", "x" * 100, "x" * 101, "é" * 100, "é" * 101,
              "e\u0301" * 100, "가" * 33, "가" * 34, "İ" * 100, "中" * 150, "a" * 99 + "中",
              "-" * 30, "a-" * 30, "\u0301" * 120, "\u200b" * 10, "Ω" * 101 + " ok",
              "ab" * 50 + "\u00ad", "word " * 40, "🙂" * 101, "ΑΣ " * 5]
    rng = random.Random(20240601)
    atoms = [t for text in texts if len(text) < 80 for t in text.split()] + [
        " ", "  ", "\t", "\u00a0", "\u3000", "\u200b", "\u00ad", "\u0301", "\u0308", "\u0327", "-",
        "'", ".", ",", "##", "[MASK]", "[SEP]", "中", "Σ", "İ", "ß", "\u0000", "\ufffd", "\u2028"]
    while len(texts) < 620:
        texts.append("".join(rng.choice(atoms) + rng.choice(["", "", " "])
                             for _ in range(rng.randint(2, 7))))
    blocks = [(0x20, 0x17F), (0x180, 0x24F), (0x300, 0x3FF), (0x400, 0x52F), (0x590, 0x6FF),
              (0x900, 0xDFF), (0x1100, 0x11FF), (0x1E00, 0x20CF), (0x3000, 0x30FF),
              (0x4E00, 0x4EFF), (0xAC00, 0xAD00), (0xFB00, 0xFEFF), (0x1F300, 0x1F5FF)]
    while len(texts) < 760:
        first, last = rng.choice(blocks)
        texts.append("".join(chr(rng.randint(first, last)) if rng.random() < 0.85 else " "
                             for _ in range(rng.randint(4, 30))))
    return [t.replace("\n", " ") for t in texts]


def write_fixture(out, bert):
    texts = hard_strings()
    fixture = {"unicode": unicodedata.unidata_version,
               "note": "written by tests/support/tokenizer_reference.py",
               "training": {"size": 1500, "min_frequency": 2, "alphabet_limit": 600}}
    vocabularies = {}
    for name in ("uncased", "cased"):
        vocabularies[name] = train(count_words(texts, name), 1500, 2, 600)
    fixture["vocabularies"] = vocabularies
    fixture["variants"] = {name: dict(zip(("lower_case", "strip_accents", "tokenize_cjk"), flags))
                           for name, flags in VARIANTS.items()}
    index = {name: {t: i for i, t in enumerate(v)} for name, v in vocabularies.items()}
    if bert:
        tokens = Path(bert).read_text(encoding="utf-8").split("\n")[:-1]
        index["bert"] = {t: i for i, t in enumerate(tokens)}
    cases = []
    for text in texts:
        case = {"text": text}
        for name, flags in VARIANTS.items():
            case[name] = ids(text, name, index["uncased" if flags[0] else "cased"])
        if bert:
            case["bert-uncased"] = ids(text, "uncased", index["bert"])
        cases.append(case)
    fixture["cases"] = cases
    lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}"
             for k, v in fixture.items() if k != "cases"]
    body = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    Path(out).write_text("{" + ",\n".join(lines) + ',\n"cases": [\n' + body + "\n]}\n")
    print(f"{len(cases)} strings, vocabularies of "
          f"{', '.join(str(len(v)) for v in vocabularies.values())}")
    for name in list(VARIANTS) + (["bert-uncased"] if bert else []):
        unknown = sum(case[name].count(1 if name != "bert-uncased" else 100) for case in cases)
        total = sum(len(case[name]) for case in cases)
        print(f"  {name}: {total} ids, {unknown} unknown")



def tokenize(program, folder, variant, vocabulary, texts):
    """What the program makes of `texts`, one a line."""
    lower, strip, cjk = VARIANTS[variant]
    Path(folder, "vocab.txt").write_text("".join(t + "\n" for t in vocabulary), encoding="utf-8",
                                         newline="\n")
    Path(folder, "tokenizer_config.json").write_text(json.dumps(
        {"do_lower_case": lower, "strip_accents": strip, "tokenize_chinese_chars": cjk}))
    done = subprocess.run([program, "tokenize", "--model", folder],
                          input="".join(t + "\n" for t in texts).encode(), capture_output=True)
    if done.returncode != 0:
        sys.exit(f"tokenize exits {done.returncode}: {done.stderr.decode()}")
    lines = [[int(i) for i in line.split()] for line in done.stdout.decode().splitlines()]
    if len(lines) != len(texts):
        sys.exit(f"{len(texts)} lines in, {len(lines)} out")
    return [line[1:-1] for line in lines]  # no [CLS], no [SEP]


def differences(program, folder, variant, vocabulary, texts):
    index = {t: i for i, t in enumerate(vocabulary)}
    count = 0
    for text, found in zip(texts, tokenize(program, folder, variant, vocabulary, texts)):
        expected = ids(text, variant, index)
        if found != expected:
            count += 1
            if count <= 10:
                print(f"{variant}: {ascii(text)}: expected {expected}; got {found}")
    print(f"{variant}: {len(texts)} texts, {len(vocabulary)} tokens, {count} differ")
    return count


def compare(program):
    doctor = json.loads(subprocess.run([program, "doctor", "--json"], capture_output=True,
                                       check=True).stdout)
    theirs, ours = doctor["unicode"], unicodedata.unidata_version
    number = [[int(part) for part in version.split(".")] for version in (theirs, ours)]
    if number[0] < number[1]:
        print(f"skipped: Unicode {theirs} there, {ours} here")
        return 77
    # Characters do not change their classes from version to version, but new ones come: those that
    # are unassigned here are left out if they may be assigned there. Of the kinds that fill most of
    # the space a part is enough.
    def share(c):
        category = unicodedata.category(c)
        if category == "Cn" and theirs != ours:
            return 0
        if category in ("Cn", "Co"):
            return 0.002
        return 0.05 if is_ideograph(c) or 0xAC00 <= ord(c) < 0xD7A4 else 1

    rng = random.Random(1)
    chosen = [chr(c) for c in range(0x110000)
              if not 0xD800 <= c < 0xE000 and chr(c) not in "\t\n\r"
              and rng.random() < share(chr(c))]
    # Between letters, after a sigma that it may or may not part from what follows, and at the end.
    texts = [f"A{c}\u03a3{c}b {c}\u03a3 \u0301{c}\u0327" for c in chosen]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for variant in ("uncased", "cased", "lower-accents"):
            used = {c for text in texts for word in words(text, variant) for c in word}
            vocabulary = SPECIAL + sorted(used) + ["##" + c for c in sorted(used)]
            failed += differences(program, folder, variant, vocabulary, texts)
        data = Path(os.environ.get("PARSIMONY_DATA") or "data")
        bert = data / "vocab" / "bert-base-uncased-vocab.txt"
        if not bert.exists():
            print(f"no {bert}: real text is not compared; set PARSIMONY_DATA")
            return failed > 0
        tokens = bert.read_text(encoding="utf-8").split("\n")[:-1]
        lines = []
        for name in ("wikitext2-valid.txt", "ag-news-test.txt", "movie-reviews-2.txt"):
            if (data / "text" / name).exists():
                lines += (data / "text" / name).read_text(encoding="utf-8").split("\n")[:1500]
        lines = [line.replace("\t", " ").rstrip("\r") for line in lines]
        failed += differences(program, folder, "uncased", tokens, lines)
    return failed > 0


def main(arguments):
    if len(arguments) in (2, 3) and arguments[0] == "fixture":
        write_fixture(arguments[1], arguments[2] if len(arguments) > 2 else None)
        return 0
    if len(arguments) == 2 and arguments[0] == "compare":
        return int(compare(arguments[1]))
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
