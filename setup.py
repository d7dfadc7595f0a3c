from setuptools import find_packages, setup

setup(
    name="orchestra-ray",
    version="0.1.0",
    packages=find_packages(include=["orchestra_ray", "orchestra_ray.*"]),
    python_requires=">=3.11",
    entry_points={
        "console_scripts": ["orchestra = orchestra_ray.cli:main"],
        "vllm.general_plugins": ["orchestra_ray = orchestra_ray.weights.vllm_engine:register"],
    },
)
