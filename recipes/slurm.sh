#!/usr/bin/env bash
# One embprobe command as a Slurm job that outlives its time limit:
#
#   sbatch --time=4:00:00 --gpus=1 recipes/slurm.sh run afhq-modern --set images=afhq --store /scratch/me/embstore
#
# Two minutes before the limit Slurm sends USR1; embprobe saves its work and exits with 75, and the job is queued again.
#SBATCH --job-name=embprobe
#SBATCH --output=embprobe-%j.log
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120

embprobe "$@" &
child=$!
again=no
trap 'told=yes again=yes; kill -USR1 "$child"' USR1
trap 'told=yes; kill -TERM "$child"' TERM # scancel or preemption: save, and leave the queue to Slurm

told=yes
while [[ $told == yes ]]; do # a signal cuts `wait` short
  told=no
  wait "$child"
  code=$?
done

if ((code == 75)) && [[ $again == yes ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
