#!/usr/bin/env bash
# Gradescope runs this once, when the autograder's image is built.
set -eu
apt-get update
apt-get install --yes --no-install-recommends python3 python3-venv make util-linux
make -C /autograder/source .venv/ready
