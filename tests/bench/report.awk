# SPDX-License-Identifier: LGPL-2.1-or-later
#
# From the records of tests/bench/measure to a table, and bench.json in the file `json`. Variables:
# host, json, counts_only. Exit status: 1 when a counted target is missed, 2 when records are
# missing.

BEGIN {
        MAX_VCPU_IOCTLS = 5
        MAX_DAEMON_OVER_IN_PROCESS = 1.05
        # A signal or two may come while something is counted.
        COUNT_TOLERANCE = 0.05
}

$1 == "fact" {
        name = $2
        sub(/^fact [^ ]* /, "")
        facts[name] = $0
}

# The best of all runs, and the median of their medians.
$1 == "time" && NF == 7 && $5 > 0 {
        # These are no other with another form of the engine.
        shared = $2 != "plain" && ($3 == "raw_exit" || $3 == "instruction")
        key = shared ? $3 : $2 " " $3
        us = $6 / $5 / 1000
        if (!(key in best_us) || us < best_us[key])
                best_us[key] = us
        add_sample(key, $7 / $5 / 1000)
        # The best of each run, for pairs of runs
        if ($3 == "switch")
                switches[$2, ++n_switches[$2]] = us
}

# The best and the median round of each run, and both over the best raw exit of that run, which comes
# first
$1 == "call" && NF == 8 && $6 > 0 {
        us = $7 / $6 / 1000
        if ($4 == "raw_exit")
                raw_us[$2, $3] = us
        else {
                add_sample("ratio " $2 " " $4, us / raw_us[$2, $3])
                add_sample("us " $2 " " $4, us)
                us = $8 / $6 / 1000
                add_sample("median-ratio " $2 " " $4, us / raw_us[$2, $3])
                add_sample("median-us " $2 " " $4, us)
        }
}

$1 == "missing" && NF > 2 {
        name = $2
        sub(/^missing [^ ]* /, "")
        missing[name] = $0
}

$1 == "count" && NF == 6 {
        key = $2 " " $3
        if (key in counted_n) {
                n = $4 - counted_n[key]
                syscalls[key] = ($5 - first_syscalls[key]) / n
                ioctls[key] = ($6 - first_ioctls[key]) / n
        } else {
                counted_n[key] = $4
                first_syscalls[key] = $5
                first_ioctls[key] = $6
        }
}

# Keeps them sorted.
function add_sample(key, us,   i)
{
        for (i = ++samples[key]; i > 1 && sample[key, i - 1] > us; i--)
                sample[key, i] = sample[key, i - 1]
        sample[key, i] = us
}

function best(key)
{
        if (!(key in best_us))
                broken("no time of " key)
        return best_us[key]
}

function median(key)
{
        return (sample[key, int((samples[key] + 1) / 2)] + sample[key, int((samples[key] + 2) / 2)]) / 2
}

function broken(text)
{
        print "bench: " text > "/dev/stderr"
        failed = 2
        exit 2
}

function text(s)
{
        gsub(/[\\"]/, "\\\\&", s)
        return "\"" s "\""
}

function put(name, value)
{
        printf "%s  \"%s\": %s", comma, name, value > json
        comma = ",\n"
}

function number(name, value, digits)
{
        put(name, sprintf("%." digits "f", value))
}

# A row of the table
function row(what, key,   us)
{
        us = best(key)
        printf "%-44s %9.1f %9.1f %9.2f", what, us, median(key), us / raw
        # A handoff's system calls depend on who is awake, which counting changes.
        if (key in ioctls)
                printf " %9.2f", ioctls[key]
        if (key in ioctls && key !~ /handoff/)
                printf " %9.2f", syscalls[key]
        print ""
}

# What there is of a call in the median of all runs: "ratio" or "us", with "median-" of the median round
function has(form, name)
{
        return ("ratio " form " " name) in samples
}

function cell(what, form, name, digits)
{
        return has(form, name) ? sprintf("%9." digits "f", median(what " " form " " name)) : "        -"
}

# A row of a table of calls: in process, with vtld
function call_row(label, what, name)
{
        printf "%-44s %s %s %s %s\n", label, cell(what, "in-process", name, 2),
                cell("median-" what, "in-process", name, 2), cell(what, "daemon", name, 2),
                cell("median-" what, "daemon", name, 2)
}

function call_head(what, first, second)
{
        printf "%-44s %19s %19s\n", "", "in process", "with vtld"
        printf "%-44s %9s %9s %9s %9s\n", what, first, second, first, second
}

# The same of pages with other VPs held and running
function page_row(label, name,   digits)
{
        digits = name ~ /_1$/ ? 2 : 3
        if (name in missing)
                printf "%-44s not measured: %s\n", label, missing[name]
        else
                printf "%-44s %s %s %s %s\n", label, cell("ratio", "in-process", name "_held", digits),
                        cell("ratio", "in-process", name "_running", digits),
                        cell("ratio", "daemon", name "_held", digits),
                        cell("ratio", "daemon", name "_running", digits)
}

function call_number(name, what, bench)
{
        put(name, has("daemon", bench) ? sprintf("%.4f", median(what " daemon " bench)) : "null")
}

function page_numbers(name,   n, i, how)
{
        n = split("held running", how)
        for (i = 1; i <= n; i++)
                call_number(name "_" how[i] "_page_ratio", "ratio", name "_" how[i])
}

# The switch with vtld over the one in process, of each pair of runs
function compare_pairs(   i)
{
        if (n_switches["daemon"] != n_switches["in-process"])
                broken("not as many runs with vtld as in process")
        for (i = 1; i <= n_switches["daemon"]; i++)
                add_sample("over", switches["daemon", i] / switches["in-process", i])
        return median("over")
}

function miss(s)
{
        missed[++n_missed] = s
}

function check_count(what, value, limit)
{
        if (value > limit + COUNT_TOLERANCE)
                miss(sprintf("%s: %.2f, at most %d are allowed", what, value, limit))
}

function list(name, array, n,   i, s)
{
        for (i = 1; i <= n; i++)
                s = s (i > 1 ? ", " : "") text(array[i])
        put(name, "[" s "]")
}

END {
        if (failed)
                exit failed
        in_process = "in-process switch"
        daemon = "daemon switch"
        if (!(in_process in ioctls) || !(daemon in ioctls) || !("daemon handoff" in ioctls))
                broken("counts are missing")
        raw = best("raw_exit")
        has_fpu = ("daemon switch_fpu" in ioctls)
        over = compare_pairs()
        rounds = facts["runs"] * facts["rounds"]

        printf "%s: %s, Linux %s, %s, %d CPUs, faults %s\n", host, facts["cpu"], facts["kernel"],
                facts["kvm"], facts["cpus"], facts["precise_faults"] == "true" ? "precise" : "imprecise"
        printf "best and median of %d rounds of %d switches, everything interleaved\n\n", rounds,
                facts["iterations"]
        printf "%-44s %9s %9s %9s %9s %9s\n", "", "best us", "median us", "raw exits", "vCPU", "system"
        printf "%-44s %9s %9s %9s %9s %9s\n", "", "", "", "", "ioctls", "calls"
        row("raw exit, no trust levels", "plain raw_exit")
        row("raw exit", "raw_exit")
        row("VTL call and return, engine in process", in_process)
        row("VTL call and return, engine in vtld", daemon)
        if (has_fpu) {
                row("the same, VTL1 changes XMM0, in process", "in-process switch_fpu")
                row("the same, VTL1 changes XMM0, vtld", "daemon switch_fpu")
        }
        row("hypercall, engine in process", "in-process handoff")
        row("hypercall, engine in vtld", "daemon handoff")
        printf "%-44s %9.3f %9.3f\n", "one instruction of the guest", best("instruction"),
                median("instruction")
        printf "\nswitch over two raw exits: %.2f in process, %.2f with vtld\n", best(in_process) / raw / 2,
                best(daemon) / raw / 2
        printf "vtld over in process: %.2f, median of %d pairs of runs from %.2f to %.2f\n\n", over,
                samples["over"], sample["over", 1], sample["over", samples["over"]]

        call_head("in raw exits of the same run", "best", "median")
        call_row("VTL call and return", "ratio", "switch")
        call_row("the same with VINA enabled", "ratio", "switch_vina")
        call_row("GetVpRegisters, one, parameters in memory", "ratio", "get_register")
        call_row("GetVpRegisters, one, fast", "ratio", "get_register_fast")
        call_row("VTL1's IPI to itself, to its handler", "ratio", "ipi_own")
        call_row("VTL1's IPI to a VP in VTL1, to its handler", "ratio", "ipi_vtl1")
        call_row("the same to a VP in VTL0", "ratio", "ipi_vtl0")
        call_row("the same to a VP that has halted in VTL1", "ratio", "ipi_halted")
        call_row("VTL1's IPI to VTL0, to its own VINA handler", "ratio", "vina")
        print ""
        call_head("VINA by polling, us", "best", "median")
        call_row("VTL0's timer to VTL1's VINA handler", "us", "vina_tick")
        call_row("what a tick takes away of VTL1", "us", "vina_probe")
        print ""
        call_head("ModifyVtlProtectionMask, raw exits per page", "VPs held", "running")
        page_row("1 page", "modify_1")
        page_row("510 in a row", "modify_510")
        page_row("510 apart", "modify_510_apart")
        page_row("100,000 in a row", "modify_100000")
        page_row("100,000 apart", "modify_100000_apart")

        check_count("vCPU ioctls of a round trip, engine in process", ioctls[in_process],
                MAX_VCPU_IOCTLS)
        check_count("vCPU ioctls of a round trip, engine in vtld", ioctls[daemon], MAX_VCPU_IOCTLS)
        check_count("system calls of a round trip, engine in process", syscalls[in_process],
                MAX_VCPU_IOCTLS)
        check_count("system calls of a round trip, engine in vtld", syscalls[daemon],
                MAX_VCPU_IOCTLS)
        if (has_fpu)
                check_count("vCPU ioctls of a round trip that changes the FPU", ioctls["daemon switch_fpu"],
                        MAX_VCPU_IOCTLS)
        if (over > MAX_DAEMON_OVER_IN_PROCESS + 0.005 && !counts_only)
                warned[++n_warned] = sprintf("a switch with vtld takes %.2f times as long as in process, %.2f is the target",
                        over, MAX_DAEMON_OVER_IN_PROCESS)

        printf "{\n" > json
        put("version", text(facts["version"]))
        put("host", text(host))
        put("kernel", text(facts["kernel"]))
        put("cpu", text(facts["cpu"]))
        put("kvm", text(facts["kvm"]))
        put("cpus", facts["cpus"] + 0)
        put("precise_faults", facts["precise_faults"])
        put("statistic", text("best"))
        put("rounds", rounds)
        put("iterations", facts["iterations"] + 0)
        number("raw_exit_us", raw, 2)
        number("plain_exit_us", best("plain raw_exit"), 2)
        number("raw_exit_over_plain", raw / best("plain raw_exit"), 3)
        number("switch_in_process_us", best(in_process), 2)
        number("switch_daemon_us", best(daemon), 2)
        number("switch_in_process_ratio", best(in_process) / raw / 2, 3)
        number("switch_daemon_ratio", best(daemon) / raw / 2, 3)
        number("daemon_over_in_process", over, 3)
        number("daemon_over_in_process_least", sample["over", 1], 3)
        number("daemon_over_in_process_most", sample["over", samples["over"]], 3)
        number("switch_syscalls", syscalls[daemon], 2)
        number("switch_vcpu_ioctls", ioctls[daemon], 2)
        number("switch_in_process_syscalls", syscalls[in_process], 2)
        number("switch_in_process_vcpu_ioctls", ioctls[in_process], 2)
        put("switch_fpu_us", has_fpu ? sprintf("%.2f", best("daemon switch_fpu")) : "null")
        put("switch_fpu_ratio", has_fpu ? sprintf("%.3f", best("daemon switch_fpu") / raw / 2) : "null")
        put("switch_fpu_vcpu_ioctls", has_fpu ? sprintf("%.2f", ioctls["daemon switch_fpu"]) : "null")
        number("engine_handoff_us", best("daemon handoff"), 2)
        number("engine_handoff_ratio", best("daemon handoff") / raw, 3)
        number("engine_handoff_vcpu_ioctls", ioctls["daemon handoff"], 2)
        number("engine_in_process_us", best("in-process handoff"), 2)
        number("engine_in_process_ratio", best("in-process handoff") / raw, 3)
        number("guest_instruction_us", best("instruction"), 3)
        call_number("get_register_ratio", "ratio", "get_register")
        call_number("get_register_fast_ratio", "ratio", "get_register_fast")
        page_numbers("modify_1")
        page_numbers("modify_510")
        page_numbers("modify_510_apart")
        page_numbers("modify_100000")
        page_numbers("modify_100000_apart")
        call_number("ipi_own_ratio", "ratio", "ipi_own")
        call_number("ipi_vtl1_ratio", "ratio", "ipi_vtl1")
        call_number("ipi_vtl0_ratio", "ratio", "ipi_vtl0")
        call_number("ipi_halted_ratio", "ratio", "ipi_halted")
        call_number("vina_direct_ratio", "ratio", "vina")
        call_number("vina_latency_us", "median-us", "vina_tick")
        call_number("vina_latency_best_us", "us", "vina_tick")
        call_number("vina_probe_us", "us", "vina_probe")
        n_not_measured = 0
        for (name in missing)
                not_measured[++n_not_measured] = name ": " missing[name]
        list("not_measured", not_measured, n_not_measured)
        list("missed", missed, n_missed)
        list("warnings", warned, n_warned)
        printf "\n}\n" > json

        if (n_missed + n_warned > 0)
                print ""
        for (i = 1; i <= n_warned; i++)
                print "warning: " warned[i]
        for (i = 1; i <= n_missed; i++)
                print "MISSED: " missed[i]
        exit n_missed > 0
}
