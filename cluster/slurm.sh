#!/bin/bash
# Runs one launch on all nodes of a SLURM job. Every node must be able to reach the store:
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 cluster/slurm.sh X.yaml --set store=/shared/results
# Or many small launches on one store, one in each task of an array, without a network between them:
#   sbatch --array=0-15 --gpus=1 --cpus-per-task=8 cluster/slurm.sh X.yaml --set store=/shared/results
# Before its time limit the job writes checkpoints and is queued again; then it resumes.
# Other jobs and other users may run on the same nodes. Variables that change what it does:
#   CONTAINER=/shared/fssplat.sif  run in an image: with apptainer, or with pyxis if it is a .sqsh
#   MOUNTS=/data,/shared           folders that the image sees, beside this folder
#   INTERFACE=ib0                  the network between the nodes
#SBATCH --job-name=fssplat
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
# shellcheck disable=SC2317 # functions for the nodes are called there, by their text
set -euo pipefail

# ---------------------------------------------------------------- in the batch script, on node 0

on_network() { # FOLDER: sockets fail on a network file system
  case $(stat --file-system --format=%T "$1") in
    nfs* | lustre | gpfs | beegfs | ceph | smb* | cifs | afs | panfs | fuse*) return 0 ;;
  esac
  return 1
}

local_folder() { # a folder on this machine's disk, short because of the limit of 107 bytes
  local one
  for one in "${SLURM_TMPDIR:-}" "${TMPDIR:-}" /tmp; do
    if [ -n "$one" ] && [ "${#one}" -le 20 ] && [ -w "$one" ] && ! on_network "$one"; then
      break
    fi
  done
  echo "${one:-/tmp}"
}

head_address() { # the address of this node as the other nodes of the job reach it
  local name peer found=""
  if [ "$SLURM_JOB_NUM_NODES" -eq 1 ]; then
    echo 127.0.0.1
    return
  fi
  if [ -n "${INTERFACE:-}" ]; then
    ip -o addr show dev "$INTERFACE" scope global | awk '{sub("/.*", "", $4); print $4; exit}'
    return
  fi
  if command -v scontrol >/dev/null && command -v ip >/dev/null; then
    name=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 2p)
    peer=$(scontrol show node "$name" --oneliner | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
    peer=$({ getent ahostsv4 "$peer" || getent ahosts "$peer" || true; } | awk 'NR == 1 {print $1}')
    found=$(ip route get "${peer:-none}" 2>/dev/null | sed -n '1s/.* src \([^ ]*\).*/\1/p') || true
  fi
  # IPv4 before IPv6, and neither loopback nor a link's own address
  echo "${found:-$(hostname --ip-address | tr ' ' '\n' | grep -v -e '^127' -e '^::1' -e '^fe80' |
    awk '{print gsub(":", ":"), $0}' | sort -n | awk 'NR == 1 {print $2}')}"
}

free_port() { # a port of this node, from the job's number; one that is in use is left out
  local port=$((20000 + SLURM_JOB_ID % 6000 * 2))
  while (exec 3<>"/dev/tcp/127.0.0.1/$port" || exec 3<>"/dev/tcp/$HEAD/$port") 2>/dev/null; do
    port=$((port + 2))
  done
  echo "$port"
}

make_folder() { # a new folder that only this user can read; a requeued job replaces its own
  rm -rf "$1" 2>/dev/null || true
  if ! mkdir -m 700 "$1"; then
    echo "slurm.sh: $1 cannot be made on $(hostname). Delete it, or set TMPDIR to a local folder." >&2
    return 1
  fi
}

on_all_nodes() { # COMMAND...: one process on each node, in the container if there is one
  local run=(srun --overlap --input=none --cpu-bind=none --wait=30
    --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1)
  local seen="$FOLDERS:$FOLDERS,$PWD:$PWD" one
  for one in ${MOUNTS//,/ }; do seen+=",$one:$one"; done
  case "$CONTAINER" in
    "") ;;
    *.sqsh) run+=(--container-image="$CONTAINER" --container-mounts="$seen" --container-workdir="$PWD") ;;
    *) run+=(apptainer exec --nv --pwd "$PWD" --bind "$seen" "$CONTAINER") ;;
  esac
  "${run[@]}" "$@"
}

queue_again() { # requeue this job, or send a new one that waits for its end
  local state job=$SLURM_JOB_ID
  if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then # the number of one task is also that of the whole array
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  fi
  state=$(squeue --noheader --jobs="$job" --format=%T 2>/dev/null) || state=RUNNING
  if [ "${state:-RUNNING}" != RUNNING ]; then # `scancel` sends the same signal
    return
  fi
  if command -v scontrol >/dev/null && scontrol requeue "$job"; then
    return
  fi
  sbatch --dependency="afterany:$job" --nodes="$SLURM_JOB_NUM_NODES" \
    ${SLURM_JOB_PARTITION:+--partition="$SLURM_JOB_PARTITION"} \
    ${SLURM_JOB_ACCOUNT:+--account="$SLURM_JOB_ACCOUNT"} \
    ${SLURM_JOB_QOS:+--qos="$SLURM_JOB_QOS"} \
    ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    ${SLURM_GPUS:+--gpus="$SLURM_GPUS"} \
    ${SLURM_GPUS_PER_NODE:+--gpus-per-node="$SLURM_GPUS_PER_NODE"} "$0" "$@"
}

# ---------------------------------------------------------------- on every node, in the container

head_answers() {
  for _ in 1 2 3; do
    (exec 3<>"/dev/tcp/$HEAD/$PORT") 2>/dev/null && return
    sleep 2
  done
  return 1
}

start_ray() { # OPTIONS...: all ports but the head's are free ones that the kernel chooses
  local folder=$FOLDERS/fss-$SLURM_JOB_ID-$SLURM_NODEID
  setsid env -u RAY_ADDRESS ray start --block --temp-dir="$folder" --object-store-memory=200000000 \
    --num-cpus="${SLURM_CPUS_ON_NODE:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
    --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 "$@" &
  ray=$!
}

stop_ray() { # only the one of `start_ray`: `ray stop` ends those of other jobs too
  kill "$ray" 2>/dev/null || true
  for _ in {1..20}; do # without its head, Ray would wait for half a minute
    kill -0 "$ray" 2>/dev/null || break
    sleep 0.5
  done
  kill -KILL -- "-$ray" 2>/dev/null || true
  wait "$ray" || true
}

own_address() { # of this node, as the head reaches it
  python3 -c 'import socket, sys
kind = socket.getaddrinfo(sys.argv[1], 9)[0][0]
with socket.socket(kind, socket.SOCK_DGRAM) as one:
    one.connect((sys.argv[1], 9))
    print(one.getsockname()[0])' "$HEAD"
}

run_head() { # ARGUMENTS...: of the launch
  local code=0 client=()
  if python3 -c 'import grpc' 2>/dev/null; then # else Ray has no client server, and no option for it
    client=(--ray-client-server-port="$((PORT + 1))")
  fi
  start_ray --head --include-dashboard=false --node-ip-address="$HEAD" --port="$PORT" "${client[@]}"
  until ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1; do
    if ! kill -0 "$ray" 2>/dev/null; then
      echo "slurm.sh: Ray did not start on $(hostname), see above. Fix that, then run sbatch again." >&2
      return 1
    fi
    sleep 1
  done
  FSSPLAT_NODES=$SLURM_JOB_NUM_NODES fssplat launch "$@" &
  local launch=$!
  # A signal to a job step would reach Ray's processes too, so the batch script makes a file.
  (until [ -e "$FOLDERS/fss-$SLURM_JOB_ID-0/stop" ]; do sleep 1; done; kill -TERM "$launch") &
  local watch=$!
  wait "$launch" || code=$?
  kill "$watch" 2>/dev/null || true
  stop_ray
  return "$code"
}

run_worker() { # until the head is gone; a Ray that dies before is started again
  local patience=300
  local folder=$FOLDERS/fss-$SLURM_JOB_ID-$SLURM_NODEID
  until (exec 3<>"/dev/tcp/$HEAD/$PORT") 2>/dev/null || [ $((patience -= 1)) -eq 0 ]; do sleep 1; done
  if ! make_folder "$folder"; then # the other nodes go on
    while head_answers; do sleep 10; done
    return
  fi
  while head_answers; do
    start_ray --address="$HEAD_AND_PORT" --node-ip-address="$(own_address)"
    while kill -0 "$ray" 2>/dev/null && head_answers; do sleep 2; done
    stop_ray
  done
  rm -rf "$folder"
}

run_node() {
  set -euo pipefail
  if [ "$SLURM_NODEID" -ne 0 ]; then
    run_worker
    return
  fi
  local code=0
  run_head "$@" || code=$?
  echo "$code" >"$FOLDERS/fss-$SLURM_JOB_ID-0/code" # that of srun can be another node's
  return "$code"
}

# ---------------------------------------------------------------- the batch script

CONTAINER=${CONTAINER:-} MOUNTS=${MOUNTS:-} FOLDERS=$(local_folder) HEAD=$(head_address)
PORT=$(free_port)
case "$HEAD" in
  *:*) HEAD_AND_PORT="[$HEAD]:$PORT" ;;
  *) HEAD_AND_PORT="$HEAD:$PORT" ;;
esac
# Ray listens on the network of the cluster: only processes with the token of this job can use it.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export CONTAINER MOUNTS FOLDERS HEAD PORT HEAD_AND_PORT RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export RAY_ADDRESS=$HEAD_AND_PORT RAY_USAGE_STATS_ENABLED=0
if [ "$SLURM_JOB_NUM_NODES" -eq 1 ]; then
  export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 # Ray's switch for: all sockets on 127.0.0.1
else
  export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=1
fi

if [ "${SLURM_ARRAY_TASK_COUNT:-1}" -gt 1 ]; then
  set -- "$@" --share "$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))/$SLURM_ARRAY_TASK_COUNT"
fi

folder=$FOLDERS/fss-$SLURM_JOB_ID-0
make_folder "$folder"
trap 'rm -rf "$folder"' EXIT
trap '[ ! -d "$folder" ] || touch "$folder/stop"' TERM # sent five minutes before the time limit: write checkpoints

on_all_nodes bash -c "$(declare -f head_answers start_ray stop_ray own_address run_head run_worker \
  make_folder run_node); run_node \"\$@\"" slurm.sh "$@" &
step=$!
code=0
while kill -0 "$step" 2>/dev/null; do
  wait "$step" && code=0 || code=$?
done
code=$(cat "$folder/code" 2>/dev/null || echo "$code")
if [ -e "$folder/stop" ] && [ "$code" -ne 0 ]; then
  queue_again "$@"
fi
exit "$code"
