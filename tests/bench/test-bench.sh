#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The benchmark with tiny numbers: bench.json has all that it should, and what is counted is counted
# right. Times are not judged here: the machine is busy with other tests.

: "${srcdir:=$(dirname "$0")/../..}" "${builddir:=$srcdir/build}"
export srcdir builddir
# shellcheck source=tests/tap.sh
. "$srcdir/tests/tap.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
json=$scratch/bench.json

# ---- The report ----

# records VCPU_IOCTLS DAEMON_NS: as of tests/bench/measure; a round trip is so dear
records()
{
        cat <<END
fact kernel 6.1.0
fact cpu A "fast" one
fact kvm kvm_amd
fact cpus 2
fact precise_faults true
fact version 0.1
fact runs 2
fact rounds 10
fact iterations 20
time in-process raw_exit 10 40 400000 480000
time in-process switch 10 20 900000 940000
time in-process handoff 10 20 240000 260000
time in-process instruction 10 200 400 500
time daemon raw_exit 10 40 420000 500000
time daemon switch 10 20 $2 1400000
time daemon handoff 10 20 300000 360000
time daemon instruction 10 200 440 480
time plain raw_exit 10 40 380000 380000
time in-process switch 10 20 800000 980000
count in-process switch 100 450 400
count in-process switch 200 $((450 + 100 * $1)) $((400 + 100 * $1))
count in-process handoff 100 150 100
count in-process handoff 200 250 200
count daemon switch 100 450 400
count daemon switch 200 $((450 + 100 * $1)) $((400 + 100 * $1))
count daemon handoff 100 150 100
count daemon handoff 200 250 200
END
}

# report RECORDS: status and output
report()
{
        said=$(awk -v host=kvm -v counts_only=0 -v json="$json" -f "$srcdir/tests/bench/report.awk" "$1" 2>&1)
        status=$?
}

says()
{
        printf '%s\n' "$said" | grep -q "$1" && return
        diag "$said"
        return 1
}

# field NAME: its value in bench.json
field()
{
        /usr/bin/python3 -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))[sys.argv[2]]))' \
                "$json" "$1"
}

records 4 840000 >"$scratch/good"
report "$scratch/good"
is "$status" 0 "a report of good records"
is "$(field raw_exit_us)" 10.0 "the best raw exit of all runs"
is "$(field switch_in_process_us)" 40.0 "the best switch, per iteration"
is "$(field switch_in_process_ratio)" 2.0 "over two raw exits"
is "$(field daemon_over_in_process)" 1.05 "vtld over in process"
is "$(field switch_vcpu_ioctls)" 4.0 "vCPU ioctls by difference"
is "$(field switch_fpu_us)" null "what was not measured is null"
is "$(field cpu)" '"A \"fast\" one"' "quotes in a name"
check "nothing is missed" says "vtld over in process: 1.05$"

records 4 960000 >"$scratch/slow"
report "$scratch/slow"
is "$status" 0 "a missed time is no failure"
check "but a warning" says "^warning: .*1.20 times"

records 7 840000 >"$scratch/many"
report "$scratch/many"
is "$status" 1 "a missed count is a failure"
check "that is named" says "^MISSED: vCPU ioctls of a round trip, engine in vtld: 7.00"

grep -v "^count daemon switch" "$scratch/good" >"$scratch/part"
report "$scratch/part"
is "$status" 2 "counts are missing"
grep -v "^time plain" "$scratch/good" >"$scratch/part"
report "$scratch/part"
is "$status" 2 "a time is missing"

# ---- The measurements ----

sane()
{
        /usr/bin/python3 - "$json" <<'END'
import json
import sys

FACTS = {"version": str, "host": str, "kernel": str, "cpu": str, "kvm": str, "cpus": int,
         "precise_faults": bool, "statistic": str, "rounds": int, "iterations": int,
         "missed": list, "warnings": list}
TIMES = ["raw_exit_us", "plain_exit_us", "switch_in_process_us", "switch_daemon_us",
         "engine_handoff_us", "engine_in_process_us", "guest_instruction_us"]
RATIOS = ["raw_exit_over_plain", "switch_in_process_ratio", "switch_daemon_ratio",
          "daemon_over_in_process", "engine_handoff_ratio", "engine_in_process_ratio"]
COUNTS = {"switch_vcpu_ioctls": (4, 6), "switch_in_process_vcpu_ioctls": (4, 6),
          "switch_syscalls": (4, 6), "switch_in_process_syscalls": (4, 6),
          "engine_handoff_vcpu_ioctls": (1, 1)}
FPU = {"switch_fpu_us": (0, 1e6), "switch_fpu_ratio": (0, 1e3), "switch_fpu_vcpu_ioctls": (5, 6)}
SLACK = 0.3     # the machine is busy: a signal more or less

bench = json.load(open(sys.argv[1]))
problems = []


def want(good, name):
    if not good:
        problems.append(f"{name}: {bench.get(name)!r}")


for name, kind in FACTS.items():
    want(isinstance(bench.get(name), kind) and bench[name] != "", name)
for name in TIMES:
    want(isinstance(bench.get(name), float) and 0 < bench[name] < 1e6, name)
for name in RATIOS:
    want(isinstance(bench.get(name), float) and 0 < bench[name] < 1e3, name)
for name, (low, high) in COUNTS.items():
    want(isinstance(bench.get(name), float) and low - SLACK <= bench[name] <= high + SLACK, name)
for name, (low, high) in FPU.items():
    want(bench.get(name) is None if not bench["precise_faults"] else
         isinstance(bench.get(name), float) and low - SLACK <= bench[name] <= high + SLACK, name)
for name in bench.keys() - FACTS.keys() - COUNTS.keys() - FPU.keys() - set(TIMES) - set(RATIOS):
    problems.append(f"{name}: unknown to the test")
for problem in problems:
    print("# " + problem)
sys.exit(bool(problems))
END
}

rm "$json"
tests="one run of all measurements
it writes bench.json
its values are sane"
why=
command -v dbus-daemon >/dev/null || why="no dbus-daemon here"
[ -n "$why" ] || "$srcdir/tests/host/pick-host" "$builddir/tests/host/kvm-smoke" >/dev/null 2>&1 ||
        why="neither a usable KVM nor an emulated host here"
if [ -n "$why" ]; then
        echo "$tests" >"$scratch/tests"
        while read -r test; do
                skip "$test" "$why"
        done <"$scratch/tests"
else
        "$srcdir/tests/bench/run" --output="$json" --runs=1 --rounds=2 --iterations=5 --count=500 \
                --counts-only >"$scratch/said" 2>&1
        is $? 0 "one run of all measurements"
        [ -e "$json" ] || diag "$(cat "$scratch/said")"
        check "it writes bench.json" test -s "$json"
        check "its values are sane" sane
fi

plan_at_end
finish
