#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Shows tproxy at work with a real program and a real server: an unmodified curl in a cgroup fetches
# from nginx in another network namespace, and its connections pass through the relay. The script
# installs what it needs, builds, and removes everything at the end, also when interrupted. Traffic
# stays in two network namespaces of its own, and only its own cgroups get programs attached.
set -eu

PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
    echo "demo.sh: loading BPF programs needs root: sudo scripts/demo.sh" >&2
    exit 1
fi

client_ns=tproxy-demo-client
server_ns=tproxy-demo-server
server=10.213.0.2
cgroup2=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
cgroup=$cgroup2/tproxy-demo
run=/run/tproxy-demo
pins=$run/bpffs/tproxy
load=build/loader/tproxy-load
relay=build/proxy/tproxy-relay

step()
{
    printf '\n\033[1m== %s\033[0m\n' "$*"
}

show()
{
    printf '$ %s\n' "$*"
    "$@"
}

# end NAME...: ends the processes whose PIDs start() has written to files, and only these.
end()
{
    for name in "$@"; do
        [ -f "$run/$name.pid" ] || continue
        pid=$(cat "$run/$name.pid")
        kill "$pid" 2> /dev/null || :
        timeout 10 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2> /dev/null || :
        rm -f "$run/$name.pid"
    done
}

clean_up()
{
    end curl relay nginx
    if [ -d "$pins" ]; then
        "$load" --unload -p "$pins" > /dev/null || :
    fi
    for ns in "$client_ns" "$server_ns"; do
        ip netns del "$ns" 2> /dev/null || :
    done
    for dir in "$cgroup/clients" "$cgroup/relay" "$cgroup/server" "$cgroup"; do
        [ ! -d "$dir" ] || rmdir "$dir" || :
    done
    if mountpoint -q "$run/bpffs"; then
        umount "$run/bpffs"
    fi
    rm -rf "$run"
}

# start NAME CGROUP NETNS COMMAND...: runs COMMAND there, with its PID in a file for end().
start()
{
    # shellcheck disable=SC2016 # expanded by the inner shell
    sh -c 'echo $$ > "$1/$3.pid"; echo $$ > "$2/$4/cgroup.procs"; ns=$5; shift 5
        exec nsenter --net="/run/netns/$ns" "$@"' sh "$run" "$cgroup" "$@"
}

wait_for()
{
    for _ in $(seq 100); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.05
    done
    echo "demo.sh: gave up waiting for: $*" >&2
    exit 1
}

step "Packages and build"
scripts/packages.sh build demo
[ -f build/build.ninja ] || meson setup build > /dev/null
meson compile -C build > build/compile.log 2>&1 || { cat build/compile.log; exit 1; }
echo "built $load and $relay"

if [ -z "$cgroup2" ]; then
    echo "demo.sh: no cgroup2 file system is mounted; mount one with 'mount -t cgroup2 cgroup2 DIR'" >&2
    exit 1
fi
clean_up # left by a run that was killed
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

step "A client and a server, in two network namespaces joined by a cable"
mkdir -p "$run/bpffs" "$run/www" "$cgroup/clients" "$cgroup/relay" "$cgroup/server"
chmod 755 "$run"
mount -t bpf bpf "$run/bpffs"
for ns in "$client_ns" "$server_ns"; do
    ip netns add "$ns"
    ip -n "$ns" link set lo up
done
ip link add veth0 netns "$client_ns" type veth peer name veth0 netns "$server_ns"
ip -n "$client_ns" addr add 10.213.0.1/24 dev veth0
ip -n "$server_ns" addr add "$server/24" dev veth0
ip -n "$client_ns" link set veth0 up
ip -n "$server_ns" link set veth0 up
echo "Hello from nginx at $server." > "$run/www/index.html"
head -c 200000000 /dev/urandom > "$run/www/big"
cat > "$run/nginx.conf" << CONF
daemon off;
pid $run/nginx.its-pid;
error_log $run/nginx.log;
events { }
http {
    access_log off;
    sendfile on;
    server { listen $server:80; root $run/www; }
}
CONF
chmod -R a+rX "$run/www"
start nginx server "$server_ns" nginx -c "$run/nginx.conf" &
wait_for start curl clients "$client_ns" curl -sf "http://$server/"
echo "nginx serves at $server:80 in $server_ns; the client will run in $client_ns"

step "The loader pins programs and maps, attaches them to the client's cgroup, and exits"
show "$load" --cgroup "$cgroup/clients" --relay-cgroup "$cgroup/relay" --relay-group nogroup \
    --pin-dir "$pins"
show ls "$pins"
for pin in "$pins"/prog_*; do
    bpftool prog show pinned "$pin" | sed -n 's/^\([0-9]*\): .*/\1/p'
done > "$run/programs"

step "The relay starts as user nobody, without any capability, and registers"
start relay relay "$client_ns" \
    setpriv --reuid=nobody --regid=nogroup --clear-groups --bounding-set=-all --inh-caps=-all \
    --no-new-privs "$relay" --pin-dir "$pins" --verbose 2> "$run/relay.log" &
wait_for grep -q registered "$run/relay.log"
cat "$run/relay.log"
grep -E '^(Name|Uid|CapEff|CapBnd|NoNewPrivs)' "/proc/$(cat "$run/relay.pid")/status"

step "curl, unchanged, fetches a page; it sees the real server as its peer, not the relay"
start curl clients "$client_ns" curl -sS \
    -w 'curl: peer %{remote_ip}:%{remote_port}, status %{http_code}\n' "http://$server/"

step "curl fetches 200 MB; meanwhile, what bpftool shows of the maps"
# Rate limited, so that it still runs while the maps are shown.
start curl clients "$client_ns" curl -sS --limit-rate 80M -o "$run/got" \
    -w 'curl: peer %{remote_ip}:%{remote_port}, status %{http_code}, %{size_download} bytes\n' \
    "http://$server/big" > "$run/curl.log" &
curl_job=$!
wait_for test -s "$run/got"
for map in map_config map_socks map_ports; do
    show bpftool map dump pinned "$pins/$map"
done
wait "$curl_job"
cat "$run/curl.log"
(cd "$run" && sha256sum www/big got)
[ "$(sha256sum < "$run/www/big")" = "$(sha256sum < "$run/got")" ]
echo "the sha256 is right"

step "What the relay says of each connection"
wait_for grep -q '200.0 MB' "$run/relay.log"
grep 'connection ' "$run/relay.log"

step "tproxy-load --status"
show "$load" --status --pin-dir "$pins"

step "The relay is told to end, everything is unloaded"
end relay
tail -n 2 "$run/relay.log"
show "$load" --unload --pin-dir "$pins"
end nginx

step "What is left"
programs=$(cat "$run/programs")
left=0
for id in $programs; do
    if bpftool prog show id "$id" 2> /dev/null; then
        left=$((left + 1))
    fi
done
echo "programs: $left of $(echo "$programs" | wc -w) that were loaded"
[ ! -e "$pins" ] && echo "pins: none, $pins is gone"
clean_up
echo "cgroups: $(find "$cgroup2" -maxdepth 1 -name tproxy-demo | wc -l)"
echo "network namespaces: $(ip netns list | grep -c '^tproxy-demo-' || :)"
[ "$left" -eq 0 ]
