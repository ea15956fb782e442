#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Boots Debian's kernels in qemu, by software emulation, with a real systemd and the Debian package
# installed. The guest is redirected from boot on by its own ROOT cgroup. The tests are about
# connections of services and of a login, a killed relay, reboot, upgrade, removal, the verifier,
# and a part of the end to end suite. They are in vm/guest.sh, which runs in the guest. The package
# is built from this tree. Everything else is in TPROXY_VM_CACHE (/var/cache/tproxy-vm): the root
# file system of the guest, kernels, images, logs.
#
# Usage: vm-matrix.sh [KERNEL...]     KERNEL: the beginning of a version, by default 6.1 and 6.12
#   TPROXY_VM_PHASES   the boots of each kernel, in this order; "boot life sight stop honest"
#                      by default
#   TPROXY_VM_TIMEOUT  seconds for each boot, 3300 by default
#   TPROXY_VM_MIRROR, TPROXY_VM_SECURITY_MIRROR
#                      the mirrors of the guest's packages; by default those of this host's apt
#                      (mirror.sh)
# Exit status 0: everything passed on every kernel; 77: it cannot run here; otherwise 1.
set -eu

PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd "$(dirname "$0")/.."
tree=$PWD
cache=${TPROXY_VM_CACHE:-/var/cache/tproxy-vm}
phases=${TPROXY_VM_PHASES:-boot life sight stop honest}
limit=${TPROXY_VM_TIMEOUT:-3300}
suite=bookworm
root=$cache/root-$suite
memory=3072
# Packages of the guest: what systemd needs for a login, and what the tests use. The tproxy package
# brings its own dependencies.
packages=systemd-sysv,dbus,libpam-systemd,udev,kmod,iproute2,procps,curl,nginx-light,python3
packages=$packages,python3-pytest,bpftool,iptables,nftables,netcat-openbsd,wget,strace
# Kernel modules that the guest and its tests load. It has no disk and no network card.
modules='veth autofs4 binfmt_misc configfs fuse x_tables ip_tables iptable_filter ip6_tables
    ip6table_filter xt_tcpudp nf_tables nft_compat nf_conntrack xt_conntrack iptable_nat ip6table_nat
    xt_REDIRECT xt_nat xt_mark sch_tbf tcp_diag tun'

if [ "$(id -u)" -ne 0 ]; then
    echo "vm-matrix.sh: debootstrap needs root: sudo scripts/vm-matrix.sh" >&2
    exit 77
fi
# shellcheck source=/dev/null
. /etc/os-release
if [ "${VERSION_CODENAME:-}" != "$suite" ]; then
    echo "vm-matrix.sh: the package is built here and run on Debian $suite; build on $suite" >&2
    exit 77
fi

say()
{
    echo "== $*"
}

# quietly COMMAND...: shows the output only if the command fails, and then exits.
quietly()
{
    if ! "$@" > "$cache/last.log" 2>&1; then
        cat "$cache/last.log" >&2
        echo "vm-matrix.sh: failed: $*" >&2
        exit 1
    fi
}

install_host_packages()
{
    missing=
    for package in qemu-system-x86 seabios debootstrap cpio kmod; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update -q
    # shellcheck disable=SC2086 # a list of names
    quietly apt-get install -y -q --no-install-recommends $missing
}

# mirror_of SUITE VARIABLE VALUE: prints VALUE, or if it is empty the mirror that this host's apt
# uses for SUITE.
mirror_of()
{
    [ -z "$3" ] || { echo "$3" && return; }
    "$tree/scripts/mirror.sh" "$1" || {
        echo "vm-matrix.sh: name a mirror in $2" >&2
        exit 1
    }
}

# Creates the root file system of the guest, without anything of tproxy, once for each list of
# packages.
make_root()
{
    [ "$(cat "$root/.packages" 2> /dev/null)" != "$packages" ] || return 0
    mirror=$(mirror_of "$suite" TPROXY_VM_MIRROR "${TPROXY_VM_MIRROR:-}")
    security=$(mirror_of "$suite-security" TPROXY_VM_SECURITY_MIRROR \
        "${TPROXY_VM_SECURITY_MIRROR:-}")
    include=$packages
    case "$mirror $security" in
    *https://*) include=$include,ca-certificates ;;
    esac
    say "making $root"
    rm -rf "$root" "$root.new"
    quietly nice -n 10 debootstrap --variant=minbase --include="$include" "$suite" "$root.new" \
        "$mirror"
    cat > "$root.new/etc/apt/sources.list" << LIST
deb $mirror $suite main
deb $mirror $suite-updates main
deb $mirror $suite-backports main
deb $security $suite-security main
LIST
    configure_root "$root.new"
    echo "$packages" > "$root.new/.packages"
    mv "$root.new" "$root"
}

configure_root()
{
    echo tproxy-vm > "$1/etc/hostname"
    printf '127.0.0.1 localhost tproxy-vm\n::1 localhost\n' > "$1/etc/hosts"
    echo 0123456789abcdef0123456789abcdef > "$1/etc/machine-id" # or systemd runs its first boot
    chroot "$1" useradd --create-home --shell /bin/sh tester
    # The tests start nginx themselves. One console is for the log, another one for the login.
    chroot "$1" systemctl mask -q nginx.service \
        serial-getty@ttyS0.service getty@tty1.service \
        apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
        fstrim.timer e2scrub_reap.service
    mkdir -p "$1/etc/systemd/system/serial-getty@ttyS1.service.d"
    cat > "$1/etc/systemd/system/serial-getty@ttyS1.service.d/login.conf" << 'CONF'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin tester --noclear --keep-baud 115200 %I vt220
Restart=no
CONF
    # A login passes through agetty, login(1), pam_systemd, the scope of a session, and this shell.
    cat > "$1/home/tester/.profile" << 'PROFILE'
if [ "$(tty)" = /dev/ttyS1 ]; then
    { cat /proc/self/cgroup; sh /vm/fetch.sh; } > /tmp/login.tmp 2>&1
    mv /tmp/login.tmp /tmp/login
    exit
fi
PROFILE
}

# unpack_kernel VERSION: unpacks the newest kernel of the mirrors whose version begins so. Sets dir
# and kernel_release.
unpack_kernel()
{
    dir=$cache/kernel-$1
    meta=$(chroot "$root" apt-cache madison linux-image-cloud-amd64 |
        awk -v v="$1" '{ if (index($3, v ".") == 1) { print $3; exit } }')
    if [ -z "$meta" ]; then
        echo "vm-matrix.sh: the mirrors have no linux-image-cloud-amd64 of version $1" >&2
        exit 1
    fi
    if [ "$(cat "$dir/version" 2> /dev/null)" != "$meta" ]; then
        say "kernel $meta"
        package=$(chroot "$root" apt-cache depends "linux-image-cloud-amd64=$meta" |
            sed -n 's/ *Depends: //p')
        rm -rf "$dir"
        mkdir -p "$dir"
        quietly chroot "$root" sh -c "cd /tmp && apt-get download '$package'"
        dpkg-deb -x "$root/tmp/$package"_*.deb "$dir"
        rm "$root/tmp/$package"_*.deb
        echo "$meta" > "$dir/version"
    fi
    kernel_release=$(basename "$dir"/boot/vmlinuz-*)
    kernel_release=${kernel_release#vmlinuz-}
}

# pack_modules VERSION: packs the kernel's modules into an archive, which boot() appends to the
# root's.
pack_modules()
{
    stage=$cache/stage-modules
    rm -rf "$stage"
    mkdir -p "$stage/usr/lib/modules/$kernel_release"
    depmod -b "$dir" "$kernel_release"
    for module in $modules; do
        modprobe -S "$kernel_release" -d "$dir" --show-depends "$module" 2> /dev/null |
            sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | sort -u | while read -r path; do
        to=$stage/usr/lib/modules/$kernel_release/${path#*"/modules/$kernel_release/"}
        mkdir -p "$(dirname "$to")"
        cp "$path" "$to"
    done
    cp "$dir/lib/modules/$kernel_release"/modules.builtin* \
        "$dir/lib/modules/$kernel_release/modules.order" "$stage/usr/lib/modules/$kernel_release"
    depmod -b "$stage/usr" "$kernel_release" 2> /dev/null || depmod -b "$stage" "$kernel_release"
    (cd "$stage" && find . | cpio -o -H newc --quiet) > "$cache/modules-$1.cpio"
}

# Builds what phase "life" upgrades to.
build_upgrades()
{
    quietly nice -n 10 scripts/packaging/build-deb.sh -o "$cache/deb" -v "$version+vm1"
    # A third package has another ABI version, and cannot take over from the other two.
    rm -rf "$cache/abi"
    mkdir "$cache/abi"
    git ls-files -z -co --exclude-standard | tar -c --null --files-from=- | tar -x -C "$cache/abi"
    sed -i 's/\(#define TPROXY_ABI_VERSION\) .*/\1 99/' "$cache/abi/common/tproxy_abi.h"
    quietly nice -n 10 "$cache/abi/scripts/packaging/build-deb.sh" -o "$cache/deb" -v "$version+vm2"
    rm -rf "$cache/abi"
}

build()
{
    say "packages and verifier from $tree"
    rm -rf "$cache/deb"
    quietly nice -n 10 scripts/packaging/build-deb.sh -o "$cache/deb"
    grep -E '^[EW]: ' "$cache/last.log" || :
    version=$(dpkg-deb -f "$cache"/deb/tproxy_*.deb Version)
    case " $phases " in
    *" life "*) build_upgrades ;;
    esac
    rm -rf "$cache"/deb/*dbgsym* "$cache/build"
    quietly nice -n 10 meson setup "$cache/build" -Dtests=enabled -Dman-pages=disabled
    quietly nice -n 10 ninja -C "$cache/build" tests/verifier/verifier
}

# Packs the root file system, with the package installed and enabled as an image builder would do
# it.
pack_root()
{
    say "packing the image"
    stage=$cache/stage
    rm -rf "$stage"
    cp -a "$root" "$stage"
    mkdir "$stage/vm"
    cp "$cache/deb/tproxy_${version}_"*.deb "$stage/vm/old.deb"
    for package in new+vm1 abi+vm2; do
        for deb in "$cache/deb/tproxy_${version}+${package#*+}_"*.deb; do
            [ ! -e "$deb" ] || cp "$deb" "$stage/vm/${package%+*}.deb"
        done
    done
    cp "$cache/build/tests/verifier/verifier" scripts/vm/* "$stage/vm"
    mkdir "$stage/vm/tests" "$stage/vm/common"
    cp -R tests/e2e "$stage/vm/tests/e2e"
    cp common/tproxy_abi*.h "$stage/vm/common"
    # The tests take from the units which capabilities and limits a program has there.
    mkdir "$stage/vm/loader" "$stage/vm/proxy"
    cp loader/*.service.in "$stage/vm/loader"
    cp proxy/*.service.in "$stage/vm/proxy"
    cp scripts/vm/tproxy-vm.service "$stage/etc/systemd/system"
    quietly chroot "$stage" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends /vm/old.deb
    quietly chroot "$stage" systemctl enable tproxy-load tproxy-relay tproxy-vm
    rm -rf "$stage"/var/cache/apt/* "$stage"/var/lib/apt/lists/* "$stage/usr/share/man" \
        "$stage/usr/share/locale" "$stage"/usr/share/doc/[!t]*
    (cd "$stage" && find . | cpio -o -H newc --quiet) > "$cache/root.cpio"
    rm -rf "$stage"
}

# boot KERNEL PHASE: boots it with the console in a log. Adds a row to the table, and sets
# all_passed to "no" if not all tests passed.
boot()
{
    log=$cache/log-$1-$2.txt
    image=$cache/image-$1.cpio
    say "$1 $2: booting $kernel_release, at most $limit s, log in $log"
    cat "$cache/root.cpio" "$cache/modules-$1.cpio" > "$image"
    started=$(date +%s)
    status=0
    # Without cx16: Debian 12's qemu emulates cmpxchg16b in a way that corrupts the flags when there
    # is one CPU. The allocator of Linux 6.12 crashes on that at once.
    nice -n 10 timeout "$limit" qemu-system-x86_64 -accel tcg,tb-size=512 -cpu qemu64,-cx16 -smp 1 \
        -m "$memory" \
        -nodefaults -no-user-config -display none -nic none -no-reboot \
        -serial "file:$log" -serial null -kernel "$dir/boot/vmlinuz-$kernel_release" \
        -initrd "$image" -append "console=ttyS0 rdinit=/lib/systemd/systemd panic=-1 \
mitigations=off systemd.show_status=false tproxy.phase=$2" < /dev/null || status=$?
    rm -f "$image"
    took=$(($(date +%s) - started))
    tr -d '\r' < "$log" > "$log.tmp" && mv "$log.tmp" "$log"
    grep -E '^(ok|not ok|#|Bail out)' "$log" || :
    passed=$(grep -c '^ok ' "$log" || :)
    failed=$(grep -c '^not ok ' "$log" || :)
    plan=$(sed -n 's/^1\.\.//p' "$log")
    verdict=passed
    if [ "$status" -eq 124 ]; then
        verdict="TIMED OUT"
    elif [ "$status" -ne 0 ] || [ "$failed" -ne 0 ] || [ "$passed" -eq 0 ] ||
        [ "$plan" != "$passed" ]; then
        verdict=FAILED
    elif [ "$2" = boot ] && ! grep -q 'reboot: Restarting system' "$log"; then
        verdict="DID NOT REBOOT"
    fi
    table="$table$(printf '%-26s %-6s %7s %7s %6ss  %s' "$kernel_release" "$2" "$passed" "$failed" \
        "$took" "$verdict")
"
    [ "$verdict" = passed ] || all_passed=no
}

mkdir -p "$cache"
exec 9> "$cache/lock"
if ! flock -n 9; then
    echo "vm-matrix.sh: another one is using $cache" >&2
    exit 1
fi
install_host_packages
make_root
quietly chroot "$root" apt-get update -q
build
pack_root
table=
all_passed=yes
for kernel in "${@:-6.1 6.12}"; do
    for version_wanted in $kernel; do
        unpack_kernel "$version_wanted"
        pack_modules "$version_wanted"
        for phase in $phases; do
            boot "$version_wanted" "$phase"
        done
    done
done
echo
printf '%-26s %-6s %7s %7s %7s  %s\n' kernel boot passed failed time result
printf '%s' "$table"
[ "$all_passed" = yes ]
