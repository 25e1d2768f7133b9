#!/bin/bash
# Train on several machines under Slurm; the same command goes on with a run that was stopped.
#
#     sbatch examples/slurm.sh mnist --out runs/mnist
#     sbatch --nodes 4 --gpus-per-node 8 examples/slurm.sh mnist --out runs/mnist
#
# A process per GPU, or one per machine without any; each machine's torchrun starts its own.  Two
# minutes before the time is up a signal makes the processes write a checkpoint and end.
#SBATCH --job-name drawnet
#SBATCH --nodes 2
#SBATCH --ntasks-per-node 1
#SBATCH --cpus-per-task 8
#SBATCH --time 4:00:00
#SBATCH --signal TERM@120
#SBATCH --requeue
#SBATCH --open-mode append
set -euo pipefail

processes=${SLURM_GPUS_ON_NODE:-1}
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / processes > 0 ? SLURM_CPUS_PER_TASK / processes : 1))
# This script runs on the first machine, which is node 0 and has process 0.
export MASTER_ADDR=${MASTER_ADDR:-$(hostname)} MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))

# shellcheck disable=SC2016  # SLURM_NODEID is each machine's own
srun bash -c 'exec torchrun --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" \
  --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" --nproc-per-node "$0" \
  -m drawnet train "$@" --resume' "$processes" "$@"
