#!/bin/sh
# Makes the virtual environments of the peers: DIR/pytorch, DIR/ort-training and DIR/onnxsim. What is there already stays.
# Further arguments go to pip, for instance the index of CPU-only builds of torch. PYTHON chooses the interpreter.
#
#   sh setup.sh DIR [pytorch|ort-training|onnxsim|all] [PIP ARGUMENTS…]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
into=${1:?usage: setup.sh DIR [pytorch|ort-training|onnxsim|all] [pip arguments]}
which=${2:-all}
shift
[ $# -eq 0 ] || shift

environment() {
    name=$1
    shift
    case $which in "$name" | all) ;; *) return 0 ;; esac
    target=$into/$name
    if [ -e "$target/ready" ]; then
        echo "$target is ready"
        return 0
    fi
    "${PYTHON:-python3.11}" -m venv "$target"
    "$target/bin/pip" install --quiet "$@" --requirement "$here/requirements-$name.txt"
    touch "$target/ready"
    echo "$target is ready"
}

environment pytorch "$@"
environment ort-training "$@"
environment onnxsim "$@"
