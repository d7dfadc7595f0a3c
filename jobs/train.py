"""Trains on the Ray cluster that this job was submitted to.

From the root of the repository, with the cluster's dashboard at RAY_API_SERVER_ADDRESS:

    ray job submit --runtime-env-json '{"working_dir": "."}' -- \
        python jobs/train.py --config configs/paper_qwen3_8b.yaml training.steps=100

`working_dir` uploads this checkout (without the files that .gitignore names) and puts it before the
installed package on every node, so that the job runs the submitted code. Paths in the configuration
refer to the cluster's nodes; `runs_dir` must be on a file system that all of them share.
"""

import sys

from orchestra_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:], "cluster.address=auto"]))
