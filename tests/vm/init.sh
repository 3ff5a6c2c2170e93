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
    if [ ! -s /plan/systemd ]; then
        echo "@@ off"
        poweroff -f
    fi
    # Another root again, and systemd as its process 1: it starts dcgi by the unit of deploy/, and this file once more.
    mkdir /debian
    mount -t tmpfs -o mode=755 tmpfs /debian
    tar -x -f /systemd.tar -C /debian
    rm /systemd.tar
    mkdir -p /debian/plan /debian/etc/dcgi /debian/etc/systemd/system/multi-user.target.wants
    cp -a /busybox /init /debian
    cp -a /plan/systemd /debian/plan
    cp -a /service/dcgi /service/cases /debian/usr/local/bin
    cp -a /service/served /service/slow /service/endless /debian/usr/local/lib
    cp -a /service/dcgi.toml /debian/etc/dcgi
    for unit in dcgi cases; do
        cp -a "/service/$unit.service" /debian/etc/systemd/system
        ln -s "/etc/systemd/system/$unit.service" /debian/etc/systemd/system/multi-user.target.wants
    done
    # It would hang up the console, to which the cases write.
    ln -s /dev/null /debian/etc/systemd/system/console-getty.service
    echo 'dcgi:x:990:990::/var/lib/dcgi:/usr/sbin/nologin' >>/debian/etc/passwd
    echo 'dcgi:x:990:' >>/debian/etc/group
    umount /sys/fs/cgroup /sys /proc /dev
    exec switch_root /debian /lib/systemd/systemd --show-status=no
}

case $1 in
switched)
    mount_all
    on_the_root
    ;;
service)
    . /plan/systemd
    echo "@@ off"
    /busybox poweroff -f
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
