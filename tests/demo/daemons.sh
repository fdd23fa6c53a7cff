# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# A dbus-daemon of one's own and vtld on it, for scripts that run here or, with busybox as their
# shell, in the emulated host. To be sourced; end_daemons on the way out.

dbus='' vtld='' address=''

# ---- Processes ----

# A child that has ended but was not waited for is still there, as a zombie.
is_alive()
{
        case $(sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null) in
        ''|Z|X) return 1 ;;
        esac
}

# wait_until SECONDS PID COMMAND...: until COMMAND succeeds, while the process lives
wait_until()
{
        wait_left=$(($1 * 20)) wait_pid=$2
        shift 2
        until "$@"; do
                wait_left=$((wait_left - 1))
                if [ $wait_left -le 0 ] || ! is_alive "$wait_pid"; then
                        "$@"
                        return
                fi
                sleep 0.05
        done
}

has_ended()
{
        ! is_alive "$1"
}

# end_process PID: by asking, then by force; the status is that of the process
end_process()
{
        kill "$1" 2>/dev/null
        wait_until 5 "$1" has_ended "$1" || kill -KILL "$1" 2>/dev/null
        wait "$1" 2>/dev/null
}

# ---- The bus ----

# bus_configuration POLICY: the policy that is installed with vtld; whoever we are, we may own the name
bus_configuration()
{
        cat <<END_OF_CONFIGURATION
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>$address</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <include>$1</include>
  <policy user="$(id -u)">
    <allow own="org.vtld1"/>
  </policy>
</busconfig>
END_OF_CONFIGURATION
}

bus()
{
        busctl --no-pager --address="$address" "$@"
}

# start_bus SCRATCH POLICY: what goes wrong is in SCRATCH/dbus.log
start_bus()
{
        address=unix:path=$1/bus
        bus_configuration "$2" >"$1/bus.conf"
        dbus-daemon --config-file="$1/bus.conf" --nofork --nopidfile >"$1/dbus.log" 2>&1 &
        dbus=$!
        wait_until 10 $dbus test -S "$1/bus"
}

# ---- vtld ----

vtld_answers()
{
        bus get-property org.vtld1 /org/vtld1 org.vtld1.Manager Version >/dev/null 2>&1
}

# start_vtld SCRATCH PROGRAM [OPTION]...: with SCRATCH/policy.conf, listens at SCRATCH/attach.sock
start_vtld()
{
        place=$1 program=$2
        shift 2
        "$program" --config=/dev/null --socket-path="$place/attach.sock" --bus="$address" --libvirt-uri= \
                --policy="$place/policy.conf" "$@" >"$place/vtld.log" 2>&1 &
        vtld=$!
        wait_until 20 $vtld vtld_answers
}

# begin_scratch: a directory $scratch; at the end it is gone, and so are the daemons and the process
# $guest, if there is one
begin_scratch()
{
        scratch=$(mktemp -d)
        guest=''
        trap end_scratch EXIT
        trap 'exit 143' HUP INT TERM
}

# shellcheck disable=SC2329,SC2317
end_scratch()
{
        [ -z "$guest" ] || end_process "$guest"
        end_daemons
        rm -rf "$scratch"
}

end_daemons()
{
        for process in "$vtld" "$dbus"; do
                [ -z "$process" ] || end_process "$process"
        done
        vtld='' dbus=''
}
