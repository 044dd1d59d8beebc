#!/usr/bin/env python3
"""Breaks the gradient rules one at a time and asks whether their tests notice.

A mutant is the project with one change in one line of src/grad/rules/*.rs: a sign turned, an operand or an operator
exchanged, a comparison or a flag reversed, a number changed. The test of that file's cases (`grad_cases::reduce` for
reduce.rs), or else that of all cases or of quantised models, must then fail: the mutant is killed. A survivor is either a change that changes
nothing (a guard that cannot be reached, another way to write the same) or a case that is missing.

    tests/mutate.py                        every mutant (half an hour on two cores)
    tests/mutate.py --pick 40 --seed 1     forty mutants drawn by chance
    tests/mutate.py --only reduce          those of src/grad/rules/reduce.rs
    tests/mutate.py --from LOG             those that survived in an earlier run, whose output LOG is
    tests/mutate.py --list                 what would be changed, without building

All mutants are built at once, as one program: beside each function lies a copy of it for each of its mutants, and the
variable MUTANT says at run time which copy stands in. The tree is copied to target/mutate/tree, and only the copy is
changed. It is built in target/mutate/build, with links to the compiled dependencies in target/debug: in one folder,
cargo would take the project's own library and a mutant's for the same.
The exit status is 1 if a mutant survived. Needs Python 3.9, nothing else.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TREE = ROOT / "target/mutate/tree"
BUILD = ROOT / "target/mutate/build"
RULES = pathlib.Path("src/grad/rules")
TIMEOUT_S = 300

# What is looked for and what takes its place, one occurrence at a time.
CHANGES = [
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \* ", " / "),
    (r" / ", " * "),
    (r"(?<![\w)\]] )(?<![\w)\]])-(?=[a-z(])", ""),
    (r"\bn\.dy\(0\)(?!\.)", "(-n.dy(0))"),
    (r"\bn\.x\(0\)", "n.x(1)"),
    (r"\bn\.x\(1\)", "n.x(0)"),
    (r"\bn\.y\(0\)", "n.x(0)"),
    (r"\.greater\(", ".less("),
    (r"\.less\(", ".greater("),
    (r'"Sin"', '"Cos"'),
    (r'"Cos"', '"Sin"'),
    (r"\.select\(([^(),]+(?:\([^()]*\))?), ([^(),]+(?:\([^()]*\))?)\)", r".select(\2, \1)"),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
    (r"!(?=[a-z])", ""),
    (r"\b(\d+)\.(\d+)\b", r"1\1.\2"),
    (r"\.exp\(\)", ".tanh()"),
    (r"\.sigmoid\(\)", ".tanh()"),
    (r"\.tanh\(\)", ".sigmoid()"),
]

FUNCTION = re.compile(r"^(?P<indent> *)(?:pub(?:\([a-z]+\))? )?fn (?P<name>\w+)(?P<rest>.*)$")
CHOSEN = """
/// Which mutant stands in.
pub(super) fn mutant() -> usize {
    static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0))
}
"""


def functions(lines):
    """(first, last line, name, indentation) of each function, counted from 0, in rustfmt's layout."""
    found, number = [], 0
    while number < len(lines):
        match = FUNCTION.match(lines[number])
        if match:
            last = next(i for i in range(number, len(lines)) if lines[i] == match["indent"] + "}")
            found.append((number, last, match["name"], match["indent"]))
            number = last
        number += 1
    return found


def mutants(only):
    """(file, line number from 0, before, after) for each change that the rules allow, in functions alone."""
    found = []
    for path in sorted((ROOT / RULES).glob("*.rs")):
        if path.name == "mod.rs" or (only and path.stem != only):
            continue  # the table has no formulas
        lines = path.read_text().splitlines()
        for first, last, _, _ in functions(lines):
            body = next(i for i in range(first, last) if lines[i].endswith("{"))
            for number in range(body + 1, last):
                code = lines[number].split("//")[0]
                if code.lstrip().startswith(("#", "assert")) or "Err(" in code:
                    continue
                for pattern, replacement in CHANGES:
                    for match in re.finditer(pattern, code):
                        after = code[: match.start()] + match.expand(replacement) + code[match.end() :]
                        if after != code:
                            found.append((RULES / path.name, number, lines[number], after))
    return found


def call_of(signature, name, copy):
    """The call of a function's copy with the function's own arguments."""
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    depth, arguments = 0, [""]
    for character in inside:
        depth += {"(": 1, "<": 1, "[": 1, ")": -1, ">": -1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += character
    names = [argument.split(":")[0].replace("mut ", "").strip(" &") for argument in arguments if argument.strip()]
    return f"self.{copy}({', '.join(names[1:])})" if names[:1] == ["self"] else f"{copy}({', '.join(names)})"


def signature_of(lines, first, body):
    """A function's head in one line, its return type cut off."""
    head = " ".join(line.strip() for line in lines[first : body + 1])
    head = re.sub(r"fn \w+<[^(]*>\(", "fn (", head)  # generic parameters
    return head.rsplit(" -> ", 1)[0] + (")" if ")" not in head.rsplit(" -> ", 1)[0] else "")


def write_schemata(path, chosen):
    """Writes a file with a copy of its functions for each mutant; gives whose each line is."""
    lines = (ROOT / path).read_text().splitlines()
    out, owners = [], []

    def put(line, owner=0):
        out.append(line)
        owners.append(owner)

    number = 0
    for first, last, name, indent in functions(lines):
        for line in lines[number:first]:
            put(line)
        body = next(i for i in range(first, last) if lines[i].endswith("{"))
        mine = [(k, mutant) for k, mutant in chosen if mutant[0] == path and first <= mutant[1] <= last]
        for line in lines[first : body + 1]:
            put(line)
        prefix = "Self::" if indent else ""
        for k, _ in mine:
            call = call_of(signature_of(lines, first, body), name, f"{name}__{k}")
            put(f"if super::mutant() == {k} {{ return {call if call.startswith('self.') else prefix + call}; }}", k)
        for line in lines[body + 1 : last + 1]:
            put(line)
        for k, (_, changed, _, after) in mine:
            for i in range(first, last + 1):
                line = after if i == changed else lines[i]
                put(re.sub(rf"\bfn {name}\b", f"fn {name}__{k}", line) if i == first else line, k)
        number = last + 1
    for line in lines[number:]:
        put(line)
    (TREE / path).write_text("\n".join(out) + "\n")
    return owners


def survivors_of(log, candidates):
    """Those of the candidates that an earlier run's output names as survivors, wherever their lines have moved to."""
    lines = log.read_text().splitlines()
    named = {
        (pathlib.Path(line.split()[1].rsplit(":", 1)[0]), lines[i + 1].strip(), lines[i + 2].strip().removeprefix("→ "))
        for i, line in enumerate(lines)
        if line.startswith("survived: ")
    }
    return [one for one in candidates if (one[1][0], one[1][2].strip(), one[1][3].strip()) in named]


def copy_tree():
    shutil.rmtree(TREE, ignore_errors=True)
    ignored = shutil.ignore_patterns("target", ".git", "shared")
    shutil.copytree(ROOT, TREE, ignore=ignored, symlinks=True)
    table = TREE / RULES / "mod.rs"
    table.write_text(table.read_text() + CHOSEN)
    if BUILD.exists():
        return
    own = shutil.ignore_patterns("*edgetune*", "it-*", "incremental")
    shutil.copytree(ROOT / "target/debug", BUILD / "debug", ignore=own, copy_function=os.link)
    installed = ROOT / "target/tmp"  # where the tests put ONNX Runtime, if the device has none
    if installed.exists():
        (BUILD / "tmp").symlink_to(installed)


def build(chosen):
    """Builds the tests with all mutants that compile: (program, those mutants)."""
    while True:
        owners = {str(path): write_schemata(path, chosen) for path in sorted({mutant[0] for _, mutant in chosen})}
        environment = dict(os.environ, CARGO_TARGET_DIR=str(BUILD))
        command = ["cargo", "test", "--test", "it", "--no-run", "--message-format", "json"]
        done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True)
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode == 0:
            return next(m["executable"] for m in reversed(messages) if m.get("executable")), chosen
        errors = [m["message"] for m in messages if m["reason"] == "compiler-message" and m["message"]["level"] == "error"]
        spans = [span for error in errors for span in error["spans"] if span["file_name"] in owners]
        wrong = {owners[span["file_name"]][span["line_start"] - 1] for span in spans} - {0}
        if not wrong:
            sys.exit("the changed tree does not build:\n" + "\n".join(e.get("rendered") or "" for e in errors)[:4000])
        chosen = [(k, mutant) for k, mutant in chosen if k not in wrong]


def test_of(path):
    """The test that runs the cases of a file of rules."""
    families = (ROOT / "tests/it/grad_cases.rs").read_text()
    return f"grad_cases::{path.stem}" if f'("{path.stem}", &[' in families else "grad_cases"


def run(program, test, number):
    """(exit status, output) of a test with one mutant; 0 is none."""
    environment = dict(os.environ, MUTANT=str(number), RUST_BACKTRACE="0")
    try:
        done = subprocess.run(
            [program, test], cwd=TREE, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return 1, "the tests did not end"
    return done.returncode, done.stdout + done.stderr


def survives(program, path, number):
    return all(run(program, test, number)[0] == 0 for test in (test_of(path), "grad_cases", "quantised"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pick", type=int, metavar="N", help="try N mutants drawn by chance")
    parser.add_argument("--seed", type=int, default=1, help="which ones --pick draws (default 1)")
    parser.add_argument("--only", metavar="FAMILY", help="only this file of the rules, such as `reduce`")
    parser.add_argument("--from", type=pathlib.Path, metavar="LOG", dest="log", help="only an earlier run's survivors")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many to try at once (default: each core)")
    options = parser.parse_args()
    candidates = list(enumerate(mutants(options.only), 1))
    if options.log:
        candidates = survivors_of(options.log, candidates)
    if options.pick:
        random.Random(options.seed).shuffle(candidates)
        candidates = candidates[: options.pick]
    if options.list:
        for _, (path, number, before, after) in candidates:
            print(f"{path}:{number + 1}: {before.strip()}  →  {after.strip()}")
        print(f"{len(candidates)} mutants")
        return
    copy_tree()
    program, built = build(candidates)
    print(f"{len(built)} of {len(candidates)} mutants compile", flush=True)
    for path in sorted({mutant[0] for _, mutant in built}):
        status, output = run(program, test_of(path), 0)
        if status != 0:
            sys.exit(f"{test_of(path)} fails before anything is changed:\n{output[-2000:]}")
    survived = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        verdicts = pool.map(lambda one: survives(program, one[1][0], one[0]), built)
        for done, ((_, (path, number, before, after)), survivor) in enumerate(zip(built, verdicts), 1):
            if survivor:
                survived += 1
                print(f"survived: {path}:{number + 1}\n    {before.strip()}\n  → {after.strip()}", flush=True)
            if done % 50 == 0:
                print(f"{done} of {len(built)}, {survived} survived", flush=True)
    killed = len(built) - survived
    print(f"{killed} of {len(built)} killed ({100 * killed / max(1, len(built)):.1f} %), {survived} survived")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
