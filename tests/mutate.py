#!/usr/bin/env python3
"""Breaks the gradient rules one at a time and asks whether their tests notice.

A mutant is the project with one change in one line of src/grad/rules/*.rs: a sign turned, an operand or an operator
exchanged, a comparison or a flag reversed, a number changed. The test of that file's cases (`grad_cases::reduce` for
reduce.rs; all cases where a file has none of its own) must then fail: the mutant is killed. A survivor is either a change that changes nothing (a guard that cannot
be reached, another way to write the same) or a case that is missing.

    tests/mutate.py --pick 5 --seed 1      five mutants drawn by chance (about ten seconds each)
    tests/mutate.py --all                  every mutant (an hour)
    tests/mutate.py --all --only reduce    those of src/grad/rules/reduce.rs
    tests/mutate.py --list                 what would be changed, without building

The tree is copied to target/mutate/tree and only the copy is changed. It is built in target/mutate/build, with links to the
compiled dependencies in target/debug: in one folder, cargo would take the project's own library and a mutant's for the
same.
The exit status is 1 if a mutant survived. Needs Python 3.9, nothing else.
"""

import argparse
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
TIMEOUT_S = 900

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


def mutants(only):
    """(file, line number, before, after) for each change that the rules allow."""
    found = []
    for path in sorted((ROOT / RULES).glob("*.rs")):
        if path.name == "mod.rs" or (only and path.stem != only):
            continue  # the table has no formulas
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("//")[0]
            if code.lstrip().startswith(("use ", "pub fn", "fn ", "#", "assert")) or "Err(" in code:
                continue
            for pattern, replacement in CHANGES:
                for match in re.finditer(pattern, code):
                    after = code[: match.start()] + match.expand(replacement) + code[match.end() :]
                    if after != code:
                        found.append((RULES / path.name, number, line, after))
    return found


def copy_tree():
    shutil.rmtree(TREE, ignore_errors=True)
    ignored = shutil.ignore_patterns("target", ".git", "shared")
    shutil.copytree(ROOT, TREE, ignore=ignored, symlinks=True)
    if BUILD.exists():
        return
    own = shutil.ignore_patterns("*edgetune*", "it-*", "incremental")
    shutil.copytree(ROOT / "target/debug", BUILD / "debug", ignore=own, copy_function=os.link)
    installed = ROOT / "target/tmp"  # where the tests put ONNX Runtime, if the device has none
    if installed.exists():
        (BUILD / "tmp").symlink_to(installed)


def cargo(*arguments):
    environment = dict(os.environ, CARGO_TARGET_DIR=str(BUILD), RUST_BACKTRACE="0")
    command = ["cargo", "test", "--quiet", "--test", "it", *arguments]
    done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    return done.returncode, done.stdout + done.stderr


def test_of(path):
    """The test that runs the cases of a file of rules."""
    families = (ROOT / "tests/it/grad_cases.rs").read_text()
    return f"grad_cases::{path.stem}" if f'("{path.stem}", &[' in families else "grad_cases"


def judge(mutant):
    """`killed`, `survived` or `does not compile`, and what noticed."""
    path, number, _, after = mutant
    target = TREE / path
    original = target.read_text()
    lines = original.splitlines()
    lines[number - 1] = after
    target.write_text("\n".join(lines) + "\n")
    try:
        if cargo("--no-run")[0] != 0:
            return "does not compile", ""
        code, output = cargo(test_of(path))
    except subprocess.TimeoutExpired:
        return "killed", "the tests did not end"
    finally:
        target.write_text(original)
    first = next((line.strip() for line in output.splitlines() if re.match(r"  \w+ \(\w+\): ", line)), "")
    panicked = next((line for line in output.splitlines() if "panicked at" in line), "")
    return ("survived", "") if code == 0 else ("killed", first or panicked)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="try every mutant")
    parser.add_argument("--pick", type=int, metavar="N", help="try N mutants drawn by chance")
    parser.add_argument("--seed", type=int, default=1, help="which ones --pick draws (default 1)")
    parser.add_argument("--only", metavar="FAMILY", help="only this file of the rules, such as `reduce`")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    options = parser.parse_args()
    candidates = mutants(options.only)
    if options.list:
        for path, number, before, after in candidates:
            print(f"{path}:{number}: {before.strip()}  →  {after.strip()}")
        print(f"{len(candidates)} mutants")
        return
    if not options.all and not options.pick:
        parser.error("--pick N, --all or --list")
    wanted = len(candidates) if options.all else options.pick
    if not options.all:
        random.Random(options.seed).shuffle(candidates)
    copy_tree()
    for test in sorted({test_of(path) for path, *_ in candidates[:wanted]}):
        code, output = cargo(test)
        if code != 0:
            sys.exit(f"{test} fails before anything is changed:\n{output[-2000:]}")
    counts = {"killed": 0, "survived": 0, "does not compile": 0}
    for mutant in candidates:
        if counts["killed"] + counts["survived"] == wanted:
            break
        verdict, noticed = judge(mutant)
        counts[verdict] += 1
        path, number, before, after = mutant
        if verdict != "does not compile":
            print(f"{verdict}: {path}:{number}\n    {before.strip()}\n  → {after.strip()}\n    {noticed[:160]}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    sys.exit(1 if counts["survived"] else 0)


if __name__ == "__main__":
    main()
