# SPDX-License-Identifier: BSD-2-Clause
"""--disk FOLDER: the folder is the guest's root, by the words that the kernel is given; where it has no 9P that is said."""

ALSO = {"arm64": ("rw",)}
KERNELS = [("full", "vmlinux"), ("cloud", "vmlinux"), ("cloud", "packaged")]
TIMEOUT = 400
SECONDS = 40
CASES = {
    "rw": {"options": "", "mode": "rw"},
    "ro": {"options": ",ro", "mode": "ro"},
    "mmio": {"options": ",transport=mmio", "mode": "rw"},
    "alone": {"image": "vmlinux"},
    "alone-bzimage": {"image": "packaged"},
}

# What an initramfs is for: drivers, and the root that the command line names.
INITRAMFS = """
for word in $(cat /proc/cmdline); do
	case $word in
	root=*) root=${word#*=} ;;
	rootfstype=*) type=${word#*=} ;;
	rootflags=*) flags=${word#*=} ;;
	rw | ro) mode=$word ;;
	esac
done
for module in virtio_pci virtio_mmio 9pnet_virtio 9p; do modprobe $module; done
mkdir /root
mount -t $type -o $mode,$flags $root /root || fact mount failed
exec switch_root /root /sbin/init
"""

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo
echo "@root $(/bin/busybox grep ' / 9p ' /proc/mounts)"
echo "@pid $$"
if echo from the guest >/etc/left; then echo "@wrote yes"; else echo "@wrote no"; fi
/bin/busybox sync
/bin/busybox poweroff -f
"""


def make_root(t):
    t.sh("mkdir -p /tmp/root/bin /tmp/root/sbin /tmp/root/etc /tmp/root/proc /tmp/root/dev && cp /bin/busybox /tmp/root/bin")
    t.inner.put("/tmp/root/sbin/init", INIT, 0o755)


def boots(t, options, mode):
    t.initrd(INITRAMFS, modules="full")
    guest = t.start(t.command(kernel="full", memory="512", options=["-d", "/tmp/root" + options]))
    mounted = guest.fact("root", 200).split()
    t.equal("the root", mounted[:3], ["/dev/root", "/", "9p"])
    t.equal("how it is mounted", mounted[3].split(",")[0], mode)
    t.equal("init's process", guest.fact("pid"), "1")
    t.equal("whether the guest could write", guest.fact("wrote"), "yes" if mode == "rw" else "no")
    guest.ends(0)
    t.equal("what the guest left", t.sh("cat /tmp/root/etc/left 2>/dev/null; true"),
            "from the guest\n" if mode == "rw" else "")
    t.check("no 9P of its own" not in guest.log(), "with an initrd, what the kernel has is nobody's business")


def alone(t, image):
    guest = t.start(t.command(image=image, initrd=None, append="panic=1", options=["-d", "/tmp/root", "--no-reboot"]))
    if image == "vmlinux":
        guest.expect("the kernel has no 9P of its own, so it cannot mount its root, the folder; give it an initrd", 30)
    guest.expect("Kernel panic - not syncing: VFS: Unable to mount root fs", 120)
    guest.ends(16)
    t.check("no 9P of its own" in guest.log(), "a packed kernel is unpacked, and looked through, too")


def test(t, **how):
    make_root(t)
    if "mode" in how:
        boots(t, **how)
    else:
        alone(t, **how)
