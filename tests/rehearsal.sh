#!/usr/bin/env bash
# Stands in for every program that benches/gpu.sh starts, under that program's name: prints how it was called and ends, or does
# what REHEARSAL says of the stage it runs in, as in `steps=hang ops=fail`.
name=${0##*/}
case "$name $*" in
  nvidia-smi*-lms*)
    echo "timestamp, clocks"
    while :; do echo "now, 1980"; sleep 0.1; done
    ;;
  *compute_cap*) echo 9.0; exit ;;
esac
# POLYHEAD_STAGE is the run's process, its beginning and the stage.
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
# What a kill of the process group does not reach.
detach() { setsid sleep 600 & }
case "$behaviour" in
  late) sleep 0.1 ;;
  fail) detach; echo "$stage went wrong"; exit 3 ;;
  hang) detach; sleep 600 ;;
  watch)
    # What stages before this one have left.
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
