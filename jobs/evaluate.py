"""Compares a policy with the baselines on the Ray cluster that this job was submitted to.

    ray job submit --runtime-env-json '{"working_dir": "."}' -- \
        python jobs/evaluate.py --config configs/paper_qwen3_8b.yaml evaluation.tasks=200

For the working directory and paths, see jobs/train.py.
"""

import sys

from orchestra_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:], "cluster.address=auto"]))
