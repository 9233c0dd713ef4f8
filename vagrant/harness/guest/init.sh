# shellcheck shell=busybox
# First program of the guest, run from the initrd: loads modules, stacks the images, starts the agent.
# Any failure ends it, and with it the machine; the harness then shows the console.
set -e
/bin/busybox mkdir -p /proc /sys /dev /layers /new /tmp
/bin/busybox --install -s /bin
export PATH=/bin
# Without this the kernel would bury what was said under a panic.
trap 'poweroff -f' EXIT
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /early/*.ko; do
	insmod "$module"
done

# The disks are found by serial number: their order is not promised.
lower=""
for name in python modules root; do
	disk=""
	for serial in /sys/block/vd*/serial; do
		if [ "$(cat "$serial")" = "$name" ]; then
			disk=${serial#/sys/block/}
			disk=${disk%/serial}
		fi
	done
	[ -n "$disk" ] || { echo "init: no disk with serial $name"; exit 1; }
	mkdir "/layers/$name"
	mount -t erofs -o ro "/dev/$disk" "/layers/$name"
	lower="$lower${lower:+:}/layers/$name"
done
mkdir /layers/upper
mount -t tmpfs -o mode=0755,size=75% upper /layers/upper
mkdir /layers/upper/data /layers/upper/work
mount -t overlay -o "lowerdir=$lower,upperdir=/layers/upper/data,workdir=/layers/upper/work" overlay /new

mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o mode=0620,ptmxmode=0666 devpts /new/dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t tmpfs -o mode=0755 run /new/run
mount -t tmpfs -o mode=1777 tmp /new/tmp
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
mount -t bpf -o mode=0700 bpf /new/sys/fs/bpf
mount -t tracefs tracefs /new/sys/kernel/tracing
mount -t securityfs securityfs /new/sys/kernel/security
# Made by udev elsewhere.
ln -s /proc/self/fd /new/dev/fd
ln -s /proc/self/fd/0 /new/dev/stdin
ln -s /proc/self/fd/1 /new/dev/stdout
ln -s /proc/self/fd/2 /new/dev/stderr
mkdir -p /new/run/sshd /new/run/lock /new/run/harness
cp -r /harness /new/run/harness/
hostname -F /new/etc/hostname
ip link set lo up

start() {
	exec switch_root /new /usr/bin/env -i \
		HOME=/root LANG=C.UTF-8 SHELL=/bin/bash USER=root TERM=dumb \
		PATH=/opt/limes/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		/usr/bin/tini -s -- "$@"
}

# Keys in the initrd: this boot is for `vagrant ssh`, not for the harness.
if [ -e /ssh/authorized_keys ]; then
	chroot /new modprobe virtio_net
	ip link set eth0 up
	udhcpc -i eth0 -s /ssh/lease -n -q
	mkdir -p -m 0700 /new/root/.ssh
	cp /ssh/authorized_keys /new/root/.ssh/authorized_keys
	echo 'PATH=/opt/limes/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		>> /new/etc/environment
	start /usr/sbin/sshd -D -o PasswordAuthentication=no
fi

port=""
for candidate in /new/sys/class/virtio-ports/*/name; do
	if [ -e "$candidate" ] && [ "$(cat "$candidate")" = limes.agent ]; then
		port=${candidate%/name}
		port=/dev/${port##*/}
	fi
done
[ -n "$port" ] || { echo "init: no virtio port limes.agent"; exit 1; }
start /usr/bin/env PYTHONPATH=/run/harness \
	/usr/bin/python3 -B -S -m harness.guest.agent "$port"
