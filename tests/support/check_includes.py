#!/usr/bin/env python3
"""Checks who includes what, and two xtensor habits that give wrong numbers.

  check_includes.py [ROOT]       checks a checkout (default: its own); exit 1 on violations
  check_includes.py --self-test  small trees that break each rule once must each be caught

Third-party headers have one door each: a library that is included in one place can be replaced
there. Our folders depend on each other in one direction; the linker catches an upward call, this
catches an upward header. Comments and strings do not count.
"""
import os
import re
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

# The layers, lowest first. A folder may include what is below it and, as long as there is no
# circle, what is beside it.
LAYERS = [
    {"kernels"},
    {"tensor"},
    {"linalg", "rng", "io", "precompiled"},
    {"text", "data", "report"},
    {"autograd"},
    {"nn"},
    {"run"},
    {"lm"},
    {"experiments"},
    {"cli"},
]
RANK = {folder: rank for rank, folders in enumerate(LAYERS) for folder in folders}
# Services for experiments: the engine knows nothing of data sets and reports.
NOT_FOR_ENGINE = {"text", "data", "report"}
ENGINE = {"autograd", "nn"}
# What the kernels, which know no tensors, may use of the public headers.
FOR_KERNELS = {"parsimony/error.hpp", "parsimony/threads.hpp"}

# (headers that start with, files that may include them, said of the rule)
DOORS = [
    (("xtensor/", "xtl/"), r"include/parsimony/xtensor\.hpp", "include/parsimony/xtensor.hpp"),
    (("xtensor-blas/",), r"src/linalg/.*", "src/linalg/"),
    (("cblas.h",), r"src/kernels/gemm\.cpp", "src/kernels/gemm.cpp"),
    (("catch2/",), r"tests/support/catch(\.hpp|_main\.cpp)", "tests/support/catch.hpp"),
    (("CLI/", "CLI11.hpp"), r"src/cli/.*", "src/cli/"),
    (("utf8proc.h",), r"src/text/unicode\.cpp", "src/text/unicode.cpp"),
    (("sentencepiece",), r"src/text/sentencepiece\.cpp", "src/text/sentencepiece.cpp"),
    (("nlohmann/",), r"src/io/nlohmann\.hpp", "src/io/nlohmann.hpp"),
]

PATTERNS = [
    (re.compile(r"\bauto\b[\s&*]*(?:const\b\s*)?\w+\s*[={(]\s*(?:::)?xt::"),
     "no 'auto' on an xtensor expression: it keeps references to temporaries; name the type"),
    (re.compile(r"\bxt::linalg::dot\b"),
     "no xt::linalg::dot: wrong shapes for views; use matmul"),
]

STD = set("""algorithm any array atomic bitset cassert cctype cerrno cfenv cfloat charconv chrono
cinttypes climits clocale cmath complex condition_variable csetjmp csignal cstdarg cstddef cstdint
cstdio cstdlib cstring ctime cuchar cwchar cwctype deque exception execution filesystem
forward_list fstream functional future initializer_list iomanip ios iosfwd iostream istream iterator
limits list locale map memory memory_resource mutex new numeric optional ostream queue random ratio
regex scoped_allocator set shared_mutex sstream stack stdexcept streambuf string string_view
strstream system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set
utility valarray variant vector version""".split())

FOLDERS = ("include", "src", "autograd", "nn", "experiments", "tests", "bench", "docs", "examples")
SUFFIXES = {".hpp", ".h", ".ipp", ".cpp", ".cc", ".cxx"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
TOKEN = re.compile(
    r'(?P<keep>^[ \t]*#[ \t]*include[^\n]*)'
    r'|//(?:\\\n|[^\n])*|/\*.*?\*/'
    r'|R"(?P<raw>[^()\\\s"]{0,16})\(.*?\)(?P=raw)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])*'", re.S | re.M)

Violation = namedtuple("Violation", "file line message")


def code_only(text):
    """The text with comments and strings blanked, line numbers unchanged; #include lines stay."""
    def blank(match):
        if match.group("keep") is not None:
            return match.group()
        return "\n" * match.group().count("\n") or " "
    return TOKEN.sub(blank, text)


def layer_of(path):
    """The layer folder of a file, "" for a folder of src/ that has no layer, None elsewhere."""
    parts = path.split("/")
    if parts[0] == "src" and len(parts) > 2:
        return parts[1] if parts[1] in RANK else ""
    return parts[0] if parts[0] in RANK and len(parts) > 1 else None


class Tree:
    def __init__(self, root):
        self.root = Path(root)
        self.includes = {}   # file -> [(line, quote, name)]
        self.violations = []
        self.named = {}      # stem -> layers
        self.edges = {}      # (layer, layer) side by side -> first (file, line)
        for file in sorted(self.sources()):
            text = code_only((self.root / file).read_text(encoding="utf-8", errors="replace"))
            self.includes[file] = [(text.count("\n", 0, m.start(2)) + 1, m.group(1), m.group(2))
                                   for m in INCLUDE.finditer(text)]
            for pattern, message in PATTERNS:
                for m in pattern.finditer(text):
                    self.report(file, text.count("\n", 0, m.start()) + 1, message)

    def sources(self):
        for folder in FOLDERS:
            for at, folders, files in os.walk(self.root / folder):
                folders[:] = [f for f in folders if not f.startswith((".", "build"))]
                for file in files:
                    if Path(file).suffix in SUFFIXES:
                        yield (Path(at) / file).relative_to(self.root).as_posix()

    def report(self, file, line, message):
        self.violations.append(Violation(file, line, message))

    def resolve(self, file, quote, name):
        """Our file that an include means, or None for a header that is not ours."""
        places = [os.path.dirname(file)] if quote == '"' else []
        for place in places + ["include", "src", ""]:
            path = os.path.normpath(os.path.join(place, name)).replace(os.sep, "/")
            if path in self.includes:
                return path
        return None

    def layers_named(self, stem):
        """The layers below the experiments with a source of this name, or that begins with it."""
        if stem not in self.named:
            layers = {layer_of(f) for f in self.includes
                      if f.endswith(".cpp") and re.fullmatch(stem + r"(_\w+)?", Path(f).stem)}
            self.named[stem] = {layer for layer in layers
                                if layer and layer not in ("experiments", "cli")}
        return self.named[stem]

    def public_layer(self, header, seen=()):
        """The layer that a public header belongs to: that of the sources named after it
        (ops_losses.cpp implements ops.hpp) or, if higher, of the headers it includes; None if
        nothing tells."""
        stem = Path(header).stem
        layers = self.layers_named(stem)
        # A name that several folders use tells nothing sure but the lowest of them.
        best = min(layers, key=RANK.get) if layers else (stem if stem in RANK else None)
        for _, quote, name in self.includes[header]:
            other = self.resolve(header, quote, name)
            if other and other.startswith("include/") and other not in seen:
                layer = self.public_layer(other, (*seen, header))
                if layer and (best is None or RANK[layer] > RANK[best]):
                    best = layer
        return best

    def check(self):
        for file, includes in self.includes.items():
            for line, quote, name in includes:
                self.check_door(file, line, name)
                if file.startswith("include/"):
                    self.check_public(file, line, quote, name)
                elif layer_of(file) is not None:
                    self.check_layer(file, line, quote, name)
            if layer_of(file) == "":
                self.report(file, 1, f"{file.split('/')[1]}/ has no layer; give it one in LAYERS "
                                     "(tests/support/check_includes.py)")
        self.check_circles()
        # One message a line is enough: the first.
        return sorted({(v.file, v.line): v for v in reversed(self.violations)}.values())

    def check_door(self, file, line, name):
        for prefixes, allowed, words in DOORS:
            if name.startswith(prefixes) and not re.fullmatch(allowed, file):
                self.report(file, line, f"<{name}> is included only by {words}")

    def check_public(self, file, line, quote, name):
        ours = self.resolve(file, quote, name)
        is_ours = name.startswith("parsimony/") or (ours or "").startswith("include/parsimony/")
        is_xtensor = name.startswith(("xtensor/", "xtl/"))  # its door says where
        if not (is_ours or is_xtensor or (quote == "<" and name in STD)):
            self.report(file, line, f"a public header includes <{name}>; only the C++17 standard "
                                    "library and <parsimony/...> may be included")

    def check_layer(self, file, line, quote, name):
        here = layer_of(file)
        ours = self.resolve(file, quote, name)
        if here == "experiments":
            own = ours is not None and layer_of(ours) == here
            if not (name.startswith("parsimony/") or (quote == "<" and name in STD) or own):
                self.report(file, line, f"an experiment includes {name}; only <parsimony/...> and "
                                        "the standard library may be included")
        if ours is None or here == "":
            return
        public = ours.startswith("include/")
        if here == "kernels":
            if not (layer_of(ours) == here or name in FOR_KERNELS):
                self.report(file, line, f"kernels/ includes {name}; of ours it may include "
                                        f"kernels/ and {', '.join(sorted(FOR_KERNELS))}")
            return
        there = self.public_layer(ours) if public else layer_of(ours)
        if not there or there == here or (public and here == "experiments"):
            return
        if RANK[there] > RANK[here]:
            self.report(file, line, f"{here}/ includes {name} of {there}/, a layer above it")
        elif here in ENGINE and there in NOT_FOR_ENGINE:
            self.report(file, line, f"{here}/ includes {name} of {there}/, which serves "
                                    "experiments only")
        elif RANK[there] == RANK[here]:
            self.edges.setdefault((here, there), (file, line, name))

    def check_circles(self):
        reach = {}
        for here, there in self.edges:
            reach.setdefault(here, set()).add(there)
        for (here, there), (file, line, name) in self.edges.items():
            seen, todo = set(), [there]
            while todo:
                at = todo.pop()
                if at not in seen:
                    seen.add(at)
                    todo.extend(reach.get(at, ()))
            if here in seen:
                self.report(file, line, f"{here}/ includes {name} of {there}/, which comes back to "
                                        f"{here}/: a circle")


# --- Self-test ------------------------------------------------------------------------------------

# A sound tree; each case below changes it and must be caught at "file:line", or at none.
SOUND = {
    "include/parsimony/error.hpp": "#include <string>\n",
    "include/parsimony/threads.hpp": "\n",
    "include/parsimony/tensor.hpp": "#include <parsimony/error.hpp>\n#include <vector>\n",
    "include/parsimony/xtensor.hpp":
        "#include <parsimony/tensor.hpp>\n#include <xtensor/xarray.hpp>\n",
    "include/parsimony/ops.hpp": "#include <parsimony/tensor.hpp>\n",
    "include/parsimony/parsimony.hpp": '#include "parsimony/ops.hpp"\n',
    "src/kernels/gemm.hpp": "#include <cstdint>\n",
    "src/kernels/gemm.cpp":
        '#include "kernels/gemm.hpp"\n#include <cblas.h>\n#include <parsimony/error.hpp>\n',
    "src/kernels/threads.cpp": "#include <parsimony/threads.hpp>\n",
    "src/tensor/tensor.cpp": '#include <parsimony/tensor.hpp>\n#include "kernels/gemm.hpp"\n',
    "src/rng/rng.hpp": "\n",
    "src/linalg/svd.cpp": '#include <xtensor-blas/xlapack.hpp>\n#include "rng/rng.hpp"\n',
    "src/io/nlohmann.hpp": "#include <nlohmann/json.hpp>\n",
    "src/io/json.cpp": '#include <fmt/format.h>\n#include "io/nlohmann.hpp"\n',
    "src/data/table.hpp": "\n",
    "autograd/ops_losses.cpp": '#include <parsimony/ops.hpp>\n#include "kernels/gemm.hpp"\n',
    "nn/linear.cpp": "#include <parsimony/ops.hpp>\n",
    "experiments/one.cpp": "#include <parsimony/parsimony.hpp>\n#include <cmath>\n",
    "src/cli/main.cpp": '#include <CLI/CLI.hpp>\n#include "data/table.hpp"\n',
    "tests/support/catch.hpp": "#include <catch2/catch.hpp>\n",
    "tests/unit/a.cpp": '#include "tests/support/catch.hpp"\n#include "data/table.hpp"\n',
}

CASES = [
    ("a sound tree", {}, []),
    ("xtensor in a source", {"src/tensor/tensor.cpp": "\n#include <xtensor/xview.hpp>\n"},
     ["src/tensor/tensor.cpp:2"]),
    ("xtensor in a test", {"tests/unit/b.cpp": '#include "xtensor/xarray.hpp"\n'},
     ["tests/unit/b.cpp:1"]),
    ("xtensor-blas outside linalg", {"nn/linear.cpp": "#include <xtensor-blas/xlinalg.hpp>\n"},
     ["nn/linear.cpp:1"]),
    ("cblas in another kernel", {"src/kernels/rows.cpp": "#include <cblas.h>\n"},
     ["src/kernels/rows.cpp:1"]),
    ("Catch2 in a test", {"tests/unit/b.cpp": "#include <catch2/catch.hpp>\n"},
     ["tests/unit/b.cpp:1"]),
    ("CLI11 outside cli", {"src/run/a.cpp": "#include <CLI/CLI.hpp>\n"}, ["src/run/a.cpp:1"]),
    ("nlohmann in a source", {"src/io/json.cpp": "#include <nlohmann/json.hpp>\n"},
     ["src/io/json.cpp:1"]),
    ("nlohmann in another header", {"src/io/json.hpp": "#include <nlohmann/json.hpp>\n"},
     ["src/io/json.hpp:1"]),
    ("nlohmann in a public header",
     {"include/parsimony/json.hpp": "#include <nlohmann/json.hpp>\n"},
     ["include/parsimony/json.hpp:1"]),
    ("fmt in a public header",
     {"include/parsimony/ops.hpp": "#include <vector>\n#  include  <fmt/core.h>\n"},
     ["include/parsimony/ops.hpp:2"]),
    ("a private header in a public one",
     {"include/parsimony/ops.hpp": '#include "kernels/gemm.hpp"\n'},
     ["include/parsimony/ops.hpp:1"]),
    ("xtensor in another public header",
     {"include/parsimony/ops.hpp": "#include <xtensor/xarray.hpp>\n"},
     ["include/parsimony/ops.hpp:1"]),
    ("a C++20 header in a public header",
     {"include/parsimony/ops.hpp": "#include <span>\n"},
     ["include/parsimony/ops.hpp:1"]),
    ("a kernel that knows tensors",
     {"src/kernels/rows.cpp": "#include <parsimony/tensor.hpp>\n"},
     ["src/kernels/rows.cpp:1"]),
    ("a kernel that includes upwards",
     {"src/kernels/rows.cpp": '#include "../rng/rng.hpp"\n'},
     ["src/kernels/rows.cpp:1"]),
    ("tensor includes linalg", {"src/linalg/svd.hpp": "\n",
                                "src/tensor/tensor.cpp": '#include "linalg/svd.hpp"\n'},
     ["src/tensor/tensor.cpp:1"]),
    ("tensor includes a public header of autograd",
     {"src/tensor/tensor.cpp": "#include <parsimony/ops.hpp>\n"}, ["src/tensor/tensor.cpp:1"]),
    ("... and behind another one", {"src/io/json.cpp": "#include <parsimony/parsimony.hpp>\n"},
     ["src/io/json.cpp:1"]),
    ("autograd includes nn", {"nn/linear.hpp": "\n",
                              "autograd/ops_losses.cpp": '#include "../nn/linear.hpp"\n'},
     ["autograd/ops_losses.cpp:1"]),
    ("nn includes data", {"nn/linear.cpp": '#include "data/table.hpp"\n'}, ["nn/linear.cpp:1"]),
    ("nn includes cli", {"src/cli/a.hpp": "\n", "nn/linear.cpp": '#include "cli/a.hpp"\n'},
     ["nn/linear.cpp:1"]),
    ("a circle of neighbours", {"src/linalg/svd.hpp": "\n",
                                "src/rng/rng.hpp": '#include "linalg/svd.hpp"\n'},
     ["src/linalg/svd.cpp:2", "src/rng/rng.hpp:1"]),
    ("a private header in an experiment", {"experiments/one.cpp": '#include "rng/rng.hpp"\n'},
     ["experiments/one.cpp:1"]),
    ("fmt in an experiment", {"experiments/one.cpp": "#include <fmt/format.h>\n"},
     ["experiments/one.cpp:1"]),
    ("a folder without a layer", {"src/misc/a.cpp": "\n"}, ["src/misc/a.cpp:1"]),
    ("auto on xtensor", {"src/linalg/a.cpp": "\nvoid f() {\n  auto x = xt::sum(a);\n}\n"},
     ["src/linalg/a.cpp:3"]),
    ("const auto& on xtensor", {"tests/unit/b.cpp": "const auto& y =\n    xt::view(a, 0);\n"},
     ["tests/unit/b.cpp:1"]),
    ("auto const on xtensor", {"tests/unit/b.cpp": "auto const y{xt::view(a, 0)};\n"},
     ["tests/unit/b.cpp:1"]),
    ("xt::linalg::dot", {"src/linalg/a.cpp": "x = xt::linalg::dot(a, b);\n"},
     ["src/linalg/a.cpp:1"]),
    ("comments and strings do not count", {
        "nn/linear.cpp": '// #include <cblas.h>\n/*\n#include <cblas.h>\nauto x = xt::sum(a);\n*/\n'
                         'auto s = R"(\n#include <cblas.h>\n)";\nauto t = "auto x = xt::a";\n'
                         "int big = 1'000'000;\n"}, []),
    ("code after them does", {
        "nn/linear.cpp":
            'auto s = R"x(\n)" )x"; auto c = \'"\'; /* */\n#include <cblas.h>  // why\n'},
     ["nn/linear.cpp:3"]),
]


def self_test():
    failed = 0
    for title, changes, expected in CASES:
        with tempfile.TemporaryDirectory() as root:
            for file, text in {**SOUND, **changes}.items():
                path = Path(root, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            found = subprocess.run([sys.executable, __file__, root], capture_output=True, text=True)
            lines = found.stdout.splitlines()
            places = [":".join(line.split(":")[:2]) for line in lines if line.count(":") >= 2]
            if places != expected or found.returncode != (1 if expected else 0):
                failed += 1
                print(f"self-test '{title}': expected {expected or 'no violation'}; got "
                      f"{places or 'none'}, exit {found.returncode}\n{found.stdout}{found.stderr}")
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return failed


def main(arguments):
    if arguments == ["--self-test"]:
        return 1 if self_test() else 0
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print(__doc__)
        return 0 if arguments == ["--help"] else 2
    root = Path(arguments[0] if arguments else Path(__file__).resolve().parents[2])
    tree = Tree(root)
    if not tree.includes:
        print(f"check_includes.py: no sources in {root}", file=sys.stderr)
        return 2
    violations = tree.check()
    for v in violations:
        print(f"{v.file}:{v.line}: {v.message}")
    if not violations:
        print(f"{len(tree.includes)} files keep the include rules")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
