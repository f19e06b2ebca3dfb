#!/bin/bash
# Runs one launch on all nodes of a SLURM job. Every node must be able to reach the store:
#   sbatch --nodes=4 cluster/slurm.sh experiments/full_grid.yaml --set store=/shared/results
# Before its time limit the job writes checkpoints and is queued again; then it resumes.
#SBATCH --job-name=fssplat
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on() { srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" "${@:2}"; }

port=$((20000 + SLURM_JOB_ID % 20000))
head=$(on "${nodes[0]}" hostname --ip-address | awk '{print $1}')
export RAY_ADDRESS=$head:$port RAY_USAGE_STATS_ENABLED=0
# Ray listens on the network of the cluster: only processes with the token of this job can use it.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')

resources=(--num-cpus="${SLURM_CPUS_ON_NODE:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")
on "${nodes[0]}" env -u RAY_ADDRESS ray start --head --block --include-dashboard=false \
  --node-ip-address="$head" --port="$port" "${resources[@]}" &
first=$!
until ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1; do
  if ! kill -0 "$first" 2>/dev/null; then
    echo "slurm.sh: Ray did not start on ${nodes[0]}, see above. Fix that, then run sbatch again." >&2
    exit 1
  fi
  sleep 1
done
for node in "${nodes[@]:1}"; do
  on "$node" env -u RAY_ADDRESS ray start --block --address="$head:$port" "${resources[@]}" &
done

fssplat launch "$@" &
launch=$!
trap 'kill -TERM "$launch"' TERM # sent five minutes before the time limit: write checkpoints
code=0
while kill -0 "$launch" 2>/dev/null; do
  wait "$launch" && code=0 || code=$?
done
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
