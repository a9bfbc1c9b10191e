#!/usr/bin/env bash
# Replaces every program that benches/gpu.sh starts, under that program's name: prints its arguments and ends, or behaves as
# REHEARSAL says for its stage, as in `steps=hang ops=fail`.
name=${0##*/}
case "$name $*" in
  nvidia-smi*-lms*)
    echo "timestamp, clocks"
    while :; do echo "now, 1980"; sleep 0.1; done
    ;;
  *compute_cap*) echo 9.0; exit ;;
esac
# POLYHEAD_STAGE consists of the run's process id, its start time and the stage.
run=${POLYHEAD_STAGE%%-*} stage=${POLYHEAD_STAGE#*-*-} behaviour=""
for word in ${REHEARSAL:-}; do
  [ "${word%%=*}" != "$stage" ] || behaviour=${word#*=}
done
case "$name $*" in
  python3*nvidia.__path__*) [ "$behaviour" != mute ] || sleep 600; exit 1 ;;
  python3*find_spec*) [ "$behaviour" != absent ]; exit ;;
  ncu*--export*) echo report > kernels.ncu-rep ;;
  ncu*--page\ details*) echo "Duration 1 ms" ;;
esac
# Starts a process that a kill of the process group does not reach.
detach() { setsid sleep 600 & }
case "$behaviour" in
  late) sleep 0.1 ;;
  fail) detach; echo "$stage went wrong"; exit 3 ;;
  hang) detach; sleep 600 ;;
  watch)
    # Processes that earlier stages have left.
    cat /proc/[0-9]*/environ 2> /dev/null | tr '\0' '\n' | grep "^POLYHEAD_STAGE=$run-" |
      grep -vxF "POLYHEAD_STAGE=$POLYHEAD_STAGE" && echo "not alone"
    ;;
  deaf) trap '' TERM; detach; while :; do sleep 600; done ;;
  shot) kill -9 $$ ;;
  kill) detach; echo "before the end"; kill -9 "$run"; sleep 600 ;;
  end) detach; echo "before the end"; kill "$run"; sleep 600 ;;
  interrupt) kill -INT "$run"; sleep 600 ;;
esac
echo "$name was asked for $stage: $*"
