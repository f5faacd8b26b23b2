#!/bin/bash
# A mirror by eight tasks of a Slurm array, each of which fetches an eighth of the objects to the same directory.
#
#     sbatch slurm-array.sh
#
# DEST has to be on a file system that all nodes share, and that has file locks (flock). A task that fails is run again by
# itself with: sbatch --array=3 --export=ALL,SEALIFT_SHARD=4/8 slurm-array.sh
#
#SBATCH --job-name=sealift
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=06:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=sealift-%A-%a.log

set -eu

: "${SOURCE:=s3://BUCKET/PREFIX/}" "${DEST:=/shared/mirror}"
# --shard auto is the array's; SEALIFT_SHARD goes before it, for a task that is run by itself. --kms-rps is for all tasks.
exec sealift mirror --shard "${SEALIFT_SHARD:-auto}" --kms-rps 4000 --no-progress "$SOURCE" "$DEST"
