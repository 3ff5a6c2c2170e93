#!/busybox sh
# Process 1 of the machine that tests/vm/machine.rs boots. Runs what is planned, first on the initramfs that it began
# in, then on a root of its own, and says on the console how each suite went. Lines of its own begin with `@@`; what a suite has written to standard error begins with `!`.
export PATH=/real:/tools:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

mount_all() {
    mount -t proc -o nosuid,nodev,noexec proc /proc
    mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
    mount -t devtmpfs -o nosuid devtmpfs /dev
    mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup
}

run() { # SUITE COMMAND…
    suite=$1
    shift
    echo "@@ begin $suite"
    "$@" 2>/errors
    status=$?
    sed 's/^/! /' /errors
    echo "@@ end $suite $status after $(cut -d ' ' -f 1 /proc/uptime) s"
}

on_the_root() {
    mkdir /before
    cat /proc/self/mountinfo >/before/mounts
    cat /proc/net/unix >/before/sockets
    find $(cat /plan/places) >/before/files
    . /plan/root
    echo "@@ off"
    poweroff -f
}

case $1 in
switched)
    mount_all
    on_the_root
    ;;
*)
    /busybox mkdir /tools
    /busybox --install -s /tools
    mount_all
    echo "@@ kernel $(uname -r)"
    ip link set lo up
    insmod /modules/overlay.ko
    . /plan/initramfs
    umount /sys/fs/cgroup /sys /proc /dev
    mkdir /new
    mount -t tmpfs -o mode=755,size=90% tmpfs /new
    mkdir /new/proc /new/sys /new/dev
    for entry in /*; do
        case $entry in
        /dev | /new | /proc | /sys) ;;
        # Still needed here.
        /busybox | /init | /tools) cp -a "$entry" /new ;;
        *) cp -a "$entry" /new && rm -rf "$entry" ;;
        esac
    done
    exec switch_root /new /init switched
    ;;
esac
