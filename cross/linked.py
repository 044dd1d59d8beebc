"""The crates that the program for a target contains."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def linked(target, *arguments):
    """The program's package, those of the crates in it sorted by name, and for each package's id the ids of what it takes directly.

    Dependencies of tests and of build scripts are none of the program's.
    """
    asked = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target, *arguments]
    metadata = json.loads(subprocess.run(asked, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    program = metadata["resolve"]["root"]
    takes, ahead = {}, [program]
    while ahead:
        package = ahead.pop()
        if package in takes:
            continue
        kinds = ((dependency["pkg"], dependency["dep_kinds"]) for dependency in nodes[package]["deps"])
        takes[package] = sorted(name for name, kinds in kinds if any(kind["kind"] is None for kind in kinds))
        ahead += takes[package]
    crates = (packages[name] for name in takes if name != program)
    return packages[program], sorted(crates, key=lambda package: (package["name"], package["version"])), takes
