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
time daemon switch 10 20 $2 1400000
time in-process switch 10 20 800000 980000
time daemon switch 10 20 $2 1400000
call in-process registers raw_exit 10 40 400000 480000
call in-process registers get_register 10 20 300000 400000
call daemon registers raw_exit 10 40 440000 480000
call daemon registers get_register 10 20 440000 660000
call daemon protect raw_exit 10 40 400000 480000
call daemon protect modify_510_held 10 5100 5100000 6000000
call daemon protect raw_exit 10 40 400000 480000
call daemon protect modify_510_held 10 5100 10200000 12000000
call daemon protect raw_exit 10 40 400000 480000
call daemon protect modify_510_held 10 5100 20400000 24000000
call daemon interrupts raw_exit 10 40 400000 480000
call daemon interrupts vina_tick 10 2 400000 600000
call daemon interrupts vina_probe 10 1 150000 170000
missing modify_100000_apart there are not enough
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
is "$(field daemon_over_in_process)" 1.05 "vtld over in process, the median of pairs"
is "$(field daemon_over_in_process_least)" 0.933 "and the least"
is "$(field get_register_ratio)" 2.0 "a call over the raw exit of its run"
is "$(field modify_510_held_page_ratio)" 0.2 "a page of a list, the median of runs"
is "$(field modify_510_running_page_ratio)" null "a list that was not measured is null"
is "$(field vina_latency_us)" 300.0 "VINA's latency is that of the median round"
is "$(field vina_latency_best_us)" 200.0 "beside that of the best one"
is "$(field vina_probe_us)" 150.0 "what a tick takes"
is "$(field not_measured)" '["modify_100000_apart: there are not enough"]' "what is not measured says why"
check "in the table, too" says "^100,000 apart *not measured: there are not enough"
is "$(field switch_vcpu_ioctls)" 4.0 "vCPU ioctls by difference"
is "$(field switch_fpu_us)" null "what was not measured is null"
is "$(field cpu)" '"A \"fast\" one"' "quotes in a name"
check "nothing is missed" says "vtld over in process: 1.05, median of 3 pairs of runs from 0.93 to 1.05$"

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
awk '!/^time daemon switch/ || ++n < 3' "$scratch/good" >"$scratch/part"
report "$scratch/part"
is "$status" 2 "a run without its pair"

# ---- The measurements ----

sane()
{
        /usr/bin/python3 - "$json" <<'END'
import json
import sys

FACTS = {"version": str, "host": str, "kernel": str, "cpu": str, "kvm": str, "cpus": int,
         "precise_faults": bool, "statistic": str, "rounds": int, "iterations": int,
         "missed": list, "warnings": list, "not_measured": list}
TIMES = ["raw_exit_us", "plain_exit_us", "switch_in_process_us", "switch_daemon_us",
         "engine_handoff_us", "engine_in_process_us", "guest_instruction_us"]
RATIOS = ["raw_exit_over_plain", "switch_in_process_ratio", "switch_daemon_ratio",
          "daemon_over_in_process", "daemon_over_in_process_least", "daemon_over_in_process_most",
          "engine_handoff_ratio", "engine_in_process_ratio"]
COUNTS = {"switch_vcpu_ioctls": (4, 6), "switch_in_process_vcpu_ioctls": (4, 6),
          "switch_syscalls": (4, 6), "switch_in_process_syscalls": (4, 6),
          "engine_handoff_vcpu_ioctls": (1, 1)}
FPU = {"switch_fpu_us": (0, 1e6), "switch_fpu_ratio": (0, 1e3), "switch_fpu_vcpu_ioctls": (5, 6)}
CALLS = ["get_register_ratio", "get_register_fast_ratio", "ipi_own_ratio", "ipi_vtl1_ratio",
         "ipi_vtl0_ratio", "ipi_halted_ratio", "vina_direct_ratio", "vina_latency_us",
         "vina_latency_best_us", "vina_probe_us"]
CALLS += [f"modify_{what}_{how}_page_ratio" for what in ("1", "510", "510_apart") for how in ("held", "running")]
LEFT_OUT = [f"modify_{what}_{how}_page_ratio" for what in ("100000", "100000_apart") for how in ("held", "running")]
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
for name in CALLS:
    want(bench.get(name) is None if name == "get_register_fast_ratio" and not bench["precise_faults"] else
         isinstance(bench.get(name), float) and 0 < bench[name] < 1e6, name)
for name in LEFT_OUT:
    want(name in bench and bench[name] is None, name)
want(len(bench.get("not_measured", [])) == 2, "not_measured")
known = {*FACTS, *TIMES, *RATIOS, *COUNTS, *FPU, *CALLS, *LEFT_OUT}
for name in bench.keys() - known:
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
        "$srcdir/tests/bench/run" --output="$json" --runs=1 --call-runs=1 --rounds=2 --iterations=5 --count=500 \
                --no-many --counts-only >"$scratch/said" 2>&1
        is $? 0 "one run of all measurements"
        [ -e "$json" ] || diag "$(cat "$scratch/said")"
        check "it writes bench.json" test -s "$json"
        check "its values are sane" sane
fi

plan_at_end
finish
