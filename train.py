"""Train a recipe: `python train.py recipes/pocket.yaml`, or `accelerate launch train.py recipes/pocket.yaml`."""

import sys

from speechllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
